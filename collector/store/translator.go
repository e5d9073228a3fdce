package store

import (
	"sync"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/reuse"
)

// A translator finds the nodes of samples' stacktraces in a dictionary: those
// that it knows by their fingerprints, the others by their parts. It looks parts
// up kind by kind, not stacktrace by stacktrace: a look-up that misses the
// processor's caches then does not wait for the one before.
//
// Its tables hold, by index in the profile, 0 for what is not needed, then
// needed, and in the end the number in the dictionary plus one.
type translator struct {
	source    *source
	samples   []*googlev1.Sample
	to        *dictionary
	printer   printer
	prints    []uint64 // of the samples' stacktraces
	unknown   []uint32 // samples whose stacktraces the dictionary does not know
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

// newTranslator takes the fingerprints of the stacktraces of some samples of a profile,
// which needs no dictionary. The caller calls free.
func newTranslator(p *source, samples []*googlev1.Sample) *translator {
	t := translators.Get().(*translator)
	t.source, t.samples = p, samples
	t.prints = p.stackPrints(samples, t.prints[:0], &t.printer)
	return t
}

func (t *translator) free() {
	t.source, t.samples, t.to = nil, nil, nil
	budget.PutBack(&translators, t, (cap(t.strings)+cap(t.locations)+cap(t.functions))*4+cap(t.order)*16)
}

// nodes returns each sample's node in a dictionary, which grows by what it does
// not know, in the upper half, with the sample's index.
func (t *translator) nodes(d *dictionary) []uint64 {
	t.to, t.order, t.unknown = d, t.order[:0], t.unknown[:0]
	for i, print := range t.prints {
		n, ok := d.knownStack(print)
		if !ok {
			t.unknown = append(t.unknown, uint32(i))
		}
		t.order = append(t.order, uint64(n)<<32|uint64(i))
	}
	if len(t.unknown) > 0 {
		d.find()
		t.addParts()
		t.addNodes()
	}
	return t.order
}

// addParts adds to the dictionary what the unknown stacktraces consist of.
func (t *translator) addParts() {
	src := t.source
	t.strings, t.functions = reuse.Zeroed(t.strings, len(src.StringTable)), reuse.Zeroed(t.functions, len(src.Function))
	t.mappings, t.locations = reuse.Zeroed(t.mappings, len(src.Mapping)), reuse.Zeroed(t.locations, len(src.Location))
	for _, s := range t.unknown {
		for _, id := range t.samples[s].LocationId {
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
		to := mappingOf(m)
		to.file, to.buildID = t.string(m.Filename), t.string(m.BuildId)
		t.mappings[i] = t.to.addMapping(to) + 1
	}
}

func (t *translator) addLocations() {
	for i, need := range t.locations {
		if need == 0 {
			continue
		}
		l := t.source.Location[i]
		loc := t.source.locationOf(l)
		if l.MappingId != 0 {
			j, _ := t.source.mappings.index(l.MappingId)
			loc.mapping = t.mappings[j] - 1
		}
		t.lines = t.lines[:0]
		for _, ln := range l.Line {
			j, _ := t.source.functions.index(ln.FunctionId)
			t.lines = append(t.lines, line{t.functions[j] - 1, ln.Line})
		}
		t.locations[i] = t.to.addLocation(loc, t.lines) + 1
	}
}

// mappingOf is a mapping without its strings. Its range is not kept where it has
// functions.
func mappingOf(m *googlev1.Mapping) (to mapping) {
	for bit, has := range []bool{m.HasFunctions, m.HasFilenames, m.HasLineNumbers, m.HasInlineFrames} {
		if has {
			to.flags |= 1 << bit
		}
	}
	if to.flags&hasFunctions == 0 {
		to.start, to.limit, to.offset = m.MemoryStart, m.MemoryLimit, m.FileOffset
	}
	return to
}

// locationOf is a location without its mapping and lines. Where the mapping's
// range is not kept, the address is relative to it.
func (s *source) locationOf(l *googlev1.Location) location {
	to := location{folded: l.IsFolded, address: l.Address}
	i, ok := s.mappings.index(l.MappingId)
	if !ok || !s.Mapping[i].HasFunctions {
		return to
	}
	if to.address = 0; len(l.Line) == 0 {
		to.address = l.Address - s.Mapping[i].MemoryStart + s.Mapping[i].FileOffset
	}
	return to
}

// addNodes adds the unknown stacktraces. Samples next to each other often share
// their callers.
func (t *translator) addNodes() {
	t.path = t.path[:0]
	for _, i := range t.unknown {
		ids := t.samples[i].LocationId
		n, same := uint32(0), true
		for j := len(ids) - 1; j >= 0; j-- {
			at, _ := t.source.locations.index(ids[j])
			loc := t.locations[at] - 1
			level := len(ids) - 1 - j
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
		t.to.knowStack(t.prints[i], n)
		t.order[i] = uint64(n)<<32 | uint64(i)
	}
}
