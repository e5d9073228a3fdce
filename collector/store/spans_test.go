package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/storetest"
	"github.com/flameline/flameline/collector/store/internal/watermark"
	"github.com/flameline/flameline/pkg/profile"
)

// A spansModel is what spans and IDs are compared with: every profile with its
// samples, read from one end to the other.
type spansModel struct {
	*testing.T
	db       *DB
	r        *rand.Rand
	now      atomic.Int64 // ms
	profiles []taggedProfile
}

type taggedProfile struct {
	time    int64
	pod, id string
	samples []taggedSample
}

type taggedSample struct {
	stack       string
	endpoint    string
	value       int64
	span, trace int // 0 for none
}

func testSpan(i int) rowcodec.SpanID { return rowcodec.SpanID(uint64(i) * 0x0101_0000_0000_0001) }

func testTrace(i int) (id rowcodec.TraceID) {
	if i > 0 {
		id[0], id[15] = byte(i), 7
	}
	return id
}

// push appends a profile of random samples of few spans, traces and endpoints.
func (m *spansModel) push(back time.Duration) {
	m.Helper()
	p := taggedProfile{time: m.now.Load() - m.r.Int64N(back.Milliseconds()), pod: fmt.Sprint(m.r.IntN(3))}
	if m.r.IntN(3) == 0 {
		p.time = layout.WindowEnd(layout.LevelHour, p.time) // the very edge
	}
	b := newPprof(time.UnixMilli(p.time))
	plain := m.r.IntN(3) == 0
	for range m.r.IntN(12) {
		s := taggedSample{stack: fmt.Sprintf("main;f%d;g%d", m.r.IntN(3), m.r.IntN(3)), value: 1 + m.r.Int64N(4)}
		if !plain {
			s.span, s.trace = m.r.IntN(4), m.r.IntN(3)
		}
		s.endpoint = []string{"", "", "/a", "/b"}[m.r.IntN(4)]
		p.samples = append(p.samples, s)
		add(b, s)
	}
	in := cpu(b.p, "pod", p.pod)
	if m.r.IntN(2) == 0 {
		p.id = fmt.Sprintf("profile %d", len(m.profiles))
		in.ID = p.id
	}
	err := m.db.Append(context.Background(), []profile.Profile{in})
	if errors.Is(err, storeerr.ErrInvalid) {
		outlived := m.db.epochs.Retention.Outlived(layout.EpochOf(p.time), time.UnixMilli(m.now.Load())).Watermark(layout.EpochOf(p.time))
		require.LessOrEqual(m, p.time, outlived[layout.LevelFine], "refused: %v", err)
		return
	}
	require.NoError(m, err)
	m.profiles = append(m.profiles, p)
	if in.ID != "" && m.r.IntN(3) == 0 { // sent again, with other spans
		b := newPprof(time.UnixMilli(p.time))
		add(b, taggedSample{stack: "main", value: 1, span: 1, trace: 1})
		in.Pprof = b.p
		if len(p.samples) > 0 && slices.ContainsFunc(p.samples, func(s taggedSample) bool { return s.endpoint == "" }) {
			require.NoError(m, m.db.Append(context.Background(), []profile.Profile{in}))
		}
	}
}

func add(b *pprofBuilder, s taggedSample) {
	var frames [][]string
	for _, f := range strings.Split(s.stack, ";") {
		frames = append(frames, []string{f})
	}
	out := b.sample(frames, s.value, s.value*1e7)
	label := func(name, value string) {
		out.Label = append(out.Label, &googlev1.Label{Key: b.text(name), Str: b.text(value)})
	}
	if s.span > 0 {
		label([]string{"span_id", "profile_id"}[s.span%2], testSpan(s.span).String())
	}
	if s.trace > 0 {
		label("trace_id", testTrace(s.trace).String())
	}
	if s.endpoint != "" {
		label("endpoint", s.endpoint)
	}
}

// A spansQuestion selects samples in both ways.
type spansQuestion struct {
	query.Selection
	pod           string
	spans, traces []int
}

