package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/scan"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/pkg/profile"
)

// TestAggregatesAreUsed fails if a query about a service reads rows of each of
// its pods where the service's own could serve, or reads those when they are old.
func TestAggregatesAreUsed(t *testing.T) {
	ctx := context.Background()
	const pods = 30
	dir := t.TempDir()
	clock := func(o *Options) { o.Now = func() time.Time { return midnight.Add(30 * time.Hour) } }
	db := open(t, dir, clock)
	add := func(pod int, at time.Duration) {
		p := cpu(folded(midnight.Add(at), fmt.Sprintf("main;pod%d 1", pod)), labelindex.LabelServiceName, "app", "pod", fmt.Sprint(pod))
		require.NoError(t, db.Append(ctx, []profile.Profile{p}))
	}
	for hour := range 24 {
		for pod := range pods {
			add(pod, time.Duration(hour)*time.Hour+time.Duration(pod)*90*time.Second+time.Second)
		}
	}
	read := func(selector string, from, to time.Duration) (rows [layout.Levels]int, total int64) {
		sel := everything(selector)
		sel.Start, sel.End = ms(midnight.Add(from))+1, ms(midnight.Add(to))
		jobs, err := db.queries.Plan(ctx, nil, sel)
		require.NoError(t, err)
		require.NoError(t, db.queries.Run(ctx, nil, jobs, func(j *query.Job, s *query.JobReader) error {
			return s.Each(j, layout.KindRow, sel.Start-1, sel.End, func(st *query.JobStream, w scan.Window) error {
				rows[w.Level]++
				var p rowcodec.PackedRow
				err := p.Decode(w.Value)
				total += p.Totals[st.SampleType]
				return err
			})
		}))
		return rows, total
	}
	const all = 24 * pods * 1e7
	rows, total := read(`{}`, 0, 24*time.Hour)
	require.Equal(t, [layout.Levels]int{layout.LevelFine: 24 * pods}, rows)
	require.EqualValues(t, all, total)
	require.NoError(t, db.maintain(ctx, 0))
	for _, selector := range []string{`{}`, `{service_name="app"}`, `{__service_name__=~"app|other",__unit__="nanoseconds"}`, `{service_name="app",pod=~".*",container=~".*"}`} {
		rows, total = read(selector, 0, 24*time.Hour)
		require.Equal(t, [layout.Levels]int{layout.LevelDay: 1}, rows)
		require.EqualValues(t, all, total)
		rows, total = read(selector, time.Hour, 4*time.Hour)
		require.Equal(t, [layout.Levels]int{layout.LevelHour: 3}, rows)
		require.EqualValues(t, 3*pods*1e7, total)
	}
	// In five minutes three or four pods have profiles.
	rows, total = read(`{}`, time.Hour, time.Hour+10*time.Minute)
	require.EqualValues(t, 7*1e7, total)
	require.Equal(t, [layout.Levels]int{layout.LevelSlot: 2}, rows)
	rows, total = read(`{pod=~"[0-9]"}`, 0, 24*time.Hour)
	require.Equal(t, [layout.Levels]int{layout.LevelDay: 10}, rows)
	require.EqualValues(t, 24*10*1e7, total)

	points := func(selector string, by ...string) []query.Series {
		sel := everything(selector)
		sel.Start, sel.End = ms(midnight), ms(midnight)+layout.DayMs
		out, err := db.Points(ctx, query.SeriesRequest{Selection: sel, Step: time.Minute, GroupBy: by})
		require.NoError(t, err)
		return out
	}
	require.Equal(t, points(`{pod!=""}`), points(`{}`))
	require.Equal(t, points(`{pod!=""}`, labelindex.LabelServiceName, labelindex.LabelUnit), points(`{}`, labelindex.LabelServiceName, labelindex.LabelUnit))
	require.Len(t, points(`{}`, "pod"), pods)
	require.Equal(t, labels.FromStrings(labelindex.LabelServiceName, "app"), points(`{}`, labelindex.LabelServiceName)[0].Labels)

	add(pods, 90*time.Minute) // late, and of a new pod
	rows, total = read(`{}`, 0, 24*time.Hour)
	require.EqualValues(t, all+1e7, total)
	require.Equal(t, 23, rows[layout.LevelHour])
	require.NoError(t, db.Close())
	db = open(t, dir, clock)
	_, total = read(`{}`, 0, 24*time.Hour)
	require.EqualValues(t, all+1e7, total)
	require.NoError(t, db.maintain(ctx, 0))
	rows, total = read(`{}`, 0, 24*time.Hour)
	require.Equal(t, [layout.Levels]int{layout.LevelDay: 1}, rows)
	require.EqualValues(t, all+1e7, total)

	names, err := db.LabelNames(ctx, nil, 0, 0)
	require.NoError(t, err)
	require.NotContains(t, names, labelindex.AggregateLabel)
}

// Points of which one sample type cannot be read add nothing.
func TestPointsOfADamagedTypeAddNothing(t *testing.T) {
	m := merger{totals: make([][]int64, 2)}
	var list rowcodec.PointList
	good := rowcodec.AppendPoints(nil, 0, []int64{10, 20}, [][]int64{{1, 2}, {3, 4}}, make([]uint64, 2))
	require.NoError(t, m.addPoints(&list, scan.Window{Level: layout.LevelHour, End: layout.HourMs, Value: good}))
	bad := rowcodec.AppendPoints(nil, 0, []int64{30}, [][]int64{{5}}, make([]uint64, 1)) // one type of two
	require.ErrorIs(t, m.addPoints(&list, scan.Window{Level: layout.LevelHour, End: layout.HourMs, Value: bad}), storeerr.ErrCorrupt)
	require.NoError(t, m.addPoints(&list, scan.Window{Level: layout.LevelHour, End: layout.HourMs, Value: good}))
	require.Equal(t, [][]int64{{1, 2, 1, 2}, {3, 4, 3, 4}}, m.totals)
	require.Len(t, m.times, 4)
}
