package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/watermark"
	"github.com/flameline/flameline/pkg/profile"
)

var inuseType = profile.Type{Name: "memory", SampleType: "inuse_space", SampleUnit: "bytes", PeriodType: "space", PeriodUnit: "bytes"}

// A stateStore takes snapshots of memory in use, beside bytes allocated, and asks
// about them in every way.
type stateStore struct {
	*testing.T
	db *DB
}

func newStateStore(t *testing.T) *stateStore { return &stateStore{t, open(t, t.TempDir())} }

// heap appends a profile of a pod: values in use by stack, each with 10 bytes
// allocated. A label, as in worker=a, is that of the sample.
func (s *stateStore) heap(at, duration time.Duration, pod string, stacks ...any) {
	s.Helper()
	b := newPprof(midnight.Add(at))
	b.p.SampleType, b.p.PeriodType = nil, nil
	for _, t := range [][2]string{{"alloc_space", "bytes"}, {"inuse_space", "bytes"}} {
		b.p.SampleType = append(b.p.SampleType, b.valueType(t[0], t[1]))
	}
	b.p.PeriodType = b.valueType("space", "bytes")
	b.p.DurationNanos = duration.Nanoseconds()
	for i := 0; i < len(stacks); i += 3 {
		sample := b.sample([][]string{{"main"}, {stacks[i].(string)}}, 10, int64(stacks[i+1].(int)))
		if worker := stacks[i+2].(string); worker != "" {
			sample.Label = append(sample.Label, b.label("worker", worker))
		}
	}
	ls := labels.FromStrings(labelindex.LabelName, "memory", labelindex.LabelServiceName, "shop", "pod", pod)
	require.NoError(s, s.db.Append(context.Background(), []profile.Profile{{Labels: ls, Pprof: b.p}}))
}

// tree is the flame graph of a range, which pprof and both sides of a comparison with
// itself have to agree with.
func (s *stateStore) tree(from, to time.Duration, selectors ...string) map[string]int64 {
	s.Helper()
	ctx := context.Background()
	sel := everything(selectors...)
	sel.Type, sel.Start, sel.End = inuseType, ms(midnight.Add(from))+1, ms(midnight.Add(to))
	tree, err := s.db.Tree(ctx, sel, nil)
	require.NoError(s, err)
	p, err := mergePprof(ctx, s.db, sel, nil)
	require.NoError(s, err)
	sum := int64(0)
	for _, sample := range p.Sample {
		sum += sample.Value[0]
	}
	require.Equal(s, tree.Total(), sum, "pprof")
	diff, err := s.db.Diff(ctx, [2]query.Selection{sel, sel}, [2][]string{}, 0)
	require.NoError(s, err)
	require.Equal(s, [2]int64{tree.Total(), tree.Total()}, [2]int64{diff.Nodes[0].Total, diff.Nodes[0].TotalRight}, "diff")
	functions, err := s.db.Functions(ctx, []query.Selection{sel, sel}, make([][]string, 2), nil)
	require.NoError(s, err)
	own := int64(0)
	for i := range functions.Names {
		require.Equal(s, functions.Own[i][0], functions.Own[i][1], functions.Names[i])
		require.LessOrEqual(s, functions.Own[i][0], functions.Total[i][0], functions.Names[i])
		own += functions.Own[i][0]
	}
	require.InDelta(s, tree.Total(), functions.Root[0], 1, "functions")
	require.InDelta(s, functions.Root[0], own, float64(len(functions.Names)), "own values of functions, each rounded")
	return unfold(tree)
}

// points are those of a range by step, in seconds since midnight, of everything or of
// each value of a label.
func (s *stateStore) points(from, to, step time.Duration, by ...string) map[string]map[int]float64 {
	s.Helper()
	out := map[string]map[int]float64{}
	for _, stack := range [][]string{nil, {"main"}} { // the second is read from samples
		sel := everything()
		sel.Type, sel.Start, sel.End = inuseType, ms(midnight.Add(from)), ms(midnight.Add(to))
		got, err := s.db.Points(context.Background(), query.SeriesRequest{Selection: sel, Step: step, GroupBy: by, Average: true, Stack: stack})
		require.NoError(s, err)
		again := map[string]map[int]float64{}
		for _, series := range got {
			points := map[int]float64{}
			for _, p := range series.Points {
				points[int(p.Time-ms(midnight))/1000] = p.Value
			}
			key := ""
			for _, name := range by {
				key += series.Labels.Get(name)
			}
			again[key] = points
		}
		if stack != nil {
			require.Equal(s, out, again, "of a call site")
		}
		out = again
	}
	return out
}

