package store

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/pkg/profile"
)

// large is a CPU profile of one sample with a CPU time of its own choice, and a
// stack of its own besides.
func large(at time.Time, stack string, value int64, ls ...string) profile.Profile {
	p := folded(at, stack+" 1", "main;small 1")
	p.Sample[0].Value[1] = value
	return cpu(p, ls...)
}

// TestWindowsDoNotOverflow merges profiles whose values of one sample type are too
// much together, in windows of every size: all that can be counted is, and the rest
// is refused, before and after the profiles are merged and dropped.
func TestWindowsDoNotOverflow(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	now := midnight.Add(24 * time.Hour)
	options := func(o *Options) { o.Now = func() time.Time { return now } }
	db := open(t, dir, options)
	const third = math.MaxInt64/3 + 1 // three are too much, and six make a small number again
	small := int64(1e7)
	times := []time.Duration{
		time.Hour + time.Minute, time.Hour + 2*time.Minute, time.Hour + 3*time.Minute, // of one slot
		3*time.Hour + time.Minute, 3*time.Hour + 20*time.Minute, 3*time.Hour + 40*time.Minute, // of one hour
		5*time.Hour + time.Minute, 6*time.Hour + time.Minute,
	}
	pods := []string{"a", "b"}
	for _, at := range times {
		for i, pod := range pods {
			p := large(midnight.Add(at+time.Duration(i)*time.Second), "main;large", third, labelindex.LabelServiceName, "x", "pod", pod)
			require.NoError(t, db.Append(ctx, []profile.Profile{p}))
		}
	}
	counts := cpuType
	counts.SampleType, counts.SampleUnit = "samples", "count"
	selected := func(lo, hi time.Duration, selector string) query.Selection {
		sel := everything(selector)
		sel.Start, sel.End = ms(midnight.Add(lo))+1, ms(midnight.Add(hi))
		return sel
	}
	refused := func(sel query.Selection) {
		t.Helper()
		_, err := db.Tree(ctx, sel, nil)
		require.ErrorIs(t, err, storeerr.ErrLimit)
		require.ErrorContains(t, err, "more than 9223372036854775807")
		_, err = db.Pprof(ctx, sel, nil)
		require.ErrorIs(t, err, storeerr.ErrLimit)
		_, err = db.Diff(ctx, [2]query.Selection{sel, selected(0, time.Minute, "{}")}, [2][]string{}, 0)
		require.ErrorIs(t, err, storeerr.ErrLimit)
	}
	total := func(sel query.Selection, want int64) {
		t.Helper()
		tree, err := db.Tree(ctx, sel, nil)
		require.NoError(t, err)
		require.Equal(t, want, tree.Total())
	}
	check := func() {
		t.Helper()
		for _, pod := range append(pods, ".+") {
			selector := fmt.Sprintf(`{pod=~"%s"}`, pod)
			pods := int64(1)
			if pod == ".+" {
				pods = 2
			}
			for _, r := range [][2]time.Duration{{0, 24 * time.Hour}, {time.Hour, time.Hour + 5*time.Minute}, {2 * time.Hour, 4 * time.Hour}} {
				refused(selected(r[0], r[1], selector))
			}
			all := selected(0, 24*time.Hour, selector)
			all.Type = counts
			total(all, 2*pods*int64(len(times)))
			series, err := db.Points(ctx, query.SeriesRequest{Selection: everything(selector), Step: 24 * time.Hour})
			require.NoError(t, err)
			require.Len(t, series, 1)
			require.InEpsilon(t, float64(pods)*float64(len(times))*float64(third+small), series[0].Points[0].Value, 1e-9)
			if pods == 1 {
				total(selected(5*time.Hour, 7*time.Hour, selector), 2*(third+small))
			}
		}
		require.Zero(t, testutil.ToFloat64(db.metrics.Corrupt))
	}
	verified := func() {
		t.Helper()
		require.NoError(t, db.Close())
		v, err := Verify(ctx, dir)
		require.NoError(t, err)
		require.Empty(t, v.Damage)
		db = open(t, dir, options, func(o *Options) { o.RetentionRaw = 24 * time.Hour })
	}
	check()
	require.NoError(t, db.maintain(ctx, 0))
	check()
	verified()
	check()
	// Within a slot, an hour and the day that are too much together, parts are not.
	for i := range times {
		total(selected(times[i]-time.Second, times[i], `{pod="a"}`), third+small)
	}
	total(selected(2*time.Hour, 3*time.Hour+30*time.Minute, `{pod="a"}`), 2*(third+small))

	db = rebuilt(t, db, func() *DB { return open(t, dir, options, func(o *Options) { o.RetentionRaw = 24 * time.Hour }) })
	check()

	now = midnight.Add(7 * 24 * time.Hour)
	require.NoError(t, db.maintain(ctx, 0))
	require.NotZero(t, db.epochs.Watermarks.Of(layout.EpochOf(ms(midnight)+1)))
	check()
	total(selected(3*time.Hour, 3*time.Hour+30*time.Minute, `{pod="a"}`), 2*(third+small))
	verified()
	check()
}

