package record

import (
	"testing"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// TestSnapshots checks that of the memory in use the last profile of each process counts,
// also if it says that nothing is, and all profiles of its threads at that time.
func TestSnapshots(t *testing.T) {
	inUse := func(pid, thread string, at, bytes int64) profile.Profile {
		return profile.Profile{
			Labels: labels.FromStrings(LabelPID, pid, "thread_id", thread),
			Pprof: &googlev1.Profile{
				TimeNanos:   at,
				StringTable: []string{"", "inuse_objects", "count", "inuse_space", "bytes"},
				SampleType:  []*googlev1.ValueType{{Type: 1, Unit: 2}, {Type: 3, Unit: 4}},
				Sample:      []*googlev1.Sample{{Value: []int64{1, bytes}}},
			},
		}
	}
	var s snapshots
	for _, p := range []profile.Profile{inUse("1", "1", 10, 5), inUse("2", "2", 10, 6), inUse("1", "1", 20, 7), inUse("1", "3", 20, 8), inUse("2", "2", 30, 0), inUse("1", "1", 15, 9)} {
		require.True(t, isInUse(p.Pprof))
		s.take(p)
	}
	var got [][]int64
	for _, p := range s.last() {
		countAndValue(p.Pprof, Alloc)
		require.Len(t, p.Pprof.SampleType, 4)
		for _, smp := range p.Pprof.Sample {
			got = append(got, smp.Value)
		}
	}
	require.Equal(t, [][]int64{{0, 0, 1, 7}, {0, 0, 1, 8}}, got)
}