// merged runs a check before and after the windows are merged.
func (s *stateStore) merged(check func()) {
	s.Helper()
	check()
	require.NoError(s, s.db.maintain(context.Background(), 0))
	check()
}

const hour = time.Hour

func TestStatesAreAveragedOverTime(t *testing.T) {
	s := newStateStore(t)
	for i := range 10 {
		s.heap(hour+time.Second+time.Duration(i)*15*time.Second, 0, "a", "fill", 100*(i+1), "")
	}
	s.merged(func() {
		require.Equal(t, map[string]int64{"main;fill": 550}, s.tree(hour, hour+3*time.Minute))
		require.Equal(t, map[string]int64{"main;fill": 550}, s.tree(0, 24*hour))
		require.Equal(t, map[string]int64{"main;fill": 200}, s.tree(hour+15*time.Second, hour+30*time.Second), "one snapshot")
		require.Equal(t, map[string]int64{"main;fill": 100}, s.tree(hour+5*time.Second, hour+10*time.Second), "between two")
		want := map[int]float64{}
		for i := range 10 {
			want[3600+15*(i+1)] = float64(100 * (i + 1))
		}
		want[3765] = 1000 // the last one stands for its state until 3751
		require.Equal(t, map[string]map[int]float64{"": want}, s.points(hour, hour+3*time.Minute, 15*time.Second))
		require.Equal(t, map[string]map[int]float64{"": {3660: 250, 3720: 650, 3780: 950}}, s.points(hour, hour+3*time.Minute, time.Minute))
	})
}

// Pods take their snapshots at their own moments and intervals.
func TestStatesAreAddedOverProcesses(t *testing.T) {
	for name, offsets := range map[string][3]time.Duration{
		"at once": {time.Second, time.Second, time.Second}, "apart": {time.Second, 6 * time.Second, 11 * time.Second},
		"over a step's end": {time.Second, 8 * time.Second, 14500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStateStore(t)
			for pod, offset := range offsets {
				for i := range 40 / (1 + 3*(pod%2)) { // the second every minute
					s.heap(hour+offset+time.Duration(i*(1+3*(pod%2)))*15*time.Second, 0, fmt.Sprint(pod), "fill", 1000, "")
				}
			}
			s.merged(func() {
				require.Equal(t, map[string]int64{"main;fill": 3000}, s.tree(hour, hour+10*time.Minute))
				require.Equal(t, map[string]int64{"main;fill": 3000}, s.tree(hour+61*time.Second, hour+100*time.Second))
				require.Equal(t, map[string]int64{"main;fill": 3000}, s.tree(hour+65*time.Second, hour+67*time.Second))
				for at, v := range s.points(hour, hour+10*time.Minute, 15*time.Second)[""] {
					require.InDelta(t, 3000, v, 1e-9, "at %d", at)
				}
				by := s.points(hour+time.Minute, hour+9*time.Minute, time.Minute, "pod")
				require.Len(t, by, 3)
				for pod, points := range by {
					require.Len(t, points, 9)
					for at, v := range points {
						require.InDelta(t, 1000, v, 1e-9, "%s at %d", pod, at)
					}
				}
			})
		})
	}
}

// A pod that takes another one's place does not double what is in use.
func TestStatesOfReplacedProcesses(t *testing.T) {
	s := newStateStore(t)
	for i := range 40 {
		s.heap(hour+time.Second+time.Duration(i)*15*time.Second, 0, fmt.Sprint(i/20), "fill", 1000, "")
	}
	s.merged(func() {
		require.Equal(t, map[string]int64{"main;fill": 1000}, s.tree(hour, hour+10*time.Minute))
		require.Equal(t, map[string]int64{"main;fill": 1000}, s.tree(hour, hour+10*time.Minute, `{pod="1"}`), "of the time in which it was there")
	})
}