// What is added up over services, and over the days of one, is counted too.
func TestServicesDoNotOverflowTogether(t *testing.T) {
	ctx := t.Context()
	db := open(t, t.TempDir())
	for day := range 3 { // of one service, whose days are added up
		p := large(midnight.Add(time.Duration(day*24-48+1)*time.Hour), "main;large", 1<<61, labelindex.LabelServiceName, "days")
		require.NoError(t, db.Append(ctx, []profile.Profile{p}))
	}
	for i := range 4 {
		p := large(midnight.Add(time.Hour), "main;large", 1<<61, labelindex.LabelServiceName, fmt.Sprint("s", i))
		require.NoError(t, db.Append(ctx, []profile.Profile{p}))
	}
	// An answer of Diff has the sum of both sides.
	two := everything(`{service_name=~"s[01]"}`)
	_, err := db.Diff(ctx, [2]query.Selection{two, everything(`{service_name="s2"}`)}, [2][]string{}, 10)
	require.NoError(t, err)
	_, err = db.Diff(ctx, [2]query.Selection{two, two}, [2][]string{}, 10)
	require.ErrorIs(t, err, storeerr.ErrLimit)
	small := large(midnight.Add(time.Hour), "main;large", 1, labelindex.LabelServiceName, "small")
	require.NoError(t, db.Append(ctx, []profile.Profile{small}))
	for selector, fits := range map[string]bool{`{service_name="days"}`: true, `{service_name=~"s."}`: false, `{service_name=~"days|s1"}`: false} {
		sel := everything(selector)
		sel.Start = ms(midnight.Add(-48 * time.Hour))
		for name, ask := range map[string]func() error{
			"tree": func() error { _, err := db.Tree(ctx, sel, nil); return err },
			"functions": func() error {
				_, err := db.Functions(ctx, []query.Selection{sel}, make([][]string, 1), nil)
				return err
			},
			"pprof": func() error { _, err := db.Pprof(ctx, sel, nil); return err },
			"diff": func() error {
				_, err := db.Diff(ctx, [2]query.Selection{everything(`{service_name="small"}`), sel}, [2][]string{}, 10)
				return err
			},
		} {
			if err := ask(); fits {
				require.NoError(t, err, "%s of %s", name, selector)
			} else {
				require.ErrorIs(t, err, storeerr.ErrLimit, "%s of %s", name, selector)
			}
		}
	}
	p := large(midnight.Add(2*time.Hour), "main;large", 1<<62, labelindex.LabelServiceName, "days")
	require.NoError(t, db.Append(ctx, []profile.Profile{p}))
	sel := everything(`{service_name="days"}`)
	sel.Start = ms(midnight.Add(-48 * time.Hour))
	_, err = db.Tree(ctx, sel, nil)
	require.ErrorIs(t, err, storeerr.ErrLimit)
	_, err = db.Pprof(ctx, sel, nil)
	require.ErrorIs(t, err, storeerr.ErrLimit)
}

