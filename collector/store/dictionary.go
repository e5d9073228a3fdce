package store

import (
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
	text   int64   // bytes in strings
}

// A view is what a dictionary held at one time.
type view struct {
	strings   []string
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
	strings   map[string]uint32
	functions map[function]uint32
	mappings  map[mapping]uint32
	locations map[string]uint32 // by locationKey
	nodes     pairs
	calls     pairs
	key       []byte
}

func newDictionary() *dictionary {
	return &dictionary{view: view{
		strings:   []string{""},
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
	n := int64(cap(v.strings))*16 + int64(cap(v.functions))*int64(unsafe.Sizeof(function{})) +
		int64(cap(v.mappings))*int64(unsafe.Sizeof(mapping{})) + int64(cap(v.locations))*int64(unsafe.Sizeof(location{})) +
		int64(cap(v.lines))*int64(unsafe.Sizeof(line{})) + int64(cap(v.nodes))*8 + int64(cap(v.calls))*8 + int64(cap(v.callOf))*4
	n += d.text
	if l := d.lookup; l != nil {
		n += int64(len(l.strings))*40 + int64(len(l.functions))*64 + int64(len(l.locations))*96 +
			int64(len(l.nodes.slots)+len(l.calls.slots))*int64(unsafe.Sizeof(pair{}))
	}
	return n
}

// find makes the lookup tables.
func (d *dictionary) find() *lookup {
	if d.lookup != nil {
		return d.lookup
	}
	l := &lookup{
		strings:   make(map[string]uint32, len(d.strings)),
		functions: make(map[function]uint32, len(d.functions)),
		mappings:  make(map[mapping]uint32, len(d.mappings)),
		locations: make(map[string]uint32, len(d.locations)),
	}
	for i, s := range d.strings {
		l.strings[s] = uint32(i)
	}
	for i, f := range d.functions {
		l.functions[f] = uint32(i)
	}
	for i, m := range d.mappings {
		l.mappings[m] = uint32(i)
	}
	for i := range d.locations {
		l.key = locationKey(l.key[:0], d.locations[i], d.lines[d.locations[i].first:d.locations[i].end])
		l.locations[string(l.key)] = uint32(i)
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
	for i, c := range d.calls[1:] {
		d.lookup.calls.put(c.parent, c.name, uint32(i)+1)
	}
}

func (d *dictionary) addString(s string) uint32 {
	l := d.find()
	if i, ok := l.strings[s]; ok {
		return i
	}
	s = strings.Clone(s) // not the whole table it came in
	i := uint32(len(d.strings))
	d.appendString(s)
	l.strings[s] = i
	return i
}

func (d *dictionary) appendString(s string) {
	d.strings = append(d.strings, s)
	d.text += int64(len(s))
}

func (d *dictionary) addFunction(f function) uint32 {
	l := d.find()
	if i, ok := l.functions[f]; ok {
		return i
	}
	i := uint32(len(d.functions))
	d.functions = append(d.functions, f)
	l.functions[f] = i
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
	l.key = locationKey(l.key[:0], loc, lines)
	if i, ok := l.locations[string(l.key)]; ok {
		return i
	}
	i := uint32(len(d.locations))
	if loc.name = 0; len(lines) == 0 {
		loc.name = d.addString(d.unknownName(loc))
	}
	d.appendLocation(loc, lines)
	l.locations[string(l.key)] = i
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

// locationKey is a string that is equal for equal locations.
func locationKey(b []byte, loc location, lines []line) []byte {
	flags := uint64(0)
	if loc.folded {
		flags = 1
	}
	b = appendWords(b, uint64(loc.mapping)<<1|flags, loc.address)
	for _, l := range lines {
		b = appendWords(b, uint64(l.function), uint64(l.line))
	}
	return b
}

func appendWords(b []byte, words ...uint64) []byte {
	for _, w := range words {
		b = append(b, byte(w), byte(w>>8), byte(w>>16), byte(w>>24), byte(w>>32), byte(w>>40), byte(w>>48), byte(w>>56))
	}
	return b
}

// pairs is an open-addressing hash table from two numbers to a third, which is
// never 0. It takes less than half of a map's memory and time.
type pairs struct {
	slots []pair
	used  int
}

type pair struct{ a, b, to uint32 }

func (p *pairs) grow(n int) {
	size := 64
	for size*2 < n*3 {
		size *= 2
	}
	old := p.slots
	p.slots, p.used = make([]pair, size), 0
	for _, s := range old {
		if s.to != 0 {
			p.put(s.a, s.b, s.to)
		}
	}
}

func (p *pairs) slot(a, b uint32) int {
	h := (uint64(a)<<32 | uint64(b)) * 0x9E3779B97F4A7C15
	h ^= h >> 32
	mask := uint64(len(p.slots) - 1)
	i := h & mask
	for {
		s := &p.slots[i]
		if s.to == 0 || s.a == a && s.b == b {
			return int(i)
		}
		i = (i + 1) & mask
	}
}

func (p *pairs) get(a, b uint32) (uint32, bool) {
	if len(p.slots) == 0 {
		return 0, false
	}
	to := p.slots[p.slot(a, b)].to
	return to, to != 0
}

func (p *pairs) put(a, b, to uint32) {
	if p.used*3 >= len(p.slots)*2 {
		p.grow(max(p.used*2, 42))
	}
	s := &p.slots[p.slot(a, b)]
	if s.to == 0 {
		p.used++
	}
	*s = pair{a, b, to}
}
