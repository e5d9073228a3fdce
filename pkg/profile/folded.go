package profile

import (
	"bufio"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// WriteFolded writes the tree as folded stacks, the text that Brendan Gregg's FlameGraph
// scripts read: a line per stacktrace with a self value, with its functions root first
// and separated by ";", a space, and the value in the unit of the profile type. The
// order is that of Walk.
//
// Characters of function names that have another meaning in the format are changed:
//
//   - ";" becomes ":", as FlameGraph's own collapsing scripts do it;
//   - line breaks, tabs and other control characters become spaces;
//   - the space before a number at the end of a stacktrace becomes "_", since
//     flamegraph.pl would take the number for the first of two columns;
//   - a name of nothing but spaces becomes "[unknown]".
//
// Values of stacktraces without functions are written under the root's name.
func (t *Tree) WriteFolded(w io.Writer) error {
	b := bufio.NewWriter(w)
	f := newFolder(t.Names)
	t.Walk(func(level int, n *Node, _ string) {
		stack := f.at(level, n.Name)
		if n.Self != 0 {
			f.line(b, guardNumber(stack), n.Self)
		}
	})
	return b.Flush()
}

// WriteFolded writes stacktraces with two values, left and right, as FlameGraph's
// difffolded.pl does. Names are changed as in Tree.WriteFolded.
func (t *DiffTree) WriteFolded(w io.Writer) error {
	b := bufio.NewWriter(w)
	f := newFolder(t.Names)
	t.Walk(func(level int, n *DiffNode, _ string) {
		stack := f.at(level, n.Name)
		if n.Self != 0 || n.SelfRight != 0 {
			f.line(b, guardNumber(stack), n.Self, n.SelfRight)
		}
	})
	return b.Flush()
}

// A folder holds the stacktrace of a walk's current node.
type folder struct {
	names []string // as they are written
	stack []byte
	ends  []int // of stack, by level
}

func newFolder(names []string) *folder {
	f := &folder{names: make([]string, len(names)), ends: []int{0}}
	for i, n := range names {
		f.names[i] = foldedName(n)
	}
	return f
}

// at returns the stacktrace of a node, given its level and its name. It is valid
// until the next call.
func (f *folder) at(level int, name int32) []byte {
	if level == 0 {
		return []byte(RootName)
	}
	f.stack = f.stack[:f.ends[level-1]]
	if level > 1 {
		f.stack = append(f.stack, ';')
	}
	f.stack = append(f.stack, f.names[name]...)
	f.ends = append(f.ends[:level], len(f.stack))
	return f.stack
}

func (f *folder) line(b *bufio.Writer, stack []byte, values ...int64) {
	// Flush returns errors.
	_, _ = b.Write(stack)
	for _, v := range values {
		_ = b.WriteByte(' ')
		_, _ = b.Write(strconv.AppendInt(b.AvailableBuffer(), v, 10))
	}
	_ = b.WriteByte('\n')
}

func foldedName(name string) string {
	if strings.TrimSpace(name) == "" {
		return "[unknown]"
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == ';':
			return ':'
		case r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029':
			return ' '
		case r == utf8.RuneError:
			return '?' // invalid UTF-8, or U+FFFD in its place
		}
		return r
	}, name)
}

// guardNumber replaces the space before a number at the end of a stacktrace. It does not
// change its argument, and returns a copy if the result differs.
func guardNumber(stack []byte) []byte {
	i := len(stack)
	for i > 0 && (stack[i-1] >= '0' && stack[i-1] <= '9' || stack[i-1] == '.') {
		i--
	}
	if i == 0 || i == len(stack) || stack[i-1] != ' ' {
		return stack
	}
	out := append([]byte(nil), stack...)
	out[i-1] = '_'
	return out
}
