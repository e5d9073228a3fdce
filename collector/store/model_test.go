package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/scan"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/storetest"
	"github.com/flameline/flameline/collector/store/internal/watermark"
	"github.com/flameline/flameline/pkg/profile"
)

// A model is what the store is compared with: a list of all profiles, which every
// question reads from one end to the other.
type model struct{ profiles []modelProfile }

type modelProfile struct {
	time  int64
	pod   string
	stack string // folded
	value int64
}

// countsAt is the time at which a profile counts in a flame graph: its own, or the
// end of the finest window of which there is a row.
func countsAt(t int64, watermarks map[uint32]watermark.Hours) int64 {
	h := watermarks[layout.EpochOf(t)].Watermark(layout.EpochOf(t))
	for level := layout.LevelDay; level > layout.LevelFine; level-- {
		if t <= h[level-1] {
			return layout.WindowEnd(level, t)
		}
	}
	return t
}

func (m *model) tree(lo, hi int64, watermarks map[uint32]watermark.Hours) map[string]int64 {
	out := map[string]int64{}
	for _, p := range m.profiles {
		if at := countsAt(p.time, watermarks); lo <= at && at <= hi {
			out[p.stack] += p.value
		}
	}
	return out
}

// points are by pod and step, of profiles at their own time or at the time at
// which they count in a flame graph.
func (m *model) points(start, end, step int64, at func(modelProfile) int64) map[string]map[int64]float64 {
	out := map[string]map[int64]float64{}
	for t := start; t <= end; t += step {
		for _, p := range m.profiles {
			if at := at(p); at > t-step && at <= t {
				if out[p.pod] == nil {
					out[p.pod] = map[int64]float64{}
				}
				out[p.pod][t] += float64(p.value)
			}
		}
	}
	return out
}

// A modelRun pushes to a store and to a model in the same order.
type modelRun struct {
	*testing.T
	db    *DB
	r     *rand.Rand
	now   *atomic.Int64 // ms
	model model
	acked atomic.Int64 // value of what is acknowledged
	tried atomic.Int64 // and of what may be
}

// push appends a profile of a random time in the last days, with a stacktrace of few.
func (m *modelRun) push(back time.Duration) {
	m.Helper()
	t := m.now.Load() - m.r.Int64N(back.Milliseconds())
	switch m.r.IntN(4) { // at the very edges of windows
	case 0:
		t = t / layout.SlotMs * layout.SlotMs
	case 1:
		t = t/layout.HourMs*layout.HourMs + 1
	}
	p := modelProfile{
		time: t, pod: fmt.Sprint(m.r.IntN(12)), stack: fmt.Sprintf("main;f%d;g%d", m.r.IntN(4), m.r.IntN(4)), value: int64(1+m.r.IntN(5)) * 1e7,
	}
	in := cpu(folded(time.UnixMilli(t), fmt.Sprintf("%s %d", p.stack, p.value/1e7)), labelindex.LabelServiceName, fmt.Sprint("s", len(p.pod)), "pod", p.pod)
	if m.r.IntN(2) == 0 {
		in.ID = fmt.Sprint(len(m.model.profiles))
	}
	m.tried.Add(p.value)
	err := m.db.Append(context.Background(), []profile.Profile{in})
	if errors.Is(err, storeerr.ErrInvalid) {
		require.True(m, m.outlived(t), "refused: %v", err)
		m.tried.Add(-p.value)
		return
	}
	require.NoError(m, err)
	m.acked.Add(p.value)
	m.model.profiles = append(m.model.profiles, p)
	if in.ID != "" && m.r.IntN(3) == 0 { // again, as a sender that got no answer
		err := m.db.Append(context.Background(), []profile.Profile{in})
		if !errors.Is(err, storeerr.ErrInvalid) || !m.outlived(t) { // rows may be dropped meanwhile
			require.NoError(m, err)
		}
	}
}

// outlived reports whether the single profiles of a time are not kept.
func (m *modelRun) outlived(t int64) bool {
	dropped := m.db.epochs.Retention.Outlived(layout.EpochOf(t), time.UnixMilli(m.now.Load())).Watermark(layout.EpochOf(t))
	return t <= dropped[layout.LevelFine]
}

