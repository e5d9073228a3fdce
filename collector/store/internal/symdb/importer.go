package symdb

import (
	"sync"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/reuse"
)

// An Importer finds the nodes of samples' stacktraces in a dictionary: those
// that it knows by their fingerprints, the others by their parts. It looks parts
// up kind by kind, not stacktrace by stacktrace: a look-up that misses the
// processor's caches then does not wait for the one before.
//
// Its tables hold, by index in the profile, 0 for what is not needed, then
// needed, and in the end the number in the dictionary plus one.
type Importer struct {
	source    *Profile
	samples   []*googlev1.Sample
	to        *Dictionary
	printer   fingerprinter
	Prints    []uint64 // of the samples' stacktraces
	Unknown   []uint32 // samples whose stacktraces the dictionary does not know
	strings   []uint32
	functions []uint32
	mappings  []uint32
	locations []uint32
	lines     []Line
	path      []pathNode // of the stacktrace before
	order     []uint64
}

type pathNode struct{ location, node uint32 }

// Needed marks what has no number yet.
const Needed = 1

var translators = sync.Pool{New: func() any { return new(Importer) }}

// NewImporter takes the fingerprints of the stacktraces of some samples of a profile,
// which needs no dictionary. The caller calls free.
func NewImporter(p *Profile, samples []*googlev1.Sample) *Importer {
	t := translators.Get().(*Importer)
	t.source, t.samples = p, samples
	t.Prints = p.stackPrints(samples, t.Prints[:0], &t.printer)
	return t
}

// Free gives the memory back for later importers.
func (t *Importer) Free() {
	t.source, t.samples, t.to = nil, nil, nil
	budget.PutBack(&translators, t, (cap(t.strings)+cap(t.locations)+cap(t.functions))*4+cap(t.order)*16)
}

// Nodes returns each sample's node in a dictionary, which grows by what it does
// not know, in the upper half, with the sample's index.
func (t *Importer) Nodes(d *Dictionary) []uint64 {
	t.to, t.order, t.Unknown = d, t.order[:0], t.Unknown[:0]
	for i, print := range t.Prints {
		n, ok := d.knownStack(print)
		if !ok {
			t.Unknown = append(t.Unknown, uint32(i))
		}
		t.order = append(t.order, uint64(n)<<32|uint64(i))
	}
	if len(t.Unknown) > 0 {
		d.Find()
		t.addParts()
		t.addNodes()
	}
	return t.order
}

// addParts adds to the dictionary what the unknown stacktraces consist of.
func (t *Importer) addParts() {
	src := t.source
	t.strings, t.functions = reuse.Zeroed(t.strings, len(src.StringTable)), reuse.Zeroed(t.functions, len(src.Function))
	t.mappings, t.locations = reuse.Zeroed(t.mappings, len(src.Mapping)), reuse.Zeroed(t.locations, len(src.Location))
	for _, s := range t.Unknown {
		for _, id := range t.samples[s].LocationId {
			i, _ := src.locations.index(id)
			t.locations[i] = Needed
		}
	}
	for i, need := range t.locations {
		if need == 0 {
			continue
		}
		l := src.Location[i]
		for _, ln := range l.Line {
			j, _ := src.functions.index(ln.FunctionId)
			t.functions[j] = Needed
		}
		if l.MappingId != 0 {
			j, _ := src.mappings.index(l.MappingId)
			t.mappings[j] = Needed
		}
	}
	for i, need := range t.functions {
		if need != 0 {
			f := src.Function[i]
			t.strings[f.Name], t.strings[f.SystemName], t.strings[f.Filename] = Needed, Needed, Needed
		}
	}
	for i, need := range t.mappings {
		if need != 0 {
			t.strings[src.Mapping[i].Filename], t.strings[src.Mapping[i].BuildId] = Needed, Needed
		}
	}
	t.addStrings()
	t.addFunctions()
	t.addMappings()
	t.addLocations()
}

// addStrings: index 0 is "", whatever a profile says.
func (t *Importer) addStrings() {
	for i, need := range t.strings {
		if need != 0 && i > 0 {
			t.strings[i] = t.to.AddString(t.source.StringTable[i]) + 1
		}
	}
}

func (t *Importer) string(i int64) uint32 {
	if i == 0 {
		return 0
	}
	return t.strings[i] - 1
}

func (t *Importer) addFunctions() {
	for i, need := range t.functions {
		if need != 0 {
			f := t.source.Function[i]
			t.functions[i] = t.to.AddFunction(Function{
				Name: t.string(f.Name), SystemName: t.string(f.SystemName), File: t.string(f.Filename), StartLine: f.StartLine,
			}) + 1
		}
	}
}

func (t *Importer) addMappings() {
	for i, need := range t.mappings {
		if need == 0 {
			continue
		}
		m := t.source.Mapping[i]
		to := mappingOf(m)
		to.File, to.BuildID = t.string(m.Filename), t.string(m.BuildId)
		t.mappings[i] = t.to.AddMapping(to) + 1
	}
}

func (t *Importer) addLocations() {
	for i, need := range t.locations {
		if need == 0 {
			continue
		}
		l := t.source.Location[i]
		loc := t.source.locationOf(l)
		if l.MappingId != 0 {
			j, _ := t.source.mappings.index(l.MappingId)
			loc.Mapping = t.mappings[j] - 1
		}
		t.lines = t.lines[:0]
		for _, ln := range l.Line {
			j, _ := t.source.functions.index(ln.FunctionId)
			t.lines = append(t.lines, Line{t.functions[j] - 1, ln.Line})
		}
		t.locations[i] = t.to.AddLocation(loc, t.lines) + 1
	}
}

// mappingOf is a mapping without its strings. Its range is not kept where it has
// functions.
func mappingOf(m *googlev1.Mapping) (to Mapping) {
	for bit, has := range []bool{m.HasFunctions, m.HasFilenames, m.HasLineNumbers, m.HasInlineFrames} {
		if has {
			to.Flags |= 1 << bit
		}
	}
	if to.Flags&hasFunctions == 0 {
		to.Start, to.Limit, to.Offset = m.MemoryStart, m.MemoryLimit, m.FileOffset
	}
	return to
}

// locationOf is a location without its mapping and lines. Where the mapping's
// range is not kept, the address is relative to it.
func (s *Profile) locationOf(l *googlev1.Location) Location {
	to := Location{Folded: l.IsFolded, Address: l.Address}
	i, ok := s.mappings.index(l.MappingId)
	if !ok || !s.Mapping[i].HasFunctions {
		return to
	}
	if to.Address = 0; len(l.Line) == 0 {
		to.Address = l.Address - s.Mapping[i].MemoryStart + s.Mapping[i].FileOffset
	}
	return to
}

// addNodes adds the unknown stacktraces. Samples next to each other often share
// their callers.
func (t *Importer) addNodes() {
	t.path = t.path[:0]
	for _, i := range t.Unknown {
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
			n = t.to.AddNode(n, loc)
			t.path = append(t.path, pathNode{loc, n})
		}
		t.to.knowStack(t.Prints[i], n)
		t.order[i] = uint64(n)<<32 | uint64(i)
	}
}
