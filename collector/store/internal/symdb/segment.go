package symdb

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
)

// A segment is what one append added to a dictionary. A partition's dictionary
// on disk is the sequence of its segments, each of which says how long the
// dictionary was before it.

// AppendSegment appends what the dictionary has beyond from.
func (d *Dictionary) AppendSegment(b []byte, from Sizes) []byte {
	for _, n := range [...]int{from.strings, from.functions, from.mappings, from.locations, from.Nodes} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = binary.AppendUvarint(b, uint64(len(d.Strings)-from.strings))
	for _, s := range d.Strings[from.strings:] {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = binary.AppendUvarint(b, uint64(len(d.Functions)-from.functions))
	for _, f := range d.Functions[from.functions:] {
		b = binary.AppendUvarint(b, uint64(f.Name))
		b = binary.AppendUvarint(b, uint64(f.SystemName))
		b = binary.AppendUvarint(b, uint64(f.File))
		b = binary.AppendVarint(b, f.StartLine)
	}
	b = binary.AppendUvarint(b, uint64(len(d.Mappings)-from.mappings))
	for _, m := range d.Mappings[from.mappings:] {
		b = binary.AppendUvarint(b, uint64(m.File))
		b = binary.AppendUvarint(b, uint64(m.BuildID))
		b = binary.AppendUvarint(b, m.Start)
		b = binary.AppendUvarint(b, m.Limit)
		b = binary.AppendUvarint(b, m.Offset)
		b = append(b, m.Flags)
	}
	b = binary.AppendUvarint(b, uint64(len(d.Locations)-from.locations))
	for _, l := range d.Locations[from.locations:] {
		b = binary.AppendUvarint(b, uint64(l.Mapping))
		folded := uint64(0)
		if l.Folded {
			folded = 1
		}
		b = binary.AppendUvarint(b, uint64(l.End-l.First)<<1|folded)
		b = binary.AppendUvarint(b, l.Address)
		if l.First == l.End {
			b = binary.AppendUvarint(b, uint64(l.Name))
		}
		for _, ln := range d.Lines[l.First:l.End] {
			b = binary.AppendUvarint(b, uint64(ln.Function))
			b = binary.AppendVarint(b, ln.Line)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(d.Nodes)-from.Nodes))
	for i, n := range d.Nodes[from.Nodes:] {
		b = binary.AppendUvarint(b, uint64(from.Nodes+i)-uint64(n.Parent))
		b = binary.AppendUvarint(b, uint64(n.Location))
	}
	return b
}

// ReadSegment appends a segment to the dictionary. A corrupt segment leaves the
// dictionary without any of it.
func (d *Dictionary) ReadSegment(data []byte) error {
	from := d.View
	r := bitpack.Decoder{Data: data}
	for _, n := range [...]int{len(d.Strings), len(d.Functions), len(d.Mappings), len(d.Locations), len(d.Nodes)} {
		if got := r.Uvarint("start"); r.Err == nil && got != uint64(n) {
			r.Fail(fmt.Sprintf("segment starts at %d, want %d", got, n))
		}
	}
	for range r.Count(1, "string count") {
		text := r.String("string")
		d.appendString(text, HashText(text))
	}
	for range r.Count(4, "function count") {
		d.Functions = append(d.Functions, Function{
			Name: r.Below(len(d.Strings), "name"), SystemName: r.Below(len(d.Strings), "system name"),
			File: r.Below(len(d.Strings), "file"), StartLine: r.Varint("start line"),
		})
	}
	for range r.Count(6, "mapping count") {
		d.Mappings = append(d.Mappings, Mapping{
			File: r.Below(len(d.Strings), "file"), BuildID: r.Below(len(d.Strings), "build ID"),
			Start: r.Uvarint("start"), Limit: r.Uvarint("limit"), Offset: r.Uvarint("offset"), Flags: r.Byte("flags"),
		})
	}
	for range r.Count(3, "location count") {
		l := Location{Mapping: r.Below(len(d.Mappings), "mapping")}
		n := r.Uvarint("line count")
		l.Folded = n&1 == 1
		l.Address = r.Uvarint("address")
		if n >>= 1; n == 0 {
			l.Name = r.Below(len(d.Strings), "name")
		}
		if n > uint64(len(data)-r.Off) {
			r.Fail("line count")
		}
		var lines []Line
		for i := uint64(0); i < n && r.Err == nil; i++ {
			lines = append(lines, Line{r.Below(len(d.Functions), "function"), r.Varint("line")})
		}
		if r.Err != nil {
			break
		}
		d.appendLocation(l, lines)
	}
	for range r.Count(2, "node count") {
		at := len(d.Nodes)
		up := r.Uvarint("parent")
		if r.Err == nil && (up == 0 || up > uint64(at)) {
			r.Fail("parent")
		}
		n := Node{uint32(uint64(at) - up), r.Below(len(d.Locations), "location")}
		if r.Err != nil {
			break
		}
		if at == math.MaxUint32 {
			r.Fail("node number")
			break
		}
		d.appendNode(n)
	}
	if err := r.End(); err != nil {
		d.View = from
		d.Trim()
		return err
	}
	return nil
}
