package ingest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/flameline/flameline/pkg/profile"
)

// pushUnits are the values of the parameter units that Pyroscope's SDKs send
// (pkg/og/storage/metadata of Pyroscope, and its flame graph's units), with the
// equivalent endings of application names, for sums and for averages.
var pushUnits = map[string]struct{ sum, average string }{
	"samples":          {}, // the default
	"count":            {},
	"trace_samples":    {},
	"objects":          {"alloc_objects", "inuse_objects"},
	"bytes":            {"alloc_space", "inuse_space"},
	"goroutines":       {"goroutines", "goroutines"},
	"lock_samples":     {"mutex_count", "mutex_count"},
	"lock_nanoseconds": {"mutex_duration", "mutex_duration"},
	"exceptions":       {"exceptions", "exceptions"},
}

// CheckUnits returns an error for invalid values of the parameters units and
// aggregationType. units may be one of pushUnits, or a unit of time or bytes in any
// usual spelling. Empty values are valid.
func CheckUnits(units, aggregation string) error {
	if _, ok := pushUnits[units]; !ok && units != "" {
		if d, _ := profile.ParseUnit(units); d != profile.Time && d != profile.Bytes {
			known := make([]string, 0, len(pushUnits))
			for name := range pushUnits {
				known = append(known, name)
			}
			slices.Sort(known)
			return fmt.Errorf("units: %.100q is not one of %s, a unit of time or of bytes", units, strings.Join(known, ", "))
		}
	}
	switch aggregation {
	case "", "sum", "average":
		return nil
	}
	return fmt.Errorf("aggregationType: %.100q is not one of sum, average", aggregation)
}

// ending returns the ending that is assumed for a name without one: it follows from the
// push's units, else it is cpu.
func (m *Push) ending() string {
	u, ok := pushUnits[m.Units]
	if d, _ := profile.ParseUnit(m.Units); !ok && d == profile.Bytes {
		u = pushUnits["bytes"]
	}
	if m.AggregationType == "average" {
		return cmp.Or(u.average, "cpu")
	}
	return cmp.Or(u.sum, "cpu")
}

// applyUnits applies the push's units to a type. Units that contradict the type are an
// error, except sum and samples, which some SDKs send in any case.
func (m *Push) applyUnits(t *stackType) error {
	timed := t.metric == "process_cpu" || t.metric == "wall"
	if m.AggregationType == "average" && (profile.Type{Name: t.metric, SampleType: t.sampleType, SampleUnit: t.unit}).Cumulative() {
		return fmt.Errorf("aggregationType: average is not possible for %s of %s, which adds up over time", t.sampleType, t.metric)
	}
	units := strings.TrimPrefix(m.Units, "lock_")
	_, plain := pushUnits[m.Units]
	d, size := profile.ParseUnit(units)
	ok := true
	switch {
	case m.Units == "", pushUnits[m.Units] == pushUnits["samples"] && plain, m.Units == "lock_samples" && !timed:
	case d == profile.Time && timed:
		t.ofTime(m.period(), int64(size))
	case d == profile.Time:
		ok = t.unit == "nanoseconds"
		t.scale = int64(size)
	case d == profile.Bytes:
		ok = t.unit == "bytes"
		t.scale = int64(size)
	default:
		ok = t.unit == "count" && !timed
	}
	if !ok {
		return fmt.Errorf("units: %s does not fit the type, %s of %s", m.Units, t.sampleType, t.metric)
	}
	return nil
}
