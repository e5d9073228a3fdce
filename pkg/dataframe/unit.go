package dataframe

import "github.com/flameline/flameline/pkg/profile"

// A Unit is one of Grafana's unit IDs and the number by which a value is
// divided to be in it.
type Unit struct {
	ID      string
	Divisor float64
}

// Total is the unit of merged values of type t, as flame graphs show them.
func Total(t profile.Type) Unit {
	switch t.SampleUnit {
	case "nanoseconds":
		return Unit{"ns", 1}
	case "microseconds":
		return Unit{"µs", 1}
	case "milliseconds":
		return Unit{"ms", 1}
	case "seconds":
		return Unit{"s", 1}
	case "count", "":
		return Unit{"short", 1}
	default:
		return Unit{t.SampleUnit, 1}
	}
}

// Rate is the unit of values of type t per second of wall time: cores for CPU
// time, bytes/s, operations/s; for other times seconds per second, which is
// the average number of threads that spent it. It has no meaning for types
// that are not cumulative.
func Rate(t profile.Type) Unit {
	perSecond := map[string]float64{"nanoseconds": 1e9, "microseconds": 1e6, "milliseconds": 1e3, "seconds": 1}
	if d, ok := perSecond[t.SampleUnit]; ok {
		if t.SampleType == "cpu" {
			return Unit{"cores", d}
		}
		return Unit{"s/s", d}
	}
	switch t.SampleUnit {
	case "bytes":
		return Unit{"binBps", 1}
	case "count", "":
		return Unit{"ops", 1}
	default:
		return Unit{t.SampleUnit + "/s", 1}
	}
}
