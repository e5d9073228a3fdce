package scrape

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"
)

// heap builds a memory profile with one sample for each address, with location
// IDs that differ from profile to profile, as Go's do.
func heap(time int64, shift uint64, samples map[uint64][4]int64) *googlev1.Profile {
	p := &googlev1.Profile{
		TimeNanos:         time,
		StringTable:       []string{"", "alloc_objects", "alloc_space", "inuse_objects", "inuse_space", "space", "bytes"},
		SampleType:        []*googlev1.ValueType{{Type: 1}, {Type: 2}, {Type: 3}, {Type: 4}},
		PeriodType:        &googlev1.ValueType{Type: 5, Unit: 6},
		Period:            512 << 10,
		DefaultSampleType: 4,
	}
	for address, values := range samples {
		id := address + shift
		p.Location = append(p.Location, &googlev1.Location{Id: id, Address: address})
		p.Sample = append(p.Sample, &googlev1.Sample{LocationId: []uint64{id}, Value: values[:]})
	}
	return p
}

func values(p *googlev1.Profile) map[uint64][]int64 {
	addresses := map[uint64]uint64{}
	for _, l := range p.Location {
		addresses[l.Id] = l.Address
	}
	out := map[uint64][]int64{}
	for _, s := range p.Sample {
		out[addresses[s.LocationId[0]]] = s.Value
	}
	return out
}

// next applies a profile of counters and makes it the one to compare with. It
// returns what the profile says of flows and of states, nil for nothing.
func (d *delta) next(t *testing.T, p *googlev1.Profile) (flow, state *googlev1.Profile) {
	t.Helper()
	return d.read(t, reading{profile: p, taken: p.TimeNanos, duration: p.DurationNanos, answered: time.Unix(0, p.TimeNanos)})
}

func (d *delta) read(t *testing.T, r reading) (flow, state *googlev1.Profile) {
	t.Helper()
	state, flow, snapshot := d.apply(r)
	d.commit(snapshot)
	for _, p := range []*googlev1.Profile{state, flow} {
		if p == nil {
			continue
		}
		require.NotEmpty(t, p.Sample)
		for _, s := range p.Sample {
			require.Len(t, s.Value, len(p.SampleType))
			require.False(t, allZero(s.Value), "a sample without values")
		}
		if d.cumulative(p.StringTable[p.SampleType[0].Type]) {
			require.Same(t, flow, p)
		} else {
			require.Same(t, state, p)
			require.Zero(t, p.DurationNanos, "a state holds until the next")
			state = p
		}
	}
	return flow, state
}

func allZero(values []int64) bool {
	for _, v := range values {
		if v != 0 {
			return false
		}
	}
	return true
}

func typesOf(p *googlev1.Profile) (out []string) {
	for _, t := range p.SampleType {
		out = append(out, p.StringTable[t.Type])
	}
	return out
}

