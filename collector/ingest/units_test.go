package ingest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What a push says of its values decides their type, or is refused.
func TestUnitsOfAPush(t *testing.T) {
	for _, c := range []struct {
		app, units, aggregation string
		want                    string // type:unit and what 3 becomes
		value                   int64
	}{
		{"shop", "", "", "process_cpu cpu:nanoseconds", 30_000_000},
		{"shop", "samples", "sum", "process_cpu cpu:nanoseconds", 30_000_000},
		{"shop", "milliseconds", "sum", "process_cpu cpu:nanoseconds", 3_000_000},
		{"shop.wall", "ns", "", "wall wall:nanoseconds", 3},
		{"shop", "bytes", "", "memory alloc_space:bytes", 3},
		{"shop", "KiB", "average", "memory inuse_space:bytes", 3072},
		{"shop", "objects", "sum", "memory alloc_objects:count", 3},
		{"shop", "objects", "average", "memory inuse_objects:count", 3},
		{"shop", "goroutines", "average", "goroutine goroutines:count", 3},
		{"shop", "lock_samples", "sum", "mutex contentions:count", 3},
		{"shop", "lock_nanoseconds", "sum", "mutex delay:nanoseconds", 3},
		{"shop.block_duration", "lock_nanoseconds", "sum", "block delay:nanoseconds", 3},
		{"shop.block_duration", "us", "", "block delay:nanoseconds", 3000},
		{"shop.inuse_space", "bytes", "average", "memory inuse_space:bytes", 3},
		{"shop.inuse_space", "samples", "sum", "memory inuse_space:bytes", 3},
		{"shop.exceptions", "exceptions", "", "exceptions samples:count", 3},
		{"shop.live", "objects", "average", "memory live:count", 3},
	} {
		m := Push{App: c.app, Units: c.units, AggregationType: c.aggregation, SampleRate: 100}
		require.NoError(t, CheckUnits(c.units, c.aggregation))
		got, err := m.stackType()
		require.NoError(t, err, c)
		require.Equal(t, c.want, got.metric+" "+got.sampleType+":"+got.unit, c)
		require.Equal(t, c.value, 3*max(got.scale, 1), c)
	}
	for _, c := range []struct{ app, units, aggregation, want string }{
		{"shop.cpu", "bytes", "", "units: bytes does not fit the type, cpu of process_cpu"},
		{"shop.cpu", "objects", "", "units: objects does not fit the type"},
		{"shop.cpu", "goroutines", "", "units: goroutines does not fit the type"},
		{"shop.cpu", "lock_samples", "", "units: lock_samples does not fit the type,"},
		{"shop.alloc_space", "objects", "", "units: objects does not fit the type, alloc_space of memory"},
		{"shop.alloc_objects", "bytes", "", "units: bytes does not fit the type"},
		{"shop.goroutines", "seconds", "", "units: seconds does not fit the type"},
		{"shop.cpu", "samples", "average", "aggregationType: average is not possible for cpu of process_cpu"},
		{"shop.alloc_space", "", "average", "aggregationType: average is not possible for"},
	} {
		m := Push{App: c.app, Units: c.units, AggregationType: c.aggregation, SampleRate: 100}
		require.NoError(t, CheckUnits(c.units, c.aggregation))
		_, err := m.stackType()
		require.ErrorContains(t, err, c.want)
	}
	require.ErrorContains(t, CheckUnits("furlongs", ""), `units: "furlongs" is not one of bytes, count, exceptions, `)
	require.ErrorContains(t, CheckUnits("", "median"), `aggregationType: "median" is not one of sum, average`)
}
