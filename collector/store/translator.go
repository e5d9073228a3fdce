package store

import "sync"

// A translator finds the parts of a pprof profile that some samples need in a
// dictionary. It does so kind by kind, not stacktrace by stacktrace: a look-up
// that misses the processor's caches then does not wait for the one before.
//
// Its tables hold, by index in the profile, 0 for what is not needed, then
// needed, and in the end the number in the dictionary plus one.
type translator struct {
	source    *source
	to        *dictionary
	strings   []uint32
	functions []uint32
	mappings  []uint32
	locations []uint32
	lines     []line
	path      []pathNode // of the stacktrace before
	order     []uint64
}

type pathNode struct{ location, node uint32 }

// needed marks what has no number yet.
const needed = 1

var translators = sync.Pool{New: func() any { return new(translator) }}

func (t *translator) free() {
	t.source, t.to = nil, nil
	translators.Put(t)
}

func cleared(s []uint32, n int) []uint32 {
	if cap(s) < n {
		return make([]uint32, n, n+n/4)
	}
	s = s[:n]
	clear(s)
	return s
}

// begin adds to the dictionary what the samples of a piece need.
func (t *translator) begin(p *piece, d *dictionary) {
	src := p.source
	t.source, t.to = src, d
	t.strings, t.functions = cleared(t.strings, len(src.StringTable)), cleared(t.functions, len(src.Function))
	t.mappings, t.locations = cleared(t.mappings, len(src.Mapping)), cleared(t.locations, len(src.Location))
	for _, s := range p.samples {
		for _, id := range s.LocationId {
			i, _ := src.locations.index(id)
			t.locations[i] = needed
		}
	}
	for i, need := range t.locations {
		if need == 0 {
			continue
		}
		l := src.Location[i]
		for _, ln := range l.Line {
			j, _ := src.functions.index(ln.FunctionId)
			t.functions[j] = needed
		}
		if l.MappingId != 0 {
			j, _ := src.mappings.index(l.MappingId)
			t.mappings[j] = needed
		}
	}
	for i, need := range t.functions {
		if need != 0 {
			f := src.Function[i]
			t.strings[f.Name], t.strings[f.SystemName], t.strings[f.Filename] = needed, needed, needed
		}
	}
	for i, need := range t.mappings {
		if need != 0 {
			t.strings[src.Mapping[i].Filename], t.strings[src.Mapping[i].BuildId] = needed, needed
		}
	}
	t.addStrings()
	t.addFunctions()
	t.addMappings()
	t.addLocations()
}

// addStrings: index 0 is "", whatever a profile says.
func (t *translator) addStrings() {
	for i, need := range t.strings {
		if need != 0 && i > 0 {
			t.strings[i] = t.to.addString(t.source.StringTable[i]) + 1
		}
	}
}

func (t *translator) string(i int64) uint32 {
	if i == 0 {
		return 0
	}
	return t.strings[i] - 1
}

func (t *translator) addFunctions() {
	for i, need := range t.functions {
		if need != 0 {
			f := t.source.Function[i]
			t.functions[i] = t.to.addFunction(function{
				name: t.string(f.Name), systemName: t.string(f.SystemName), file: t.string(f.Filename), startLine: f.StartLine,
			}) + 1
		}
	}
}

func (t *translator) addMappings() {
	for i, need := range t.mappings {
		if need == 0 {
			continue
		}
		m := t.source.Mapping[i]
		to := mapping{file: t.string(m.Filename), buildID: t.string(m.BuildId), start: m.MemoryStart, limit: m.MemoryLimit, offset: m.FileOffset}
		for bit, has := range []bool{m.HasFunctions, m.HasFilenames, m.HasLineNumbers, m.HasInlineFrames} {
			if has {
				to.flags |= 1 << bit
			}
		}
		if to.flags&hasFunctions != 0 {
			to.start, to.limit, to.offset = 0, 0, 0
		}
		t.mappings[i] = t.to.addMapping(to) + 1
	}
}

func (t *translator) addLocations() {
	for i, need := range t.locations {
		if need == 0 {
			continue
		}
		l := t.source.Location[i]
		loc := location{folded: l.IsFolded, address: l.Address}
		if l.MappingId != 0 {
			j, _ := t.source.mappings.index(l.MappingId)
			loc.mapping = t.mappings[j] - 1
			if t.to.mappings[loc.mapping].flags&hasFunctions != 0 {
				// The mapping's range is not kept: make the address relative to it.
				if loc.address = 0; len(l.Line) == 0 {
					m := t.source.Mapping[j]
					loc.address = l.Address - m.MemoryStart + m.FileOffset
				}
			}
		}
		t.lines = t.lines[:0]
		for _, ln := range l.Line {
			j, _ := t.source.functions.index(ln.FunctionId)
			t.lines = append(t.lines, line{t.functions[j] - 1, ln.Line})
		}
		t.locations[i] = t.to.addLocation(loc, t.lines) + 1
	}
}

// nodes returns each sample's node, in the upper half, with the sample's index.
// Samples next to each other often share their callers.
func (t *translator) nodes(p *piece) []uint64 {
	t.order, t.path = t.order[:0], t.path[:0]
	for i, s := range p.samples {
		n, depth, same := uint32(0), len(s.LocationId), true
		for j := depth - 1; j >= 0; j-- {
			at, _ := t.source.locations.index(s.LocationId[j])
			loc := t.locations[at] - 1
			level := depth - 1 - j
			if same && level < len(t.path) && t.path[level].location == loc {
				n = t.path[level].node
				continue
			}
			if same {
				t.path, same = t.path[:level], false
			}
			n = t.to.addNode(n, loc)
			t.path = append(t.path, pathNode{loc, n})
		}
		t.order = append(t.order, uint64(n)<<32|uint64(i))
	}
	return t.order
}
