package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/pkg/profile"
)

func TestPoints(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	noon := midnight.Add(12 * time.Hour)
	add := func(after time.Duration, n int, pod string, ls ...string) {
		p := folded(noon.Add(after), fmt.Sprintf("main;work %d", n), "main;idle 1")
		require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p, append([]string{labelindex.LabelServiceName, "app", "pod", pod}, ls...)...)}))
	}
	add(-15*time.Second, 100, "a") // the open end of the first step
	add(-14999*time.Millisecond, 1, "a")
	add(0, 2, "a")
	add(1*time.Millisecond, 4, "a")
	add(15*time.Second, 8, "a")
	add(40*time.Second, 16, "b", "zone", "z")
	add(60*time.Second, 32, "a")
	add(61*time.Second, 64, "a") // after the last step
	at := func(s int) int64 { return ms(noon.Add(time.Duration(s) * time.Second)) }
	request := query.SeriesRequest{Selection: everything(), Step: 15 * time.Second}
	request.Start, request.End = at(0), at(70)
	a, b := labels.FromStrings("pod", "a"), labels.FromStrings("pod", "b")
	tests := []struct {
		name   string
		change func(*query.SeriesRequest)
		want   []query.Series
	}{
		{"all", func(*query.SeriesRequest) {}, []query.Series{{Labels: labels.EmptyLabels(), Points: []query.Point{{Time: at(0), Value: 5e7}, {Time: at(15), Value: 14e7}, {Time: at(45), Value: 17e7}, {Time: at(60), Value: 33e7}}}}},
		{"by pod, largest first", func(r *query.SeriesRequest) { r.GroupBy = []string{"pod"} }, []query.Series{
			{Labels: a, Points: []query.Point{{Time: at(0), Value: 5e7}, {Time: at(15), Value: 14e7}, {Time: at(60), Value: 33e7}}}, {Labels: b, Points: []query.Point{{Time: at(45), Value: 17e7}}},
		}},
		{"limit", func(r *query.SeriesRequest) { r.GroupBy, r.Limit = []string{"pod"}, 1 }, []query.Series{
			{Labels: a, Points: []query.Point{{Time: at(0), Value: 5e7}, {Time: at(15), Value: 14e7}, {Time: at(60), Value: 33e7}}},
		}},
		{"by a label that some lack", func(r *query.SeriesRequest) { r.GroupBy = []string{"zone"} }, []query.Series{
			{Labels: labels.EmptyLabels(), Points: []query.Point{{Time: at(0), Value: 5e7}, {Time: at(15), Value: 14e7}, {Time: at(60), Value: 33e7}}}, {Labels: labels.FromStrings("zone", "z"), Points: []query.Point{{Time: at(45), Value: 17e7}}},
		}},
		{"average", func(r *query.SeriesRequest) { r.Average = true }, []query.Series{
			{Labels: labels.EmptyLabels(), Points: []query.Point{{Time: at(0), Value: 2.5e7}, {Time: at(15), Value: 7e7}, {Time: at(45), Value: 17e7}, {Time: at(60), Value: 33e7}}},
		}},
		{"call site", func(r *query.SeriesRequest) { r.Stack = []string{"main", "work"} }, []query.Series{
			{Labels: labels.EmptyLabels(), Points: []query.Point{{Time: at(0), Value: 3e7}, {Time: at(15), Value: 12e7}, {Time: at(45), Value: 16e7}, {Time: at(60), Value: 32e7}}},
		}},
		{"matcher", func(r *query.SeriesRequest) { r.Matchers = everything(`{pod!="a"}`).Matchers }, []query.Series{
			{Labels: labels.EmptyLabels(), Points: []query.Point{{Time: at(45), Value: 17e7}}},
		}},
		{"long step", func(r *query.SeriesRequest) { r.Step, r.Start, r.End = time.Hour, ms(noon), ms(noon.Add(time.Hour)) }, []query.Series{
			{Labels: labels.EmptyLabels(), Points: []query.Point{{Time: at(0), Value: 106e7}, {Time: at(3600), Value: 129e7}}},
		}},
		{"empty range", func(r *query.SeriesRequest) { r.End = r.Start - 1 }, nil},
		{"other type", func(r *query.SeriesRequest) { r.Type.SampleType = "wall" }, []query.Series{}},
	}
	run := func(t *testing.T) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				r := request
				tt.change(&r)
				got, err := db.Points(ctx, r)
				require.NoError(t, err)
				require.Equal(t, tt.want, got)
			})
		}
	}
	t.Run("fine", run)
	require.NoError(t, db.maintain(ctx, 0))
	t.Run("merged", run)
}