// Growth lies between two scrapes, however far apart they are. States hold when
// they were read.
func TestDelta(t *testing.T) {
	d := newDelta(cumulative(nameMemory))
	flow, state := d.next(t, heap(1000, 1, map[uint64][4]int64{0xa: {10, 100, 1, 10}, 0xb: {5, 50, 0, 0}}))
	require.Nil(t, flow, "of the first only states are known")
	require.Equal(t, map[uint64][]int64{0xa: {1, 10}}, values(state))
	require.Equal(t, int64(1000), state.TimeNanos)

	flow, state = d.next(t, heap(600_000, 7, map[uint64][4]int64{0xa: {13, 130, 2, 20}, 0xb: {5, 50, 0, 0}, 0xc: {2, 20, 2, 20}}))
	require.Equal(t, map[uint64][]int64{0xa: {3, 30}, 0xc: {2, 20}}, values(flow))
	require.Equal(t, []string{"alloc_objects", "alloc_space"}, typesOf(flow))
	require.Equal(t, int64(1000), flow.TimeNanos)
	require.Equal(t, int64(599_000), flow.DurationNanos)
	require.Equal(t, map[uint64][]int64{0xa: {2, 20}, 0xc: {2, 20}}, values(state))
	require.Equal(t, []string{"inuse_objects", "inuse_space"}, typesOf(state))
	require.Equal(t, int64(600_000), state.TimeNanos)
	for _, p := range []*googlev1.Profile{flow, state} {
		require.Equal(t, "space", p.StringTable[p.PeriodType.Type], "the profile type stays the same")
	}
	require.Zero(t, flow.DefaultSampleType)
	require.Equal(t, int64(4), state.DefaultSampleType)

	// The process started anew: all it has is since then.
	flow, _ = d.next(t, heap(700_000, 0, map[uint64][4]int64{0xa: {1, 10, 1, 10}}))
	require.Equal(t, map[uint64][]int64{0xa: {1, 10}}, values(flow))
	require.Equal(t, []int64{600_000, 100_000}, []int64{flow.TimeNanos, flow.DurationNanos})
	// Again, with higher counts, but a stacktrace is missing.
	flow, state = d.next(t, heap(800_000, 0, map[uint64][4]int64{0xd: {9, 90, 0, 0}}))
	require.Equal(t, map[uint64][]int64{0xd: {9, 90}}, values(flow))
	require.Nil(t, state)
	// Nothing happens.
	flow, state = d.next(t, heap(900_000, 0, map[uint64][4]int64{0xd: {9, 90, 0, 0}}))
	require.Nil(t, flow)
	require.Nil(t, state)
	// Other sample types: another program.
	fewer := heap(1_000_000, 0, map[uint64][4]int64{0xd: {11, 110, 0, 0}})
	fewer.SampleType, fewer.Sample[0].Value = fewer.SampleType[:1], []int64{11}
	flow, _ = d.next(t, fewer)
	require.Equal(t, map[uint64][]int64{0xd: {11}}, values(flow))
	// And one without any counter.
	states := heap(1_100_000, 0, map[uint64][4]int64{0xd: {0, 0, 1, 10}})
	states.SampleType, states.Sample[0].Value = states.SampleType[2:], []int64{1, 10}
	flow, state = d.next(t, states)
	require.Nil(t, flow)
	require.Equal(t, map[uint64][]int64{0xd: {1, 10}}, values(state))
}

// A heap profile that is sampled at another rate counts in other steps, and a
// program that was built anew starts from zero even if its counters are higher.
func TestDeltaOfAnotherProcess(t *testing.T) {
	d := newDelta(cumulative(nameMemory))
	build := func(time, n int64, id string) *googlev1.Profile {
		p := heap(time, 0, map[uint64][4]int64{0xa: {n, n, n, n}})
		p.StringTable = append(p.StringTable, id)
		p.Mapping = []*googlev1.Mapping{{Id: 1, BuildId: int64(len(p.StringTable)) - 1}}
		return p
	}
	d.next(t, build(1000, 5, "a"))
	other := build(2000, 50, "a")
	other.Period *= 2
	flow, state := d.next(t, other)
	require.Nil(t, flow, "the growth is not known")
	require.NotNil(t, state)
	other = build(3000, 57, "a")
	other.Period *= 2
	flow, _ = d.next(t, other)
	require.Equal(t, map[uint64][]int64{0xa: {7, 7}}, values(flow))
	other = build(4000, 60, "b")
	flow, _ = d.next(t, other)
	require.Equal(t, map[uint64][]int64{0xa: {60, 60}}, values(flow))
}

// A stacktrace may come more than once. A sum that is too large does not make its
// growth negative.
func TestDeltaOfStacktracesThatComeAgain(t *testing.T) {
	d := newDelta(cumulative(nameMemory))
	twice := func(time, n int64) *googlev1.Profile {
		p := heap(time, 1, map[uint64][4]int64{0xa: {n, 1, 1, 10}})
		p.Sample = append(p.Sample, &googlev1.Sample{LocationId: p.Sample[0].LocationId, Value: []int64{n, 1, 1, 10}})
		return p
	}
	d.next(t, twice(1000, 1))
	flow, state := d.next(t, twice(3000, 5))
	require.Len(t, flow.Sample, 1)
	require.Equal(t, []int64{8, 0}, flow.Sample[0].Value)
	require.Len(t, state.Sample, 2, "states are added up")
	flow, _ = d.next(t, twice(5000, math.MaxInt64-5))
	require.Equal(t, []int64{math.MaxInt64 - 10, 0}, flow.Sample[0].Value)
}

