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

// A fingerprinter is memory for fingerprints of what locations consist of.
type fingerprinter struct{ texts, functions, mappings []uint64 }

// fingerprints returns those of a source's locations, by index.
func (s *Profile) fingerprints(tmp *fingerprinter) []uint64 {
	if s.prints != nil || len(s.Location) == 0 {
		return s.prints
	}
	tmp.texts = reuse.Zeroed(tmp.texts, len(s.StringTable))
	tmp.functions, tmp.mappings = reuse.Zeroed(tmp.functions, len(s.Function)), reuse.Zeroed(tmp.mappings, len(s.Mapping))
	texts, functions, mappings := tmp.texts, tmp.functions, tmp.mappings
	for i, text := range s.StringTable {
		if i == 0 { // "", whatever a profile says
			text = ""
		}
		texts[i] = HashText(text)
	}
	for i, f := range s.Function {
		functions[i] = FoldFunction(texts[f.Name], texts[f.SystemName], texts[f.Filename], f.StartLine)
	}
	for i, m := range s.Mapping {
		to := mappingOf(m)
		mappings[i] = FoldMapping(texts[m.Filename], texts[m.BuildId], &to)
	}
	s.prints = make([]uint64, len(s.Location))
	for i, l := range s.Location {
		to, print := s.locationOf(l), uint64(0)
		if j, ok := s.mappings.index(l.MappingId); ok {
			print = mappings[j]
		}
		print = FoldLocation(print, &to, len(l.Line))
		for _, ln := range l.Line {
			j, _ := s.functions.index(ln.FunctionId)
			print = Fold(Fold(print, functions[j]), uint64(ln.Line))
		}
		s.prints[i] = print
	}
	return s.prints
}

// FoldFunction is the fingerprint of a function, given the hashes of its strings.
func FoldFunction(name, systemName, file uint64, startLine int64) uint64 {
	return Fold(Fold(Fold(name, systemName), file), uint64(startLine))
}

// FoldMapping is that of a mapping.
func FoldMapping(file, buildID uint64, m *Mapping) uint64 {
	return Fold(Fold(Fold(Fold(Fold(file, buildID), uint64(m.Flags)), m.Start), m.Limit), m.Offset)
}

// FoldLocation begins that of a location, to which its lines are to be added. The
// mapping is a fingerprint, 0 for none.
func FoldLocation(mapping uint64, l *Location, lines int) uint64 {
	shape := uint64(lines) << 1
	if l.Folded {
		shape |= 1
	}
	return Fold(Fold(mapping, l.Address), shape)
}

// stackPrints appends the fingerprints of the stacktraces of samples.
func (s *Profile) stackPrints(samples []*googlev1.Sample, to []uint64, tmp *fingerprinter) []uint64 {
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

// knownStack returns the node of a stacktrace that was added with its
// fingerprint.
func (d *Dictionary) knownStack(print uint64) (node uint32, ok bool) {
	to, ok := d.Stacks.GetPrint(print)
	return to - 1, ok
}

// knowStack keeps the fingerprint of a stacktrace.
func (d *Dictionary) knowStack(print uint64, node uint32) {
	d.Stacks.PutPrint(print, node+1) // the root's is 0
}
