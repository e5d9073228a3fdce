package store

import (
	"slices"
	"strconv"
	"strings"
	"unsafe"
)

// A dictionary numbers what the stacktraces of one partition consist of:
// strings, functions, mappings, locations, and the nodes of the stack trie, each
// in the order of their first appearance. Numbers never change, so that readers
// of a view need no lock while the dictionary grows.
//
// Entry 0 of strings is "", and entry 0 of functions and mappings means none.
// Node 0 is the trie's root.
type dictionary struct {
	view
	lookup *lookup // nil until something is added
	stacks pairs   // fingerprints to nodes, of stacktraces that were added since it was read
	text   int64   // bytes in strings
}

// A view is what a dictionary held at one time.
type view struct {
	strings   []string
	hashes    []uint64 // of strings, by hashText
	functions []function
	mappings  []mapping
	locations []location
	lines     []line // of all locations
	nodes     []node
	calls     []call   // the function-level trie; call 0 is its root
	callOf    []uint32 // node to call
}

type function struct {
	name, systemName, file uint32 // strings
	startLine              int64
}

type mapping struct {
	file, buildID        uint32 // strings
	start, limit, offset uint64
	flags                uint8
}

const (
	hasFunctions = 1 << iota
	hasFilenames
	hasLineNumbers
	hasInlineFrames
)

// A location's lines, innermost first, are lines[first:end]. The address is 0
// where the mapping has functions, because it differs from process to process
// and says nothing more.
type location struct {
	mapping    uint32
	first, end uint32
	name       uint32 // string shown if there are no lines
	folded     bool
	address    uint64
}

type line struct {
	function uint32
	line     int64
}

// A node is a location called by the node parent, which has a lower number.
type node struct{ parent, location uint32 }

// A call is a function, by the string of its name, in the context of its
// callers. The parent has a lower number.
type call struct{ parent, name uint32 }

// lookup finds the number of what is in a dictionary.
type lookup struct {
	strings   numbers
	functions numbers
	mappings  map[mapping]uint32
	locations numbers
	nodes     pairs
	calls     pairs
}

func newDictionary() *dictionary {
	return &dictionary{view: view{
		strings:   []string{""},
		hashes:    []uint64{hashText("")},
		functions: make([]function, 1),
		mappings:  make([]mapping, 1),
		nodes:     make([]node, 1),
		calls:     make([]call, 1),
		callOf:    make([]uint32, 1),
	}}
}

// sizes are how many of each kind there are.
type sizes struct{ strings, functions, mappings, locations, lines, nodes int }

func (v *view) sizes() sizes {
	return sizes{len(v.strings), len(v.functions), len(v.mappings), len(v.locations), len(v.lines), len(v.nodes)}
}

// bytes estimates the memory that the dictionary takes.
func (d *dictionary) bytes() int64 {
	v := &d.view
	n := int64(cap(v.strings))*24 + int64(cap(v.functions))*int64(unsafe.Sizeof(function{})) +
		int64(cap(v.mappings))*int64(unsafe.Sizeof(mapping{})) + int64(cap(v.locations))*int64(unsafe.Sizeof(location{})) +
		int64(cap(v.lines))*int64(unsafe.Sizeof(line{})) + int64(cap(v.nodes))*8 + int64(cap(v.calls))*8 + int64(cap(v.callOf))*4
	n += d.text + d.stacks.bytes()
	if l := d.lookup; l != nil {
		n += int64(len(l.strings.slots)+len(l.functions.slots)+len(l.locations.slots))*int64(unsafe.Sizeof(numberSlot{})) +
			l.nodes.bytes() + l.calls.bytes()
	}
	return n
}

// find makes the lookup tables.
func (d *dictionary) find() *lookup {
	if d.lookup != nil {
		return d.lookup
	}
	l := &lookup{mappings: make(map[mapping]uint32, len(d.mappings))}
	l.strings.grow(len(d.strings))
	for i, h := range d.hashes {
		l.strings.put(h, uint32(i))
	}
	l.functions.grow(len(d.functions))
	for i := range d.functions {
		l.functions.put(d.functions[i].hash(), uint32(i))
	}
	for i, m := range d.mappings {
		l.mappings[m] = uint32(i)
	}
	l.locations.grow(len(d.locations))
	for i := range d.locations {
		loc := &d.locations[i]
		l.locations.put(loc.hash(d.lines[loc.first:loc.end]), uint32(i))
	}
	l.nodes.grow(len(d.nodes))
	for i, n := range d.nodes[1:] {
		l.nodes.put(n.parent, n.location, uint32(i)+1)
	}
	d.lookup = l
	d.findCalls()
	return l
}