// ask compares all kinds of answers with the model's, for a random range. If rows
// are dropped meanwhile, it asks again.
func (m *modelRun) ask(first int64) {
	m.Helper()
	ctx := context.Background()
	for {
		watermarks := m.db.epochs.Watermarks.Snapshot(func() {})
		span := m.now.Load() - first
		a, b := first+m.r.Int64N(span), first+m.r.Int64N(span)
		sel := query.Selection{Type: cpuType, Start: min(a, b), End: max(a, b)}
		if m.r.IntN(3) == 0 {
			sel.Start, sel.End = sel.Start/layout.HourMs*layout.HourMs+1, layout.WindowEnd(layout.LevelHour, sel.End)
		}
		step := []time.Duration{15 * time.Second, time.Minute, 7 * time.Minute, time.Hour, 25 * time.Hour}[m.r.IntN(5)]
		if span := time.Duration(sel.End-sel.Start) * time.Millisecond; span/step > 300 {
			step = span / 300
		}
		request := query.SeriesRequest{Selection: sel, Step: step, GroupBy: []string{"pod"}}
		tree, err := m.db.Tree(ctx, sel, nil)
		require.NoError(m, err)
		pprof, err := mergePprof(ctx, m.db, sel, nil)
		require.NoError(m, err)
		points, err := m.db.Points(ctx, request)
		require.NoError(m, err)
		request.Stack = []string{"main"} // every profile, read from its samples
		below, err := m.db.Points(ctx, request)
		require.NoError(m, err)
		if fmt.Sprint(watermarks) != fmt.Sprint(m.db.epochs.Watermarks.Snapshot(func() {})) {
			continue
		}
		want := m.model.tree(sel.Start, sel.End, watermarks)
		require.Equal(m, want, unfold(tree), "tree of %d to %d, %v", sel.Start, sel.End, watermarks)
		total := int64(0)
		for _, v := range want {
			total += v
		}
		got := int64(0)
		for _, s := range pprof.Sample {
			got += s.Value[0]
		}
		require.Equal(m, total, got, "pprof of %d to %d, %v", sel.Start, sel.End, watermarks)
		require.Len(m, pprof.Sample, len(want))
		require.Equal(m, m.model.points(sel.Start, sel.End, step.Milliseconds(), func(p modelProfile) int64 { return p.time }),
			bySeries(points), "points from %d to %d at %s, %v", sel.Start, sel.End, step, watermarks)
		require.Equal(m, m.model.points(sel.Start, sel.End, step.Milliseconds(), func(p modelProfile) int64 { return countsAt(p.time, watermarks) }),
			bySeries(below), "points of a call site from %d to %d at %s, %v", sel.Start, sel.End, step, watermarks)
		return
	}
}

func unfold(t *profile.Tree) map[string]int64 {
	out := map[string]int64{}
	for _, line := range draw(t) {
		var stack string
		var n int64
		if _, err := fmt.Sscan(line, &stack, &n); err != nil {
			panic(err)
		}
		out[stack] = n
	}
	return out
}

func bySeries(in []query.Series) map[string]map[int64]float64 {
	out := map[string]map[int64]float64{}
	for _, s := range in {
		by := map[int64]float64{}
		for _, p := range s.Points {
			by[p.Time] = p.Value
		}
		out[s.Labels.Get("pod")] = by
	}
	return out
}

