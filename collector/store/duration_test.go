package store

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/pkg/profile"
)

// A lasting profile is spread evenly over the time that it covers.
type lasting struct {
	at, duration int64 // ms
	pod, stack   string
	value        int64
}

// in is the value that the profile has in (lo, hi].
func (l lasting) in(lo, hi int64) float64 {
	if l.duration == 0 {
		if lo < l.at && l.at <= hi {
			return float64(l.value)
		}
		return 0
	}
	part := min(hi, l.at+l.duration) - max(lo, l.at)
	return float64(l.value) * float64(max(part, 0)) / float64(l.duration)
}

func (l lasting) profile() profile.Profile {
	p := folded(time.UnixMilli(l.at), fmt.Sprintf("%s %d", l.stack, l.value/1e7))
	p.DurationNanos = l.duration * 1e6
	return cpu(p, labelindex.LabelServiceName, "s"+l.pod, "pod", l.pod)
}

func randomLasting(r *rand.Rand) lasting {
	l := lasting{
		at: ms(midnight) + r.Int64N(4*layout.HourMs), duration: r.Int64N(90_000),
		pod: fmt.Sprint(r.IntN(5)), stack: fmt.Sprintf("main;f%d;g%d", r.IntN(3), r.IntN(3)), value: int64(1+r.IntN(500)) * 1e7,
	}
	switch r.IntN(8) {
	case 0:
		l.duration = 0
	case 1: // longer than some slots
		l.duration = r.Int64N(2 * layout.HourMs)
	case 2: // over midnight
		l.at = ms(midnight) - r.Int64N(60_000)
	case 3:
		l.duration = 15_000
	}
	return l
}

// TestProfilesAreSpread compares flame graphs and series of profiles of all lengths
// with sums over a list of them, before and after they are merged.
func TestProfilesAreSpread(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	db := open(t, dir)
	r := rand.New(rand.NewPCG(31, 1))
	var all []lasting
	var ps []profile.Profile
	for range 600 {
		l := randomLasting(r)
		all, ps = append(all, l), append(ps, l.profile())
	}
	require.NoError(t, db.Append(ctx, ps))
	ask := func(lo, hi int64) *profile.Tree {
		tree, err := db.Tree(ctx, query.Selection{Type: cpuType, Start: lo + 1, End: hi}, nil)
		require.NoError(t, err)
		return tree
	}
	compare := func(name string) {
		for range 60 {
			lo := ms(midnight) - 60_000 + r.Int64N(5*layout.HourMs)
			hi := lo + 1 + r.Int64N([]int64{5000, 15_000, 300_000, layout.HourMs, 5 * layout.HourMs}[r.IntN(5)])
			want := map[string]float64{}
			total := 0.0
			for _, l := range all {
				v := l.in(lo, hi)
				want[l.stack] += v
				total += v
			}
			tree := ask(lo, hi)
			// Parts of a profile have whole samples, of 10 ms; one at a slot's end counts
			// 1 ms later.
			tolerance := total*1e-4 + 1e8
			require.InDelta(t, total, tree.Total(), tolerance, "%s: %d to %d", name, lo, hi)
			for stack, v := range unfold(tree) {
				require.InDelta(t, want[stack], v, tolerance, "%s: %s, %d to %d", name, stack, lo, hi)
			}
			// Ranges that follow on one another add up, to the nanosecond.
			middle := lo + r.Int64N(hi-lo)
			require.Equal(t, tree.Total(), ask(lo, middle).Total()+ask(middle, hi).Total(), "%s: %d, %d, %d", name, lo, middle, hi)
		}
		for range 20 {
			step := []int64{1000, 15_000, 60_000, 420_000}[r.IntN(4)]
			first := (ms(midnight) + r.Int64N(4*layout.HourMs)) / step * step
			steps := 1 + r.Int64N(100)
			got, err := db.Points(ctx, query.SeriesRequest{
				Selection: query.Selection{Type: cpuType, Start: first, End: first + (steps-1)*step},
				Step:      time.Duration(step) * time.Millisecond, GroupBy: []string{"pod"},
			})
			require.NoError(t, err)
			by := bySeries(got)
			for at := first; at < first+steps*step; at += step {
				want := map[string]float64{}
				for _, l := range all {
					want[l.pod] += l.in(at-step, at)
				}
				for pod, v := range want {
					require.InDelta(t, v, by[pod][at], v*1e-3+5e7, "%s: pod %s at %d, step %d", name, pod, at, step)
				}
			}
		}
	}
	compare("single profiles")
	require.NoError(t, db.maintain(ctx, 0))
	compare("merged")
	require.NoError(t, db.Close())
	db = open(t, dir)
	compare("opened again")
	require.NoError(t, db.Close())
	v, err := Verify(ctx, dir)
	require.NoError(t, err)
	require.Empty(t, v.Damage)
}