func TestDeltaOfCountersAlone(t *testing.T) {
	d := newDelta(cumulative(nameMutex))
	mutex := func(time, n int64) *googlev1.Profile {
		return &googlev1.Profile{
			TimeNanos:   time,
			StringTable: []string{"", "contentions", "delay"},
			SampleType:  []*googlev1.ValueType{{Type: 1}, {Type: 2}},
			Location:    []*googlev1.Location{{Id: 1, Address: 0xa}, {Id: 2, Address: 0xb}},
			Sample: []*googlev1.Sample{
				{LocationId: []uint64{1}, Value: []int64{n, n * 100}},
				{LocationId: []uint64{1}, Value: []int64{1, 1}}, // the same stacktrace again
				{LocationId: []uint64{2}, Value: []int64{4, 4}},
			},
		}
	}
	flow, _ := d.next(t, mutex(1000, 5))
	require.Nil(t, flow)
	flow, _ = d.next(t, mutex(3000, 8))
	require.Len(t, flow.Sample, 1)
	require.Equal(t, []int64{3, 300}, flow.Sample[0].Value)
	require.Equal(t, int64(1000), flow.TimeNanos)
	require.Equal(t, int64(2000), flow.DurationNanos)
	require.Nil(t, cumulative(nameCPU))
	require.Nil(t, cumulative(nameGoroutine))
}

// Locations without addresses, as runtimes that compile while they run have
// them, are told apart by their functions, and samples also by labels that are
// text. Addresses that change tell nothing apart where functions are known.
func TestDeltaTellsStacktracesApart(t *testing.T) {
	jit := func(time int64, address uint64, a, b, labelled int64) *googlev1.Profile {
		return &googlev1.Profile{
			TimeNanos:   time,
			StringTable: []string{"", "alloc_space", "a", "b", "tenant", "x"},
			SampleType:  []*googlev1.ValueType{{Type: 1}},
			Function:    []*googlev1.Function{{Id: 1, Name: 2}, {Id: 2, SystemName: 3}},
			Location: []*googlev1.Location{
				{Id: 1, Address: address, Line: []*googlev1.Line{{FunctionId: 1, Line: 7}}},
				{Id: 2, Address: address, Line: []*googlev1.Line{{FunctionId: 2, Line: 7}}},
			},
			Sample: []*googlev1.Sample{
				{LocationId: []uint64{1}, Value: []int64{a}},
				{LocationId: []uint64{2}, Value: []int64{b}},
				{LocationId: []uint64{2}, Value: []int64{labelled}, Label: []*googlev1.Label{{Key: 4, Str: 5}}},
			},
		}
	}
	d := newDelta(cumulative(nameMemory))
	d.next(t, jit(1000, 0, 10, 20, 30))
	flow, _ := d.next(t, jit(2000, 0, 11, 22, 33))
	require.Equal(t, [][]int64{{1}, {2}, {3}}, [][]int64{flow.Sample[0].Value, flow.Sample[1].Value, flow.Sample[2].Value})
	flow, _ = d.next(t, jit(3000, 0x77, 11, 25, 33))
	require.Len(t, flow.Sample, 1)
	require.Equal(t, []int64{3}, flow.Sample[0].Value)
}

// The wall clock may be set back between two scrapes.
func TestDeltaWhileTheClockIsSet(t *testing.T) {
	d := newDelta(cumulative(nameMutex))
	at := time.Now()
	read := func(taken int64, after time.Duration, n int64) *googlev1.Profile {
		p := heap(taken, 0, map[uint64][4]int64{0xa: {n, n, n, n}})
		flow, _ := d.read(t, reading{profile: p, taken: taken, answered: at.Add(after)})
		return flow
	}
	read(1_000_000e9, 0, 1)
	flow := read(999_000e9, 15*time.Second, 2)
	require.Equal(t, []int64{999_000e9 - 15e9, 15e9}, []int64{flow.TimeNanos, flow.DurationNanos})
	flow = read(999_015e9, 30*time.Second, 3)
	require.Equal(t, []int64{999_000e9, 15e9}, []int64{flow.TimeNanos, flow.DurationNanos})
}