func (m *spansModel) question(first int64) (q spansQuestion) {
	span := m.now.Load() - first
	a, b := first+m.r.Int64N(span), first+m.r.Int64N(span)
	q.Selection = query.Selection{Type: cpuType, Start: min(a, b), End: max(a, b)}
	if m.r.IntN(2) == 0 {
		q.pod = fmt.Sprint(m.r.IntN(3))
		q.Matchers = append(q.Matchers, labels.MustNewMatcher(labels.MatchEqual, "pod", q.pod))
	}
	switch m.r.IntN(3) {
	case 0:
		q.traces = []int{1 + m.r.IntN(2)}
		q.Traces = []rowcodec.TraceID{testTrace(q.traces[0])}
	default:
		for range 1 + m.r.IntN(2) {
			q.spans = append(q.spans, 1+m.r.IntN(3))
			q.Spans = append(q.Spans, testSpan(q.spans[len(q.spans)-1]))
		}
	}
	if m.r.IntN(4) == 0 {
		for _, p := range m.profiles {
			if p.id != "" && len(q.Profiles) < 20 {
				q.Profiles = append(q.Profiles, p.id)
			}
		}
	}
	return q
}

// each calls fn with every profile that is selected and of which there is a row.
func (m *spansModel) each(q *spansQuestion, watermarks map[uint32]watermark.Hours, fn func(p *taggedProfile)) {
	for i := range m.profiles {
		p := &m.profiles[i]
		switch {
		case p.time < q.Start || p.time > q.End || q.pod != "" && p.pod != q.pod:
		case p.time <= watermarks[layout.EpochOf(p.time)].Watermark(layout.EpochOf(p.time))[layout.LevelFine]:
		case len(q.Profiles) > 0 && !slices.Contains(q.Profiles, p.id):
		default:
			fn(p)
		}
	}
}

func (m *spansModel) watermarks() map[uint32]watermark.Hours {
	return m.db.epochs.Watermarks.Snapshot(func() {})
}

// ask compares answers with the model's, until no rows are dropped meanwhile.
func (m *spansModel) ask(first int64) {
	m.Helper()
	ctx := context.Background()
	q := m.question(first)
	for {
		watermarks := m.watermarks()
		tree, err := m.db.Tree(ctx, q.Selection, nil)
		require.NoError(m, err)
		pprof, err := mergePprof(ctx, m.db, q.Selection, []string{"main", "f1"})
		require.NoError(m, err)
		all := q
		all.Spans, all.Traces, all.Profiles = nil, nil, nil
		spans, err := m.db.Values(ctx, query.ValuesRequest{Selection: all.Selection, BySpan: true, Exemplars: true, GroupBy: []string{"endpoint"}})
		require.NoError(m, err)
		profiles, err := m.db.Values(ctx, query.ValuesRequest{Selection: all.Selection, Exemplars: true})
		require.NoError(m, err)
		below, err := m.db.Values(ctx, query.ValuesRequest{Selection: all.Selection, BySpan: true, Stack: []string{"main", "f1"}})
		require.NoError(m, err)
		if fmt.Sprint(watermarks) != fmt.Sprint(m.watermarks()) {
			continue
		}
		want, wantBelow := map[string]int64{}, int64(0)
		m.each(&q, watermarks, func(p *taggedProfile) {
			for _, s := range p.samples {
				if slices.Contains(q.spans, s.span) || slices.Contains(q.traces, s.trace) {
					want[s.stack] += s.value * 1e7
					if s.stack[:7] == "main;f1" {
						wantBelow += s.value * 1e7
					}
				}
			}
		})
		require.Equal(m, want, unfold(tree), "%+v", q)
		got := int64(0)
		for _, s := range pprof.Sample {
			got += s.Value[0]
		}
		require.Equal(m, wantBelow, got, "%+v", q)
		require.Equal(m, m.spanValues(&all, watermarks, ""), tell(spans), "%+v", all)
		require.Equal(m, m.spanValues(&all, watermarks, "main;f1"), tell(below), "%+v", all)
		m.askProfiles(&all, watermarks, profiles)
		return
	}
}

