package store

import (
	"context"
	"slices"
	"sync"
)

// A Pprof is an encoded pprof profile: Data is a Profile message of
// profile.proto, not compressed, with Samples samples.
type Pprof struct {
	Data    []byte
	Samples int
}

// Pprof merges all selected profiles into one pprof profile of one sample type.
// A call site selects stacktraces as in Tree. Its time is the selection's end
// and its duration the selection's length, as in Pyroscope.
func (db *DB) Pprof(ctx context.Context, sel Selection, callSite []string) (p *Pprof, err error) {
	defer func() {
		if db.heal(err) {
			p, err = db.Pprof(ctx, sel, callSite)
		}
	}()
	leave, err := db.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	defer db.metrics.query("pprof")()
	jobs, err := db.plan(ctx, sel)
	if err != nil {
		return nil, err
	}
	m := pprofMerge{ctx: ctx, hold: db.memory.hold(), single: len(jobs) == 1, waiting: map[int]pprofPart{}}
	defer m.hold.release()
	err = db.merge(ctx, jobs, sel, func(j *job, v *view, sums []int64) error {
		if len(callSite) > 0 {
			in := v.below(callSite)
			for n := range sums {
				if !in[v.callOf[n]] {
					sums[n] = 0
				}
			}
		}
		return m.add(j.order, v, sums)
	})
	if err != nil {
		return nil, err
	}
	if m.into == nil {
		m.into, m.values = newSymbols(), []int64{0}
	}
	w := newPprofWriter(&m.into.view, m.values)
	if err := m.hold.wait(ctx, int64(w.size())); err != nil {
		return nil, err
	}
	return w.write(sel), nil
}

// pprofMerge adds partitions up in their order, so that the result does not
// depend on which was read first. It is safe for concurrent use.
type pprofMerge struct {
	ctx    context.Context
	single bool // there is one part alone, which needs no merging

	mu      sync.Mutex
	hold    hold
	next    int               // the part that is due
	waiting map[int]pprofPart // parts before whose turn it is
	into    *dictionary
	values  []int64 // by node of into
}

type pprofPart struct {
	view view
	sums []int64
}

func (m *pprofMerge) add(order int, v *view, sums []int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.single {
		m.into, m.values = &dictionary{view: *v}, slices.Clone(sums)
		return m.hold.wait(m.ctx, int64(len(sums))*8)
	}
	if m.into == nil {
		m.into, m.values = newSymbols(), []int64{0}
	}
	if order != m.next {
		m.waiting[order] = pprofPart{*v, slices.Clone(sums)}
		return nil
	}
	m.absorb(v, sums)
	for {
		p, ok := m.waiting[m.next]
		if !ok {
			break
		}
		delete(m.waiting, m.next)
		m.absorb(&p.view, p.sums)
	}
	return m.hold.wait(m.ctx, max(m.into.bytes()+int64(len(m.values))*8-m.hold.n, 0))
}

func (m *pprofMerge) absorb(v *view, sums []int64) {
	m.next++
	at := m.into.absorb(v, sums)
	m.values = append(m.values, make([]int64, len(m.into.nodes)-len(m.values))...)
	for n, x := range sums {
		if x != 0 {
			m.values[at[n]] += x
		}
	}
}

// newSymbols returns a dictionary that has no function-level trie, which pprof
// does not show.
func newSymbols() *dictionary {
	d := newDictionary()
	d.calls, d.callOf = nil, nil
	return d
}

// absorb adds the nodes that have a value, and their callers, of another
// dictionary, and returns where they are.
func (d *dictionary) absorb(v *view, values []int64) []uint32 {
	d.find()
	used := make([]bool, len(v.nodes))
	for n := len(values) - 1; n > 0; n-- {
		if values[n] != 0 || used[n] {
			used[n] = true
			used[v.nodes[n].parent] = true
		}
	}
	strings, functions := make([]uint32, len(v.strings)), make([]uint32, len(v.functions))
	mappings, locations := make([]uint32, len(v.mappings)), make([]uint32, len(v.locations))
	text := func(i uint32) uint32 {
		if i != 0 && strings[i] == 0 {
			strings[i] = d.addString(v.strings[i])
		}
		return strings[i]
	}
	fn := func(i uint32) uint32 {
		if i != 0 && functions[i] == 0 {
			f := v.functions[i]
			functions[i] = d.addFunction(function{text(f.name), text(f.systemName), text(f.file), f.startLine})
		}
		return functions[i]
	}
	var lines []line
	loc := func(i uint32) uint32 {
		if locations[i] != 0 {
			return locations[i] - 1
		}
		l := v.locations[i]
		if l.mapping != 0 && mappings[l.mapping] == 0 {
			m := v.mappings[l.mapping]
			m.file, m.buildID = text(m.file), text(m.buildID)
			mappings[l.mapping] = d.addMapping(m)
		}
		lines = lines[:0]
		for _, ln := range v.lines[l.first:l.end] {
			lines = append(lines, line{fn(ln.function), ln.line})
		}
		l.mapping = mappings[l.mapping]
		n := d.addLocation(l, lines)
		locations[i] = n + 1
		return n
	}
	at := make([]uint32, len(v.nodes))
	for n := 1; n < len(v.nodes); n++ {
		if used[n] {
			at[n] = d.addNode(at[v.nodes[n].parent], loc(v.nodes[n].location))
		}
	}
	return at
}