// A window (s, s+5s] carries the time of its first millisecond, and belongs to one
// step alone.
func TestWindowsOfTheSamplerAreInOneStep(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	p := folded(midnight.Add(10*time.Second+time.Millisecond), "main 500")
	p.DurationNanos = 5e9
	require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p)}))
	got, err := db.Points(ctx, query.SeriesRequest{Selection: everything(), Step: 5 * time.Second})
	require.NoError(t, err)
	require.Equal(t, []query.Point{{Time: ms(midnight) + 15_000, Value: 5e9}}, got[0].Points)
}

// A profile that is cut at a slot's end is one profile: it is a duplicate of itself,
// and its ID selects all of it.
func TestCutProfilesStayOne(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	p := folded(midnight.Add(4*time.Minute+30*time.Second), "main;a 300", "main;b 301")
	p.DurationNanos = 60e9
	in := cpu(p)
	in.ID = "one"
	for range 2 {
		require.NoError(t, db.Append(ctx, []profile.Profile{in, in}))
	}
	tree, err := db.Tree(ctx, everything(), nil)
	require.NoError(t, err)
	require.EqualValues(t, 6.01e9, tree.Total())
	half, err := db.Tree(ctx, query.Selection{Type: cpuType, Start: ms(midnight), End: ms(midnight.Add(5 * time.Minute))}, nil)
	require.NoError(t, err)
	require.InDelta(t, 3.005e9, half.Total(), 1e7)
	sel := everything()
	sel.Profiles = []string{"one"}
	tree, err = db.Tree(ctx, sel, nil)
	require.NoError(t, err)
	require.EqualValues(t, 6.01e9, tree.Total())
	values, err := db.Values(ctx, query.ValuesRequest{Selection: everything()})
	require.NoError(t, err)
	require.Len(t, values[0].Values, 1)
	require.EqualValues(t, 6.01e9, values[0].Values[0].Value)
	require.Equal(t, ms(midnight)+270_000, values[0].Values[0].Time)
}

// A profile that claims to be longer than a day counts at its time.
func TestImpossibleDurations(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	p := folded(midnight.Add(time.Minute), "main 1")
	p.DurationNanos = math.MaxInt64
	require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p)}))
	tree, err := db.Tree(ctx, query.Selection{Type: cpuType, Start: ms(midnight), End: ms(midnight.Add(2 * time.Minute))}, nil)
	require.NoError(t, err)
	require.EqualValues(t, 1e7, tree.Total())
}

// A long profile of many samples is cut into few rows, and keeps its total and its
// shape over time.
func TestLongProfilesStaySmall(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	b := newPprof(midnight)
	const n = 20_000
	for i := range n {
		b.sample([][]string{{"main"}, {fmt.Sprintf("f%d", i)}}, 100, 1e9)
	}
	b.p.DurationNanos = 23 * 3600e9
	require.NoError(t, db.Append(ctx, []profile.Profile{cpu(b.p)}))
	tree, err := db.Tree(ctx, everything(), nil)
	require.NoError(t, err)
	require.EqualValues(t, n*1e9, tree.Total())
	hour, err := db.Tree(ctx, query.Selection{Type: cpuType, Start: ms(midnight) + 7*layout.HourMs, End: ms(midnight) + 8*layout.HourMs}, nil)
	require.NoError(t, err)
	require.InEpsilon(t, n*1e9/23, hour.Total(), 0.02)
}

