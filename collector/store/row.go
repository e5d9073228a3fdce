package store

import (
	"encoding/binary"
	"fmt"
	"math"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/reuse"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A row is one profile of a stream, or several profiles of a stream merged into
// one window: for each node that was sampled the values of all sample types.
type row struct {
	profiles uint64    // how many rows of single profiles were merged
	parts    uint64    // how many of them go on with a profile that began in an earlier slot
	duration uint64    // the sum of the times that they cover, ms
	totals   []int64   // uncounted if too large
	nodes    []uint32  // ascending
	values   [][]int64 // [sample type][index in nodes]
}

// encodedUncounted stands for uncounted.
const encodedUncounted = 1 << 63

// errUncounted is about a merged row whose total is uncounted: finer rows are to be
// read in its place.
var errUncounted = storeerr.ErrOverflow

// partsShift is the place of the number of parts in the encoded number of
// profiles. Both add up.
const partsShift = 32

// How a value column is written.
const (
	columnDense  = 0 // all values but none is zero
	columnSparse = 1 // a bitmap of the values that are not zero, then those
	columnSame   = 2 // another column's values times a factor
)

// append appends the row's encoding, which FORMAT.md describes.
func (r *row) append(b []byte) []byte {
	b = binary.AppendUvarint(b, r.profiles|r.parts<<partsShift)
	b = binary.AppendUvarint(b, r.duration)
	b = binary.AppendUvarint(b, uint64(len(r.totals)))
	for _, t := range r.totals {
		if t == bitpack.Overflowed {
			b = binary.AppendUvarint(b, encodedUncounted)
			continue
		}
		b = binary.AppendUvarint(b, uint64(t))
	}
	b = binary.AppendUvarint(b, uint64(len(r.nodes)))
	if len(r.nodes) == 0 {
		return b
	}
	tmp := make([]uint64, 0, len(r.nodes))
	last := uint32(0)
	for i, n := range r.nodes {
		d := n - last
		if i > 0 {
			d-- // strictly ascending
		}
		tmp, last = append(tmp, uint64(d)), n
	}
	return appendTypes(bitpack.AppendColumn(b, tmp), r.values, tmp)
}

// appendTypes appends the values of every sample type. tmp has room for those of
// one.
func appendTypes(b []byte, values [][]int64, tmp []uint64) []byte {
	divisors := make([]int64, len(values))
	for c, vs := range values {
		divisors[c] = commonDivisor(vs)
		if same := sameColumn(values[:c], divisors, c, vs); same >= 0 {
			b = append(b, columnSame, byte(same))
			b = binary.AppendUvarint(b, uint64(divisors[c]))
			continue
		}
		b = appendValues(b, vs, divisors[c], tmp[:0])
	}
	return b
}

func appendValues(b []byte, vs []int64, divisor int64, tmp []uint64) []byte {
	for _, v := range vs {
		if v != 0 {
			tmp = append(tmp, uint64(v/divisor)-1)
		}
	}
	mode := byte(columnDense)
	if len(tmp) < len(vs) {
		mode = columnSparse
	}
	b = append(b, mode)
	b = binary.AppendUvarint(b, uint64(divisor))
	if mode == columnSparse {
		at := len(b)
		b = append(b, make([]byte, (len(vs)+7)/8)...)
		for i, v := range vs {
			if v != 0 {
				b[at+i/8] |= 1 << (i % 8)
			}
		}
	}
	return bitpack.AppendColumn(b, tmp)
}

// commonDivisor is the greatest common divisor of the values, 1 if all are 0.
func commonDivisor(vs []int64) int64 {
	g := int64(0)
	for _, v := range vs {
		for a := v; a != 0; {
			g, a = a, g%a
		}
		if g == 1 {
			break
		}
	}
	return max(g, 1)
}

// sameColumn finds an earlier column that differs by a factor only.
func sameColumn(earlier [][]int64, divisors []int64, c int, vs []int64) int {
	if c > math.MaxUint8 {
		return -1
	}
next:
	for e, es := range earlier {
		for i, v := range vs {
			if v/divisors[c] != es[i]/divisors[e] {
				continue next
			}
		}
		return e
	}
	return -1
}

// fill adds up the values of samples of some sample types, given the nodes that
// Importer.Nodes found, sorted.
func (r *row) fill(samples []*googlev1.Sample, types int, order []uint64) {
	r.totals = make([]int64, types)
	r.values = make([][]int64, types)
	for c := range r.values {
		r.values[c] = make([]int64, 0, len(order))
	}
	r.nodes = make([]uint32, 0, len(order))
	for _, o := range order {
		n, s := uint32(o>>32), samples[uint32(o)]
		if last := len(r.nodes) - 1; last < 0 || r.nodes[last] != n {
			r.nodes = append(r.nodes, n)
			for c := range r.values {
				r.values[c] = append(r.values[c], 0)
			}
		}
		for c, v := range s.Value {
			r.values[c][len(r.nodes)-1] += v
			r.totals[c] += v
		}
	}
}

// A packedRow is a row of which only the head is decoded. It refers to the
// value's bytes.
type packedRow struct {
	profiles uint64
	parts    uint64
	duration uint64
	totals   []int64
	count    int // of nodes
	nodes    bitpack.Column
	values   []packedValues
}

type packedValues struct {
	mode    byte
	same    int
	divisor int64
	bitmap  []byte
	ones    int
	column  bitpack.Column
}

// decodeHead reads what comes before the nodes into p, whose memory it reuses.
func (p *packedRow) decodeHead(r *bitpack.Decoder) error {
	n := r.Uvarint("profile count")
	p.profiles, p.parts = n&(1<<partsShift-1), n>>partsShift
	if p.parts > p.profiles {
		r.Fail("part count")
	}
	p.duration = r.Uvarint("duration")
	p.totals = p.totals[:0]
	for range r.Count(1, "sample type count") {
		v := r.Uvarint("total")
		switch {
		case v == encodedUncounted:
			p.totals = append(p.totals, bitpack.Overflowed)
			continue
		case v > math.MaxInt64:
			r.Fail("total")
		}
		p.totals = append(p.totals, int64(v))
	}
	return r.Err
}

// total is that of a sample type. It may be uncounted, but not in a row of one
// profile.
func (p *packedRow) total(level, sampleType int) (int64, error) {
	switch {
	case sampleType >= len(p.totals):
		return 0, fmt.Errorf("%w: sample type %d of %d", storeerr.ErrCorrupt, sampleType, len(p.totals))
	case p.totals[sampleType] != bitpack.Overflowed:
		return p.totals[sampleType], nil
	case level == layout.LevelFine:
		return 0, fmt.Errorf("%w: total of sample type %d of one profile is not counted", storeerr.ErrCorrupt, sampleType)
	}
	return 0, errUncounted
}

// single checks the totals of a row of one profile.
func (p *packedRow) single() error {
	for c := range p.totals {
		if _, err := p.total(layout.LevelFine, c); err != nil {
			return err
		}
	}
	return nil
}

// decode reads a whole row.
func (p *packedRow) decode(value []byte) error {
	r := bitpack.Decoder{Data: value}
	if err := p.decodeHead(&r); err != nil {
		return err
	}
	count := r.Uvarint("node count")
	// A node takes one bit at least.
	if r.Err == nil && count > uint64(len(value))*8 {
		r.Fail(fmt.Sprintf("node count %d exceeds the value", count))
	}
	p.count, p.values = int(count), p.values[:0]
	if r.Err != nil || count == 0 {
		return r.End()
	}
	p.nodes = r.Column("nodes")
	if err := p.decodeTypes(&r, len(p.totals)); err != nil {
		return err
	}
	return r.End()
}

// decodeTypes reads the values of every sample type, p.count of each.
func (p *packedRow) decodeTypes(r *bitpack.Decoder, types int) error {
	p.values = p.values[:0]
	for c := range types {
		var v packedValues
		off := r.Off
		switch v.mode = r.Byte("column mode"); v.mode {
		case columnSame:
			v.same = int(r.Byte("column reference"))
			if r.Err == nil && (v.same >= c || p.values[v.same].mode == columnSame) {
				r.Off = off
				r.Fail("column reference")
			}
		case columnDense, columnSparse:
		default:
			r.Off = off
			r.Fail("column mode")
		}
		d := r.Uvarint("divisor")
		if d == 0 || d > math.MaxInt64 {
			r.Fail("divisor")
		}
		v.divisor, v.ones = int64(d), p.count
		if v.mode == columnSparse {
			v.bitmap = r.Bytes((p.count+7)/8, "bitmap")
			v.ones = 0
			for i := range p.count {
				if r.Err == nil && v.bitmap[i/8]>>(i%8)&1 == 1 {
					v.ones++
				}
			}
		}
		if v.mode != columnSame {
			v.column = r.Column("values")
		}
		if r.Err != nil {
			return r.Err
		}
		p.values = append(p.values, v)
	}
	return r.Err
}

// scratch is memory that decoding a row needs for the time of a call.
type scratch struct{ nodes, values []uint64 }

// snapshots are the profiles that are not parts: of a state, such as memory in use,
// the times at which it was taken.
func (p *packedRow) snapshots() int64 { return int64(p.profiles - p.parts) }

// of returns the values of a sample type, and the factor that they are times of.
func (p *packedRow) of(sampleType int) (v packedValues, factor int64, err error) {
	if sampleType >= len(p.values) {
		return v, 0, fmt.Errorf("%w: sample type %d of %d", storeerr.ErrCorrupt, sampleType, len(p.values))
	}
	v = p.values[sampleType]
	factor = v.divisor
	if v.mode == columnSame {
		v = p.values[v.same]
	}
	return v, factor, nil
}

// addTo adds the values of one sample type, times a sign. A node outside of the sums
// is an error; they are as they were then.
func (p *packedRow) addTo(sums bitpack.Sums, sampleType int, sign int64, s *scratch) error {
	if p.count == 0 {
		return nil
	}
	v, factor, err := p.of(sampleType)
	if err != nil {
		return err
	}
	factor *= sign
	if v.ones == p.count {
		n, ok := bitpack.AddPairs(p.nodes, v.column, p.count, sums, factor)
		if !ok {
			bitpack.AddPairs(p.nodes, v.column, n, sums, -factor)
			return fmt.Errorf("%w: node %d of %d cannot be read", storeerr.ErrCorrupt, n, p.count)
		}
		return nil
	}
	if err := p.unpack(v, sums.Limit(), s); err != nil {
		return err
	}
	j := 0
	for i, n := range s.nodes {
		if v.has(i) {
			sums.Add(n, int64(s.values[j]+1)*factor)
			j++
		}
	}
	return nil
}

// addWithin is addTo for those nodes that fn selects. The sum is that of their values,
// without the sign.
func (p *packedRow) addWithin(sums bitpack.Sums, sampleType int, sign int64, fn func(node uint32) bool, s *scratch) (sum int64, err error) {
	err = p.each(sampleType, sums.Limit(), s, func(node uint32, v int64) {
		if fn(node) {
			sums.Add(uint64(node), v*sign)
			sum += v
		}
	})
	return sum, err
}

// sumOf adds up the values of one sample type of those nodes below a limit that
// fn selects.
func (p *packedRow) sumOf(sampleType, limit int, s *scratch, fn func(node uint32) bool) (sum int64, err error) {
	err = p.each(sampleType, limit, s, func(node uint32, v int64) {
		if fn(node) {
			sum += v
		}
	})
	return sum, err
}

// each calls fn with every node, which are below a limit, and its value of one sample
// type, unless that is 0. If there is an error, it calls it with none.
func (p *packedRow) each(sampleType, limit int, s *scratch, fn func(node uint32, v int64)) error {
	if p.count == 0 {
		return nil
	}
	v, factor, err := p.of(sampleType)
	if err == nil {
		err = p.unpack(v, limit, s)
	}
	if err != nil {
		return err
	}
	j := 0
	for i, n := range s.nodes {
		if v.has(i) {
			fn(uint32(n), int64(s.values[j]+1)*factor)
			j++
		}
	}
	return nil
}

// has reports whether the i-th value is not zero.
func (v *packedValues) has(i int) bool {
	return v.mode != columnSparse || v.bitmap[i/8]>>(i%8)&1 == 1
}

// unpack unpacks the nodes, all of which are below a limit, and the values that
// are not zero.
func (p *packedRow) unpack(v packedValues, limit int, s *scratch) error {
	s.nodes, s.values = reuse.Grow(s.nodes, p.count), reuse.Grow(s.values, v.ones)
	if !p.nodes.Decode(s.nodes) || !v.column.Decode(s.values) {
		return fmt.Errorf("%w: nodes or values end early", storeerr.ErrCorrupt)
	}
	return s.number(limit)
}

// number turns the differences in s.nodes into nodes. All are below limit.
func (s *scratch) number(limit int) error {
	node := ^uint64(0)
	for i, d := range s.nodes {
		if d >= 1<<32 {
			return fmt.Errorf("%w: node %d", storeerr.ErrCorrupt, d)
		}
		node += d + 1
		s.nodes[i] = node
	}
	if node >= uint64(limit) {
		return fmt.Errorf("%w: node %d of %d", storeerr.ErrCorrupt, node, limit)
	}
	return nil
}

// addShare adds the part of a single profile's values that is in a range, times a
// sign, of the nodes that within selects, or all if it is nil. t is the profile's
// time. The sum is that of what it added, without the sign.
func (p *packedRow) addShare(sums bitpack.Sums, sampleType int, sign int64, c clip, t int64, within func(node uint32) bool, s *scratch) (sum int64, err error) {
	d := int64(p.covers() >> 1)
	from, to := c.of(t, d)
	if from >= to {
		return 0, nil
	}
	if p.count == 0 {
		return 0, nil
	}
	part := shareOf(d, from, to)
	v, factor, err := p.of(sampleType)
	if err == nil {
		err = p.unpack(v, sums.Limit(), s)
	}
	if err != nil {
		return 0, err
	}
	j := 0
	for i, node := range s.nodes {
		if !v.has(i) {
			continue
		}
		x := int64(s.values[j]+1) * factor
		j++
		if within != nil && !within(uint32(node)) {
			continue
		}
		x = part.of(x, phaseOf(uint32(node)))
		sums.Add(node, x*sign)
		sum += x
	}
	return sum, nil
}

// covers is what a row of a single profile covers, as pointList.covers.
func (p *packedRow) covers() uint64 {
	d := min(p.duration, layout.DayMs) << 1
	if p.parts > 0 {
		d |= 1
	}
	return d
}

// sum adds up the values of one sample type.
func (p *packedRow) sum(sampleType int, s *scratch) (sum int64, err error) {
	if p.count == 0 {
		return 0, nil
	}
	v := p.values[sampleType]
	divisor := v.divisor
	if v.mode == columnSame {
		v = p.values[v.same]
	}
	s.values = reuse.Grow(s.values, v.ones)
	if !v.column.Decode(s.values) {
		return 0, fmt.Errorf("%w: values end early", storeerr.ErrCorrupt)
	}
	for _, x := range s.values {
		sum += int64(x+1) * divisor
	}
	return sum, nil
}