// What counts at the ends of a range is what is in it: of a slot that is in it for
// the most part, the rest is taken off.
func TestEdgesDoNotOverflow(t *testing.T) {
	ctx := t.Context()
	db := open(t, t.TempDir())
	for at, v := range map[time.Duration]int64{time.Minute: 1 << 62, 6 * time.Minute: 1, 9*time.Minute + 30*time.Second: 1 << 62} {
		require.NoError(t, db.Append(ctx, []profile.Profile{large(midnight.Add(time.Hour+at), "main;large", v, labelindex.LabelServiceName, "x")}))
	}
	check := func() {
		t.Helper()
		sel := everything("{}")
		sel.Start, sel.End = ms(midnight.Add(time.Hour))+1, ms(midnight.Add(time.Hour+9*time.Minute))
		tree, err := db.Tree(ctx, sel, nil)
		require.NoError(t, err)
		require.EqualValues(t, 1<<62+1+2e7, tree.Total())
		_, err = db.Pprof(ctx, sel, nil)
		require.NoError(t, err)
		sel.End = ms(midnight.Add(time.Hour + 10*time.Minute))
		_, err = db.Tree(ctx, sel, nil)
		require.ErrorIs(t, err, storeerr.ErrLimit)
	}
	check()
	require.NoError(t, db.maintain(ctx, 0))
	check()
}

// At a call site only what begins with it counts, of one day, of several and of
// spans.
func TestCallSitesDoNotOverflow(t *testing.T) {
	ctx := t.Context()
	db := open(t, t.TempDir())
	site := []string{"main", "small"}
	total := func(sel query.Selection, want int64) {
		t.Helper()
		tree, err := db.Tree(ctx, sel, site)
		require.NoError(t, err)
		require.Equal(t, want, tree.Total())
		tree, err = db.Tree(ctx, func() query.Selection { s := sel; s.MaxNodes = 1 << 20; return s }(), site)
		require.NoError(t, err)
		require.Equal(t, want, tree.Total())
		diff, err := db.Diff(ctx, [2]query.Selection{sel, sel}, [2][]string{site, site}, 0)
		require.NoError(t, err)
		require.Equal(t, want, diff.Nodes[0].Total)
		require.Equal(t, want, diff.Nodes[0].TotalRight)
		p, err := db.Pprof(ctx, sel, site)
		require.NoError(t, err)
		require.Equal(t, 1, p.Samples)
		for _, s := range [][]string{nil, {"main"}, {"main", "large"}} {
			_, err = db.Tree(ctx, sel, s)
			require.ErrorIs(t, err, storeerr.ErrLimit)
			_, err = db.Pprof(ctx, sel, s)
			require.ErrorIs(t, err, storeerr.ErrLimit)
		}
	}
	add := func(at time.Duration) {
		t.Helper()
		p := large(midnight.Add(at), "main;large", 1<<61, labelindex.LabelServiceName, "x")
		require.NoError(t, db.Append(ctx, []profile.Profile{p}))
	}
	for i := range 9 { // which would be small again
		add(time.Hour + time.Duration(i)*time.Second)
	}
	day := everything("{}")
	total(day, 9*1e7)
	for i := range 5 {
		p := large(midnight.Add(2*time.Hour+time.Duration(i)*time.Second), "main;large", 1<<61, labelindex.LabelServiceName, "spans")
		at := int64(len(p.Pprof.StringTable))
		p.Pprof.StringTable = append(p.Pprof.StringTable, "span_id", testSpan(1).String())
		for _, s := range p.Pprof.Sample {
			s.Label = []*googlev1.Label{{Key: at, Str: at + 1}}
		}
		require.NoError(t, db.Append(ctx, []profile.Profile{p}))
	}
	spans := day
	spans.Spans = []rowcodec.SpanID{testSpan(1)}
	total(spans, 5*1e7)
	day.Matchers = everything(`{service_name="x"}`).Matchers
	for i := range 3 { // each of two days fits
		add(-23*time.Hour + time.Duration(i)*time.Second)
		add(-47*time.Hour + time.Duration(i)*time.Second)
	}
	days := day
	days.Start, days.End = ms(midnight.Add(-48*time.Hour)), ms(midnight)-1
	total(days, 6*1e7)
	require.NoError(t, db.maintain(ctx, 0))
	total(day, 9*1e7)
	days.End = ms(midnight.Add(24 * time.Hour))
	total(days, 15*1e7)
}

