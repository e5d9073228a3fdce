// Package pprofenc merges stacktraces and their values into one pprof profile, and encodes it.
package pprofenc

import (
	"sync"
	"sync/atomic"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/reuse"
	"github.com/flameline/flameline/collector/store/internal/symdb"
)

// A Merge adds partitions up: stacktraces that are equal, by fingerprint, are
// one sample, and symbols that are equal have one ID. It does so in the order of
// the partitions, so that the result does not depend on which was read first, and
// keeps nothing of them but what the result has. It is safe for concurrent use.
type Merge struct {
	hold   *budget.Reservation
	single bool // there is one partition alone, in which no stacktrace is there twice

	bySymbols, bySamples InOrder
	pprofSymbols
	samples symdb.Pairs // fingerprint to sample plus one
	Values  []int64     // by sample
	ends    []int       // of the samples' stacktraces in stacks
	stacks  []uint32    // IDs of locations, innermost first

	// What symbols and samples are known to take, with the tables' share, and how much
	// of it was taken of the hold.
	symbolBytes, sampleBytes atomic.Int64
	mu                       sync.Mutex
	taken                    int64
}

// pprofSymbols are in the order of their IDs, by which they refer to each other.
// Of strings the first has the ID 0, of the others 1.
type pprofSymbols struct {
	strings   []string
	functions []symdb.Function
	mappings  []symdb.Mapping
	locations []symdb.Location
	lines     []symdb.Line
	text      int64 // bytes in strings

	// Fingerprints to IDs.
	stringIDs, functionIDs, mappingIDs, locationIDs symdb.Pairs
	// IDs of what the part that is added has, by number, 0 for none yet.
	partStrings, partFunctions, partMappings []uint32
}

// A Part is a partition's part: nodes with a value.
type Part struct {
	symdb.View
	nodes     []uint32
	values    []int64
	stacks    []uint64 // fingerprints of the nodes
	used      []uint32 // locations of the nodes and their callers
	locations []uint32 // IDs of the locations, by number
	prints    prints
	bytes     int64 // taken of the hold
}

// pprofScratch is memory for all nodes of a view.
type pprofScratch struct {
	prints []uint64
	seen   []uint32 // 1 for those that were looked at
}

var pprofScratches = sync.Pool{New: func() any { return new(pprofScratch) }}

// An InOrder does something with one part after the other.
type InOrder struct {
	mu      sync.Mutex
	next    int // the part that is due
	busy    bool
	waiting map[int]*Part
}

// Reset begins with the first part.
func (o *InOrder) Reset() { o.next, o.busy, o.waiting = 0, false, map[int]*Part{} }

// Do takes a part. Whoever brings the one that is due does all that are, calling
// fn with each, and then after, in which others may go on.
func (o *InOrder) Do(order int, p *Part, fn func(*Part), after func(int, *Part)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting[order] = p
	for !o.busy && o.waiting[o.next] != nil {
		at, p := o.next, o.waiting[o.next]
		delete(o.waiting, at)
		o.busy = true
		o.unlocked(func() { fn(p) })
		o.busy = false
		o.next++
		o.unlocked(func() { after(at, p) })
	}
}

// unlocked calls fn without the lock, which is held again when fn returns or panics.
func (o *InOrder) unlocked(fn func()) {
	o.mu.Unlock()
	defer o.mu.Lock()
	fn()
}

// prints are the fingerprints of what a view holds, by number.
type prints struct{ functions, mappings, locations []uint64 }

func (p *prints) of(v *symdb.View) {
	p.functions = reuse.Zeroed(p.functions, len(v.Functions))
	for i := range v.Functions {
		f := &v.Functions[i]
		p.functions[i] = symdb.FoldFunction(v.Hashes[f.Name], v.Hashes[f.SystemName], v.Hashes[f.File], f.StartLine)
	}
	p.mappings = reuse.Zeroed(p.mappings, len(v.Mappings))
	for i := 1; i < len(v.Mappings); i++ {
		m := &v.Mappings[i]
		p.mappings[i] = symdb.FoldMapping(v.Hashes[m.File], v.Hashes[m.BuildID], m)
	}
	p.locations = reuse.Zeroed(p.locations, len(v.Locations))
	for i := range v.Locations {
		l := &v.Locations[i]
		print := symdb.FoldLocation(p.mappings[l.Mapping], l, int(l.End-l.First))
		for _, ln := range v.Lines[l.First:l.End] {
			print = symdb.Fold(symdb.Fold(print, p.functions[ln.Function]), uint64(ln.Line))
		}
		p.locations[i] = print
	}
}

