// Package pprofenc merges stacktraces and their values into one pprof profile, and encodes it.
package pprofenc

import (
	"sync"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/reuse"
	"github.com/flameline/flameline/collector/store/internal/symdb"
)

// A Merge adds partitions up: stacktraces that are equal, by fingerprint, are one sample, and
// their symbols are in a dictionary. It does so in the order of the partitions, so that the
// result does not depend on which was read first. It is safe for concurrent use.
type Merge struct {
	hold   *budget.Reservation
	single bool // there is one partition alone, in which no stacktrace is there twice

	to      *symdb.Dictionary // without nodes
	symbols symdb.Copier
	samples symdb.Pairs // fingerprint to sample plus one
	Values  []int64     // by sample
	ends    []int       // of the samples' stacktraces in stacks
	stacks  []uint32    // IDs of locations, their numbers plus one, innermost first
	packed  []uint32    // by sample: bytes of its IDs of locations when encoded; set by NewWriter

	mu      sync.Mutex // of what follows
	next    int        // the part that is due
	busy    bool       // it is being added
	waiting map[int]*part
	taken   int64 // of hold: what the result takes
}

// A part is what a partition has.
type part struct {
	view    symdb.View
	nodes   []uint32 // with a value
	values  []int64
	bytes   int64 // taken of hold
	printer symdb.Fingerprinter
	prints  []uint64 // of the view's locations
	stacks  []uint64 // fingerprints of all nodes that those with a value need, 0 of others
}

var parts = sync.Pool{New: func() any { return new(part) }}

// newPart returns the nodes with a value, given the sums of all. A single part needs no
// fingerprints of nodes.
func newPart(v *symdb.View, sums []int64, single bool) *part {
	p := parts.Get().(*part)
	p.view, p.nodes, p.values = *v, p.nodes[:0], p.values[:0]
	p.prints = p.printer.Locations(v, p.prints)
	for i, x := range sums {
		if x != 0 {
			p.nodes, p.values = append(p.nodes, uint32(i)), append(p.values, x)
		}
	}
	if single {
		return p
	}
	p.stacks = reuse.Zeroed(p.stacks, len(v.Nodes))
	for _, n := range p.nodes {
		for ; n != 0 && p.stacks[n] == 0; n = v.Nodes[n].Parent {
			p.stacks[n] = 1 // needed
		}
	}
	for i, n := range v.Nodes {
		if p.stacks[i] != 0 {
			p.stacks[i] = symdb.Fold(p.stacks[n.Parent], p.prints[n.Location])
		}
	}
	return p
}

func (p *part) free() {
	p.view = symdb.View{}
	budget.PutBack(&parts, p, cap(p.stacks)*8+cap(p.nodes)*12+cap(p.prints)*12)
}

// Merges keep their memory for the next one.
var merges = sync.Pool{New: func() any { return &Merge{to: symdb.NewDictionary()} }}

// NewMerge returns an empty merge that takes its memory from a reservation. single says
// that one part is going to be added.
func NewMerge(h *budget.Reservation, single bool) *Merge {
	m := merges.Get().(*Merge)
	m.hold, m.single, m.Values, m.ends, m.stacks = h, single, m.Values[:0], m.ends[:0], m.stacks[:0]
	m.next, m.busy, m.taken, m.waiting = 0, false, 0, map[int]*part{}
	return m
}

// Free gives the memory back.
func (m *Merge) Free() {
	m.hold, m.waiting = nil, nil
	m.to.Reset()
	m.samples.Reset()
	budget.PutBack(&merges, m, int(m.to.Bytes()+m.samples.Bytes())+cap(m.Values)*16+(cap(m.stacks)+cap(m.packed))*4)
}

// bytes is what the memory of the merge would be if it had none of an earlier one.
func (m *Merge) bytes() int64 {
	d := m.to
	const perString, perFunction, perLocation, perLine, perSample = 100, 48, 80, 16, 44 // with their share of tables
	return int64(len(d.Strings)*perString + len(d.Functions)*perFunction + len(d.Locations)*perLocation +
		len(d.Lines)*perLine + len(m.Values)*perSample + len(m.stacks)*4)
}

// Add adds the sums by node of the part that has a place in the order. Whoever brings the
// one that is due adds all that are.
func (m *Merge) Add(order int, v *symdb.View, sums []int64) error {
	bytes := int64(len(v.Nodes)*(8+4+8) + len(v.Locations)*(8+4) + (len(v.Functions)+len(v.Mappings))*8)
	if err := m.hold.Take(bytes); err != nil {
		return err
	}
	p := newPart(v, sums, m.single)
	p.bytes = bytes
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting[order] = p
	for !m.busy && m.waiting[m.next] != nil {
		p := m.waiting[m.next]
		delete(m.waiting, m.next)
		m.busy = true
		m.mu.Unlock()
		m.add(p)
		m.mu.Lock()
		m.busy = false
		m.next++
		m.hold.Give(p.bytes)
		p.free()
		bytes := m.bytes()
		if err := m.hold.Take(bytes - m.taken); err != nil {
			return err
		}
		m.taken = bytes
	}
	return nil
}

func (m *Merge) add(p *part) {
	m.symbols.Begin(&p.view, &p.printer, m.to)
	for i, n := range p.nodes {
		if !m.single {
			next := uint32(len(m.Values)) + 1
			if s := m.samples.AddPrint(p.stacks[n], next); s < next {
				m.Values[s-1] += p.values[i]
				continue
			}
		}
		for n != 0 {
			at := p.view.Nodes[n]
			m.stacks = append(m.stacks, m.symbols.Location(at.Location, p.prints[at.Location])+1)
			n = at.Parent
		}
		m.Values, m.ends = append(m.Values, p.values[i]), append(m.ends, len(m.stacks))
	}
}
