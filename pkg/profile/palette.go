package profile

import (
	"fmt"
	"hash/fnv"
	"strings"
)

// A Palette is a range of colours for the functions of a flame graph.
type Palette int

// The palettes are those of FlameGraph's flamegraph.pl with --color=hot, io and mem, which
// people know from on-CPU, off-CPU and memory flame graphs.
const (
	Hot   Palette = iota // red to yellow
	Cold                 // cyan to blue
	Green                // yellow-green to green
)

// Hue returns the least hue of a palette, in degrees. Colours have up to PaletteHues more.
func (p Palette) Hue() int {
	switch p {
	case Cold:
		return 180
	case Green:
		return 85
	default:
		return 8
	}
}

// PaletteHues is how many hues a palette has, in degrees.
const PaletteHues = 46

// colour returns a colour that depends on a function's name.
func (p Palette) colour(name string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	sum := h.Sum32()
	return fmt.Sprintf("hsl(%d,%d%%,%d%%)", p.Hue()+int(sum%PaletteHues), 72+sum>>8%20, 62+sum>>16%14)
}

// Palette returns the colours for a type: cold ones for times that threads wait, green for
// memory, and hot ones for all else.
func (t Type) Palette() Palette {
	switch d, _ := ParseUnit(t.SampleUnit); {
	case d == Bytes, strings.HasPrefix(t.SampleType, "alloc_"), strings.HasPrefix(t.SampleType, "inuse_"):
		return Green
	case t.Name == "off_cpu", t.Name == "block", t.Name == "mutex", t.SampleType == "off_cpu", t.SampleType == "lock_time", t.SampleType == "lock_count":
		return Cold
	}
	return Hot
}