// spanValues tells of spans at times, by endpoint unless below is given, what their
// values and the pods that they have in common are.
func (m *spansModel) spanValues(q *spansQuestion, watermarks map[uint32]watermark.Hours, below string) []string {
	type key struct {
		endpoint    string
		time        int64
		span, trace int
	}
	values, pods := map[key]int64{}, map[key]string{}
	m.each(q, watermarks, func(p *taggedProfile) {
		for _, s := range p.samples {
			if s.span == 0 || len(s.stack) < len(below) || s.stack[:len(below)] != below {
				continue
			}
			k := key{s.endpoint, p.time, s.span, s.trace}
			pod := p.pod
			if below != "" {
				k.endpoint, pod = "", ""
			}
			if values[k] > 0 && pods[k] != pod {
				pod = ""
			}
			values[k] += s.value * 1e7
			pods[k] = pod
		}
	})
	out := []string{}
	for k, v := range values {
		out = append(out, fmt.Sprint(k.endpoint, " ", k.time, " ", testSpan(k.span), testTrace(k.trace), " ", v, " ", pods[k]))
	}
	slices.Sort(out)
	return out
}

func tell(groups []query.Values) []string {
	out := []string{}
	for i := range groups {
		g := &groups[i]
		for j := range g.Values {
			e := g.Exemplar(&g.Values[j])
			out = append(out, fmt.Sprint(g.Labels.Get("endpoint"), " ", e.Time, " ", e.Span, e.Trace, " ", e.Value, " ", e.Labels.Get("pod")))
		}
	}
	slices.Sort(out)
	return out
}

// askProfiles checks that every profile is there once, as the sum of its series,
// and is found by the ID that is shown.
func (m *spansModel) askProfiles(q *spansQuestion, watermarks map[uint32]watermark.Hours, got []query.Values) {
	m.Helper()
	want, seen := []string{}, []string{}
	m.each(q, watermarks, func(p *taggedProfile) {
		total := int64(0)
		for _, s := range p.samples {
			total += s.value * 1e7
		}
		if total > 0 {
			want = append(want, fmt.Sprint(p.time, " ", total, " ", p.pod))
		}
	})
	for i := range got {
		for j := range got[i].Values {
			v := &got[i].Values[j]
			if !v.Identified() {
				require.LessOrEqual(m, v.Time, watermarks[layout.EpochOf(v.Time)].Watermark(layout.EpochOf(v.Time))[layout.LevelFine])
				continue
			}
			e := got[i].Exemplar(v)
			seen = append(seen, fmt.Sprint(e.Time, " ", e.Value, " ", e.Labels.Get("pod")))
			if m.r.IntN(20) == 0 {
				one := q.Selection
				one.Profiles = []string{e.Profile.String()}
				tree, err := m.db.Tree(context.Background(), one, nil)
				require.NoError(m, err)
				if fmt.Sprint(watermarks) == fmt.Sprint(m.watermarks()) {
					require.Equal(m, e.Value, tree.Total())
				}
			}
		}
	}
	slices.Sort(want)
	slices.Sort(seen)
	require.Equal(m, want, seen)
}

