package store

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/pkg/profile"
)

func TestAppendAndMerge(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	db := open(t, dir, func(o *Options) { o.Registerer = prometheus.NewPedanticRegistry() })
	noon := midnight.Add(12 * time.Hour)
	require.NoError(t, db.Append(ctx, []profile.Profile{
		cpu(folded(noon, "main;work;+hash 3", "main;work 1", "main;idle 2"), labelindex.LabelServiceName, "a", "pod", "a-1"),
		cpu(folded(noon.Add(10*time.Second), "main;work;+hash 4"), labelindex.LabelServiceName, "a", "pod", "a-2"),
		cpu(folded(noon.Add(time.Hour), "main;idle 5", "start 1"), labelindex.LabelServiceName, "b"),
	}))
	check := func(db *DB) {
		tree, err := db.Tree(ctx, everything(), nil)
		require.NoError(t, err)
		require.Equal(t, []string{"main;idle 70000000", "main;work 10000000", "main;work;hash 70000000", "start 10000000"}, draw(tree))
		tree, err = db.Tree(ctx, everything(`{pod="a-1"}`), nil)
		require.NoError(t, err)
		require.Equal(t, []string{"main;idle 20000000", "main;work 10000000", "main;work;hash 30000000"}, draw(tree))
		tree, err = db.Tree(ctx, everything(), []string{"main", "work"})
		require.NoError(t, err)
		require.Equal(t, []string{"main;work 10000000", "main;work;hash 70000000"}, draw(tree))
	}
	check(db)
	require.NoError(t, db.maintain(ctx, 0))
	check(db)
	require.NoError(t, db.Close())
	check(open(t, dir))
}