// Growth over more than a day could be of any time.
func TestDeltaAfterDays(t *testing.T) {
	d := newDelta(cumulative(nameMutex))
	const day = int64(24 * time.Hour)
	d.next(t, heap(10*day, 0, map[uint64][4]int64{0xa: {1, 1, 1, 1}}))
	flow, _ := d.next(t, heap(11*day, 0, map[uint64][4]int64{0xa: {2, 2, 2, 2}}))
	require.Equal(t, day, flow.DurationNanos)
	flow, _ = d.next(t, heap(12*day+1, 0, map[uint64][4]int64{0xa: {3, 3, 3, 3}}))
	require.Nil(t, flow)
	flow, _ = d.next(t, heap(12*day+2, 0, map[uint64][4]int64{0xa: {4, 4, 4, 4}}))
	require.Equal(t, []int64{1, 1, 1, 1}, flow.Sample[0].Value)
}

// What is growth already is not compared with anything.
func TestDeltaOfGrowth(t *testing.T) {
	profile := func(n int64) *googlev1.Profile {
		return heap(0, 0, map[uint64][4]int64{0xa: {n, 10 * n, 1, 10}})
	}
	t.Run("godeltaprof", func(t *testing.T) {
		d := newDelta(cumulative(nameMemory))
		flow, state := d.read(t, reading{profile: profile(100), kind: growth, taken: 10e9})
		require.Nil(t, flow, "since when is not known")
		require.NotNil(t, state)
		for i, n := range []int64{5, 3, 8} {
			taken := int64(20e9 + i*30e9)
			before := d.last.time
			flow, state = d.read(t, reading{profile: profile(n), kind: growth, taken: taken})
			require.Equal(t, map[uint64][]int64{0xa: {n, 10 * n}}, values(flow))
			require.Equal(t, []int64{before, taken - before}, []int64{flow.TimeNanos, flow.DurationNanos})
			require.Equal(t, map[uint64][]int64{0xa: {1, 10}}, values(state))
		}
	})
	t.Run("net/http/pprof with seconds", func(t *testing.T) {
		d := newDelta(cumulative(nameMemory))
		for i, n := range []int64{100, 5, 8} {
			taken := int64(i+1) * 60e9
			flow, state := d.read(t, reading{profile: profile(n), kind: difference, taken: taken, duration: 30e9})
			require.Equal(t, map[uint64][]int64{0xa: {n, 10 * n}}, values(flow))
			require.Equal(t, []int64{taken - 30e9, 30e9}, []int64{flow.TimeNanos, flow.DurationNanos})
			require.Nil(t, state, "the change of a state is none")
		}
	})
	t.Run("the duration of the profile", func(t *testing.T) {
		d := newDelta(cumulative(nameMemory))
		read := func(taken, duration, n int64) *googlev1.Profile {
			flow, _ := d.read(t, reading{profile: profile(n), taken: taken, duration: duration})
			return flow
		}
		require.Nil(t, read(1000e9, 15e9, 100))
		flow := read(1060e9, 15e9, 120) // of its own 15 s
		require.Equal(t, map[uint64][]int64{0xa: {120, 1200}}, values(flow))
		require.Equal(t, []int64{1045e9, 15e9}, []int64{flow.TimeNanos, flow.DurationNanos})
		flow = read(1075e9, 1000e9, 130) // since the process started
		require.Equal(t, map[uint64][]int64{0xa: {10, 100}}, values(flow))
		require.Equal(t, []int64{1060e9, 15e9}, []int64{flow.TimeNanos, flow.DurationNanos})
	})
}

