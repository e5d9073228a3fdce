package query

import (
	"math/bits"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/scan"
	"github.com/flameline/flameline/collector/store/internal/symdb"
)

// A stackSums adds up what rows have in some stacktraces of a dictionary: in all, in those
// below a call site, or for each of some functions in those that have it.
type stackSums struct {
	bitpack.Sums          // of a row, by set; nodes that do not count are of set 0; no places for all
	sets         []uint64 // which functions each set has, by bit; the call site is one
	found        uint64   // those that the dictionary has; always the call site
	row          rowcodec.PackedRow
	tmp          rowcodec.Scratch
	of           []int64 // by function
}

// What a set of functions takes: itself, its place in a table and its sum. There may be as
// many as there are calls, but hardly ever are.
const (
	setBytes   = 8 + 40 + 8
	setsAtOnce = 1024
)

// openStacks calls fn with the sums of the stacktraces of a job's partition that begin
// with a call site, if there is one, or that have functions, or with own end in them. It
// does not if there is none of the functions.
func (s *JobReader) openStacks(j *Job, callSite, functions []string, own bool, fn func(*stackSums) error) error {
	if len(callSite) == 0 && len(functions) == 0 {
		return fn(&stackSums{of: []int64{0}})
	}
	return s.open(j.partition, func(d *dictionary) error {
		bytes := int64(len(d.Nodes))*4 + int64(len(d.Calls)+len(d.Strings))*8
		if err := s.hold.Take(bytes); err != nil {
			return err
		}
		defer func() { s.hold.Give(bytes) }()
		var having []uint64
		t := &stackSums{sets: []uint64{0}, found: 1, of: make([]int64, max(len(functions), 1))}
		if len(callSite) > 0 {
			having = below(&d.View, callSite)
		} else if having, t.found = d.Having(functions, own); t.found == 0 {
			return nil
		}
		placeOf := map[uint64]uint32{0: 0}
		t.Place = make([]uint32, len(d.Nodes))
		for node, call := range d.CallOf {
			set := having[call]
			place, known := placeOf[set]
			if !known {
				if len(t.sets)%setsAtOnce == 0 {
					if err := s.hold.Take(setsAtOnce * setBytes); err != nil {
						return err
					}
					bytes += setsAtOnce * setBytes
				}
				place = uint32(len(t.sets))
				placeOf[set], t.sets = place, append(t.sets, set)
			}
			t.Place[node] = place
		}
		t.Values = make([]int64, len(t.sets))
		return fn(t)
	})
}

// below marks calls below a call site, as Having does those of a function.
func below(v *symdb.View, callSite []string) []uint64 {
	out := make([]uint64, len(v.Calls))
	for i, in := range v.Below(callSite) {
		if in {
			out[i] = 1
		}
	}
	return out
}

// all reports whether all stacktraces count.
func (t *stackSums) all() bool { return t.Place == nil }

// has reports whether stacktraces of a node, which is below the limit, count.
func (t *stackSums) has(node uint32) bool { return t.Place == nil || t.Place[node] != 0 }

func (t *stackSums) limit() int {
	if t.Place == nil {
		return 1 << 32
	}
	return t.Limit()
}

// read returns what a row has for each function, or in all its stacktraces, valid until
// the next call. The row's head, of some stacktraces all of it, is decoded then.
func (t *stackSums) read(w scan.Window, sampleType int) (values []int64, err error) {
	if t.all() {
		if err := t.row.DecodeHead(&bitpack.Decoder{Data: w.Value}); err != nil {
			return nil, err
		}
		t.of[0], err = t.row.Total(w.Level, sampleType)
		return t.of, err
	}
	if err := t.row.Decode(w.Value); err != nil {
		return nil, err
	}
	if _, err := t.row.Total(w.Level, sampleType); err != nil {
		return nil, err
	}
	clear(t.Values)
	if err := t.row.AddTo(t.Sums, sampleType, 1, &t.tmp); err != nil {
		return nil, err
	}
	clear(t.of)
	for i, set := range t.sets {
		for v := t.Values[i]; set != 0 && v != 0; set &= set - 1 {
			t.of[bits.TrailingZeros64(set)] += v
		}
	}
	return t.of, nil
}