// findCalls makes the lookup table of calls, all that reading segments needs.
func (d *dictionary) findCalls() {
	d.lookup.calls.grow(len(d.calls))
	for i, c := range d.calls[min(1, len(d.calls)):] {
		d.lookup.calls.put(c.parent, c.name, uint32(i)+1)
	}
}

func (d *dictionary) addString(s string) uint32 {
	l := d.find()
	h := hashText(s)
	for at := l.strings.first(h); ; at = l.strings.next(at) {
		i, ok := l.strings.at(at, h)
		if !ok {
			break
		}
		if i != noNumber && d.hashes[i] == h && d.strings[i] == s {
			return i
		}
	}
	i := uint32(len(d.strings))
	d.appendString(strings.Clone(s)) // not the whole table it came in
	l.strings.put(h, i)
	return i
}

func (d *dictionary) appendString(s string) {
	d.strings = append(d.strings, s)
	d.hashes = append(d.hashes, hashText(s))
	d.text += int64(len(s))
}

func (d *dictionary) addFunction(f function) uint32 {
	l := d.find()
	h := f.hash()
	for at := l.functions.first(h); ; at = l.functions.next(at) {
		i, ok := l.functions.at(at, h)
		if !ok {
			break
		}
		if i != noNumber && d.functions[i] == f {
			return i
		}
	}
	i := uint32(len(d.functions))
	d.functions = append(d.functions, f)
	l.functions.put(h, i)
	return i
}

func (d *dictionary) addMapping(m mapping) uint32 {
	l := d.find()
	if i, ok := l.mappings[m]; ok {
		return i
	}
	i := uint32(len(d.mappings))
	d.mappings = append(d.mappings, m)
	l.mappings[m] = i
	return i
}

// addLocation adds a location with its lines; its fields first, end and name
// are set here.
func (d *dictionary) addLocation(loc location, lines []line) uint32 {
	l := d.find()
	h := loc.hash(lines)
	for at := l.locations.first(h); ; at = l.locations.next(at) {
		i, ok := l.locations.at(at, h)
		if !ok {
			break
		}
		if i == noNumber {
			continue
		}
		known := &d.locations[i]
		if known.mapping == loc.mapping && known.address == loc.address && known.folded == loc.folded &&
			slices.Equal(d.lines[known.first:known.end], lines) {
			return i
		}
	}
	i := uint32(len(d.locations))
	if loc.name = 0; len(lines) == 0 {
		loc.name = d.addString(d.unknownName(loc))
	}
	d.appendLocation(loc, lines)
	l.locations.put(h, i)
	return i
}

func (d *dictionary) appendLocation(loc location, lines []line) {
	loc.first = uint32(len(d.lines))
	d.lines = append(d.lines, lines...)
	loc.end = uint32(len(d.lines))
	d.locations = append(d.locations, loc)
}

// unknownName is what a location without symbols is shown as: module+0xoffset.
func (d *dictionary) unknownName(loc location) string {
	m := d.mappings[loc.mapping]
	address, file := loc.address, d.strings[m.file]
	if file == "" {
		return "0x" + strconv.FormatUint(address, 16)
	}
	if address >= m.start {
		address = address - m.start + m.offset
	}
	return file[strings.LastIndexByte(file, '/')+1:] + "+0x" + strconv.FormatUint(address, 16)
}

// addNode returns the node of a location called by a node.
func (d *dictionary) addNode(parent, loc uint32) uint32 {
	l := d.lookup
	if i, ok := l.nodes.get(parent, loc); ok {
		return i
	}
	i := uint32(len(d.nodes))
	l.nodes.put(parent, loc, i)
	d.appendNode(node{parent, loc})
	return i
}

// appendNode appends a node that is not there and its calls, one per line.
func (d *dictionary) appendNode(n node) {
	d.nodes = append(d.nodes, n)
	if d.callOf == nil {
		return
	}
	at := d.callOf[n.parent]
	loc := &d.locations[n.location]
	if loc.first == loc.end {
		at = d.addCall(at, loc.name)
	}
	for i := loc.end; i > loc.first; i-- {
		at = d.addCall(at, d.functions[d.lines[i-1].function].name)
	}
	d.callOf = append(d.callOf, at)
}

func (d *dictionary) addCall(parent, name uint32) uint32 {
	calls := &d.lookup.calls
	if i, ok := calls.get(parent, name); ok {
		return i
	}
	i := uint32(len(d.calls))
	d.calls = append(d.calls, call{parent, name})
	calls.put(parent, name, i)
	return i
}
