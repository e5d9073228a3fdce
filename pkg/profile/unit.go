package profile

import "strconv"

// FormatValue writes a value for people, with three significant digits: times up
// to days, bytes by powers of 1024, everything else by powers of 1000. Unit is
// the sample unit of a profile type.
func FormatValue(v int64, unit string) string {
	switch unit {
	case "nanoseconds":
		return scaled(float64(v), timeScale)
	case "microseconds":
		return scaled(float64(v)*1e3, timeScale)
	case "milliseconds":
		return scaled(float64(v)*1e6, timeScale)
	case "seconds":
		return scaled(float64(v)*1e9, timeScale)
	case "bytes":
		return scaled(float64(v), byteScale)
	case "", "count":
		return scaled(float64(v), countScale)
	}
	return scaled(float64(v), countScale) + " " + unit
}

// A step of a scale: its unit begins at a value.
type scaleStep struct {
	at   float64
	unit string
}

var (
	timeScale  = []scaleStep{{1, "ns"}, {1e3, "µs"}, {1e6, "ms"}, {1e9, "s"}, {60e9, "min"}, {3600e9, "h"}, {86400e9, "d"}}
	byteScale  = []scaleStep{{1, "B"}, {1 << 10, "KiB"}, {1 << 20, "MiB"}, {1 << 30, "GiB"}, {1 << 40, "TiB"}, {1 << 50, "PiB"}}
	countScale = []scaleStep{{1, ""}, {1e3, "k"}, {1e6, "M"}, {1e9, "G"}, {1e12, "T"}}
)

func scaled(v float64, scale []scaleStep) string {
	step := scale[0]
	for _, s := range scale[1:] {
		if v < s.at && v > -s.at {
			break
		}
		step = s
	}
	text := strconv.FormatFloat(v/step.at, 'f', decimals(v/step.at), 64)
	if step.at == 1 {
		text = strconv.FormatFloat(v, 'f', 0, 64) // it was an integer
	}
	if step.unit == "" {
		return text
	}
	return text + " " + step.unit
}

// decimals is how many digits after the point make three in all.
func decimals(v float64) int {
	switch v = max(v, -v); {
	case v < 9.995:
		return 2
	case v < 99.95:
		return 1
	}
	return 0
}

// share writes a part of a whole in percent.
func share(v, total int64) string {
	if total == 0 {
		return "0%"
	}
	return strconv.FormatFloat(100*float64(v)/float64(total), 'f', 2, 64) + "%"
}
