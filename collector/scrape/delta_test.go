package scrape

import (
	"math"
	"testing"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"
)

// heap builds a memory profile with one sample for each address, with location
// IDs that differ from profile to profile, as Go's do.
func heap(time int64, shift uint64, samples map[uint64][4]int64) *googlev1.Profile {
	p := &googlev1.Profile{
		TimeNanos:   time,
		StringTable: []string{"", "alloc_objects", "alloc_space", "inuse_objects", "inuse_space"},
		SampleType:  []*googlev1.ValueType{{Type: 1}, {Type: 2}, {Type: 3}, {Type: 4}},
	}
	for address, values := range samples {
		id := address + shift
		p.Location = append(p.Location, &googlev1.Location{Id: id, Address: address})
		p.Sample = append(p.Sample, &googlev1.Sample{LocationId: []uint64{id}, Value: values[:]})
	}
	return p
}

func values(p *googlev1.Profile) map[uint64][]int64 {
	addresses := addressesOf(p)
	out := map[uint64][]int64{}
	for _, s := range p.Sample {
		out[addresses[s.LocationId[0]]] = s.Value
	}
	return out
}

func TestDelta(t *testing.T) {
	d := newDelta(cumulative(nameMemory))
	p := d.apply(heap(1000, 1, map[uint64][4]int64{0xa: {10, 100, 1, 10}, 0xb: {5, 50, 0, 0}}))
	require.Equal(t, map[uint64][]int64{0xa: {0, 0, 1, 10}}, values(p), "of the first only states are known")

	p = d.apply(heap(3000, 7, map[uint64][4]int64{0xa: {13, 130, 2, 20}, 0xb: {5, 50, 0, 0}, 0xc: {2, 20, 2, 20}}))
	require.Equal(t, map[uint64][]int64{0xa: {3, 30, 2, 20}, 0xc: {2, 20, 2, 20}}, values(p))
	require.Equal(t, int64(2000), p.DurationNanos)
	require.Equal(t, int64(3000), p.TimeNanos, "states hold at their own time")

	// The process started anew: all it has is since then.
	p = d.apply(heap(5000, 0, map[uint64][4]int64{0xa: {1, 10, 1, 10}}))
	require.Equal(t, map[uint64][]int64{0xa: {1, 10, 1, 10}}, values(p))
	// Again, with higher counts, but a stacktrace is missing.
	p = d.apply(heap(7000, 0, map[uint64][4]int64{0xd: {9, 90, 0, 0}}))
	require.Equal(t, map[uint64][]int64{0xd: {9, 90, 0, 0}}, values(p))
	// Other sample types: another program.
	fewer := heap(9000, 0, map[uint64][4]int64{0xd: {11, 110, 0, 0}})
	fewer.SampleType, fewer.Sample[0].Value = fewer.SampleType[:1], []int64{11}
	require.Equal(t, map[uint64][]int64{0xd: {11}}, values(d.apply(fewer)))
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
	d.apply(twice(1000, 1))
	p := d.apply(twice(3000, 5))
	require.Equal(t, []int64{8, 0, 1, 10}, p.Sample[0].Value)
	require.Equal(t, []int64{0, 0, 1, 10}, p.Sample[1].Value)
	p = d.apply(twice(5000, math.MaxInt64-5))
	require.Equal(t, []int64{math.MaxInt64 - 10, 0, 1, 10}, p.Sample[0].Value)
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
	require.Nil(t, d.apply(mutex(1000, 5)))
	p := d.apply(mutex(3000, 8))
	require.Len(t, p.Sample, 1)
	require.Equal(t, []int64{3, 300}, p.Sample[0].Value)
	require.Equal(t, int64(1000), p.TimeNanos)
	require.Equal(t, int64(2000), p.DurationNanos)
	require.Nil(t, cumulative(nameCPU))
	require.Nil(t, cumulative(nameGoroutine))
}
