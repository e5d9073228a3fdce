// Package symdb has the symbols of profiles: strings, functions, mappings, locations, and the trie of their stacktraces, of which each part of an epoch has a dictionary.
package symdb

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unsafe"
)

// A Dictionary numbers what the stacktraces of one partition consist of:
// strings, functions, mappings, locations, and the nodes of the stack trie, each
// in the order of their first appearance. Numbers never change, so that readers
// of a view need no lock while the dictionary grows.
//
// Entry 0 of strings is "", and entry 0 of functions and mappings means none.
// Node 0 is the trie's root.
type Dictionary struct {
	View
	Stacks Pairs   // fingerprints to nodes plus one, of stacktraces that were added since it was read
	calls  Pairs   // callers and names to calls
	known  *tables // nil until something is added
	text   int64   // bytes in strings
}

// tables are fingerprints to numbers plus one, and of nodes parents and locations to nodes.
type tables struct{ strings, functions, mappings, locations, nodes Pairs }

// A View is what a dictionary held at one time.
type View struct {
	Strings   []string
	Hashes    []uint64 // of strings, by HashText
	Functions []Function
	Mappings  []Mapping
	Locations []Location
	Lines     []Line // of all locations
	Nodes     []Node
	Calls     []Call   // the function-level trie; call 0 is its root
	CallOf    []uint32 // node to call
}

// A Function is a function of pprof, whose texts are numbers of strings.
type Function struct {
	Name, SystemName, File uint32 // strings
	StartLine              int64
}

// A Mapping is a mapping of pprof, whose texts are numbers of strings.
type Mapping struct {
	File, BuildID        uint32 // strings
	Start, Limit, Offset uint64
	Flags                uint8 // has_functions, has_filenames, has_line_numbers, has_inline_frames, from the lowest bit
}

// A Location is a place in a program. Its lines, innermost first, are lines[first:end]. The address is 0
// where the mapping has functions, because it differs from process to process
// and says nothing more.
type Location struct {
	Mapping    uint32
	First, End uint32
	Name       uint32 // string shown if there are no lines
	Folded     bool
	Address    uint64
}

// A Line is a line of a location: a function, and the line in its file.
type Line struct {
	Function uint32
	Line     int64
}

// A Node is a location called by the node parent, which has a lower number.
type Node struct{ Parent, Location uint32 }

// A Call is a function, by the string of its name, in the context of its
// callers. The parent has a lower number.
type Call struct{ Parent, Name uint32 }

// NewDictionary returns a dictionary that has the empty string and the root alone.
func NewDictionary() *Dictionary {
	return &Dictionary{View: View{
		Strings:   []string{""},
		Hashes:    []uint64{HashText("")},
		Functions: make([]Function, 1),
		Mappings:  make([]Mapping, 1),
		Nodes:     make([]Node, 1),
		Calls:     make([]Call, 1),
		CallOf:    make([]uint32, 1),
	}}
}

// Sizes are how many of each kind there are.
type Sizes struct{ strings, functions, mappings, locations, lines, Nodes int }

// Sizes counts what the view has of each kind.
func (v *View) Sizes() Sizes {
	return Sizes{len(v.Strings), len(v.Functions), len(v.Mappings), len(v.Locations), len(v.Lines), len(v.Nodes)}
}

// Bytes estimates the memory that the dictionary takes.
func (d *Dictionary) Bytes() int64 {
	v := &d.View
	n := int64(cap(v.Strings))*24 + int64(cap(v.Functions))*int64(unsafe.Sizeof(Function{})) +
		int64(cap(v.Mappings))*int64(unsafe.Sizeof(Mapping{})) + int64(cap(v.Locations))*int64(unsafe.Sizeof(Location{})) +
		int64(cap(v.Lines))*int64(unsafe.Sizeof(Line{})) + int64(cap(v.Nodes))*8 + int64(cap(v.Calls))*8 + int64(cap(v.CallOf))*4
	n += d.text + d.Stacks.Bytes() + d.calls.Bytes()
	if k := d.known; k != nil {
		n += k.strings.Bytes() + k.functions.Bytes() + k.mappings.Bytes() + k.locations.Bytes() + k.nodes.Bytes()
	}
	return n
}

// Trim frees the tables that adding needs, until something is added again.
func (d *Dictionary) Trim() { d.known, d.calls = nil, Pairs{} }

// Reset takes all out and keeps the memory.
func (d *Dictionary) Reset() {
	clear(d.Strings) // which are parts of others' memory
	v := &d.View
	*v = View{
		v.Strings[:1], v.Hashes[:1], v.Functions[:1], v.Mappings[:1],
		v.Locations[:0], v.Lines[:0], v.Nodes[:1], v.Calls[:1], v.CallOf[:1],
	}
	d.Stacks.Reset()
	d.calls.Reset()
	if k := d.known; k != nil {
		for _, t := range []*Pairs{&k.strings, &k.functions, &k.mappings, &k.locations, &k.nodes} {
			t.Reset()
		}
	}
	d.text = 0
}

