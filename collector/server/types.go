package server

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/flameline/flameline/pkg/profile"
)

// usualTypes are the types that common profilers send: by name, the sample types and
// units. A query for one of them is not an error before the first such profile is
// stored, since dashboards ask early.
var usualTypes = map[string][]string{
	"process_cpu": {"cpu:nanoseconds", "samples:count"},
	"wall":        {"wall:nanoseconds", "samples:count"},
	"off_cpu":     {"off_cpu:nanoseconds", "blocks:count", "events:count"},
	"page_faults": {"page_faults:bytes"},
	"oom":         {"kills:count"},
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

// checkType returns an error if a type is neither usual nor was ever stored. It is
// called when an answer is empty, to tell a misspelt type from a range without profiles.
// field is the request's field that names the type.
func (q *querier) checkType(ctx context.Context, field string, t profile.Type) error {
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

// storedTypes lists the stored types for an error message.
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
