package ingest

import (
	"fmt"
	"slices"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// samples mends the samples of a profile that had so many sample types, and
// keeps the values of those in keep.
func (m *mender) samples(types int, keep []int) error {
	p := m.profile
	sums := make([]signedSum, len(keep))
	all := len(p.Sample)
	kept := make([]*googlev1.Sample, 0, all)
	for i, s := range p.Sample {
		if len(s.Value) != types {
			m.report.Skip("sample", "with more or fewer values than there are sample types", 1)
			continue
		}
		if len(keep) < types {
			values := make([]int64, len(keep))
			for j, k := range keep {
				values[j] = s.Value[k]
			}
			s.Value = values
		}
		negative := false
		for j, v := range s.Value {
			sums[j].add(v)
			negative = negative || v < 0
		}
		if negative {
			if m.isBase(s) {
				return fmt.Errorf("sample[%d]: is of the base of a comparison (pprof -diff_base), which is not a profile; push both profiles", i)
			}
			m.report.Skip("sample", "with a negative value", 1)
			continue
		}
		for j, id := range s.LocationId {
			if !m.locationIDs.has(id) {
				s.LocationId[j] = m.unknownPlace()
				m.report.Correct("location", "that is not there", 1)
			}
		}
		m.depth(s)
		kept = append(kept, m.labels(s, i)...)
		if exceeds(len(kept), m.limits.MaxSamples) {
			return fmt.Errorf("sample: more than %d samples (limits.max_samples), after those with several values of a label were split", m.limits.MaxSamples)
		}
	}
	for j, sum := range sums {
		if sum.negative > 0 && sum.negative >= sum.positive {
			return fmt.Errorf("sample.value[%d]: the negative values of %q are %.6g in all, the others %.6g: a comparison (as pprof -base gives) is not a profile",
				j, m.text(p.SampleType[j].Type), -sum.negative, sum.positive)
		}
	}
	if all > 0 && len(kept) == 0 {
		return fmt.Errorf("sample: none of %d can be used: %s", all, m.report)
	}
	p.Sample = kept
	return nil
}

// A signedSum adds up values by their sign, without overflow.
type signedSum struct{ positive, negative float64 }

func (s *signedSum) add(v int64) {
	if v < 0 {
		s.negative -= float64(v)
	} else {
		s.positive += float64(v)
	}
}

// isBase reports whether a sample is marked as one of the base profile, which
// pprof -diff_base does.
func (m *mender) isBase(s *googlev1.Sample) bool {
	return slices.ContainsFunc(s.Label, func(l *googlev1.Label) bool { return m.text(l.Key) == "pprof::base" })
}

// labels leaves out labels that lead nowhere. A label that a sample has several
// values of becomes one label of several samples, which share the values
// of the sample between them: so each of the label's values is found, and sums
// count nothing twice. number is the sample's, by which what cannot be divided
// goes to the one or the other.
func (m *mender) labels(s *googlev1.Sample, number int) []*googlev1.Sample {
	kept := s.Label[:0]
	for _, l := range s.Label {
		if m.outside(l.Key) || m.outside(l.Str) || m.text(l.Key) == "" {
			m.report.Skip("label", "without a name, or whose value is not there", 1)
			continue
		}
		m.index(&l.NumUnit, "a label")
		kept = append(kept, l)
	}
	s.Label = kept
	if len(kept) < 2 {
		return []*googlev1.Sample{s}
	}
	var names []string
	byName := map[string][]*googlev1.Label{}
	shares := 1
	for _, l := range kept {
		name := m.text(l.Key)
		if l.Str == 0 || tracerLabelOf(name) != noTracerLabel {
			continue
		}
		of := byName[name]
		if slices.ContainsFunc(of, func(o *googlev1.Label) bool { return m.text(o.Str) == m.text(l.Str) }) {
			continue
		}
		if of == nil {
			names = append(names, name)
		}
		byName[name] = append(of, l)
		shares = max(shares, len(of)+1)
	}
	if shares == 1 {
		return []*googlev1.Sample{s}
	}
	for _, name := range names {
		if len(byName[name]) > 1 {
			m.report.Correct("label", name+", of which a sample had several values: they share the sample", 1)
		}
	}
	out := make([]*googlev1.Sample, 0, shares)
	for i := range shares {
		part := &googlev1.Sample{LocationId: s.LocationId, Value: make([]int64, len(s.Value))}
		for j, v := range s.Value {
			part.Value[j] = v / int64(shares)
			if int64((i+number)%shares) < v%int64(shares) {
				part.Value[j]++
			}
		}
		for _, l := range kept {
			if of := byName[m.text(l.Key)]; l.Str == 0 || len(of) == 0 || of[i%len(of)] == l {
				part.Label = append(part.Label, l)
			}
		}
		out = append(out, part)
	}
	return out
}

func (m *mender) outside(i int64) bool {
	return i < 0 || i >= int64(len(m.profile.StringTable))
}
