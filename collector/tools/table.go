package tools

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/flameline/flameline/pkg/profile"
)

// A changed function has its values on both sides, recursion counted once.
type changed struct {
	name                  string
	self, total           int64
	selfRight, totalRight int64
}

// functionsOf adds up a comparison by function.
func functionsOf(d *profile.DiffTree) []changed {
	at := map[int32]int{}
	var out []changed
	open := map[int32]int{} // by name: how often it is on the stack
	var stack []int32
	d.Walk(func(level int, n *profile.DiffNode, name string) {
		for len(stack) > max(level, 1)-1 {
			open[stack[len(stack)-1]]--
			stack = stack[:len(stack)-1]
		}
		if level == 0 {
			return
		}
		i, ok := at[n.Name]
		if !ok {
			i = len(out)
			at[n.Name] = i
			out = append(out, changed{name: name})
		}
		f := &out[i]
		f.self += n.Self
		f.selfRight += n.SelfRight
		if open[n.Name] == 0 {
			f.total += n.Total
			f.totalRight += n.TotalRight
		}
		open[n.Name]++
		stack = append(stack, n.Name)
	})
	return out
}

// writeTable writes the functions whose share of self values changed most, then a line
// about the others.
func writeTable(w io.Writer, d *profile.DiffTree, unit string, top int) error {
	var left, right int64
	if len(d.Nodes) > 0 {
		left, right = d.Nodes[0].Total, d.Nodes[0].TotalRight
	}
	part := func(v, total int64) float64 {
		if total == 0 {
			return 0
		}
		return 100 * float64(v) / float64(total)
	}
	change := func(f changed) float64 { return part(f.selfRight, right) - part(f.self, left) }
	changeTotal := func(f changed) float64 { return part(f.totalRight, right) - part(f.total, left) }
	fs := functionsOf(d)
	slices.SortFunc(fs, func(a, b changed) int {
		return cmp.Or(-cmp.Compare(abs(change(a)), abs(change(b))), -cmp.Compare(abs(changeTotal(a)), abs(changeTotal(b))), cmp.Compare(a.name, b.name))
	})
	rest := 0
	if top > 0 && len(fs) > top {
		rest = len(fs) - top
		fs = fs[:top]
	}
	b := bufio.NewWriter(w)
	say := func(format string, args ...any) { fmt.Fprintf(b, format, args...) } // Flush returns errors
	say("%10s %10s %9s %10s %10s %9s  %s\n", "self left", "right", "change", "total left", "right", "change", "function")
	row := func(f changed) {
		say("%10s %10s %+8.2f%% %10s %10s %+8.2f%%  %s\n", profile.FormatValue(f.self, unit), profile.FormatValue(f.selfRight, unit), change(f),
			profile.FormatValue(f.total, unit), profile.FormatValue(f.totalRight, unit), changeTotal(f), Printable(f.name))
	}
	for _, f := range fs {
		row(f)
	}
	if rest > 0 {
		say("and %d more functions\n", rest)
	}
	say("%10s %10s %9s %10s %10s %9s  all\n", "", "", "", profile.FormatValue(left, unit), profile.FormatValue(right, unit), "")
	return b.Flush()
}

func abs(v float64) float64 { return max(v, -v) }

// Printable replaces control characters, which a terminal would obey.
func Printable(s string) string {
	out := []rune(s)
	for i, r := range out {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			out[i] = '?'
		}
	}
	return string(out)
}
