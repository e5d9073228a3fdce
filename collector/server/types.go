package server

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/flameline/flameline/pkg/profile"
)

// usualTypes are the types that the field's profilers send, by name: the sample
// types and units. A query for one of them that nobody has sent yet is no
// mistake; a dashboard asks for it before the first profile is there.
var usualTypes = map[string][]string{
	"process_cpu": {"cpu:nanoseconds", "samples:count"},
	"wall":        {"wall:nanoseconds", "samples:count"},
	"off_cpu":     {"off_cpu:nanoseconds", "events:count"},
	"memory": {
		"alloc_objects:count", "alloc_space:bytes", "inuse_objects:count", "inuse_space:bytes",
		"alloc_in_new_tlab_objects:count", "alloc_in_new_tlab_bytes:bytes",
		"alloc_outside_tlab_objects:count", "alloc_outside_tlab_bytes:bytes",
		"live:count", "objects:count", "space:bytes",
	},
	"goroutine":     {"goroutine:count", "goroutines:count"},
	"goroutines":    {"goroutine:count", "goroutines:count"},
	"threadcreate":  {"threadcreate:count"},
	"goroutineleak": {"goroutineleak:count"},
	"block":         {"contentions:count", "delay:nanoseconds"},
	"mutex":         {"contentions:count", "delay:nanoseconds"},
	"exceptions":    {"exceptions:count", "samples:count"},
}

// known is asked when an answer is empty: it refuses a type that is neither
// usual nor was ever stored, since that is a slip of the pen rather than a
// quiet hour.
func (q *querier) known(ctx context.Context, t profile.Type) error {
	return q.knownIn(ctx, "profile_typeID", t)
}

// knownIn is known for a request that names the type in another field.
func (q *querier) knownIn(ctx context.Context, field string, t profile.Type) error {
	if slices.Contains(usualTypes[t.Name], t.SampleType+":"+t.SampleUnit) {
		return nil
	}
	stored, err := q.store.ProfileTypes(ctx, 0, math.MaxInt64)
	if err != nil {
		return code(err)
	}
	if slices.Contains(stored, t) {
		return nil
	}
	return invalid(fmt.Errorf("%s: unknown profile type %q; %s", field, t, storedTypes(stored)))
}

// storedTypes tells which types there are.
func storedTypes(stored []profile.Type) string {
	if len(stored) == 0 {
		return "nothing is stored yet"
	}
	names := make([]string, len(stored))
	for i, s := range stored {
		names[i] = s.String()
	}
	return "stored are " + strings.Join(names, ", ")
}
