package store

import (
	"math/bits"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// An index finds the series of an epoch by their labels: for each label name and
// value the numbers of the series that have it, ascending. It is not safe for
// concurrent writes.
type index struct {
	series   []series
	postings map[string]map[string][]uint32
	bytes    int64
}

// A series is one sample type of a stream.
type series struct {
	stream     uint32
	sampleType int
	labels     labels.Labels
}

func (x *index) add(s series) {
	n := uint32(len(x.series))
	x.series = append(x.series, s)
	s.labels.Range(func(l labels.Label) {
		values := x.postings[l.Name]
		if values == nil {
			values = make(map[string][]uint32)
			x.postings[l.Name] = values
		}
		if values[l.Value] == nil {
			x.bytes += int64(len(l.Value)) + 64
		}
		values[l.Value] = append(values[l.Value], n)
		x.bytes += 4
	})
	x.bytes += int64(s.labels.Len())*16 + 64
}

// A seriesSet is a bitmap by series number.
type seriesSet []uint64

func newSeriesSet(n int) seriesSet { return make(seriesSet, (n+63)/64) }

func (s seriesSet) set(i uint32)      { s[i/64] |= 1 << (i % 64) }
func (s seriesSet) has(i uint32) bool { return s[i/64]>>(i%64)&1 == 1 }

func (s seriesSet) each(fn func(i uint32)) {
	for w, x := range s {
		for ; x != 0; x &= x - 1 {
			fn(uint32(w*64 + bits.TrailingZeros64(x)))
		}
	}
}

func (s seriesSet) overlaps(list []uint32) bool {
	return slices.ContainsFunc(list, s.has)
}

// match narrows a set to the series that all matchers match. As in PromQL a
// missing label is an empty one.
func (x *index) match(in seriesSet, ms []*labels.Matcher) {
	for _, m := range ms {
		hit := newSeriesSet(len(x.series))
		if !m.Matches("") {
			x.union(hit, m.Name, m, true)
			for i := range in {
				in[i] &= hit[i]
			}
			continue
		}
		// It is easier to say which have a value that does not match.
		x.union(hit, m.Name, m, false)
		for i := range in {
			in[i] &^= hit[i]
		}
	}
}

// union adds the series whose value of a label matches, or does not.
func (x *index) union(to seriesSet, name string, m *labels.Matcher, want bool) {
	values := x.postings[name]
	add := func(list []uint32) {
		for _, i := range list {
			to.set(i)
		}
	}
	if m.Type == labels.MatchEqual && want {
		add(values[m.Value])
		return
	}
	for v, list := range values {
		if m.Matches(v) == want {
			add(list)
		}
	}
}