// TestLateProfilesLandWhereTheyBelong pushes profiles of three days in random order,
// while windows are merged all the time and, in the second run, rows are dropped
// by the hour. Every answer must be the model's.
func TestLateProfilesLandWhereTheyBelong(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Options){
		"all kept": func(*Options) {},
		"dropped by age": func(o *Options) {
			o.RetentionRaw, o.RetentionSlot, o.RetentionHour = 9*time.Hour, 30*time.Hour, 50*time.Hour
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			m := &modelRun{T: t, r: rand.New(rand.NewPCG(21, uint64(len(name)))), now: new(atomic.Int64)}
			m.now.Store(ms(midnight.Add(60 * time.Hour)))
			dir := t.TempDir()
			clock := func(o *Options) { o.Now = func() time.Time { return time.UnixMilli(m.now.Load()) } }
			m.db = open(t, dir, clock, change)
			work := func() (stop func()) {
				ctx, cancel := context.WithCancel(ctx)
				var g sync.WaitGroup
				db := m.db
				g.Go(func() { maintainUntil(ctx, t, db) })
				g.Go(func() { // all time: never less than acknowledged, never more than sent
					for ctx.Err() == nil {
						least := m.acked.Load()
						tree, err := db.Tree(ctx, query.Selection{Type: cpuType, Start: 1, End: ms(midnight) + 30*layout.DayMs}, nil)
						if most := m.tried.Load(); err == nil && (tree.Total() < least || tree.Total() > most) {
							t.Errorf("a query gave %d, want %d to %d", tree.Total(), least, most)
						}
					}
				})
				return func() {
					cancel()
					g.Wait()
				}
			}
			defer cancel()
			stop := work()
			for round := range 12 {
				for range storetest.Rounds(50) {
					m.push(60 * time.Hour)
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
			for range 2 {
				require.NoError(t, m.db.maintain(ctx, 0))
				for range storetest.Rounds(40) {
					m.ask(ms(midnight))
				}
			}
			require.NoError(t, m.db.Close())
			v, err := Verify(ctx, dir)
			require.NoError(t, err)
			require.Empty(t, v.Damage)
			if name == "dropped by age" {
				first := layout.EpochOf(ms(midnight) + 1)
				require.Equal(t, watermark.Hours{24, 24, 24}, m.db.epochs.Watermarks.Of(first))
				require.Equal(t, watermark.Hours{24, 24, 0}, m.db.epochs.Watermarks.Of(first+1))
				require.Equal(t, watermark.Hours{24, 9, 0}, m.db.epochs.Watermarks.Of(first+2))
			}
		})
	}
}

// maintainUntil merges windows and drops rows all the time until ctx ends.
func maintainUntil(ctx context.Context, t *testing.T, db *DB) {
	for ctx.Err() == nil {
		if err := db.maintain(ctx, 0); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	}
}

// TestMergedRowsCountAtTheirEnd is the rule about what is left of a range's
// ends, by hand.
func TestMergedRowsCountAtTheirEnd(t *testing.T) {
	ctx := context.Background()
	now := midnight.Add(14 * time.Hour)
	db := open(t, t.TempDir(), func(o *Options) {
		o.Now, o.RetentionRaw, o.RetentionSlot = func() time.Time { return now }, 2*time.Hour, 8*time.Hour
	})
	var ps []profile.Profile
	for minute := range 14 * 60 { // one a minute, at second 30
		ps = append(ps, cpu(folded(midnight.Add(time.Duration(minute)*time.Minute+30*time.Second), "main 1"), "pod", "a"))
	}
	require.NoError(t, db.Append(ctx, ps))
	at := func(clock string) int64 {
		d, err := time.ParseDuration(clock)
		require.NoError(t, err)
		return ms(midnight.Add(d))
	}
	count := func(from, to string) int64 {
		tree, err := db.Tree(ctx, query.Selection{Type: cpuType, Start: at(from) + 1, End: at(to)}, nil)
		require.NoError(t, err)
		return tree.Total() / 1e7
	}
	require.EqualValues(t, 3, count("3h2m", "3h5m"))
	require.NoError(t, db.maintain(ctx, 0))
	first := layout.EpochOf(ms(midnight) + 1)
	require.Equal(t, watermark.Hours{12, 6, 0}, db.epochs.Watermarks.Of(first))
	for _, tt := range []struct {
		from, to string
		want     int64
	}{
		{"13h2m", "13h5m", 3},                  // single profiles
		{"8h2m", "8h5m", 5}, {"8h", "8h3m", 0}, // 5 minutes
		{"8h2m", "8h12m", 10}, {"8h12m", "8h22m", 10},
		{"3h2m", "3h5m", 0}, {"3h2m", "4h", 60}, {"3h2m", "5h59m", 120}, // hours
		{"5h30m", "12h1m", 60 + 6*60 + 1}, {"0s", "14h", 14 * 60},
	} {
		require.Equal(t, tt.want, count(tt.from, tt.to), "%s to %s", tt.from, tt.to)
	}
	request := query.SeriesRequest{Selection: query.Selection{Type: cpuType, Start: at("3h1m"), End: at("3h5m")}, Step: time.Minute}
	got, err := db.Points(ctx, request)
	require.NoError(t, err)
	require.Len(t, got[0].Points, 5, "series have every profile")
	values, err := db.Values(ctx, query.ValuesRequest{Selection: request.Selection, GroupBy: []string{"pod"}})
	require.NoError(t, err)
	require.Equal(t, labels.FromStrings("pod", "a"), values[0].Labels)
	require.Equal(t, at("3h1m30s"), values[0].Values[0].Time)
	request.Stack, request.Start, request.End = []string{"main"}, at("8h5m"), at("8h10m")
	got, err = db.Points(ctx, request)
	require.NoError(t, err)
	require.Equal(t, []query.Point{{Time: at("8h5m"), Value: 5e7}, {Time: at("8h10m"), Value: 5e7}}, got[0].Points)
	request.Average = true
	got, err = db.Points(ctx, request)
	require.NoError(t, err)
	require.Equal(t, []query.Point{{Time: at("8h5m"), Value: 1e7}, {Time: at("8h10m"), Value: 1e7}}, got[0].Points)
	err = db.Append(ctx, []profile.Profile{cpu(folded(time.UnixMilli(at("11h59m")), "main 1"))})
	require.ErrorIs(t, err, storeerr.ErrInvalid)
	require.ErrorContains(t, err, "storage.retention_raw")
	require.NoError(t, db.Append(ctx, []profile.Profile{cpu(folded(time.UnixMilli(at("12h1m")), "main 1"))}))
	stats, err := db.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, query.Stats{Oldest: at("30s"), Newest: at("13h59m30s"), Profiles: true}, stats)
}