func FuzzShares(f *testing.F) {
	f.Add(int64(7), int64(15_000), int64(400), int64(9000), uint32(3))
	f.Fuzz(func(t *testing.T, v, duration, a, b int64, node uint32) {
		if v < 0 || duration < 2 || duration > layout.DayMs {
			return
		}
		a, b = min(max(a, 0), duration), min(max(b, 0), duration)
		if a, b = min(a, b), max(a, b); a == b {
			return
		}
		phase, sum := rowcodec.PhaseOf(node), int64(0)
		for _, cut := range [][2]int64{{0, a}, {a, b}, {b, duration}} {
			if cut[0] == cut[1] {
				continue
			}
			part := rowcodec.ShareOf(duration, cut[0], cut[1]).Of(v, phase)
			if want := float64(v) * float64(cut[1]-cut[0]) / float64(duration); math.Abs(float64(part)-want) > 1+float64(v)*1e-9 {
				t.Fatalf("%d ms of %d of %d are %d, want %f", cut[1]-cut[0], duration, v, part, want)
			}
			sum += part
		}
		if sum != v {
			t.Fatalf("%d in three parts is %d", v, sum)
		}
	})
}

// Series say until when they are complete: senders of long profiles leave their last
// steps half empty until the next profile comes.
func TestSeriesSayUntilWhenTheyAreComplete(t *testing.T) {
	ctx := context.Background()
	now := midnight.Add(hour)
	db := open(t, t.TempDir(), func(o *Options) { o.Now = func() time.Time { return now } })
	for pod, last := range map[string]time.Duration{"waits": 40 * time.Second, "gone": 200 * time.Second} {
		for i := range 5 {
			p := folded(now.Add(-last-time.Duration(i+1)*time.Minute), "main 6000")
			p.DurationNanos = 60e9
			require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p, "pod", pod)}))
		}
	}
	sel := everything()
	sel.Start, sel.End = ms(now)-10*60_000, ms(now)
	for _, step := range []time.Duration{15 * time.Second, 7 * time.Second} {
		got, err := db.Points(ctx, query.SeriesRequest{Selection: sel, Step: step, GroupBy: []string{"pod"}})
		require.NoError(t, err)
		require.Len(t, got, 2)
		for _, s := range got {
			want := int64(0)
			if s.Labels.Get("pod") == "waits" {
				want = ms(now) - 40_000
			}
			require.Equal(t, want, s.Until, s.Labels)
		}
	}
}

// What a sample counts is known from the period, also where all values have a larger
// divisor, of single profiles, parts of them, and what is merged of them.
func TestUnitOfSamples(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := open(t, t.TempDir())
	append1 := func(service string, period int64, at, lasts time.Duration, stacks ...string) {
		p := folded(midnight.Add(at), stacks...)
		p.Period, p.DurationNanos = period, lasts.Nanoseconds()
		p.SampleType = p.SampleType[1:] // without counts
		for _, s := range p.Sample {
			s.Value = s.Value[1:]
		}
		require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p, labelindex.LabelServiceName, service)}))
	}
	unit := func(service string, from, to time.Duration) int64 {
		sel := everything(`{service_name="` + service + `"}`)
		sel.Start, sel.End = ms(midnight.Add(from))+1, ms(midnight.Add(to))
		f, err := db.Functions(ctx, []query.Selection{sel}, make([][]string, 1), nil)
		require.NoError(t, err)
		return f.Unit
	}
	append1("short", 1e7, time.Second, 10*time.Second, "main;a 6", "main;b 4")
	append1("short", 1e7, time.Minute, 10*time.Second, "main;a 60")
	append1("long", 1e7, time.Second, 15*time.Minute, "main;a 90000", "main;b 45000")
	append1("unknown", 0, time.Second, 10*time.Second, "main;a 6", "main;b 4")
	append1("other", 3e7, time.Second, 10*time.Second, "main;a 6", "main;b 4") // values are no multiples of it
	for range 2 {
		require.EqualValues(t, 1e7, unit("short", 0, time.Hour))
		require.EqualValues(t, 1e7, unit("short", 0, 5*time.Second), "a part of the profile")
		require.EqualValues(t, 1e7, unit("long", 0, time.Hour))
		require.EqualValues(t, 1e7, unit("long", time.Minute, 12*time.Minute))
		require.EqualValues(t, 2e7, unit("unknown", 0, time.Hour), "the largest that it can be")
		require.EqualValues(t, 2e7, unit("other", 0, time.Hour))
		require.NoError(t, db.maintain(ctx, 0))
	}
}