// tables are made when the first thing is added.
func (d *Dictionary) tables() *tables {
	if d.known != nil && d.known.strings.used > 0 {
		return d.known
	}
	k := cmp.Or(d.known, &tables{})
	k.strings.Grow(len(d.Strings))
	for i, h := range d.Hashes {
		k.strings.AddPrint(h, uint32(i)+1)
	}
	k.functions.Grow(len(d.Functions))
	for i := range d.Functions {
		k.functions.AddPrint(d.Functions[i].print(), uint32(i)+1)
	}
	for i := range d.Mappings {
		k.mappings.AddPrint(d.Mappings[i].print(), uint32(i)+1)
	}
	k.locations.Grow(len(d.Locations))
	for i := range d.Locations {
		l := &d.Locations[i]
		k.locations.AddPrint(l.print(d.Lines[l.First:l.End]), uint32(i)+1)
	}
	k.nodes.Grow(len(d.Nodes))
	for i, n := range d.Nodes[1:] {
		k.nodes.Add(n.Parent, n.Location, uint32(i)+1)
	}
	d.known = k
	return k
}

// AddString returns the number of a string, which it adds if it is new.
func (d *Dictionary) AddString(s string) uint32 {
	n, hash := uint32(len(d.Strings)), HashText(s)
	if i := d.tables().strings.AddPrint(hash, n+1) - 1; i < n && d.Strings[i] == s {
		return i
	}
	d.appendString(strings.Clone(s), hash) // not the whole table it came in
	return n
}

// AddHashed is AddString of another dictionary's string, whose memory and hash are shared.
func (d *Dictionary) AddHashed(s string, hash uint64) uint32 {
	n := uint32(len(d.Strings))
	i := d.tables().strings.AddPrint(hash, n+1) - 1
	if i == n {
		d.appendString(s, hash)
	}
	return i
}

func (d *Dictionary) appendString(s string, hash uint64) {
	d.Strings = append(d.Strings, s)
	d.Hashes = append(d.Hashes, hash)
	d.text += int64(len(s))
}

// AddFunction returns the number of a function, which it adds if it is new.
func (d *Dictionary) AddFunction(f Function) uint32 {
	n := uint32(len(d.Functions))
	if i := d.tables().functions.AddPrint(f.print(), n+1) - 1; i < n && d.Functions[i] == f {
		return i
	}
	d.Functions = append(d.Functions, f)
	return n
}

// AddMapping returns the number of a mapping, which it adds if it is new.
func (d *Dictionary) AddMapping(m Mapping) uint32 {
	n := uint32(len(d.Mappings))
	if i := d.tables().mappings.AddPrint(m.print(), n+1) - 1; i < n && d.Mappings[i] == m {
		return i
	}
	d.Mappings = append(d.Mappings, m)
	return n
}

// AddLocation adds a location with its lines; its fields first, end and name
// are set here.
func (d *Dictionary) AddLocation(loc Location, lines []Line) uint32 {
	n := uint32(len(d.Locations))
	if i := d.tables().locations.AddPrint(loc.print(lines), n+1) - 1; i < n {
		known := &d.Locations[i]
		if known.Mapping == loc.Mapping && known.Address == loc.Address && known.Folded == loc.Folded &&
			slices.Equal(d.Lines[known.First:known.End], lines) {
			return i
		}
	}
	if loc.Name = 0; len(lines) == 0 {
		loc.Name = d.AddString(d.unknownName(loc))
	}
	d.appendLocation(loc, lines)
	return n
}

func (d *Dictionary) appendLocation(loc Location, lines []Line) {
	loc.First = uint32(len(d.Lines))
	d.Lines = append(d.Lines, lines...)
	loc.End = uint32(len(d.Lines))
	d.Locations = append(d.Locations, loc)
}

// unknownName is what a location without symbols is shown as: module+0xoffset.
func (d *Dictionary) unknownName(loc Location) string {
	m := d.Mappings[loc.Mapping]
	address, file := loc.Address, d.Strings[m.File]
	if file == "" {
		return "0x" + strconv.FormatUint(address, 16)
	}
	if address >= m.Start {
		address = address - m.Start + m.Offset
	}
	return file[strings.LastIndexByte(file, '/')+1:] + "+0x" + strconv.FormatUint(address, 16)
}

// AddNode returns the node of a location called by a node.
func (d *Dictionary) AddNode(parent, loc uint32) uint32 {
	n := uint32(len(d.Nodes))
	i := d.tables().nodes.Add(parent, loc, n)
	if i == n {
		d.appendNode(Node{parent, loc})
	}
	return i
}

// appendNode appends a node that is not there and its calls, one per line.
func (d *Dictionary) appendNode(n Node) {
	d.Nodes = append(d.Nodes, n)
	at := d.CallOf[n.Parent]
	loc := &d.Locations[n.Location]
	if loc.First == loc.End {
		at = d.AddCall(at, loc.Name)
	}
	for i := loc.End; i > loc.First; i-- {
		at = d.AddCall(at, d.Functions[d.Lines[i-1].Function].Name)
	}
	d.CallOf = append(d.CallOf, at)
}

// AddCall returns the call of a function, by its name, from a call.
func (d *Dictionary) AddCall(parent, name uint32) uint32 {
	if d.calls.used < len(d.Calls)-1 {
		d.calls.Grow(len(d.Calls))
		for i, c := range d.Calls[1:] {
			d.calls.Add(c.Parent, c.Name, uint32(i)+1)
		}
	}
	n := uint32(len(d.Calls))
	i := d.calls.Add(parent, name, n)
	if i == n {
		d.Calls = append(d.Calls, Call{parent, name})
	}
	return i
}