// TestQueriesReadFewRows fails if a query reads more rows of a series than its
// windows are, also while late profiles are not merged yet.
func TestQueriesReadFewRows(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	now := midnight.Add(31 * 24 * time.Hour)
	clock := func(o *Options) { o.Now = func() time.Time { return now } }
	db := open(t, dir, clock)
	const perSlot = 3
	for day := range 30 {
		var ps []profile.Profile
		for i := range 24 * layout.SlotsPerHour * perSlot {
			if i/layout.SlotsPerHour/perSlot%7 == 3 {
				continue // an hour without any
			}
			at := midnight.Add(time.Duration(day)*24*time.Hour + time.Duration(i)*5*time.Minute/perSlot + time.Second)
			ps = append(ps, cpu(folded(at, fmt.Sprintf("main;f%d 1", i%9))))
		}
		require.NoError(t, db.Append(ctx, ps))
	}
	require.NoError(t, db.maintain(ctx, 0))
	from := ms(midnight.Add(5*24*time.Hour)) + 1
	day := [2]int64{from, from - 1 + layout.DayMs}
	month := [2]int64{ms(midnight) + 1, ms(midnight) + 30*layout.DayMs}
	cut := [2]int64{ms(midnight) + 17*60_000, ms(midnight) + 29*layout.DayMs + 7*layout.HourMs + 123_456}
	// Of both ends: hours of a day, slots of an hour, profiles of a slot.
	const ends = 2 * (23 + 11 + perSlot)
	rows := func(name string, r [2]int64, most int) {
		t.Helper()
		sel := query.Selection{Type: cpuType, Start: r[0], End: r[1]}
		jobs, err := db.queries.Plan(ctx, nil, sel)
		require.NoError(t, err)
		seen := 0
		var mu sync.Mutex
		require.NoError(t, db.queries.Run(ctx, nil, jobs, func(j *query.Job, s *query.JobReader) error {
			lo, hi := sel.Times(j.Epoch)
			err := s.Stream(layout.KindRow, layout.LevelDay, j.Streams[0].ID, lo, hi, func(scan.Window) error { return nil })
			mu.Lock()
			seen += s.Seen
			mu.Unlock()
			return err
		}))
		require.Positive(t, seen)
		require.LessOrEqual(t, seen, most, name)
	}
	rows("day", day, 1)
	rows("month", month, 30)
	rows("cut month", cut, 28+ends)

	late := func() {
		for d := range 30 { // one a day
			at := midnight.Add(time.Duration(d)*24*time.Hour + 13*time.Hour + 2*time.Minute)
			require.NoError(t, db.Append(ctx, []profile.Profile{cpu(folded(at, "main;late 1"))}))
		}
	}
	late()
	const openDay = 23 + 11 + perSlot + 1
	rows("day with a late profile", day, openDay)
	rows("month with late profiles", month, 30*openDay)
	require.NoError(t, db.Close())
	db = open(t, dir, clock)
	rows("after a restart", month, 30*openDay)
	require.NoError(t, db.maintain(ctx, 0))
	rows("merged again", month, 30)
	rows("merged again, cut", cut, 28+ends)
}

