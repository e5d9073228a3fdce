package profile

import (
	"strconv"
	"strings"
)

// A Dimension is what a unit measures.
type Dimension int

// The dimensions of units. Other is the dimension of unknown units.
const (
	Other Dimension = iota
	Time
	Bytes
	Count
)

// unitNames are the spellings of units, in lower case and without a plural s, with their
// size in nanoseconds or bytes. As in pprof's tools, a kilobyte has 1024 bytes
// (google/pprof, internal/measurement).
var unitNames = func() map[string]unitSize {
	out := map[string]unitSize{}
	for _, u := range []struct {
		names     string
		dimension Dimension
		size      float64
	}{
		{"ns nsec nano nanosec nanosecond", Time, 1},
		{"us µs μs usec micro microsec microsecond", Time, 1e3},
		{"ms msec milli millisec millisecond", Time, 1e6},
		{"s sec second", Time, 1e9},
		{"min minute", Time, 60e9},
		{"h hr hour", Time, 3600e9},
		{"d day", Time, 86400e9},
		{"b by byte", Bytes, 1},
		{"kb kib kbyte kiby kilobyte kibibyte", Bytes, 1 << 10},
		{"mb mib mbyte miby megabyte mebibyte", Bytes, 1 << 20},
		{"gb gib gbyte giby gigabyte gibibyte", Bytes, 1 << 30},
		{"tb tib tbyte tiby terabyte tebibyte", Bytes, 1 << 40},
		{"pb pib pbyte piby petabyte pebibyte", Bytes, 1 << 50},
		{"1 # no none count number unit op operation sample object event item", Count, 1},
	} {
		for _, n := range strings.Fields(u.names) {
			out[n] = unitSize{u.dimension, u.size}
		}
	}
	return out
}()

type unitSize struct {
	dimension Dimension
	size      float64
}

// ParseUnit reads the name of a unit in any usual spelling: nanoseconds, ns, bytes, KiB,
// count, samples, or UCUM's By and {sample}. size is the unit's size in nanoseconds or
// bytes, 1 for other dimensions. The dimension of an unknown name is Other, that of an
// empty name Count.
func ParseUnit(name string) (d Dimension, size float64) {
	n := strings.ToLower(strings.TrimSpace(name))
	if n == "" || strings.HasPrefix(n, "{") && strings.HasSuffix(n, "}") {
		return Count, 1
	}
	u, ok := unitNames[n]
	if !ok {
		u, ok = unitNames[strings.TrimSuffix(n, "s")]
	}
	if !ok {
		return Other, 1
	}
	return u.dimension, u.size
}

// FormatValue formats a value with three significant digits: times up to days, bytes by
// powers of 1024, everything else by powers of 1000. unit is the sample unit of a
// profile type, in any spelling that ParseUnit reads.
func FormatValue(v int64, unit string) string {
	d, size := ParseUnit(unit)
	switch d {
	case Time:
		return scaled(float64(v)*size, timeScale)
	case Bytes:
		return scaled(float64(v)*size, byteScale)
	}
	text := scaled(float64(v), countScale)
	switch strings.ToLower(strings.TrimSpace(unit)) {
	case "", "count", "counts", "1", "#", "none", "number":
		return text
	}
	return text + " " + strings.TrimSpace(unit)
}

// A scaleStep is a unit and the value from which it is used.
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
		text = strconv.FormatFloat(v, 'f', 0, 64) // the value is an integer
	}
	if step.unit == "" {
		return text
	}
	return text + " " + step.unit
}

// decimals returns the number of decimals with which a value has three significant
// digits.
func decimals(v float64) int {
	switch v = max(v, -v); {
	case v < 9.995:
		return 2
	case v < 99.95:
		return 1
	}
	return 0
}

// share formats a part of a total in percent.
func share(v, total int64) string {
	if total == 0 {
		return "0%"
	}
	return strconv.FormatFloat(100*float64(v)/float64(total), 'f', 2, 64) + "%"
}
