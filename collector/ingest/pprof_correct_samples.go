package ingest

import (
	"fmt"
	"slices"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// samples corrects the samples of a profile that had the given number of sample types,
// and keeps the values of the types in keep.
func (c *corrector) samples(types int, keep []int) error {
	p := c.profile
	sums := make([]signedSum, len(keep))
	all := len(p.Sample)
	kept := make([]*googlev1.Sample, 0, all)
	for i, s := range p.Sample {
		if len(s.Value) != types {
			c.report.Skip("sample", "with more or fewer values than there are sample types", 1)
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
			if c.isBase(s) {
				return fmt.Errorf("sample[%d]: is of the base of a comparison (pprof -diff_base), which is not a profile; push both profiles", i)
			}
			c.report.Skip("sample", "with a negative value", 1)
			continue
		}
		for j, id := range s.LocationId {
			if !c.locationIDs.has(id) {
				s.LocationId[j] = c.unknownPlace()
				c.report.Correct("location", "that is missing", 1)
			}
		}
		c.depth(s)
		kept = append(kept, c.labels(s, i)...)
		if exceeds(len(kept), c.limits.MaxSamples) {
			return fmt.Errorf("sample: more than %d samples (limits.max_samples), after samples with several values of a label were split", c.limits.MaxSamples)
		}
	}
	for j, sum := range sums {
		if sum.negative > 0 && sum.negative >= sum.positive {
			return fmt.Errorf("sample.value[%d]: the negative values of %q are %.6g in all, the others %.6g: a comparison (as pprof -base gives) is not a profile",
				j, c.text(p.SampleType[j].Type), -sum.negative, sum.positive)
		}
	}
	if all > 0 && len(kept) == 0 {
		return fmt.Errorf("sample: none of %d is usable: %s", all, c.report)
	}
	p.Sample = kept
	return nil
}

// A signedSum adds up positive and negative values separately, without overflow.
type signedSum struct{ positive, negative float64 }

func (s *signedSum) add(v int64) {
	if v < 0 {
		s.negative -= float64(v)
	} else {
		s.positive += float64(v)
	}
}

// isBase reports whether pprof -diff_base has marked a sample as belonging to the base
// profile.
func (c *corrector) isBase(s *googlev1.Sample) bool {
	return slices.ContainsFunc(s.Label, func(l *googlev1.Label) bool { return c.text(l.Key) == "pprof::base" })
}

// labels leaves out labels with dangling references. If a sample has several values of a
// label, it is split into several samples, one per value, which share its values: so
// each of the label's values is found, and sums stay right. number is the sample's
// number, which decides which part gets the remainder.
func (c *corrector) labels(s *googlev1.Sample, number int) []*googlev1.Sample {
	kept := s.Label[:0]
	for _, l := range s.Label {
		if c.outside(l.Key) || c.outside(l.Str) || c.text(l.Key) == "" {
			c.report.Skip("label", "without a name, or whose value is missing", 1)
			continue
		}
		c.index(&l.NumUnit, "a label")
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
		name := c.text(l.Key)
		if l.Str == 0 || tracerLabelOf(name) != noTracerLabel {
			continue
		}
		of := byName[name]
		if slices.ContainsFunc(of, func(o *googlev1.Label) bool { return c.text(o.Str) == c.text(l.Str) }) {
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
			c.report.Correct("label", name+", of which a sample had several values: the sample was divided among them", 1)
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
			if of := byName[c.text(l.Key)]; l.Str == 0 || len(of) == 0 || of[i%len(of)] == l {
				part.Label = append(part.Label, l)
			}
		}
		out = append(out, part)
	}
	return out
}

func (c *corrector) outside(i int64) bool {
	return i < 0 || i >= int64(len(c.profile.StringTable))
}