// TestSpansAndIDs pushes profiles of two days with spans, while windows are merged
// and, in the second run, rows are dropped by the hour, with restarts. Every answer
// must be the model's.
func TestSpansAndIDs(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Options){
		"all kept":       func(*Options) {},
		"dropped by age": func(o *Options) { o.RetentionRaw, o.RetentionSlot = 9*time.Hour, 60*time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			m := &spansModel{T: t, r: rand.New(rand.NewPCG(31, uint64(len(name))))}
			m.now.Store(ms(midnight.Add(30 * time.Hour)))
			dir := t.TempDir()
			clock := func(o *Options) { o.Now = func() time.Time { return time.UnixMilli(m.now.Load()) } }
			m.db = open(t, dir, clock, change)
			work := func() (stop func()) {
				ctx, cancel := context.WithCancel(ctx)
				var g sync.WaitGroup
				db := m.db
				g.Go(func() { maintainUntil(ctx, t, db) })
				return func() {
					cancel()
					g.Wait()
				}
			}
			stop := work()
			for round := range 8 {
				for range storetest.Rounds(40) {
					m.push(30 * time.Hour)
					if m.r.IntN(5) == 0 {
						m.ask(ms(midnight))
					}
				}
				m.now.Add((2*time.Hour + 17*time.Minute).Milliseconds())
				if round%4 == 3 {
					stop()
					require.NoError(t, m.db.Close())
					m.db = open(t, dir, clock, change)
					stop = work()
				}
			}
			stop()
			require.NoError(t, m.db.maintain(ctx, 0))
			for range storetest.Rounds(40) {
				m.ask(ms(midnight))
			}
			// Spans are there as long as the row, and as few as there are.
			for _, id := range m.db.epochs.Between(0, 1<<62) {
				rows := map[string]bool{}
				require.NoError(t, m.db.kv.Each(layout.LevelPrefix(id, layout.KindRow, layout.LevelFine), func(key, _ []byte) error {
					rows[string(key[5:])] = true
					return nil
				}))
				require.NoError(t, m.db.kv.Each(layout.KindKey(id, layout.KindSpans), func(key, _ []byte) error {
					require.True(t, rows[string(key[5:])], "spans %x without a row", key)
					return nil
				}))
			}
		})
	}
}

// Profiles without spans, and without an ID, have their row and nothing else.
func TestProfilesWithoutSpansCostNothing(t *testing.T) {
	db := open(t, t.TempDir())
	require.NoError(t, db.Append(context.Background(), []profile.Profile{cpu(folded(midnight.Add(time.Hour), "main 1"))}))
	epoch := layout.EpochOf(ms(midnight.Add(time.Hour)))
	for _, kind := range []byte{layout.KindSpans, layout.KindID} {
		require.NoError(t, db.kv.Each(layout.KindKey(epoch, kind), func(key, _ []byte) error { return fmt.Errorf("%x is there", key) }))
	}
}

func TestProfileIDsAreUUIDs(t *testing.T) {
	require.Equal(t, "01234567-89ab-8cde-8f00-000000000000", query.ProfileID(0x0123456789abcdef).String())
	for _, id := range []query.ProfileID{0, 1, 1 << 63, 1<<64 - 1, 0x0123456789abcdef} {
		got, ok := query.ParseProfileID(id.String())
		require.True(t, ok)
		require.Equal(t, id, got)
	}
	for _, s := range []string{
		"", "x", "7c9e6679-7425-40de-944b-e07fc1f90ae7", "0123456789ab8cde8f00000000000000", "01234567-89ab-8cde-8f00-000000000001", "g1234567-89ab-8cde-8f00-000000000000",
	} {
		_, ok := query.ParseProfileID(s)
		require.False(t, ok, s)
	}
}

// Spans that cannot be read are left out, and named.
func TestDamagedSpans(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	for i := range 2 {
		b := newPprof(midnight.Add(time.Duration(1+i) * time.Minute))
		add(b, taggedSample{stack: "main", value: 1, span: 1})
		require.NoError(t, db.Append(ctx, []profile.Profile{cpu(b.p)}))
	}
	var damaged []byte
	require.NoError(t, db.kv.Each(layout.KindKey(layout.EpochOf(ms(midnight)+1), layout.KindSpans), func(key, _ []byte) error {
		damaged = slices.Clone(key)
		return nil
	}))
	require.NoError(t, db.kv.Pebble.Set(damaged, []byte{1, 2, 3}, nil))
	sel := everything()
	sel.Spans = []rowcodec.SpanID{testSpan(1)}
	tree, err := db.Tree(ctx, sel, nil)
	require.NoError(t, err)
	require.EqualValues(t, 1e7, tree.Total())
	require.EqualValues(t, 1, testutil.ToFloat64(db.metrics.Corrupt))
}