// Labels of samples that come and go are at zero while they are away.
// A range may begin or end anywhere between snapshots: what had been there before it is
// there for a part of it, and what comes later for the other.
func TestStatesOfPartsOfTheRange(t *testing.T) {
	const sec = time.Second
	const noon = 12 * time.Hour
	s := newStateStore(t)
	for i := range 5 { // a until 75 s, then b
		s.heap(noon+time.Duration(i)*15*sec, 0, "a", "f", 100, "")
	}
	for i := range 20 {
		s.heap(noon+time.Duration(75+15*i)*sec, 0, "b", "f", 100, "")
	}
	for _, r := range [][2]int{{0, 140}, {61, 140}, {65, 125}, {65, 95}, {70, 80}, {74, 104}} {
		got := s.tree(noon+time.Duration(r[0])*sec, noon+time.Duration(r[1])*sec)
		require.InDelta(t, 100, got["main;f"], 1, "%d to %d s", r[0], r[1])
	}
	s = newStateStore(t)
	for i := range 12 { // a all the time, b until 360 s, c from 300 s on
		at := noon + time.Duration(i)*time.Minute
		s.heap(at, 0, "a", "f", 600, "")
		if i <= 5 {
			s.heap(at, 0, "b", "g", 600, "")
		} else {
			s.heap(at-time.Minute, 0, "c", "h", 600, "")
		}
	}
	for _, c := range []struct{ from, to, b, c int }{
		{241, 481, 298, 453}, {305, 485, 183, 600}, {345, 375, 300, 600}, {270, 330, 600, 300}, {400, 500, 0, 600},
	} {
		got := s.tree(noon+time.Duration(c.from)*sec, noon+time.Duration(c.to)*sec)
		require.InDelta(t, 600, got["main;f"], 1, "%d to %d s", c.from, c.to)
		require.InDelta(t, c.b, got["main;g"], 2, "%d to %d s", c.from, c.to)
		require.InDelta(t, c.c, got["main;h"], 2, "%d to %d s", c.from, c.to)
	}
}

// Those that begin and end together do so at somewhat different moments.
func TestStatesThatBeginTogether(t *testing.T) {
	s := newStateStore(t)
	for i := range 5 {
		for k, pod := range []string{"a", "b", "c"} {
			s.heap(12*time.Hour+time.Duration(15*i+5*k)*time.Second, 0, pod, "f", 100, "")
		}
	}
	for _, r := range [][2]int{{-1, 20}, {-60, 140}, {3, 60}, {50, 120}, {70, 80}} {
		got := s.tree(12*time.Hour+time.Duration(r[0])*time.Second, 12*time.Hour+time.Duration(r[1])*time.Second)
		require.Equal(t, map[string]int64{"main;f": 300}, got, "%d to %d s", r[0], r[1])
	}
}

func TestStatesOfLabelledSamples(t *testing.T) {
	s := newStateStore(t)
	for i := range 8 {
		at := hour + time.Second + time.Duration(i)*15*time.Second
		stacks := []any{"park", 60, "", "work", 30, "a"}
		if i%4 == 0 {
			stacks = append(stacks, "work", 12, "b")
		}
		if i == 7 {
			stacks = []any{"work", 30, "a"} // none without a label
		}
		s.heap(at, 0, "x", stacks...)
	}
	s.merged(func() {
		require.Equal(t, map[string]int64{"main;park": 53, "main;work": 33}, // 52.5 and 33
			s.tree(hour, hour+2*time.Minute))
		require.Equal(t, map[string]int64{"main;work": 3}, s.tree(hour, hour+2*time.Minute, `{worker="b"}`))
		require.Equal(t, map[string]map[int]float64{"": {3660: 60, 3720: 45}, "a": {3660: 30, 3720: 30}, "b": {3660: 3, 3720: 3}},
			s.points(hour+time.Minute, hour+2*time.Minute, time.Minute, "worker"))
		require.Equal(t, map[string]map[int]float64{"": {3660: 93, 3720: 78}}, s.points(hour+time.Minute, hour+2*time.Minute, time.Minute))
		by := s.points(hour+15*time.Second, hour+2*time.Minute, 15*time.Second, "worker")
		require.Equal(t, map[int]float64{3615: 12, 3675: 12}, by["b"])
	})
}

// The states of a profile that lasts are its snapshot's, whatever slots it lies in,
// and what it allocated is spread.
// The chart has in each step what the flame graph of that step has, whenever pods begin,
// end and take one another's place.
func TestStatesOfStepsAreThoseOfFlameGraphs(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 16))
	s := newStateStore(t)
	for pod := range 12 {
		at, interval := time.Duration(r.IntN(3600))*time.Second, []time.Duration{10, 15, 30, 60}[r.IntN(4)]*time.Second
		for n := 1 + r.IntN(60); n > 0; n-- {
			s.heap(hour+at, 0, fmt.Sprint(pod), "fill", 100+100*r.IntN(10), "")
			at += interval
		}
	}
	s.merged(func() {
		for range 40 {
			step := []time.Duration{5, 15, 60, 300, 900}[r.IntN(5)] * time.Second
			first := hour + time.Duration(r.IntN(5000))*time.Second
			first = first.Truncate(step)
			last := first + time.Duration(r.IntN(5))*step
			points := s.points(first, last, step)[""]
			for end := first; end <= last; end += step {
				total := int64(0)
				for _, v := range s.tree(end-step, end) {
					total += v
				}
				require.InDelta(t, total, points[int(end/time.Second)], 1, "%s before %s", step, end)
			}
		}
	})
}