var pprofParts = sync.Pool{New: func() any { return new(Part) }}

func newPprofPart(v *symdb.View, sums []int64) *Part {
	p := pprofParts.Get().(*Part)
	p.View = *v
	p.prints.of(v)
	tmp := pprofScratches.Get().(*pprofScratch)
	defer budget.PutBack(&pprofScratches, tmp, len(v.Nodes)*12)
	tmp.prints, tmp.seen = reuse.Zeroed(tmp.prints, len(v.Nodes)), reuse.Zeroed(tmp.seen, len(v.Nodes))
	for i, n := range v.Nodes[1:] {
		tmp.prints[i+1] = symdb.Fold(tmp.prints[n.Parent], p.prints.locations[n.Location])
	}
	p.nodes, p.values, p.stacks, p.used = p.nodes[:0], p.values[:0], p.stacks[:0], p.used[:0]
	p.locations = reuse.Zeroed(p.locations, len(v.Locations))
	for n, x := range sums {
		if x == 0 {
			continue
		}
		p.nodes, p.values, p.stacks = append(p.nodes, uint32(n)), append(p.values, x), append(p.stacks, tmp.prints[n])
		for at := uint32(n); at != 0 && tmp.seen[at] == 0; at = v.Nodes[at].Parent {
			tmp.seen[at] = 1
			if loc := v.Nodes[at].Location; p.locations[loc] == 0 {
				p.locations[loc] = symdb.Needed
				p.used = append(p.used, loc)
			}
		}
	}
	return p
}

func (p *Part) free() {
	p.View = symdb.View{}
	budget.PutBack(&pprofParts, p, cap(p.nodes)*20+cap(p.locations)*24)
}

