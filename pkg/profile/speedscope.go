package profile

import (
	"bufio"
	"encoding/json"
	"io"
	"strconv"
)

// speedscopeSchema is the $schema of the format.
const speedscopeSchema = "https://www.speedscope.app/file-format-schema.json"

// WriteSpeedscope writes the tree as one sampled profile in speedscope's own file
// format, as its schema has it (SampledProfile). A sample is a stacktrace with a self
// value, root first, and its weight is that value. Frames are functions. name is the
// profile's title; values are in unit, which becomes "none" unless it is a time or
// bytes.
func (t *Tree) WriteSpeedscope(w io.Writer, name, unit string) error {
	unit = speedscopeUnit(unit)
	b := bufio.NewWriter(w)
	text := func(s string) { _, _ = b.WriteString(s) } // Flush returns errors
	text(`{"$schema":`)
	text(quoteJSON(speedscopeSchema))
	text(`,"exporter":"flameline","name":`)
	text(quoteJSON(name))
	text(`,"activeProfileIndex":0,"shared":{"frames":[`)
	for i, n := range t.Names {
		if i > 0 {
			text(",")
		}
		text("\n" + `{"name":`)
		text(quoteJSON(n))
		text("}")
	}
	text("\n]},\"profiles\":[{\"type\":\"sampled\",\"name\":")
	text(quoteJSON(name))
	text(`,"unit":`)
	text(quoteJSON(unit))
	text(`,"startValue":0,"endValue":`)
	text(strconv.FormatInt(t.Total(), 10))
	text(`,"samples":[`)
	var stack []byte
	ends := []int{0}
	first := true
	var weights []int64
	t.Walk(func(level int, n *Node, _ string) {
		if level > 0 {
			stack = stack[:ends[level-1]]
			if level > 1 {
				stack = append(stack, ',')
			}
			stack = strconv.AppendInt(stack, int64(n.Name), 10)
			ends = append(ends[:level], len(stack))
		}
		if n.Self == 0 {
			return
		}
		if !first {
			text(",")
		}
		first = false
		text("\n[")
		_, _ = b.Write(stack[:ends[level]])
		text("]")
		weights = append(weights, n.Self)
	})
	text("\n" + `],"weights":[`)
	for i, v := range weights {
		if i > 0 {
			text(",")
		}
		_, _ = b.Write(strconv.AppendInt(b.AvailableBuffer(), v, 10))
	}
	text("]}]}\n")
	return b.Flush()
}

func quoteJSON(s string) string {
	b, _ := json.Marshal(s) // of a string: it cannot fail
	return string(b)
}

// speedscopeUnit returns speedscope's name of a unit, "none" for one that it does not
// have.
func speedscopeUnit(unit string) string {
	switch d, size := ParseUnit(unit); {
	case d == Bytes && size == 1:
		return "bytes"
	case d == Time && size == 1:
		return "nanoseconds"
	case d == Time && size == 1e3:
		return "microseconds"
	case d == Time && size == 1e6:
		return "milliseconds"
	case d == Time && size == 1e9:
		return "seconds"
	}
	return "none"
}
