package store

import (
	"sync"
	"sync/atomic"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/reuse"
)

// A pprofMerge adds partitions up: stacktraces that are equal, by fingerprint, are
// one sample, and symbols that are equal have one ID. It does so in the order of
// the partitions, so that the result does not depend on which was read first, and
// keeps nothing of them but what the result has. It is safe for concurrent use.
type pprofMerge struct {
	hold   *budget.Reservation
	single bool // there is one partition alone, in which no stacktrace is there twice

	bySymbols, bySamples inOrder
	pprofSymbols
	samples pairs    // fingerprint to sample plus one
	values  []int64  // by sample
	ends    []int    // of the samples' stacktraces in stacks
	stacks  []uint32 // IDs of locations, innermost first

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
	functions []function
	mappings  []mapping
	locations []location
	lines     []line
	text      int64 // bytes in strings

	// Fingerprints to IDs.
	stringIDs, functionIDs, mappingIDs, locationIDs pairs
	// IDs of what the part that is added has, by number, 0 for none yet.
	partStrings, partFunctions, partMappings []uint32
}

// A pprofPart is a partition's part: nodes with a value.
type pprofPart struct {
	view
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

// An inOrder does something with one part after the other.
type inOrder struct {
	mu      sync.Mutex
	next    int // the part that is due
	busy    bool
	waiting map[int]*pprofPart
}

func (o *inOrder) reset() { o.next, o.busy, o.waiting = 0, false, map[int]*pprofPart{} }

// do takes a part. Whoever brings the one that is due does all that are, calling
// fn with each, and then after, in which others may go on.
func (o *inOrder) do(order int, p *pprofPart, fn func(*pprofPart), after func(int, *pprofPart)) {
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
func (o *inOrder) unlocked(fn func()) {
	o.mu.Unlock()
	defer o.mu.Lock()
	fn()
}

// prints are the fingerprints of what a view holds, by number.
type prints struct{ functions, mappings, locations []uint64 }

func (p *prints) of(v *view) {
	p.functions = reuse.Zeroed(p.functions, len(v.functions))
	for i := range v.functions {
		f := &v.functions[i]
		p.functions[i] = foldFunction(v.hashes[f.name], v.hashes[f.systemName], v.hashes[f.file], f.startLine)
	}
	p.mappings = reuse.Zeroed(p.mappings, len(v.mappings))
	for i := 1; i < len(v.mappings); i++ {
		m := &v.mappings[i]
		p.mappings[i] = foldMapping(v.hashes[m.file], v.hashes[m.buildID], m)
	}
	p.locations = reuse.Zeroed(p.locations, len(v.locations))
	for i := range v.locations {
		l := &v.locations[i]
		print := foldLocation(p.mappings[l.mapping], l, int(l.end-l.first))
		for _, ln := range v.lines[l.first:l.end] {
			print = fold(fold(print, p.functions[ln.function]), uint64(ln.line))
		}
		p.locations[i] = print
	}
}

var pprofParts = sync.Pool{New: func() any { return new(pprofPart) }}

func newPprofPart(v *view, sums []int64) *pprofPart {
	p := pprofParts.Get().(*pprofPart)
	p.view = *v
	p.prints.of(v)
	tmp := pprofScratches.Get().(*pprofScratch)
	defer budget.PutBack(&pprofScratches, tmp, len(v.nodes)*12)
	tmp.prints, tmp.seen = reuse.Zeroed(tmp.prints, len(v.nodes)), reuse.Zeroed(tmp.seen, len(v.nodes))
	for i, n := range v.nodes[1:] {
		tmp.prints[i+1] = fold(tmp.prints[n.parent], p.prints.locations[n.location])
	}
	p.nodes, p.values, p.stacks, p.used = p.nodes[:0], p.values[:0], p.stacks[:0], p.used[:0]
	p.locations = reuse.Zeroed(p.locations, len(v.locations))
	for n, x := range sums {
		if x == 0 {
			continue
		}
		p.nodes, p.values, p.stacks = append(p.nodes, uint32(n)), append(p.values, x), append(p.stacks, tmp.prints[n])
		for at := uint32(n); at != 0 && tmp.seen[at] == 0; at = v.nodes[at].parent {
			tmp.seen[at] = 1
			if loc := v.nodes[at].location; p.locations[loc] == 0 {
				p.locations[loc] = needed
				p.used = append(p.used, loc)
			}
		}
	}
	return p
}

func (p *pprofPart) free() {
	p.view = view{}
	budget.PutBack(&pprofParts, p, cap(p.nodes)*20+cap(p.locations)*24)
}

func (m *pprofMerge) add(order int, v *view, sums []int64) error {
	bytes := partBytes(v, sums)
	if err := m.hold.Take(bytes); err != nil {
		return err
	}
	p := newPprofPart(v, sums)
	p.bytes = bytes
	m.bySymbols.do(order, p, m.addSymbols, func(order int, p *pprofPart) {
		m.bySamples.do(order, p, m.addSamples, func(_ int, p *pprofPart) {
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
func partBytes(v *view, sums []int64) int64 {
	n := int64(0)
	for _, x := range sums {
		if x != 0 {
			n++
		}
	}
	const perNode, perLocation = 8 + 4, 8 + 4 + 4 // of all of the view
	return n*(4+8+8) + int64(len(v.nodes))*perNode + int64(len(v.locations))*perLocation + int64(len(v.functions)+len(v.mappings))*8
}

// addSymbols gives the part's locations their IDs.
func (m *pprofMerge) addSymbols(p *pprofPart) {
	m.partStrings, m.partFunctions = reuse.Zeroed(m.partStrings, len(p.strings)), reuse.Zeroed(m.partFunctions, len(p.functions))
	m.partMappings = reuse.Zeroed(m.partMappings, len(p.mappings))
	for _, loc := range p.used {
		p.locations[loc] = m.location(p, loc)
	}
	m.symbolBytes.Store(int64(len(m.strings)*40+len(m.functions)*48+len(m.pprofSymbols.locations)*56+len(m.lines)*16) + m.text)
}

// addSamples adds the part's samples, whose locations have IDs.
func (m *pprofMerge) addSamples(p *pprofPart) {
	for i, n := range p.nodes {
		if !m.single {
			if s, ok := m.samples.getPrint(p.stacks[i]); ok {
				m.values[s-1] += p.values[i]
				continue
			}
			m.samples.putPrint(p.stacks[i], uint32(len(m.values))+1)
		}
		for at := n; at != 0; at = p.view.nodes[at].parent {
			m.stacks = append(m.stacks, p.locations[p.view.nodes[at].location])
		}
		m.values, m.ends = append(m.values, p.values[i]), append(m.ends, len(m.stacks))
	}
	m.sampleBytes.Store(int64(len(m.values)*40 + len(m.stacks)*4))
}

// idOf returns the ID of something that a part has, of a kind: the one that it is
// known to have, that of an equal one, or the next.
func idOf(part []uint32, i uint32, ids *pairs, print uint64, add func() int) uint32 {
	if part[i] != 0 {
		return part[i]
	}
	id, ok := ids.getPrint(print)
	if !ok {
		id = uint32(add())
		ids.putPrint(print, id)
	}
	part[i] = id
	return id
}

func (s *pprofSymbols) location(p *pprofPart, i uint32) uint32 {
	print := p.prints.locations[i]
	if id, ok := s.locationIDs.getPrint(print); ok {
		return id
	}
	l := p.view.locations[i]
	first := uint32(len(s.lines))
	for _, ln := range p.view.lines[l.first:l.end] {
		s.lines = append(s.lines, line{s.function(p, ln.function), ln.line})
	}
	if l.first, l.end = first, uint32(len(s.lines)); l.mapping != 0 {
		l.mapping = s.mapping(p, l.mapping)
	}
	s.locations = append(s.locations, l)
	id := uint32(len(s.locations))
	s.locationIDs.putPrint(print, id)
	return id
}

func (s *pprofSymbols) function(p *pprofPart, i uint32) uint32 {
	return idOf(s.partFunctions, i, &s.functionIDs, p.prints.functions[i], func() int {
		f := p.view.functions[i]
		f.name, f.systemName, f.file = s.string(p, f.name), s.string(p, f.systemName), s.string(p, f.file)
		s.functions = append(s.functions, f)
		return len(s.functions)
	})
}

func (s *pprofSymbols) mapping(p *pprofPart, i uint32) uint32 {
	return idOf(s.partMappings, i, &s.mappingIDs, p.prints.mappings[i], func() int {
		m := p.view.mappings[i]
		m.file, m.buildID = s.string(p, m.file), s.string(p, m.buildID)
		s.mappings = append(s.mappings, m)
		return len(s.mappings)
	})
}

func (s *pprofSymbols) string(p *pprofPart, i uint32) uint32 {
	if i == 0 {
		return 0
	}
	return idOf(s.partStrings, i, &s.stringIDs, p.view.hashes[i], func() int { return s.addString(p.view.strings[i]) })
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
	print := hashText(text)
	id, ok := s.stringIDs.getPrint(print)
	if !ok {
		id = uint32(s.addString(text))
		s.stringIDs.putPrint(print, id)
	}
	return uint64(id)
}

// Merges of pprof keep their memory for the next one: of several partitions, which
// take much, and of a single one.
var pprofMerges = [2]sync.Pool{
	{New: func() any { return new(pprofMerge) }},
	{New: func() any { return new(pprofMerge) }},
}

func poolOf(single bool) *sync.Pool {
	if single {
		return &pprofMerges[1]
	}
	return &pprofMerges[0]
}

func newPprofMerge(h *budget.Reservation, single bool) *pprofMerge {
	m := poolOf(single).Get().(*pprofMerge)
	s := &m.pprofSymbols
	m.hold, m.single, m.taken = h, single, 0
	m.bySymbols.reset()
	m.bySamples.reset()
	m.symbolBytes.Store(0)
	m.sampleBytes.Store(0)
	m.values, m.ends, m.stacks = m.values[:0], m.ends[:0], m.stacks[:0]
	for _, t := range []*pairs{&m.samples, &s.stringIDs, &s.functionIDs, &s.mappingIDs, &s.locationIDs} {
		t.reset()
	}
	s.strings = append(s.strings[:0], "")
	s.functions, s.mappings, s.locations, s.lines, s.text = s.functions[:0], s.mappings[:0], s.locations[:0], s.lines[:0], 0
	return m
}

func (m *pprofMerge) free() {
	m.hold, m.bySymbols.waiting, m.bySamples.waiting = nil, nil, nil
	clear(m.strings) // which are parts of dictionaries
	budget.PutBack(poolOf(m.single), m, cap(m.stacks)*4+cap(m.values)*16+cap(m.lines)*16+int(m.samples.bytes()+m.locationIDs.bytes()))
}