// Over many scrapes, of which some fail, of a process that is started anew now
// and then, everything since the first scrape is there once, but for what a
// process did after it was scraped for the last time.
func TestDeltaAddsUp(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := newDelta(cumulative(nameMemory))
		counts := map[uint64][4]int64{}
		run := func(least int64) {
			for a := range uint64(5) {
				if n := least + r.Int64N(10); n > 0 {
					c := counts[a]
					counts[a] = [4]int64{c[0] + n, c[1] + 100*n, 1, 100}
				}
			}
		}
		// A counter of more than 10 falls if the process starts anew.
		far := func() bool {
			for a := range uint64(5) {
				if counts[a][0] <= 10 {
					return false
				}
			}
			return true
		}
		sum := func() (n int64) {
			for _, c := range counts {
				n += c[0]
			}
			return n
		}
		run(100)
		clock := int64(1e18)
		d.next(t, heap(clock, 0, counts))
		atLast, covered, want, got := sum(), clock, int64(0), int64(0)
		for range 50 {
			clock += r.Int64N(1e12)
			switch dice := r.IntN(10); {
			case dice == 0 && far(): // started anew, and scraped before it has done as much
				counts = map[uint64][4]int64{}
				atLast = 0
				run(0)
			case dice < 3: // not reached
				run(0)
				continue
			default:
				run(0)
			}
			want += sum() - atLast
			flow, state := d.next(t, heap(clock, r.Uint64N(100), counts))
			atLast = sum()
			if state != nil {
				require.Equal(t, clock, state.TimeNanos)
			}
			if flow == nil {
				continue
			}
			require.GreaterOrEqual(t, flow.TimeNanos, covered, "flows do not overlap")
			covered = flow.TimeNanos + flow.DurationNanos
			require.Equal(t, clock, covered)
			for _, v := range values(flow) {
				require.Positive(t, v[0])
				require.Equal(t, 100*v[0], v[1])
				got += v[0]
			}
		}
		require.Equal(t, want, got, "seed %d", seed)
	}
}

// Functions without names do not make stacktraces equal: their addresses count.
func TestDeltaOfUnnamedFunctions(t *testing.T) {
	read := func(time, a, b int64) *googlev1.Profile {
		return &googlev1.Profile{
			TimeNanos: time, StringTable: []string{"", "alloc_space"},
			SampleType: []*googlev1.ValueType{{Type: 1}},
			Function:   []*googlev1.Function{{Id: 1}},
			Location: []*googlev1.Location{
				{Id: 1, Address: 0xa, Line: []*googlev1.Line{{FunctionId: 1}}},
				{Id: 2, Address: 0xb, Line: []*googlev1.Line{{FunctionId: 1}}},
			},
			Sample: []*googlev1.Sample{{LocationId: []uint64{1}, Value: []int64{a}}, {LocationId: []uint64{2}, Value: []int64{b}}},
		}
	}
	d := newDelta(cumulative(nameMemory))
	d.next(t, read(1000, 10, 20))
	flow, _ := d.next(t, read(2000, 11, 25))
	require.Equal(t, map[uint64][]int64{0xa: {1}, 0xb: {5}}, values(flow))
}

// A process that starts anew elsewhere in memory has the same stacktraces: what fell is
// growth since its start, whatever its addresses.
func TestDeltaOfAProcessAtOtherAddresses(t *testing.T) {
	read := func(time int64, address uint64, n int64) *googlev1.Profile {
		return &googlev1.Profile{
			TimeNanos: time, StringTable: []string{"", "alloc_space", "main"},
			SampleType: []*googlev1.ValueType{{Type: 1}},
			Function:   []*googlev1.Function{{Id: 1, Name: 2}},
			Location:   []*googlev1.Location{{Id: 1, Address: address, Line: []*googlev1.Line{{FunctionId: 1}}}},
			Sample:     []*googlev1.Sample{{LocationId: []uint64{1}, Value: []int64{n}}},
		}
	}
	d := newDelta(cumulative(nameMemory))
	d.next(t, read(1000, 0x5500a, 10))
	flow, _ := d.next(t, read(2000, 0x5600a, 4))
	require.Equal(t, map[uint64][]int64{0x5600a: {4}}, values(flow))
	flow, _ = d.next(t, read(3000, 0x5600a, 9))
	require.Equal(t, map[uint64][]int64{0x5600a: {5}}, values(flow))
}
