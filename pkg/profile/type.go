package profile

import (
	"fmt"
	"strings"
)

// A Type is a profile type: which value was measured, in which unit, and what
// triggered a sample. PeriodType and PeriodUnit may be empty.
type Type struct {
	Name       string // of the pprof profile, such as process_cpu
	SampleType string // such as cpu
	SampleUnit string // such as nanoseconds
	PeriodType string
	PeriodUnit string
}

// ParseType reads an ID of the form
// name:sample_type:sample_unit:period_type:period_unit, with an optional sixth
// part "delta", which is dropped.
func ParseType(id string) (Type, error) {
	p := strings.Split(id, ":")
	if len(p) != 5 && (len(p) != 6 || p[5] != "delta") {
		return Type{}, fmt.Errorf("profile type %q: want name:sample_type:sample_unit:period_type:period_unit", id)
	}
	t := Type{Name: p[0], SampleType: p[1], SampleUnit: p[2], PeriodType: p[3], PeriodUnit: p[4]}
	if t.Name == "" {
		return Type{}, fmt.Errorf("profile type %q: name is empty", id)
	}
	if t.SampleType == "" {
		return Type{}, fmt.Errorf("profile type %q: sample type is empty", id)
	}
	return t, nil
}

// String returns the ID that ParseType reads.
func (t Type) String() string {
	return t.Name + ":" + t.SampleType + ":" + t.SampleUnit + ":" + t.PeriodType + ":" + t.PeriodUnit
}