func FuzzHorizon(f *testing.F) {
	f.Add(watermark.Hours{24, 7, 0}.Append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := watermark.Read(data)
		if err != nil {
			return
		}
		if !slices.IsSortedFunc(h[:], func(a, b uint8) int { return int(b) - int(a) }) {
			t.Fatalf("a coarser level goes before a finer one: %v", h)
		}
		again, err := watermark.Read(h.Append(nil))
		if err != nil || again != h {
			t.Fatalf("%v: %v, then %v", err, h, again)
		}
	})
}

// A profile that lands in a day whose horizon can't be read must not take the
// merged rows away, of which the single profiles are gone.
func TestDamagedHorizon(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	clock := func(o *Options) { o.Now = func() time.Time { return midnight.Add(50 * time.Hour) } }
	db := open(t, dir, clock)
	at := midnight.Add(10 * time.Hour)
	require.NoError(t, db.Append(ctx, []profile.Profile{cpu(folded(at, "main 1")), cpu(folded(at.Add(time.Second), "main 1"))}))
	epoch := layout.EpochOf(ms(at))
	require.NoError(t, db.maintainer.dropLevels(ctx, epoch, watermark.Hours{24, 24, 0}, "size", db.epochs.Now()))
	require.NoError(t, db.kv.Pebble.Set(layout.WatermarkKey(epoch), []byte{24, 0xff}, nil))
	require.NoError(t, db.Close())
	db = open(t, dir, clock)
	require.ErrorIs(t, db.Append(ctx, []profile.Profile{cpu(folded(at.Add(time.Minute), "main 1"))}), storeerr.ErrInvalid)
	require.NoError(t, db.maintain(ctx, 0))
	tree, err := db.Tree(ctx, everything(), nil)
	require.NoError(t, err)
	require.EqualValues(t, 2e7, tree.Total())
}

// A damaged mark says that everything is to be merged. Where rows were dropped that
// would put merged rows in the place of points.
func TestDroppedHoursAreNotMergedAgain(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	clock := func(o *Options) { o.Now = func() time.Time { return midnight.Add(50 * time.Hour) } }
	db := open(t, dir, clock)
	at := midnight.Add(10*time.Hour + time.Minute)
	require.NoError(t, db.Append(ctx, []profile.Profile{cpu(folded(at, "main 1")), cpu(folded(at.Add(time.Second), "main 1"))}))
	epoch := layout.EpochOf(ms(at))
	require.NoError(t, db.maintainer.dropLevels(ctx, epoch, watermark.Hours{24, 24, 0}, "age", db.epochs.Now()))
	for _, hour := range []uint8{10, epochs.WholeDay} {
		require.NoError(t, db.kv.Pebble.Set(layout.DirtyKey(epoch, 0, hour), []byte{0xff}, nil))
	}
	require.NoError(t, db.Close())
	db = open(t, dir, clock)
	require.NoError(t, db.maintain(ctx, 0))
	got, err := db.Values(ctx, query.ValuesRequest{Selection: everything()})
	require.NoError(t, err)
	require.Equal(t, []query.Point{{Time: ms(at), Value: 1e7}, {Time: ms(at) + 1000, Value: 1e7}}, pointsOf(got)[0].Points)
}
