package store

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/pkg/profile"
)

func TestLabelCalls(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	db := open(t, dir, func(o *Options) { o.Now = func() time.Time { return midnight.Add(72 * time.Hour) } })
	day := 24 * time.Hour
	add := func(at time.Duration, ls ...string) {
		require.NoError(t, db.Append(ctx, []profile.Profile{cpu(folded(midnight.Add(at), "main 1"), ls...)}))
	}
	add(time.Hour, labelindex.LabelServiceName, "a", "pod", "a-1")
	add(2*time.Hour, labelindex.LabelServiceName, "a", "pod", "a-2", "zone", "x")
	add(day+time.Hour, labelindex.LabelServiceName, "b", "pod", "b-1")
	at := func(d time.Duration) int64 { return ms(midnight.Add(d)) }
	app := everything(`{service_name="a"}`).Matchers
	check := func(t *testing.T) {
		names, err := db.LabelNames(ctx, nil, 0, 0)
		require.NoError(t, err)
		require.Equal(t, []string{
			"__name__", "__period_type__", "__period_unit__", "__profile_type__", "__service_name__", "__type__", "__unit__",
			"pod", "service_name", "zone",
		}, names)
		names, err = db.LabelNames(ctx, nil, at(day), at(2*day))
		require.NoError(t, err)
		require.NotContains(t, names, "zone")

		values, err := db.LabelValues(ctx, "pod", nil, at(0), at(2*day))
		require.NoError(t, err)
		require.Equal(t, []string{"a-1", "a-2", "b-1"}, values)
		values, err = db.LabelValues(ctx, "pod", app, at(90*time.Minute), at(2*day))
		require.NoError(t, err)
		require.Equal(t, []string{"a-2"}, values)
		values, err = db.LabelValues(ctx, "pod", app, at(3*time.Hour), at(4*time.Hour))
		require.NoError(t, err)
		require.Empty(t, values)
		_, err = db.LabelValues(ctx, "", nil, 0, 0)
		require.ErrorIs(t, err, storeerr.ErrInvalid)

		sets, err := db.Labels(ctx, []string{"zone", labelindex.LabelServiceName}, nil, at(0), at(2*day))
		require.NoError(t, err)
		require.Equal(t, []labels.Labels{
			labels.FromStrings(labelindex.LabelServiceName, "a"), labels.FromStrings(labelindex.LabelServiceName, "a", "zone", "x"), labels.FromStrings(labelindex.LabelServiceName, "b"),
		}, sets.All())
		sets, err = db.Labels(ctx, nil, app, at(0), at(2*day))
		require.NoError(t, err)
		require.Equal(t, 4, sets.Len())

		types, err := db.ProfileTypes(ctx, at(0), at(day))
		require.NoError(t, err)
		samples := cpuType
		samples.SampleType, samples.SampleUnit = "samples", "count"
		require.Equal(t, []profile.Type{cpuType, samples}, types)
		types, err = db.ProfileTypes(ctx, at(3*time.Hour), at(4*time.Hour))
		require.NoError(t, err)
		require.Empty(t, types)

		stats, err := db.Stats(ctx)
		require.NoError(t, err)
		require.Equal(t, query.Stats{Oldest: at(time.Hour), Newest: at(day + time.Hour), Profiles: true}, stats)
	}
	check(t)
	require.NoError(t, db.maintain(ctx, 0))
	check(t)
	require.NoError(t, db.Close())
	db = open(t, dir)
	check(t)
}
