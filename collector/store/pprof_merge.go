package store

import (
	"context"
	"sync"
)

// A pprofMerge adds partitions up: stacktraces that are equal, by fingerprint, are
// one sample, and symbols that are equal have one ID. It does so in the order of
// the partitions, so that the result does not depend on which was read first, and
// keeps nothing of them but what the result has. It is safe for concurrent use.
type pprofMerge struct {
	ctx    context.Context
	single bool // there is one partition alone, in which no stacktrace is there twice

	mu      sync.Mutex
	hold    hold
	next    int               // the part that is due
	waiting map[int]pprofPart // parts before whose turn it is

	pprofSymbols
	samples pairs    // fingerprint to sample plus one
	values  []int64  // by sample
	ends    []int    // of the samples' stacktraces in stacks
	stacks  []uint32 // IDs of locations, innermost first
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
	// IDs of what the part that is absorbed has, by number, 0 for none yet.
	partStrings, partFunctions, partMappings, partLocations []uint32
}

// A pprofPart is a partition's part: nodes with a value.
type pprofPart struct {
	view
	nodes  []uint32
	values []int64
	stacks []uint64 // fingerprints of the nodes
	prints prints
}

// prints are the fingerprints of what a view holds, by number.
type prints struct{ functions, mappings, locations []uint64 }

func (v *view) prints() (p prints) {
	p.functions = make([]uint64, len(v.functions))
	for i := range v.functions {
		f := &v.functions[i]
		p.functions[i] = foldFunction(v.hashes[f.name], v.hashes[f.systemName], v.hashes[f.file], f.startLine)
	}
	p.mappings = make([]uint64, len(v.mappings))
	for i := 1; i < len(v.mappings); i++ {
		m := &v.mappings[i]
		p.mappings[i] = foldMapping(v.hashes[m.file], v.hashes[m.buildID], m)
	}
	p.locations = make([]uint64, len(v.locations))
	for i := range v.locations {
		l := &v.locations[i]
		print := foldLocation(p.mappings[l.mapping], l, int(l.end-l.first))
		for _, ln := range v.lines[l.first:l.end] {
			print = fold(fold(print, p.functions[ln.function]), uint64(ln.line))
		}
		p.locations[i] = print
	}
	return p
}

// printPool has memory for the fingerprints of all nodes of a view.
var printPool = sync.Pool{New: func() any { return new([]uint64) }}

func newPprofPart(v *view, sums []int64) pprofPart {
	p := pprofPart{view: *v, prints: v.prints()}
	all := printPool.Get().(*[]uint64)
	defer printPool.Put(all)
	if cap(*all) < len(v.nodes) {
		*all = make([]uint64, len(v.nodes)+len(v.nodes)/8)
	}
	stacks := (*all)[:len(v.nodes)]
	stacks[0] = 0
	count := 0
	for i, n := range v.nodes[1:] {
		stacks[i+1] = fold(stacks[n.parent], p.prints.locations[n.location])
	}
	for _, x := range sums {
		if x != 0 {
			count++
		}
	}
	p.nodes, p.values, p.stacks = make([]uint32, 0, count), make([]int64, 0, count), make([]uint64, 0, count)
	for n, x := range sums {
		if x != 0 {
			p.nodes, p.values, p.stacks = append(p.nodes, uint32(n)), append(p.values, x), append(p.stacks, stacks[n])
		}
	}
	return p
}

func (m *pprofMerge) add(order int, v *view, sums []int64) error {
	p := newPprofPart(v, sums)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting[order] = p
	for {
		p, ok := m.waiting[m.next]
		if !ok {
			break
		}
		delete(m.waiting, m.next)
		m.absorb(&p)
		m.next++
	}
	return m.hold.wait(m.ctx, max(m.bytes()-m.hold.n, 0))
}

// bytes is the memory that the merge takes.
func (m *pprofMerge) bytes() int64 {
	tables := 0
	for _, t := range []*pairs{&m.samples, &m.stringIDs, &m.functionIDs, &m.mappingIDs, &m.locationIDs} {
		tables += len(t.slots) * 12
	}
	return int64(cap(m.values)*16+cap(m.stacks)*4+cap(m.strings)*16+cap(m.functions)*24+cap(m.locations)*32+cap(m.lines)*16+tables) + m.text
}

func (m *pprofMerge) absorb(p *pprofPart) {
	m.partStrings, m.partFunctions = zeroed(m.partStrings, len(p.strings)), zeroed(m.partFunctions, len(p.functions))
	m.partMappings, m.partLocations = zeroed(m.partMappings, len(p.mappings)), zeroed(m.partLocations, len(p.locations))
	for i, n := range p.nodes {
		if !m.single {
			if s, ok := m.samples.getPrint(p.stacks[i]); ok {
				m.values[s-1] += p.values[i]
				continue
			}
			m.samples.putPrint(p.stacks[i], uint32(len(m.values))+1)
		}
		for at := n; at != 0; at = p.view.nodes[at].parent {
			m.stacks = append(m.stacks, m.location(p, p.view.nodes[at].location))
		}
		m.values, m.ends = append(m.values, p.values[i]), append(m.ends, len(m.stacks))
	}
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
	if id := s.partLocations[i]; id != 0 {
		return id
	}
	return idOf(s.partLocations, i, &s.locationIDs, p.prints.locations[i], func() int {
		l := p.view.locations[i]
		first := uint32(len(s.lines))
		for _, ln := range p.view.lines[l.first:l.end] {
			s.lines = append(s.lines, line{s.function(p, ln.function), ln.line})
		}
		if l.first, l.end = first, uint32(len(s.lines)); l.mapping != 0 {
			l.mapping = s.mapping(p, l.mapping)
		}
		s.locations = append(s.locations, l)
		return len(s.locations)
	})
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

// merges of pprof keep their memory for the next one.
var pprofMerges = sync.Pool{New: func() any { return new(pprofMerge) }}

func newPprofMerge(ctx context.Context, h hold, single bool) *pprofMerge {
	m := pprofMerges.Get().(*pprofMerge)
	s := &m.pprofSymbols
	m.ctx, m.hold, m.single, m.next, m.waiting = ctx, h, single, 0, map[int]pprofPart{}
	m.values, m.ends, m.stacks = m.values[:0], m.ends[:0], m.stacks[:0]
	for _, t := range []*pairs{&m.samples, &s.stringIDs, &s.functionIDs, &s.mappingIDs, &s.locationIDs} {
		t.reset()
	}
	clear(s.strings) // which are parts of dictionaries
	s.strings = append(s.strings[:0], "")
	s.functions, s.mappings, s.locations, s.lines, s.text = s.functions[:0], s.mappings[:0], s.locations[:0], s.lines[:0], 0
	return m
}

func (m *pprofMerge) free() {
	m.hold.release()
	m.ctx, m.waiting = nil, nil
	pprofMerges.Put(m)
}
