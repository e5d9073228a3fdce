package symbolize

import (
	"fmt"
	"sort"
	"strings"

	"github.com/flameline/flameline/collector/untrusted"
)

// Bounds on what one unit of DWARF may cost.
const (
	maxLineRows    = 1 << 20
	maxInlineSpans = 512 << 10
	maxInlineDepth = 64
	maxPoolBytes   = 16 << 20 // of paths, and of functions' names
	maxPoolStrings = 256 << 10
	maxTextBytes   = 64 << 20 // of functions' names, the same again and again or not
	checkEvery     = 256      // steps between two looks at the time
)

// lineInfo maps addresses of a unit to places in source files and to inlined
// calls. It is packed from DWARF once; nothing of DWARF is kept.
type lineInfo struct {
	rows    []lineRow // sorted by address
	inlined []span    // disjoint and sorted; name is an index into calls
	calls   []inlineCall
	files   []string // rows and calls hold indexes; 0 is none
	names   []string // of inlined functions, as in DWARF
}

// A lineRow says where the code from an address on comes from. File 0 ends a
// stretch of code.
type lineRow struct {
	addr       uint64
	file, line uint32
}

// An inlineCall is a function that was inlined, and the place of the call.
type inlineCall struct {
	name       int32 // -1: not known
	parent     int32 // the call that it is inlined into; -1 for the function
	file, line uint32
}

// bytes is the memory that it holds.
func (l *lineInfo) bytes() int64 {
	n := int64(len(l.rows))*16 + int64(len(l.inlined))*24 + int64(len(l.calls))*16 + 200
	for _, list := range [][]string{l.files, l.names} {
		for _, s := range list {
			n += 16 + int64(len(s))
		}
	}
	return n
}

// at returns the lines at an address in a function, innermost first. An inlined
// function whose name is not known is left out.
func (l *lineInfo) at(addr uint64, function string, style Style) []Line {
	line := Line{Function: function}
	if i := sort.Search(len(l.rows), func(i int) bool { return l.rows[i].addr > addr }) - 1; i >= 0 && l.rows[i].file != 0 {
		line.File, line.Line = l.files[l.rows[i].file], int64(l.rows[i].line)
	}
	var out []Line
	if i := sort.Search(len(l.inlined), func(i int) bool { return l.inlined[i].start > addr }) - 1; i >= 0 && addr < l.inlined[i].end {
		for c := int32(l.inlined[i].name); c >= 0 && len(out) < maxInlineDepth; c = l.calls[c].parent {
			call := l.calls[c]
			if call.name >= 0 {
				line.Function = inlinedName(l.names[call.name], style)
				out = append(out, line)
			}
			line = Line{Function: function, File: l.files[call.file], Line: int64(call.line)}
		}
	}
	return append(out, line)
}

// inlinedName returns the name to show for an inlined function. Where DWARF has
// no linkage name, the plain one holds the template arguments.
func inlinedName(name string, style Style) string {
	i := strings.IndexByte(name, '<')
	if style == Short && i > 0 && strings.HasSuffix(name, ">") && !strings.HasPrefix(name, "operator") {
		name = name[:i]
	}
	return functionName(name, style)
}

// A pool holds each string once.
type pool struct {
	list  []string
	index map[string]uint32
	bytes int // of all strings
}

// add returns the index of a string, which it keeps.
func (p *pool) add(s string) uint32 {
	i, ok := p.index[s]
	if !ok {
		i = uint32(len(p.list))
		p.index[s] = i
		p.list = append(p.list, s)
		p.bytes += len(s)
	}
	return i
}

// check returns an error once a pool is too large.
func (p *pool) check() error {
	if p.bytes > maxPoolBytes || len(p.list) > maxPoolStrings {
		return fmt.Errorf("names of files or functions: %w of %d bytes", untrusted.ErrTooLarge, maxPoolBytes)
	}
	return nil
}
