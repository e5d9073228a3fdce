package dataframe

import "github.com/flameline/flameline/pkg/profile"

// A Unit is one of Grafana's unit IDs, and the divisor that converts a value to it.
type Unit struct {
	ID      string
	Divisor float64
}

// Total returns the unit of merged values of type t, as flame graphs show them, and of
// series of states. Unknown units are kept.
func Total(t profile.Type) Unit {
	d, size := profile.ParseUnit(t.SampleUnit)
	switch d {
	case profile.Time:
		switch size {
		case 1:
			return Unit{"ns", 1}
		case 1e3:
			return Unit{"µs", 1}
		case 1e6:
			return Unit{"ms", 1}
		}
		return Unit{"s", 1e9 / size}
	case profile.Bytes:
		return Unit{"bytes", 1 / size}
	case profile.Count:
		return Unit{"short", 1}
	}
	return Unit{t.SampleUnit, 1}
}

// Percent returns the unit of shares of a total.
func Percent(total int64) Unit { return Unit{"percent", max(float64(total), 1) / 100} }

// Rate returns the unit of values of type t per second of wall time: cores for CPU time,
// bytes/s, operations/s; for other times seconds per second, which is the average number
// of threads that spent it. It must not be used for types that are not cumulative.
func Rate(t profile.Type) Unit {
	d, size := profile.ParseUnit(t.SampleUnit)
	switch d {
	case profile.Time:
		if t.CPUTime() {
			return Unit{"cores", 1e9 / size}
		}
		return Unit{"s/s", 1e9 / size}
	case profile.Bytes:
		return Unit{"binBps", 1 / size}
	case profile.Count:
		return Unit{"ops", 1}
	}
	return Unit{t.SampleUnit + "/s", 1}
}
