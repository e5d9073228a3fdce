package server

import (
	"slices"
	"strings"

	"github.com/flameline/flameline/pkg/profile"
)

// legacyTypes are the profile types that the last part of an old query name (such as cpu
// in cart.cpu) may mean, the likeliest first.
var legacyTypes = map[string][]string{
	"cpu":                        {"process_cpu:cpu:nanoseconds:cpu:nanoseconds", "process_cpu:samples:count:cpu:nanoseconds"},
	"itimer":                     {"process_cpu:cpu:nanoseconds:cpu:nanoseconds", "process_cpu:samples:count:cpu:nanoseconds"},
	"samples":                    {"process_cpu:samples:count:cpu:nanoseconds"},
	"wall":                       {"wall:wall:nanoseconds:wall:nanoseconds", "wall:samples:count:wall:nanoseconds"},
	"alloc_objects":              {"memory:alloc_objects:count:space:bytes"},
	"alloc_space":                {"memory:alloc_space:bytes:space:bytes"},
	"inuse_objects":              {"memory:inuse_objects:count:space:bytes"},
	"inuse_space":                {"memory:inuse_space:bytes:space:bytes"},
	"alloc_in_new_tlab_objects":  {"memory:alloc_in_new_tlab_objects:count:space:bytes"},
	"alloc_in_new_tlab_bytes":    {"memory:alloc_in_new_tlab_bytes:bytes:space:bytes"},
	"alloc_outside_tlab_objects": {"memory:alloc_outside_tlab_objects:count:space:bytes"},
	"alloc_outside_tlab_bytes":   {"memory:alloc_outside_tlab_bytes:bytes:space:bytes"},
	"live":                       {"memory:live:count:objects:count"},
	"goroutines":                 {"goroutine:goroutine:count:goroutine:count", "goroutines:goroutine:count:goroutine:count"},
	"mutex_count":                {"mutex:contentions:count:contentions:count"},
	"mutex_duration":             {"mutex:delay:nanoseconds:contentions:count"},
	"block_count":                {"block:contentions:count:contentions:count"},
	"block_duration":             {"block:delay:nanoseconds:contentions:count"},
	"lock_count":                 {"mutex:contentions:count:mutex:count", "block:contentions:count:block:count"},
	"lock_duration":              {"mutex:delay:nanoseconds:mutex:count", "block:delay:nanoseconds:block:count"},
	"exceptions":                 {"exceptions:exceptions:count:exceptions:count", "exceptions:samples:count:exceptions:count"},
}

// legacyType finds the stored profile type that the last part of an old query name
// means. It compares the names of the profile and of the sample type, since senders
// differ in units and periods; then either name alone.
func legacyType(what string, stored []profile.Type) (profile.Type, bool) {
	sort := func(a, b profile.Type) int { return strings.Compare(a.String(), b.String()) }
	stored = slices.SortedFunc(slices.Values(stored), sort)
	find := func(ok func(profile.Type) bool) (profile.Type, bool) {
		if i := slices.IndexFunc(stored, ok); i >= 0 {
			return stored[i], true
		}
		return profile.Type{}, false
	}
	for _, id := range legacyTypes[what] {
		if t, ok := find(func(t profile.Type) bool { return t.String() == id }); ok {
			return t, true
		}
		if t, ok := find(func(t profile.Type) bool { return strings.HasPrefix(id, t.Name+":"+t.SampleType+":") }); ok {
			return t, true
		}
	}
	if t, ok := find(func(t profile.Type) bool { return t.SampleType == what }); ok {
		return t, true
	}
	return find(func(t profile.Type) bool { return t.Name == what })
}

// usualLegacyType returns the likeliest type of a name without regard to what is stored.
func usualLegacyType(what string) (t profile.Type, ok bool) {
	if ids := legacyTypes[what]; len(ids) > 0 {
		t, err := profile.ParseType(ids[0])
		return t, err == nil
	}
	return t, false
}