// A snapshot without a sample is one of zero, as of leaked goroutines that there are none of.
func TestStatesOfNothing(t *testing.T) {
	s := newStateStore(t)
	for i := range 4 {
		at := 15*time.Minute + time.Duration(i)*15*time.Second
		s.heap(at, 0, "a")
		s.heap(at, 0, "b", "hold", 100, "")
	}
	for i := range 4 {
		at := 16*time.Minute + time.Duration(i)*15*time.Second
		s.heap(at, 0, "a", "leak", 80, "")
		s.heap(at, 0, "b")
	}
	s.merged(func() {
		require.Equal(t, map[string]int64{"main;leak": 40, "main;hold": 50}, s.tree(15*time.Minute-15*time.Second, 17*time.Minute-15*time.Second))
		require.Equal(t, map[string]map[int]float64{
			"a": {915: 0, 930: 0, 945: 0, 960: 80, 975: 80}, "b": {915: 100, 930: 100, 945: 100, 960: 0, 975: 0},
		}, s.points(15*time.Minute+15*time.Second, 16*time.Minute+15*time.Second, 15*time.Second, "pod"))
	})
}

func TestStatesAndFlowsOfOneProfile(t *testing.T) {
	s := newStateStore(t)
	s.heap(hour+4*time.Minute+50*time.Second, 30*time.Second, "a", "fill", 1000, "")
	s.heap(hour+5*time.Minute+20*time.Second, 30*time.Second, "a", "fill", 2000, "")
	s.merged(func() {
		require.Equal(t, map[string]int64{"main;fill": 1500}, s.tree(hour, hour+10*time.Minute))
		require.Equal(t, map[string]int64{"main;fill": 1000}, s.tree(hour+5*time.Minute, hour+5*time.Minute+10*time.Second))
		alloc := inuseType
		alloc.SampleType = "alloc_space"
		tree, err := s.db.Tree(context.Background(), query.Selection{Type: alloc, Start: ms(midnight), End: ms(midnight.Add(hour + 5*time.Minute + 35*time.Second))}, nil)
		require.NoError(t, err)
		require.EqualValues(t, 15, tree.Total())
	})
}

// Days are averaged together, and rows that are gone leave their windows.
func TestStatesOverDays(t *testing.T) {
	ctx := context.Background()
	now := midnight.Add(30 * hour)
	db := open(t, t.TempDir(), func(o *Options) { o.Now = func() time.Time { return now } })
	s := &stateStore{t, db}
	for i := range 30 * 60 {
		s.heap(time.Duration(i)*time.Minute+7*time.Second, 0, "a", "fill", 1000, "")
	}
	require.NoError(t, db.maintain(ctx, 0))
	require.Equal(t, map[string]int64{"main;fill": 1000}, s.tree(0, 30*hour))
	require.Equal(t, map[string]int64{"main;fill": 1000}, s.tree(24*hour-90*time.Second, 24*hour+90*time.Second))
	for at, v := range s.points(20*hour, 28*hour, 15*time.Second)[""] {
		require.InDelta(t, 1000, v, 1e-9, "at %d", at)
	}
	require.NoError(t, db.maintainer.dropLevels(ctx, layout.EpochOf(ms(midnight)+1), watermark.Hours{24, 24, 0}, "age", now))
	require.Equal(t, map[string]int64{"main;fill": 1000}, s.tree(0, 30*hour))
	require.Equal(t, map[string]int64{"main;fill": 1000}, s.tree(2*hour, 3*hour))
}

// A range before a sender's first snapshot of a day, which it is taken to have been in.
func TestStatesAtMidnight(t *testing.T) {
	s := newStateStore(t)
	for i := range 10 {
		s.heap(time.Duration(i)*time.Minute+50*time.Second, 0, "a", "fill", 1000, "")
	}
	s.merged(func() {
		require.Equal(t, map[string]int64{"main;fill": 1000}, s.tree(0, 30*time.Second))
		require.Equal(t, map[string]map[int]float64{"": {15: 1000, 30: 1000}}, s.points(15*time.Second, 30*time.Second, 15*time.Second))
		require.Empty(t, s.tree(20*time.Minute, 21*time.Minute))
		require.Empty(t, s.points(20*time.Minute, 21*time.Minute, 15*time.Second))
	})
}