// Add adds the sums by node of the part that has a place in the order.
func (m *Merge) Add(order int, v *symdb.View, sums []int64) error {
	bytes := partBytes(v, sums)
	if err := m.hold.Take(bytes); err != nil {
		return err
	}
	p := newPprofPart(v, sums)
	p.bytes = bytes
	m.bySymbols.Do(order, p, m.addSymbols, func(order int, p *Part) {
		m.bySamples.Do(order, p, m.addSamples, func(_ int, p *Part) {
			m.hold.Give(p.bytes)
			p.free()
		})
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	more := m.symbolBytes.Load() + m.sampleBytes.Load() - m.taken
	if err := m.hold.Take(more); err != nil {
		return err
	}
	m.taken += max(more, 0)
	return nil
}

// partBytes is the memory of a part, and of making it.
func partBytes(v *symdb.View, sums []int64) int64 {
	n := int64(0)
	for _, x := range sums {
		if x != 0 {
			n++
		}
	}
	const perNode, perLocation = 8 + 4, 8 + 4 + 4 // of all of the view
	return n*(4+8+8) + int64(len(v.Nodes))*perNode + int64(len(v.Locations))*perLocation + int64(len(v.Functions)+len(v.Mappings))*8
}

// addSymbols gives the part's locations their IDs.
func (m *Merge) addSymbols(p *Part) {
	m.partStrings, m.partFunctions = reuse.Zeroed(m.partStrings, len(p.Strings)), reuse.Zeroed(m.partFunctions, len(p.Functions))
	m.partMappings = reuse.Zeroed(m.partMappings, len(p.Mappings))
	for _, loc := range p.used {
		p.locations[loc] = m.location(p, loc)
	}
	m.symbolBytes.Store(int64(len(m.strings)*40+len(m.functions)*48+len(m.pprofSymbols.locations)*56+len(m.lines)*16) + m.text)
}

// addSamples adds the part's samples, whose locations have IDs.
func (m *Merge) addSamples(p *Part) {
	for i, n := range p.nodes {
		if !m.single {
			if s, ok := m.samples.GetPrint(p.stacks[i]); ok {
				m.Values[s-1] += p.values[i]
				continue
			}
			m.samples.PutPrint(p.stacks[i], uint32(len(m.Values))+1)
		}
		for at := n; at != 0; at = p.View.Nodes[at].Parent {
			m.stacks = append(m.stacks, p.locations[p.View.Nodes[at].Location])
		}
		m.Values, m.ends = append(m.Values, p.values[i]), append(m.ends, len(m.stacks))
	}
	m.sampleBytes.Store(int64(len(m.Values)*40 + len(m.stacks)*4))
}

// idOf returns the ID of something that a part has, of a kind: the one that it is
// known to have, that of an equal one, or the next.
func idOf(part []uint32, i uint32, ids *symdb.Pairs, print uint64, add func() int) uint32 {
	if part[i] != 0 {
		return part[i]
	}
	id, ok := ids.GetPrint(print)
	if !ok {
		id = uint32(add())
		ids.PutPrint(print, id)
	}
	part[i] = id
	return id
}

func (s *pprofSymbols) location(p *Part, i uint32) uint32 {
	print := p.prints.locations[i]
	if id, ok := s.locationIDs.GetPrint(print); ok {
		return id
	}
	l := p.View.Locations[i]
	first := uint32(len(s.lines))
	for _, ln := range p.View.Lines[l.First:l.End] {
		s.lines = append(s.lines, symdb.Line{Function: s.function(p, ln.Function), Line: ln.Line})
	}
	if l.First, l.End = first, uint32(len(s.lines)); l.Mapping != 0 {
		l.Mapping = s.mapping(p, l.Mapping)
	}
	s.locations = append(s.locations, l)
	id := uint32(len(s.locations))
	s.locationIDs.PutPrint(print, id)
	return id
}

func (s *pprofSymbols) function(p *Part, i uint32) uint32 {
	return idOf(s.partFunctions, i, &s.functionIDs, p.prints.functions[i], func() int {
		f := p.View.Functions[i]
		f.Name, f.SystemName, f.File = s.string(p, f.Name), s.string(p, f.SystemName), s.string(p, f.File)
		s.functions = append(s.functions, f)
		return len(s.functions)
	})
}

func (s *pprofSymbols) mapping(p *Part, i uint32) uint32 {
	return idOf(s.partMappings, i, &s.mappingIDs, p.prints.mappings[i], func() int {
		m := p.View.Mappings[i]
		m.File, m.BuildID = s.string(p, m.File), s.string(p, m.BuildID)
		s.mappings = append(s.mappings, m)
		return len(s.mappings)
	})
}

func (s *pprofSymbols) string(p *Part, i uint32) uint32 {
	if i == 0 {
		return 0
	}
	return idOf(s.partStrings, i, &s.stringIDs, p.View.Hashes[i], func() int { return s.addString(p.View.Strings[i]) })
}

func (s *pprofSymbols) addString(text string) int {
	s.strings = append(s.strings, text)
	s.text += int64(len(text))
	return len(s.strings) - 1
}

// textID returns the ID of a string that may be none of a part's.
func (s *pprofSymbols) textID(text string) uint64 {
	if text == "" {
		return 0
	}
	print := symdb.HashText(text)
	id, ok := s.stringIDs.GetPrint(print)
	if !ok {
		id = uint32(s.addString(text))
		s.stringIDs.PutPrint(print, id)
	}
	return uint64(id)
}

// Merges of pprof keep their memory for the next one: of several partitions, which
// take much, and of a single one.
var pprofMerges = [2]sync.Pool{
	{New: func() any { return new(Merge) }},
	{New: func() any { return new(Merge) }},
}

func poolOf(single bool) *sync.Pool {
	if single {
		return &pprofMerges[1]
	}
	return &pprofMerges[0]
}

// NewMerge returns an empty merge that takes its memory from a reservation. single says
// that one part is going to be added.
func NewMerge(h *budget.Reservation, single bool) *Merge {
	m := poolOf(single).Get().(*Merge)
	s := &m.pprofSymbols
	m.hold, m.single, m.taken = h, single, 0
	m.bySymbols.Reset()
	m.bySamples.Reset()
	m.symbolBytes.Store(0)
	m.sampleBytes.Store(0)
	m.Values, m.ends, m.stacks = m.Values[:0], m.ends[:0], m.stacks[:0]
	for _, t := range []*symdb.Pairs{&m.samples, &s.stringIDs, &s.functionIDs, &s.mappingIDs, &s.locationIDs} {
		t.Reset()
	}
	s.strings = append(s.strings[:0], "")
	s.functions, s.mappings, s.locations, s.lines, s.text = s.functions[:0], s.mappings[:0], s.locations[:0], s.lines[:0], 0
	return m
}

// Free gives the memory back.
func (m *Merge) Free() {
	m.hold, m.bySymbols.waiting, m.bySamples.waiting = nil, nil, nil
	clear(m.strings) // which are parts of dictionaries
	budget.PutBack(poolOf(m.single), m, cap(m.stacks)*4+cap(m.Values)*16+cap(m.lines)*16+int(m.samples.Bytes()+m.locationIDs.Bytes()))
}
