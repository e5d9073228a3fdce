package symbolize

import (
	"bytes"
	"sort"
	"sync"
)

// A table maps addresses to names: three parallel arrays over disjoint ranges,
// 16 bytes a range, and all names in one blob. It never changes after it was
// built, but for the cache of names that were asked for.
type table struct {
	starts []uint64 // sorted
	sizes  []uint32
	names  []uint32    // offset of the name in blob
	blob   []byte      // names, each ended by a zero byte
	debug  *debugPlace // nil without debug information
	damage error       // why parts of the file were not read; nil if all were

	stripped bool   // only exported functions are in it
	wants    string // build ID of a debug file that may come; "" if none is wanted
	next     *table // has further functions; nil if there is none

	mu    sync.RWMutex
	lines map[uint32][]Line // by offset of the name
}

// newTable packs disjoint spans, sorted by start. It may keep blob.
func newTable(spans []span, blob []byte) *table {
	t := &table{
		starts: make([]uint64, len(spans)),
		sizes:  make([]uint32, len(spans)),
		names:  make([]uint32, len(spans)),
		blob:   exact(blob),
		lines:  map[uint32][]Line{},
	}
	for i, s := range spans {
		t.starts[i] = s.start
		t.sizes[i] = uint32(min(s.end-s.start, 1<<32-1))
		t.names[i] = s.name
	}
	return t
}

// exact returns b without the unused capacity of appending.
func exact(b []byte) []byte {
	if cap(b)-len(b) < len(b)/32 {
		return b
	}
	out := make([]byte, len(b))
	copy(out, b)
	return out
}

// bytes is the memory that the table itself holds, without cached lines.
func (t *table) bytes() int64 {
	n := int64(len(t.starts))*16 + int64(cap(t.blob))
	if t.next != nil {
		n += t.next.bytes()
	}
	return n
}

// find returns the offset of the name at an address.
func (t *table) find(addr uint64) (uint32, bool) {
	i := sort.Search(len(t.starts), func(i int) bool { return t.starts[i] > addr }) - 1
	if i < 0 || addr-t.starts[i] >= uint64(t.sizes[i]) {
		return 0, false
	}
	return t.names[i], true
}

// raw returns the name at an offset as it stands in the symbol table.
func (t *table) raw(name uint32) string {
	b := t.blob[name:]
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return string(b)
}

// lookup returns the function at an address, without file and line. function makes a function's name of
// a symbol. grown is the memory that the cache took for them.
func (t *table) lookup(addr uint64, style Style, function func(symbol string, style Style) string) (lines []Line, grown int64, ok bool) {
	name, ok := t.find(addr)
	if !ok && t.next != nil {
		return t.next.lookup(addr, style, function)
	}
	if !ok {
		return nil, 0, false
	}
	t.mu.RLock()
	lines, ok = t.lines[name]
	t.mu.RUnlock()
	if ok {
		return lines, 0, true
	}
	lines = []Line{{Function: function(t.raw(name), style)}}
	t.mu.Lock()
	defer t.mu.Unlock()
	if known, ok := t.lines[name]; ok {
		return known, 0, true
	}
	t.lines[name] = lines
	return lines, answerBytes(lines), true
}

// answerBytes is the memory that a map takes for lines.
func answerBytes(lines []Line) int64 {
	n := int64(48) // the entry of the map
	for _, l := range lines {
		n += 40 + int64(len(l.Function))
	}
	return n
}
