package symdb

import (
	"sync"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/collector/store/internal/budget"
)

// An Importer finds the nodes of samples' stacktraces in a dictionary: those
// that it knows by their fingerprints, the others by their parts.
type Importer struct {
	source  *Profile
	samples []*googlev1.Sample
	printer Fingerprinter
	Prints  []uint64 // of the samples' stacktraces
	Unknown []uint32 // samples whose stacktraces the dictionary does not know
	symbols Copier
	path    []Node // locations of the stacktrace before, and their own nodes
	order   []uint64
}

var importers = sync.Pool{New: func() any { return new(Importer) }}

// NewImporter takes the fingerprints of the stacktraces of some samples of a profile,
// which needs no dictionary. The caller calls free.
func NewImporter(p *Profile, samples []*googlev1.Sample) *Importer {
	t := importers.Get().(*Importer)
	t.source, t.samples = p, samples
	t.Prints = p.stackPrints(samples, t.Prints[:0], &t.printer)
	return t
}

// Free gives the memory back for later importers.
func (t *Importer) Free() {
	t.source, t.samples, t.symbols.from, t.symbols.to = nil, nil, nil, nil
	s := &t.symbols
	budget.PutBack(&importers, t, (cap(s.strings)+cap(s.locations)+cap(s.functions))*4+cap(t.order)*16)
}

// Nodes returns each sample's node in a dictionary, which grows by what it does
// not know, in the upper half, with the sample's index.
func (t *Importer) Nodes(d *Dictionary) []uint64 {
	t.order, t.Unknown = t.order[:0], t.Unknown[:0]
	for i, print := range t.Prints {
		n, ok := d.Stacks.GetPrint(print)
		if !ok {
			t.Unknown = append(t.Unknown, uint32(i))
		}
		t.order = append(t.order, uint64(n-1)<<32|uint64(i))
	}
	if len(t.Unknown) > 0 {
		t.symbols.begin(t.source, d)
		t.addNodes(d)
	}
	return t.order
}

// addNodes adds the unknown stacktraces. Samples next to each other often share
// their callers.
func (t *Importer) addNodes(d *Dictionary) {
	t.path = t.path[:0]
	for _, i := range t.Unknown {
		ids := t.samples[i].LocationId
		n, same := uint32(0), true
		for j := len(ids) - 1; j >= 0; j-- {
			at, _ := t.source.locations.index(ids[j])
			loc := t.symbols.location(uint32(at))
			level := len(ids) - 1 - j
			if same && level < len(t.path) && t.path[level].Location == loc {
				n = t.path[level].Parent
				continue
			}
			if same {
				t.path, same = t.path[:level], false
			}
			n = d.AddNode(n, loc)
			t.path = append(t.path, Node{n, loc})
		}
		d.Stacks.AddPrint(t.Prints[i], n+1)
		t.order[i] = uint64(n)<<32 | uint64(i)
	}
}

// Sizes counts what the profile has of each kind, and the mapping that stands for none.
func (s *Profile) Sizes() Sizes {
	return Sizes{
		strings: len(s.StringTable), functions: len(s.Function), mappings: len(s.Mapping) + 1, locations: len(s.Location),
	}
}

func (s *Profile) addString(i uint32, to *Dictionary) uint32 { return to.AddString(s.StringTable[i]) }

func (s *Profile) function(i uint32) Function {
	f := s.Function[i]
	return Function{Name: uint32(f.Name), SystemName: uint32(f.SystemName), File: uint32(f.Filename), StartLine: f.StartLine}
}

// mapping is one of the profile, by index plus one. Its range is not kept where it has
// functions.
func (s *Profile) mapping(i uint32) Mapping {
	m := s.Mapping[i-1]
	to := Mapping{File: uint32(m.Filename), BuildID: uint32(m.BuildId)}
	for bit, has := range []bool{m.HasFunctions, m.HasFilenames, m.HasLineNumbers, m.HasInlineFrames} {
		if has {
			to.Flags |= 1 << bit
		}
	}
	if !m.HasFunctions {
		to.Start, to.Limit, to.Offset = m.MemoryStart, m.MemoryLimit, m.FileOffset
	}
	return to
}

// location is one of the profile. Where the range of its mapping is not kept, the address is
// relative to it.
func (s *Profile) location(i uint32, lines []Line) (Location, []Line) {
	l := s.Location[i]
	to := Location{Folded: l.IsFolded, Address: l.Address}
	if j, ok := s.mappings.index(l.MappingId); ok {
		to.Mapping = uint32(j) + 1
		if m := s.Mapping[j]; m.HasFunctions {
			if to.Address = 0; len(l.Line) == 0 {
				to.Address = l.Address - m.MemoryStart + m.FileOffset
			}
		}
	}
	for _, ln := range l.Line {
		j, _ := s.functions.index(ln.FunctionId)
		lines = append(lines, Line{uint32(j), ln.Line})
	}
	return to, lines
}