func randomSpans(r *rand.Rand) *rowcodec.Spans {
	types := 1 + r.IntN(3)
	s := &rowcodec.Spans{Values: make([][]int64, types)}
	for i := range 1 + r.IntN(20) {
		t := rowcodec.Tag{Span: rowcodec.SpanID(i) << r.IntN(3) * 0x100000001}
		t.Span += rowcodec.SpanID(i) << 56
		if t.Trace[3] = byte(r.IntN(3)); t == (rowcodec.Tag{}) {
			continue
		}
		s.Tags, s.Counts = append(s.Tags, t), append(s.Counts, 1+r.IntN(5))
		node := uint32(r.IntN(50))
		for range s.Counts[len(s.Counts)-1] {
			s.Nodes = append(s.Nodes, node)
			node += 1 + uint32(r.IntN(30))
			for c := range s.Values {
				s.Values[c] = append(s.Values[c], r.Int64N(3)*7)
			}
		}
	}
	slices.SortFunc(s.Tags, rowcodec.Tag.Compare)
	return s
}

func TestSpansRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	var p rowcodec.PackedSpans
	var tmp rowcodec.Scratch
	for range 500 {
		in := randomSpans(r)
		if len(in.Tags) == 0 {
			continue
		}
		require.NoError(t, p.Decode(in.Append(nil)))
		require.Equal(t, in.Tags, p.Tags)
		for c := range in.Values {
			got, want := map[rowcodec.Tag]map[uint32]int64{}, map[rowcodec.Tag]map[uint32]int64{}
			put := func(to map[rowcodec.Tag]map[uint32]int64, t rowcodec.Tag, node uint32, v int64) {
				if to[t] == nil {
					to[t] = map[uint32]int64{}
				}
				to[t][node] = v
			}
			i := 0
			for k, tag := range in.Tags {
				for range in.Counts[k] {
					if in.Values[c][i] != 0 {
						put(want, tag, in.Nodes[i], in.Values[c][i])
					}
					i++
				}
			}
			require.NoError(t, p.Each(c, 1000, &tmp, func(t *rowcodec.Tag, node uint32, v int64) { put(got, *t, node, v) }))
			require.Equal(t, want, got)
			require.ErrorIs(t, p.Each(c, int(slices.Max(in.Nodes)), &tmp, func(*rowcodec.Tag, uint32, int64) { t.Error("called in spite of the error") }), storeerr.ErrCorrupt)
		}
	}
}

func FuzzSpans(f *testing.F) {
	r := rand.New(rand.NewPCG(8, 8))
	for range 5 {
		f.Add(randomSpans(r).Append(nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p rowcodec.PackedSpans
		if p.Decode(data) != nil {
			return
		}
		// What was read is written again, and read as the same.
		s := &rowcodec.Spans{Tags: p.Tags, Values: make([][]int64, len(p.Row.Values))}
		for _, n := range p.Counts {
			s.Counts = append(s.Counts, int(n))
		}
		var tmp rowcodec.Scratch
		for c := range s.Values {
			s.Nodes = s.Nodes[:0]
			err := p.Each(c, 1<<32, &tmp, func(_ *rowcodec.Tag, node uint32, v int64) {
				s.Nodes, s.Values[c] = append(s.Nodes, node), append(s.Values[c], v)
			})
			if err != nil || len(s.Nodes) != p.Row.Count || slices.Min(s.Values[c]) <= 0 {
				return // damaged, or with zeros, which each leaves out
			}
		}
		if len(s.Values) == 0 {
			return
		}
		var again rowcodec.PackedSpans
		if err := again.Decode(s.Append(nil)); err != nil || !slices.Equal(p.Tags, again.Tags) || !slices.Equal(p.Counts, again.Counts) {
			t.Fatalf("%v: %v %v, then %v %v", err, p.Tags, p.Counts, again.Tags, again.Counts)
		}
		for c := range s.Values {
			i := 0
			err := again.Each(c, 1<<32, &tmp, func(_ *rowcodec.Tag, node uint32, v int64) {
				if s.Nodes[i] != node || s.Values[c][i] != v {
					t.Fatalf("node %d has %d, had %d of %d", node, v, s.Values[c][i], s.Nodes[i])
				}
				i++
			})
			if err != nil || i != len(s.Nodes) {
				t.Fatalf("%v, %d of %d nodes", err, i, len(s.Nodes))
			}
		}
	})
}