// Several profiles by ID are averaged too.
func TestStatesOfProfilesByID(t *testing.T) {
	ctx := context.Background()
	s := newStateStore(t)
	s.heap(hour+time.Second, 0, "a", "fill", 100, "")
	s.heap(hour+16*time.Second, 0, "a", "fill", 300, "", "fill", 20, "w")
	sel := everything()
	sel.Type = inuseType
	values, err := s.db.Values(ctx, query.ValuesRequest{Selection: sel, Exemplars: true})
	require.NoError(t, err)
	require.Len(t, values[0].Values, 2)
	for i := range values[0].Values {
		sel.Profiles = append(sel.Profiles, values[0].Exemplar(&values[0].Values[i]).Profile.String())
	}
	tree, err := s.db.Tree(ctx, sel, nil)
	require.NoError(t, err)
	require.EqualValues(t, 210, tree.Total())
	sel.Profiles = sel.Profiles[1:]
	tree, err = s.db.Tree(ctx, sel, nil)
	require.NoError(t, err)
	require.EqualValues(t, 320, tree.Total())
}

// Replicas whose labels do not tell them apart add up, as far as their snapshots say
// what time they cover.
func TestStatesOfReplicasWithoutLabels(t *testing.T) {
	for name, apart := range map[string]time.Duration{"at once": 0, "apart": 4 * time.Second} {
		t.Run(name, func(t *testing.T) {
			s := newStateStore(t)
			for pod := range 3 {
				for i := range 20 {
					s.heap(hour+time.Second+time.Duration(i)*15*time.Second+time.Duration(pod)*apart, 15*time.Second, "x", "fill", 1000, "")
				}
			}
			s.merged(func() {
				require.Equal(t, map[string]int64{"main;fill": 3000}, s.tree(hour, hour+10*time.Minute))
				require.Equal(t, map[string]int64{"main;fill": 3000}, s.tree(hour+20*time.Second, hour+80*time.Second))
				points := s.points(hour+45*time.Second, hour+4*time.Minute, 15*time.Second)[""]
				require.Len(t, points, 14)
				for at, v := range points {
					require.InDelta(t, 3000, v, 1e-6, "at %d", at)
				}
			})
		})
	}
}

// The chart does not count a pod that ended beside the one that took its place.
func TestStatesOfReplacedProcessesInSteps(t *testing.T) {
	s := newStateStore(t)
	for i := range 20 {
		at := hour + 9*time.Second + time.Duration(i)*15*time.Second
		if i >= 10 {
			at += 3 * time.Second
		}
		s.heap(at, 0, fmt.Sprint(i/10), "fill", 1000, "")
	}
	s.merged(func() {
		for at, v := range s.points(hour, hour+6*time.Minute, 15*time.Second)[""] {
			require.InDelta(t, 1000, v, 1e-6, "at %d", at)
		}
	})
}

// A goroutine that is there all the time is one over any range, as are those of many
// stacktraces that have one each.
func TestStatesOfFewOverDays(t *testing.T) {
	t.Parallel()
	const days = 30
	now := midnight.Add(days * 24 * hour)
	s := &stateStore{t, open(t, t.TempDir(), func(o *Options) { o.Now = func() time.Time { return now } })}
	var stacks []any
	want := map[string]int64{}
	for i := range 40 {
		stacks = append(stacks, fmt.Sprint("worker", i), 1, "")
		want[fmt.Sprint("main;worker", i)] = 1
	}
	for at := time.Minute; at < days*24*time.Hour; at += 30 * time.Minute {
		s.heap(at, 30*time.Minute, "p", stacks...)
	}
	require.Equal(t, want, s.tree(0, days*24*time.Hour), "a month")
	require.Equal(t, want, s.tree(12*time.Hour, 36*time.Hour), "half of two days")
	require.Equal(t, want, s.tree(time.Hour, 2*time.Hour), "an hour")
}

// What is too large for fractions of a unit is added up without them.
func TestStatesOfMuch(t *testing.T) {
	s := newStateStore(t)
	for i := range 10 {
		for pod := range 3 {
			s.heap(time.Duration(i)*time.Minute, time.Minute, fmt.Sprint("p", pod), "fill", 1<<55, "")
		}
	}
	require.Equal(t, map[string]int64{"main;fill": 3 << 55}, s.tree(0, 9*time.Minute))
}
