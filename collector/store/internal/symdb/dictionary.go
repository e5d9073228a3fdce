// Package symdb has the symbols of profiles: strings, functions, mappings, locations, and the trie of their stacktraces, of which each part of an epoch has a dictionary.
package symdb

import (
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
	Lookup *Lookup // nil until something is added
	Stacks Pairs   // fingerprints to nodes, of stacktraces that were added since it was read
	text   int64   // bytes in strings
}

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
	Flags                uint8
}

const (
	hasFunctions = 1 << iota
	hasFilenames
	hasLineNumbers
	hasInlineFrames
)

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

// Lookup finds the number of what is in a dictionary.
type Lookup struct {
	strings   numbers
	functions numbers
	mappings  map[Mapping]uint32
	locations numbers
	nodes     Pairs
	calls     Pairs
}

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
	n += d.text + d.Stacks.Bytes()
	if l := d.Lookup; l != nil {
		n += int64(len(l.strings.slots)+len(l.functions.slots)+len(l.locations.slots))*int64(unsafe.Sizeof(numberSlot{})) +
			l.nodes.Bytes() + l.calls.Bytes()
	}
	return n
}

// Find makes the lookup tables.
func (d *Dictionary) Find() *Lookup {
	if d.Lookup != nil {
		return d.Lookup
	}
	l := &Lookup{mappings: make(map[Mapping]uint32, len(d.Mappings))}
	l.strings.grow(len(d.Strings))
	for i, h := range d.Hashes {
		l.strings.put(h, uint32(i))
	}
	l.functions.grow(len(d.Functions))
	for i := range d.Functions {
		l.functions.put(d.Functions[i].hash(), uint32(i))
	}
	for i, m := range d.Mappings {
		l.mappings[m] = uint32(i)
	}
	l.locations.grow(len(d.Locations))
	for i := range d.Locations {
		loc := &d.Locations[i]
		l.locations.put(loc.hash(d.Lines[loc.First:loc.End]), uint32(i))
	}
	l.nodes.Grow(len(d.Nodes))
	for i, n := range d.Nodes[1:] {
		l.nodes.Put(n.Parent, n.Location, uint32(i)+1)
	}
	d.Lookup = l
	d.FindCalls()
	return l
}

// FindCalls makes the lookup table of calls, all that reading segments needs.
func (d *Dictionary) FindCalls() {
	d.Lookup.calls.Grow(len(d.Calls))
	for i, c := range d.Calls[min(1, len(d.Calls)):] {
		d.Lookup.calls.Put(c.Parent, c.Name, uint32(i)+1)
	}
}

// AddString returns the number of a string, which it adds if it is new.
func (d *Dictionary) AddString(s string) uint32 {
	l := d.Find()
	h := HashText(s)
	for at := l.strings.first(h); ; at = l.strings.next(at) {
		i, ok := l.strings.at(at, h)
		if !ok {
			break
		}
		if i != noNumber && d.Hashes[i] == h && d.Strings[i] == s {
			return i
		}
	}
	i := uint32(len(d.Strings))
	d.appendString(strings.Clone(s)) // not the whole table it came in
	l.strings.put(h, i)
	return i
}

func (d *Dictionary) appendString(s string) {
	d.Strings = append(d.Strings, s)
	d.Hashes = append(d.Hashes, HashText(s))
	d.text += int64(len(s))
}

// AddFunction returns the number of a function, which it adds if it is new.
func (d *Dictionary) AddFunction(f Function) uint32 {
	l := d.Find()
	h := f.hash()
	for at := l.functions.first(h); ; at = l.functions.next(at) {
		i, ok := l.functions.at(at, h)
		if !ok {
			break
		}
		if i != noNumber && d.Functions[i] == f {
			return i
		}
	}
	i := uint32(len(d.Functions))
	d.Functions = append(d.Functions, f)
	l.functions.put(h, i)
	return i
}

// AddMapping returns the number of a mapping, which it adds if it is new.
func (d *Dictionary) AddMapping(m Mapping) uint32 {
	l := d.Find()
	if i, ok := l.mappings[m]; ok {
		return i
	}
	i := uint32(len(d.Mappings))
	d.Mappings = append(d.Mappings, m)
	l.mappings[m] = i
	return i
}

// AddLocation adds a location with its lines; its fields first, end and name
// are set here.
func (d *Dictionary) AddLocation(loc Location, lines []Line) uint32 {
	l := d.Find()
	h := loc.hash(lines)
	for at := l.locations.first(h); ; at = l.locations.next(at) {
		i, ok := l.locations.at(at, h)
		if !ok {
			break
		}
		if i == noNumber {
			continue
		}
		known := &d.Locations[i]
		if known.Mapping == loc.Mapping && known.Address == loc.Address && known.Folded == loc.Folded &&
			slices.Equal(d.Lines[known.First:known.End], lines) {
			return i
		}
	}
	i := uint32(len(d.Locations))
	if loc.Name = 0; len(lines) == 0 {
		loc.Name = d.AddString(d.unknownName(loc))
	}
	d.appendLocation(loc, lines)
	l.locations.put(h, i)
	return i
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
	l := d.Lookup
	if i, ok := l.nodes.Get(parent, loc); ok {
		return i
	}
	i := uint32(len(d.Nodes))
	l.nodes.Put(parent, loc, i)
	d.appendNode(Node{parent, loc})
	return i
}

// appendNode appends a node that is not there and its calls, one per line.
func (d *Dictionary) appendNode(n Node) {
	d.Nodes = append(d.Nodes, n)
	if d.CallOf == nil {
		return
	}
	at := d.CallOf[n.Parent]
	loc := &d.Locations[n.Location]
	if loc.First == loc.End {
		at = d.addCall(at, loc.Name)
	}
	for i := loc.End; i > loc.First; i-- {
		at = d.addCall(at, d.Functions[d.Lines[i-1].Function].Name)
	}
	d.CallOf = append(d.CallOf, at)
}

func (d *Dictionary) addCall(parent, name uint32) uint32 {
	calls := &d.Lookup.calls
	if i, ok := calls.Get(parent, name); ok {
		return i
	}
	i := uint32(len(d.Calls))
	d.Calls = append(d.Calls, Call{parent, name})
	calls.Put(parent, name, i)
	return i
}
