package store

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/pkg/profile"
)

// What a capture sampled beside the usual profiles is in no sum that does not ask for it,
// before and after merging, and after the store was opened again.
func TestCapturesAreInNoOtherSum(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	db := open(t, dir)
	add := func(at time.Duration, n int, ls ...string) {
		p := cpu(folded(midnight.Add(at), fmt.Sprintf("main;work %d", n)), append([]string{labelindex.LabelServiceName, "order"}, ls...)...)
		require.NoError(t, db.Append(ctx, []profile.Profile{p}))
	}
	for i := range 20 {
		at := time.Hour + time.Duration(i)*30*time.Second
		add(at, 1, "pod", "a")
		add(at, 2, "pod", "b")
		for j := range 5 {
			at := at + time.Duration(j)*time.Second
			add(at, 100, "pod", "a", profile.LabelCapture, "cap-1")
			add(at, 300, "pod", "b", profile.LabelCapture, "cap-1")
			add(at, 1000, "pod", "b", profile.LabelCapture, "cap-2")
		}
		add(at, 7, "pod", "c", profile.LabelCapture, "video") // a label like any other
	}
	const usual, first, second, video = 20 * 3, 20 * 5 * 400, 20 * 5 * 1000, 20 * 7
	check := func(db *DB) {
		t.Helper()
		for selector, want := range map[string]int64{
			`{}`:                               usual + video,
			`{service_name="order"}`:           usual + video,
			`{pod="b"}`:                        40,
			`{capture=""}`:                     usual,
			`{capture=~".*"}`:                  usual + video, // All of a dashboard's variable
			`{capture!="cap-1"}`:               usual + video,
			`{capture!~"cap-.*"}`:              usual + video,
			`{capture="video"}`:                video,
			`{capture="cap-1"}`:                first,
			`{capture="cap-1",pod="a"}`:        20 * 5 * 100,
			`{capture=~"cap-1|cap-2"}`:         first + second,
			`{capture=~".+",capture!="video"}`: first + second,
		} {
			require.Equal(t, want, totalOf(t, db, selector), selector)
			points, err := db.Points(ctx, query.SeriesRequest{Selection: everything(selector), Step: time.Minute})
			require.NoError(t, err)
			sum := 0.0
			for _, s := range points {
				for _, p := range s.Points {
					sum += p.Value
				}
			}
			require.InDelta(t, float64(want), sum/1e7, 1e-3, "points of %s", selector)
			p, err := db.Pprof(ctx, everything(selector), nil)
			require.NoError(t, err)
			require.Positive(t, p.Samples)
		}
		values, err := db.LabelValues(ctx, profile.LabelCapture, nil, 0, 1<<60)
		require.NoError(t, err)
		require.Equal(t, []string{"cap-1", "cap-2", "video"}, values)
	}
	check(db)
	require.NoError(t, db.maintain(ctx, 0))
	check(db)
	require.NoError(t, db.Close())
	check(open(t, dir))
}

// Profiles of a capture that lose labels keep that of the capture.
func TestReducedCapturesStayApart(t *testing.T) {
	ctx := context.Background()
	var log bytes.Buffer
	db := limited(t, t.TempDir(), &log)
	at := midnight.Add(time.Hour + time.Minute)
	for i := range 500 {
		for _, ls := range [][]string{nil, {profile.LabelCapture, "cap-1"}} {
			p := cpu(folded(at, "main;work 1"), append(ls, labelindex.LabelServiceName, "shop", "pod", fmt.Sprint("pod-", i))...)
			require.NoError(t, db.Append(ctx, []profile.Profile{p}))
		}
	}
	require.EqualValues(t, 500, totalOf(t, db, `{}`))
	require.EqualValues(t, 500, totalOf(t, db, `{capture="cap-1"}`))
	require.Positive(t, totalOf(t, db, `{capture="cap-1",flameline_reduced="true"}`))
}