// A profile's total is counted. One that says otherwise is damaged, whoever reads it.
func TestProfilesAreCounted(t *testing.T) {
	ctx := t.Context()
	db := open(t, t.TempDir())
	good := large(midnight.Add(time.Hour), "main;large", 5, labelindex.LabelServiceName, "x")
	require.NoError(t, db.Append(ctx, []profile.Profile{good, large(midnight.Add(2*time.Hour), "main;large", 7, labelindex.LabelServiceName, "x")}))
	want, err := db.Tree(ctx, everything("{}"), nil)
	require.NoError(t, err)
	prefix := layout.LevelPrefix(layout.EpochOf(ms(midnight)+1), layout.KindRow, layout.LevelFine)
	var bad []byte
	require.NoError(t, db.kv.Each(prefix, func(key, _ []byte) error {
		bad = slices.Clone(key)
		return nil
	}))
	r := rowcodec.Row{Profiles: 1, Duration: 1, Totals: []int64{1, bitpack.Overflowed}, Nodes: []uint32{1}, Values: [][]int64{{1}, {0}}}
	require.NoError(t, db.kv.Pebble.Set(bad, r.Append(nil), nil))
	corrupt := 0.0
	check := func() {
		t.Helper()
		corrupt = testutil.ToFloat64(db.metrics.Corrupt)
		tree, err := db.Tree(ctx, everything("{}"), nil)
		require.NoError(t, err)
		require.EqualValues(t, want.Total()-7-1e7, tree.Total())
		require.Greater(t, testutil.ToFloat64(db.metrics.Corrupt), corrupt)
		_, err = db.Pprof(ctx, everything("{}"), nil)
		require.NoError(t, err)
		for _, stack := range [][]string{nil, {"main"}} {
			series, err := db.Points(ctx, query.SeriesRequest{Selection: everything("{}"), Step: 24 * time.Hour, Stack: stack})
			require.NoError(t, err)
			require.InDelta(t, float64(tree.Total()), series[0].Points[0].Value, 0)
			values, err := db.Values(ctx, query.ValuesRequest{Selection: everything("{}"), Stack: stack})
			require.NoError(t, err)
			require.Len(t, values[0].Values, 1)
		}
	}
	check()
	require.NoError(t, db.maintain(ctx, 0))
	tree, err := db.Tree(ctx, everything("{}"), nil)
	require.NoError(t, err)
	require.EqualValues(t, want.Total()-7-1e7, tree.Total())

	// One that is to be taken off a merged row, but cannot be read, is not.
	slot := midnight.Add(3 * time.Hour)
	for at, v := range map[time.Duration]int64{20 * time.Second: 1000, 40 * time.Second: 3000, 2 * time.Minute: 20} {
		require.NoError(t, db.Append(ctx, []profile.Profile{large(slot.Add(at), "main;large", v, labelindex.LabelServiceName, "x")}))
	}
	require.NoError(t, db.maintain(ctx, 0))
	sel := everything("{}")
	sel.Start, sel.End = ms(slot.Add(time.Minute)), ms(slot.Add(5*time.Minute))
	edge := func() {
		t.Helper()
		tree, err := db.Tree(ctx, sel, nil)
		require.NoError(t, err)
		require.EqualValues(t, 20+1e7, tree.Total())
	}
	edge()
	require.NoError(t, db.kv.Each(prefix, func(key, _ []byte) error {
		if at, _ := layout.WindowTime(key); at == ms(slot.Add(40*time.Second)) {
			bad = slices.Clone(key)
		}
		return nil
	}))
	require.NoError(t, db.kv.Pebble.Set(bad, r.Append(nil), nil))
	edge()
}

// The series of one profile, sent apart, are one value.
func TestValuesDoNotOverflow(t *testing.T) {
	db := open(t, t.TempDir())
	for i := range 2 {
		p := large(midnight.Add(time.Hour), "main;large", 1<<62, labelindex.LabelServiceName, fmt.Sprint("s", i))
		p.ID = "one"
		require.NoError(t, db.Append(t.Context(), []profile.Profile{p}))
	}
	_, err := db.Values(t.Context(), query.ValuesRequest{Selection: everything("{}")})
	require.ErrorIs(t, err, storeerr.ErrLimit)
	values, err := db.Values(t.Context(), query.ValuesRequest{Selection: everything("{}"), GroupBy: []string{labelindex.LabelServiceName}})
	require.NoError(t, err)
	require.Len(t, values, 2)
	require.Equal(t, labels.FromStrings(labelindex.LabelServiceName, "s0"), values[0].Labels)
	require.EqualValues(t, 1<<62+1e7, values[0].Values[0].Value)
}
