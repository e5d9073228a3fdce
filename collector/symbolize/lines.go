package symbolize

import (
	"cmp"
	"debug/dwarf"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"github.com/flameline/flameline/collector/untrusted"
)

// Bounds on what DWARF may cost, beside Options.DebugBytes.
const (
	maxLineRows    = 4 << 20
	maxInlineSpans = 2 << 20
	maxInlineDepth = 64
	checkEvery     = 4096 // rows of lines between two looks at the time
)

// langGo is DW_LANG_Go. The unwinder has the lines of Go code.
const langGo = 0x16

// lineInfo maps addresses to places in source files and to inlined calls. It
// is packed from DWARF once; nothing of DWARF is kept.
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
	name       uint32
	parent     int32 // the call that it is inlined into; -1 for the function
	file, line uint32
}

// bytes is the memory that it holds.
func (l *lineInfo) bytes() int64 {
	n := int64(len(l.rows))*16 + int64(len(l.inlined))*24 + int64(len(l.calls))*16
	for _, list := range [][]string{l.files, l.names} {
		for _, s := range list {
			n += 16 + int64(len(s))
		}
	}
	return n
}

// at returns the lines at an address in a function, innermost first.
func (l *lineInfo) at(addr uint64, function string, style Style) []Line {
	line := Line{Function: function}
	if i := sort.Search(len(l.rows), func(i int) bool { return l.rows[i].addr > addr }) - 1; i >= 0 && l.rows[i].file != 0 {
		line.File, line.Line = l.files[l.rows[i].file], int64(l.rows[i].line)
	}
	var out []Line
	if i := sort.Search(len(l.inlined), func(i int) bool { return l.inlined[i].start > addr }) - 1; i >= 0 && addr < l.inlined[i].end {
		for c := int32(l.inlined[i].name); c >= 0 && len(out) < maxInlineDepth; c = l.calls[c].parent {
			call := l.calls[c]
			line.Function = inlinedName(l.names[call.name], style)
			out = append(out, line)
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

// readLines packs the DWARF of a file. It returns nil if there is none, or
// more than limit bytes of it. It ends with the error of check, which it calls
// often: few bytes of DWARF can ask for the same work again and again.
func readLines(f *elf.File, check func() error, limit int64) (*lineInfo, error) {
	var size uint64
	hasInfo := false
	for _, s := range f.Sections {
		if strings.HasPrefix(s.Name, ".debug_") || strings.HasPrefix(s.Name, ".zdebug_") {
			if s.Type == elf.SHT_NOBITS {
				continue
			}
			hasInfo = hasInfo || strings.HasSuffix(s.Name, "debug_info")
			size += min(s.Size, 1<<40)
		}
		// debug/elf reads relocations of debug information whole.
		if s.Type == elf.SHT_RELA || s.Type == elf.SHT_REL { //nolint:misspell // the constant's name
			if i := int(s.Info); i < len(f.Sections) && strings.Contains(f.Sections[i].Name, "debug_") {
				size += min(s.FileSize, 1<<40)
			}
		}
	}
	if !hasInfo || size > uint64(max(limit, 0)) {
		return nil, nil
	}
	data, err := f.DWARF()
	if err != nil {
		return nil, fmt.Errorf("read DWARF: %w", err)
	}
	r := lineReader{
		data:  data,
		check: check,
		info:  &lineInfo{},
		files: pool{list: []string{""}, index: map[string]uint32{"": 0}},
		plain: pool{index: map[string]uint32{}},
		names: map[dwarf.Offset]int32{},
	}
	if err := r.units(); err != nil {
		return nil, fmt.Errorf("read DWARF: %w", err)
	}
	return r.finish(), nil
}

// A lineReader collects what a lineInfo holds.
type lineReader struct {
	data   *dwarf.Data
	check  func() error // whether there is time left
	info   *lineInfo
	spans  []span
	ranges int // of inlined calls, those that are left out included
	files  pool
	plain  pool                   // names of functions
	names  map[dwarf.Offset]int32 // of abstract functions, in plain; -1 without one
}

// units reads every compilation unit but those of Go.
func (r *lineReader) units() error {
	entries := r.data.Reader()
	for {
		unit, err := entries.Next()
		if err != nil || unit == nil {
			return err
		}
		if err := r.check(); err != nil {
			return err
		}
		language, _ := unit.Val(dwarf.AttrLanguage).(int64)
		if unit.Tag != dwarf.TagCompileUnit || language == langGo {
			entries.SkipChildren()
			continue
		}
		files, err := r.lines(unit)
		if err != nil {
			return err
		}
		if !unit.Children {
			continue
		}
		if err := r.children(entries, files, -1, 0); err != nil {
			return err
		}
	}
}

// lines reads the line table of a unit and returns its files' indexes.
func (r *lineReader) lines(unit *dwarf.Entry) ([]uint32, error) {
	table, err := r.data.LineReader(unit)
	if err != nil || table == nil {
		return nil, err
	}
	var (
		entry    dwarf.LineEntry
		sequence []lineRow
	)
	for n := 0; ; n++ {
		if err := table.Next(&entry); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		if n%checkEvery == 0 {
			if err := r.check(); err != nil {
				return nil, err
			}
		}
		row := lineRow{addr: entry.Address}
		if !entry.EndSequence && entry.File != nil {
			row.file, row.line = r.files.add(entry.File.Name), uint32(max(entry.Line, 0))
		}
		switch n := len(sequence); {
		case n > 0 && sequence[n-1].addr == row.addr:
			sequence[n-1] = row // the last row of an address counts
		case n > 0 && !entry.EndSequence && sequence[n-1].file == row.file && sequence[n-1].line == row.line:
		default:
			sequence = append(sequence, row)
		}
		if entry.EndSequence {
			// Code that the linker dropped is left at address 0.
			if len(sequence) > 1 && sequence[0].addr != 0 {
				r.info.rows = append(r.info.rows, sequence...)
			}
			sequence = sequence[:0]
		}
		if len(r.info.rows)+len(sequence) > maxLineRows {
			return nil, fmt.Errorf("rows of lines: %w of %d", untrusted.ErrTooLarge, maxLineRows)
		}
	}
	var files []uint32
	for _, f := range table.Files() {
		index := uint32(0)
		if f != nil {
			index = r.files.add(f.Name)
		}
		files = append(files, index)
	}
	return files, nil
}

// children reads the inlined calls below an entry, up to its end.
func (r *lineReader) children(entries *dwarf.Reader, files []uint32, parent int32, depth int) error {
	for {
		e, err := entries.Next()
		if err != nil {
			return err
		}
		if e == nil || e.Tag == 0 {
			return nil
		}
		below := parent
		switch e.Tag {
		case dwarf.TagInlinedSubroutine:
			if below, err = r.inlined(e, files, parent, depth); err != nil {
				return err
			}
		case dwarf.TagSubprogram:
			below = -1
		case dwarf.TagLexDwarfBlock, dwarf.TagNamespace, dwarf.TagClassType, dwarf.TagStructType, dwarf.TagModule, dwarf.TagEnumerationType, dwarf.TagUnionType:
		default:
			entries.SkipChildren()
			continue
		}
		if !e.Children {
			continue
		}
		if depth > maxInlineDepth {
			entries.SkipChildren()
			continue
		}
		if err := r.children(entries, files, below, depth+1); err != nil {
			return err
		}
	}
}

// inlined adds an inlined call and returns its index.
func (r *lineReader) inlined(e *dwarf.Entry, files []uint32, parent int32, depth int) (int32, error) {
	if err := r.check(); err != nil {
		return parent, err
	}
	ranges, err := r.data.Ranges(e)
	if err != nil {
		return parent, err
	}
	if r.ranges += len(ranges); r.ranges > maxInlineSpans {
		return parent, fmt.Errorf("ranges of inlined calls: %w of %d", untrusted.ErrTooLarge, maxInlineSpans)
	}
	name := r.name(e, 0)
	if len(ranges) == 0 || name < 0 {
		return parent, nil
	}
	call := inlineCall{name: uint32(name), parent: parent}
	if i, ok := e.Val(dwarf.AttrCallFile).(int64); ok && i >= 0 && i < int64(len(files)) {
		call.file = files[i]
	}
	if line, ok := e.Val(dwarf.AttrCallLine).(int64); ok {
		call.line = uint32(max(line, 0))
	}
	index := int32(len(r.info.calls))
	r.info.calls = append(r.info.calls, call)
	for _, bounds := range ranges {
		if bounds[0] != 0 {
			r.spans = append(r.spans, span{start: bounds[0], end: bounds[1], name: uint32(index), priority: uint32(depth)})
		}
	}
	return index, nil
}

// name returns the index of a function's name, its own or that of the entry
// it refers to; -1 if there is none.
func (r *lineReader) name(e *dwarf.Entry, hops int) int32 {
	for _, attr := range []dwarf.Attr{dwarf.AttrLinkageName, attrMIPSLinkageName, dwarf.AttrName} {
		if text, ok := e.Val(attr).(string); ok && text != "" {
			return int32(r.plain.add(text))
		}
		if attr != attrMIPSLinkageName || hops > 4 {
			continue
		}
		// A linkage name farther away goes before a plain one here.
		for _, ref := range []dwarf.Attr{dwarf.AttrAbstractOrigin, dwarf.AttrSpecification} {
			offset, ok := e.Val(ref).(dwarf.Offset)
			if !ok {
				continue
			}
			index, known := r.names[offset]
			if !known {
				entries := r.data.Reader()
				entries.Seek(offset)
				index = -1
				if origin, err := entries.Next(); err == nil && origin != nil {
					index = r.name(origin, hops+1)
				}
				r.names[offset] = index
			}
			if index >= 0 {
				return index
			}
		}
	}
	return -1
}

// attrMIPSLinkageName is what old compilers use for the linkage name.
const attrMIPSLinkageName = dwarf.Attr(0x2007)

// A pool holds each string once.
type pool struct {
	list  []string
	index map[string]uint32
}

// add returns the index of a string.
func (p *pool) add(s string) uint32 {
	i, ok := p.index[s]
	if !ok {
		i = uint32(len(p.list))
		p.index[s] = i
		p.list = append(p.list, s)
	}
	return i
}

// finish sorts and packs what was collected; nil if that is nothing.
func (r *lineReader) finish() *lineInfo {
	l := r.info
	if len(l.rows) == 0 {
		return nil
	}
	// Where one stretch of code ends and another begins, the beginning counts.
	slices.SortStableFunc(l.rows, func(a, b lineRow) int {
		return cmp.Or(cmp.Compare(a.addr, b.addr), compareBool(a.file != 0, b.file != 0))
	})
	kept := l.rows[:0]
	for i, row := range l.rows {
		if i+1 == len(l.rows) || l.rows[i+1].addr != row.addr {
			kept = append(kept, row)
		}
	}
	l.rows = slices.Clip(slices.Clone(kept))
	l.inlined = flatten(r.spans)
	l.files, l.names = r.files.list, r.plain.list
	return l
}
