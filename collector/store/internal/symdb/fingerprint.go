package symdb

import (
	"math/bits"
	"math/rand/v2"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/collector/store/internal/reuse"
)

// Most stacktraces of a profile are known from the ones before. They are found
// by fingerprint, at the cost of one look-up for each, not one for each of
// their frames.
//
// A fingerprint is a hash of all that a dictionary keeps of a stacktrace, not
// of the numbers that a profile gives it. Two stacktraces of the same
// fingerprint do not occur: of a million in a dictionary, one pair in 10^7
// processes. The seeds are this process' own, as textSeed is.
var foldSeeds = [2]uint64{rand.Uint64(), rand.Uint64()}

// Fold adds a word to a fingerprint.
func Fold(print, word uint64) uint64 {
	hi, lo := bits.Mul64(print^foldSeeds[0], word^foldSeeds[1])
	return hi ^ lo
}

// A Fingerprinter is memory for fingerprints of what locations consist of.
type Fingerprinter struct {
	texts, functions, mappings []uint64
	lines                      []Line
}

// locations are the fingerprints of a source's locations, given the hashes of its strings,
// in the memory of prints.
func (t *Fingerprinter) locations(s source, texts, prints []uint64) []uint64 {
	n := s.Sizes()
	t.functions, t.mappings = reuse.Zeroed(t.functions, n.functions), reuse.Zeroed(t.mappings, n.mappings)
	for i := range t.functions {
		f := s.function(uint32(i))
		t.functions[i] = foldFunction(texts[f.Name], texts[f.SystemName], texts[f.File], f.StartLine)
	}
	for i := 1; i < n.mappings; i++ {
		m := s.mapping(uint32(i))
		t.mappings[i] = foldMapping(texts[m.File], texts[m.BuildID], &m)
	}
	prints = reuse.Sized(prints, n.locations)
	for i := range prints {
		var l Location
		l, t.lines = s.location(uint32(i), t.lines[:0])
		print := foldLocation(t.mappings[l.Mapping], &l, len(t.lines))
		for _, ln := range t.lines {
			print = Fold(Fold(print, t.functions[ln.Function]), uint64(ln.Line))
		}
		prints[i] = print
	}
	return prints
}

// Locations are the fingerprints of a view's locations, in the memory of prints.
func (t *Fingerprinter) Locations(v *View, prints []uint64) []uint64 {
	return t.locations(v, v.Hashes, prints)
}

// fingerprints returns those of a profile's locations, by index.
func (s *Profile) fingerprints(tmp *Fingerprinter) []uint64 {
	if s.prints == nil {
		tmp.texts = reuse.Zeroed(tmp.texts, len(s.StringTable))
		for i, text := range s.StringTable {
			if i == 0 { // "", whatever a profile says
				text = ""
			}
			tmp.texts[i] = HashText(text)
		}
		s.prints = tmp.locations(s, tmp.texts, nil)
	}
	return s.prints
}

// foldFunction is the fingerprint of a function, given the hashes of its strings.
func foldFunction(name, systemName, file uint64, startLine int64) uint64 {
	return Fold(Fold(Fold(name, systemName), file), uint64(startLine))
}

// foldMapping is that of a mapping.
func foldMapping(file, buildID uint64, m *Mapping) uint64 {
	return Fold(Fold(Fold(Fold(Fold(file, buildID), uint64(m.Flags)), m.Start), m.Limit), m.Offset)
}

// foldLocation begins that of a location, to which its lines are to be added. The
// mapping is a fingerprint, 0 for none.
func foldLocation(mapping uint64, l *Location, lines int) uint64 {
	shape := uint64(lines) << 1
	if l.Folded {
		shape |= 1
	}
	return Fold(Fold(mapping, l.Address), shape)
}

// The fingerprints of what is in a dictionary are of its numbers.

func (f *Function) print() uint64 {
	return foldFunction(uint64(f.Name), uint64(f.SystemName), uint64(f.File), f.StartLine)
}

func (m *Mapping) print() uint64 { return foldMapping(uint64(m.File), uint64(m.BuildID), m) }

func (l *Location) print(lines []Line) uint64 {
	print := foldLocation(uint64(l.Mapping), l, len(lines))
	for _, ln := range lines {
		print = Fold(Fold(print, uint64(ln.Function)), uint64(ln.Line))
	}
	return print
}

// stackPrints appends the fingerprints of the stacktraces of samples.
func (s *Profile) stackPrints(samples []*googlev1.Sample, to []uint64, tmp *Fingerprinter) []uint64 {
	prints, ids := s.fingerprints(tmp), &s.locations
	for _, s := range samples {
		print := uint64(len(s.LocationId))
		for _, id := range s.LocationId {
			i, _ := ids.index(id)
			print = Fold(print, prints[i])
		}
		to = append(to, print)
	}
	return to
}
