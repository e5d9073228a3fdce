package store

import (
	"encoding/binary"
	"fmt"
	"math"
)

// A segment is what one append added to a dictionary. A partition's dictionary
// on disk is the sequence of its segments, each of which says how long the
// dictionary was before it.

// appendSegment appends what the dictionary has beyond from.
func (d *dictionary) appendSegment(b []byte, from sizes) []byte {
	for _, n := range [...]int{from.strings, from.functions, from.mappings, from.locations, from.nodes} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = binary.AppendUvarint(b, uint64(len(d.strings)-from.strings))
	for _, s := range d.strings[from.strings:] {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = binary.AppendUvarint(b, uint64(len(d.functions)-from.functions))
	for _, f := range d.functions[from.functions:] {
		b = binary.AppendUvarint(b, uint64(f.name))
		b = binary.AppendUvarint(b, uint64(f.systemName))
		b = binary.AppendUvarint(b, uint64(f.file))
		b = binary.AppendVarint(b, f.startLine)
	}
	b = binary.AppendUvarint(b, uint64(len(d.mappings)-from.mappings))
	for _, m := range d.mappings[from.mappings:] {
		b = binary.AppendUvarint(b, uint64(m.file))
		b = binary.AppendUvarint(b, uint64(m.buildID))
		b = binary.AppendUvarint(b, m.start)
		b = binary.AppendUvarint(b, m.limit)
		b = binary.AppendUvarint(b, m.offset)
		b = append(b, m.flags)
	}
	b = binary.AppendUvarint(b, uint64(len(d.locations)-from.locations))
	for _, l := range d.locations[from.locations:] {
		b = binary.AppendUvarint(b, uint64(l.mapping))
		folded := uint64(0)
		if l.folded {
			folded = 1
		}
		b = binary.AppendUvarint(b, uint64(l.end-l.first)<<1|folded)
		b = binary.AppendUvarint(b, l.address)
		if l.first == l.end {
			b = binary.AppendUvarint(b, uint64(l.name))
		}
		for _, ln := range d.lines[l.first:l.end] {
			b = binary.AppendUvarint(b, uint64(ln.function))
			b = binary.AppendVarint(b, ln.line)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(d.nodes)-from.nodes))
	for i, n := range d.nodes[from.nodes:] {
		b = binary.AppendUvarint(b, uint64(from.nodes+i)-uint64(n.parent))
		b = binary.AppendUvarint(b, uint64(n.location))
	}
	return b
}

// readSegment appends a segment to the dictionary. A corrupt segment leaves the
// dictionary without any of it.
func (d *dictionary) readSegment(data []byte) error {
	from := d.view
	r := reader{data: data}
	for _, n := range [...]int{len(d.strings), len(d.functions), len(d.mappings), len(d.locations), len(d.nodes)} {
		if got := r.uvarint("start"); r.err == nil && got != uint64(n) {
			r.fail(fmt.Sprintf("segment starts at %d, want %d", got, n))
		}
	}
	for range r.count(1, "string count") {
		d.appendString(r.string("string"))
	}
	for range r.count(4, "function count") {
		d.functions = append(d.functions, function{
			name: r.below(len(d.strings), "name"), systemName: r.below(len(d.strings), "system name"),
			file: r.below(len(d.strings), "file"), startLine: r.varint("start line"),
		})
	}
	for range r.count(6, "mapping count") {
		d.mappings = append(d.mappings, mapping{
			file: r.below(len(d.strings), "file"), buildID: r.below(len(d.strings), "build ID"),
			start: r.uvarint("start"), limit: r.uvarint("limit"), offset: r.uvarint("offset"), flags: r.byte("flags"),
		})
	}
	for range r.count(3, "location count") {
		l := location{mapping: r.below(len(d.mappings), "mapping")}
		n := r.uvarint("line count")
		l.folded = n&1 == 1
		l.address = r.uvarint("address")
		if n >>= 1; n == 0 {
			l.name = r.below(len(d.strings), "name")
		}
		if n > uint64(len(data)-r.off) {
			r.fail("line count")
		}
		var lines []line
		for i := uint64(0); i < n && r.err == nil; i++ {
			lines = append(lines, line{r.below(len(d.functions), "function"), r.varint("line")})
		}
		if r.err != nil {
			break
		}
		d.appendLocation(l, lines)
	}
	for range r.count(2, "node count") {
		at := len(d.nodes)
		up := r.uvarint("parent")
		if r.err == nil && (up == 0 || up > uint64(at)) {
			r.fail("parent")
		}
		n := node{uint32(uint64(at) - up), r.below(len(d.locations), "location")}
		if r.err != nil {
			break
		}
		if at == math.MaxUint32 {
			r.fail("node number")
			break
		}
		d.appendNode(n)
	}
	if err := r.end(); err != nil {
		d.view, d.lookup = from, &lookup{}
		d.findCalls()
		return err
	}
	return nil
}