func TestPointsRefusesBadRequests(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	_, err := db.Points(ctx, query.SeriesRequest{Selection: everything(), Step: time.Microsecond})
	require.ErrorIs(t, err, storeerr.ErrInvalid)
	require.ErrorContains(t, err, "step")
	_, err = db.Points(ctx, query.SeriesRequest{Selection: everything(), Step: time.Millisecond})
	require.ErrorIs(t, err, storeerr.ErrLimit)
	_, err = db.Points(ctx, query.SeriesRequest{Selection: query.Selection{Start: 1, End: 2}, Step: time.Second})
	require.ErrorIs(t, err, storeerr.ErrInvalid)
	require.ErrorContains(t, err, "profile type")
	_, err = db.Tree(ctx, query.Selection{}, nil)
	require.ErrorIs(t, err, storeerr.ErrInvalid)
}

func TestMatchers(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	for _, ls := range [][]string{{"pod", "a-1", "zone", "x"}, {"pod", "a-2"}, {"pod", "b-1", "zone", "y"}, {}} {
		p := cpu(folded(midnight.Add(time.Hour), "main 1"), ls...)
		require.NoError(t, db.Append(ctx, []profile.Profile{p}))
	}
	for selector, want := range map[string]int{
		`{}`: 4, `{pod="a-1"}`: 1, `{pod!="a-1"}`: 3, `{pod=~"a-.*"}`: 2, `{pod!~"a-.*"}`: 2,
		`{zone=""}`: 2, `{zone!=""}`: 2, `{zone=~".*"}`: 4, `{zone=~".+"}`: 2, `{zone!~"x|"}`: 1, `{zone=~"x|"}`: 3,
		`{pod=~"a-.*",zone="x"}`: 1, `{nothing=""}`: 4, `{nothing="x"}`: 0, `{pod="a"}`: 0, `{__name__="process_cpu"}`: 4,
		`{service_name="unknown_service"}`: 4,
	} {
		tree, err := db.Tree(ctx, everything(selector), nil)
		require.NoError(t, err)
		require.EqualValues(t, want*1e7, tree.Total(), selector)
	}
}

func TestValues(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	noon := midnight.Add(12 * time.Hour)
	for i, pod := range []string{"a", "b", "a", "a"} {
		p := folded(noon.Add(time.Duration(i)*time.Minute), fmt.Sprintf("main;work %d", i+1))
		require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p, labelindex.LabelServiceName, "app", "pod", pod)}))
	}
	at := func(minute int) int64 { return ms(noon.Add(time.Duration(minute) * time.Minute)) }
	sel := everything()
	sel.Start, sel.End = at(0), at(2)
	got, err := db.Values(ctx, query.ValuesRequest{Selection: sel, GroupBy: []string{"pod"}})
	require.NoError(t, err)
	require.Equal(t, []query.Series{
		{Labels: labels.FromStrings("pod", "a"), Points: []query.Point{{Time: at(0), Value: 1e7}, {Time: at(2), Value: 3e7}}},
		{Labels: labels.FromStrings("pod", "b"), Points: []query.Point{{Time: at(1), Value: 2e7}}},
	}, pointsOf(got))
	got, err = db.Values(ctx, query.ValuesRequest{Selection: sel})
	require.NoError(t, err)
	require.Equal(t, []query.Series{{Labels: labels.EmptyLabels(), Points: []query.Point{{Time: at(0), Value: 1e7}, {Time: at(1), Value: 2e7}, {Time: at(2), Value: 3e7}}}}, pointsOf(got))
	db.queries.Memory = budget.NewMemory(2*query.ValueBytes, func() {})
	_, err = db.Values(ctx, query.ValuesRequest{Selection: sel})
	require.ErrorIs(t, err, storeerr.ErrLimit)
}

func pointsOf(values []query.Values) (out []query.Series) {
	for _, vs := range values {
		s := query.Series{Labels: vs.Labels}
		for _, v := range vs.Values {
			s.Points = append(s.Points, query.Point{Time: v.Time, Value: float64(v.Value)})
		}
		out = append(out, s)
	}
	return out
}

// A query for more series than there is memory for is refused.
func TestPointsAreBounded(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	for pod := range 20 {
		require.NoError(t, db.Append(ctx, []profile.Profile{cpu(folded(midnight.Add(time.Hour), "main 1"), labelindex.LabelServiceName, "app", "pod", fmt.Sprint(pod))}))
	}
	db.queries.Memory = budget.NewMemory(28*25*19, func() {})
	r := query.SeriesRequest{Selection: everything(), Step: time.Hour, GroupBy: []string{"pod"}}
	r.Start, r.End = ms(midnight), ms(midnight.Add(24*time.Hour))
	_, err := db.Points(ctx, r)
	require.ErrorIs(t, err, storeerr.ErrLimit)
	require.ErrorContains(t, err, "limits.max_query_bytes")
	r.GroupBy = nil
	got, err := db.Points(ctx, r)
	require.NoError(t, err)
	require.Len(t, got, 1)
	requireIdle(t, db)
}
