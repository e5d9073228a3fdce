package rowcodec

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

// A Row is one profile of a stream, or several profiles of a stream merged into
// one window: for each node that was sampled the values of all sample types.
type Row struct {
	Profiles uint64    // how many rows of single profiles were merged
	Parts    uint64    // how many of them go on with a profile that began in an earlier slot
	Duration uint64    // the sum of the times that they cover, ms
	Totals   []int64   // uncounted if too large
	Nodes    []uint32  // ascending
	Values   [][]int64 // [sample type][index in nodes]
	Times    *Times    // of a single profile, nil if its samples have no times of their own
	Units    []int64   // by sample type what one sample adds, 0 or 1 if it is not known; nil if none is
}

// encodedUncounted stands for uncounted.
const encodedUncounted = 1 << 63

// ErrOverflowed is about a merged row whose total is uncounted: finer rows are to be
// read in its place.
var ErrOverflowed = storeerr.ErrOverflow

// partsShift is the place of the number of parts in the encoded number of
// profiles. Both add up.
const partsShift = 32

// How a value column is written.
const (
	columnDense  = 0 // all values but none is zero
	columnSparse = 1 // a bitmap of the values that are not zero, then those
	columnSame   = 2 // another column's values times a factor
)

// Append appends the row's encoding, which FORMAT.md describes.
func (r *Row) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, r.Profiles|r.Parts<<partsShift)
	b = binary.AppendUvarint(b, r.Duration)
	b = binary.AppendUvarint(b, uint64(len(r.Totals)))
	for _, t := range r.Totals {
		if t == bitpack.Overflowed {
			b = binary.AppendUvarint(b, encodedUncounted)
			continue
		}
		b = binary.AppendUvarint(b, uint64(t))
	}
	b = binary.AppendUvarint(b, uint64(len(r.Nodes)))
	if len(r.Nodes) == 0 {
		return b
	}
	tmp := appendGaps(make([]uint64, 0, len(r.Nodes)), r.Nodes)
	b = appendTypes(bitpack.AppendColumn(b, tmp), r.Values, r.Units, tmp)
	if r.Times != nil {
		b = r.Times.append(b)
	}
	return b
}

// appendGaps appends the first of some numbers, which are strictly ascending, and of the
// others the difference from the one before, less 1.
func appendGaps(tmp []uint64, ns []uint32) []uint64 {
	last := uint32(0)
	for i, n := range ns {
		d := n - last
		if i > 0 {
			d--
		}
		tmp, last = append(tmp, uint64(d)), n
	}
	return tmp
}

// appendTypes appends the values of every sample type, as multiples of their unit if they
// are that and it is known, else of their greatest common divisor. tmp has room for those
// of one.
func appendTypes(b []byte, values [][]int64, units []int64, tmp []uint64) []byte {
	divisors := make([]int64, len(values))
	for c, vs := range values {
		divisors[c] = commonDivisor(vs)
		if c < len(units) && units[c] > 1 && divisors[c]%units[c] == 0 {
			divisors[c] = units[c]
		}
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
		g = CommonUnit(g, v)
		if g == 1 {
			break
		}
	}
	return max(g, 1)
}

// CommonUnit is the largest number that divides two units; that of 0 and another is the
// other.
func CommonUnit(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
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

// Fill adds up the values of samples of some sample types, given the nodes that
// Importer.Nodes found, sorted.
func (r *Row) Fill(samples []*googlev1.Sample, types int, order []uint64) {
	r.Totals, r.Values = make([]int64, types), make([][]int64, types)
	for c := range r.Values {
		r.Values[c] = make([]int64, 0, len(order))
	}
	r.Nodes = appendSums(make([]uint32, 0, len(order)), r.Values, order, func(i uint32) []int64 { return samples[i].Value })
	for c, vs := range r.Values {
		for _, v := range vs {
			r.Totals[c] += v
		}
	}
}

// appendSums appends the upper halves of order, which is sorted, each once, and for each the
// sums of the values by sample type that the lower halves stand for.
func appendSums(ns []uint32, sums [][]int64, order []uint64, values func(i uint32) []int64) []uint32 {
	first := len(ns)
	for _, o := range order {
		n := uint32(o >> 32)
		if last := len(ns) - 1; last < first || ns[last] != n {
			ns = append(ns, n)
			for c := range sums {
				sums[c] = append(sums[c], 0)
			}
		}
		for c, v := range values(uint32(o)) {
			sums[c][len(ns)-1] += v
		}
	}
	return ns
}

// A PackedRow is a row of which only the head is decoded. It refers to the
// value's bytes.
type PackedRow struct {
	Profiles uint64
	Parts    uint64
	Duration uint64
	Totals   []int64
	Count    int // of nodes
	Nodes    bitpack.Column
	Values   []PackedValues

	times []byte // what follows the values
}

// PackedValues are the values of one sample type of a PackedRow.
type PackedValues struct {
	mode    byte
	same    int
	divisor int64
	bitmap  []byte
	ones    int
	column  bitpack.Column
}

// DecodeHead reads what comes before the nodes into p, whose memory it reuses.
func (p *PackedRow) DecodeHead(r *bitpack.Decoder) error {
	n := r.Uvarint("profile count")
	p.Profiles, p.Parts = n&(1<<partsShift-1), n>>partsShift
	if p.Parts > p.Profiles {
		r.Fail("part count")
	}
	p.Duration = r.Uvarint("duration")
	p.Totals = p.Totals[:0]
	for range r.Count(1, "sample type count") {
		v := r.Uvarint("total")
		switch {
		case v == encodedUncounted:
			p.Totals = append(p.Totals, bitpack.Overflowed)
			continue
		case v > math.MaxInt64:
			r.Fail("total")
		}
		p.Totals = append(p.Totals, int64(v))
	}
	return r.Err
}

// Total is that of a sample type. It may be uncounted, but not in a row of one
// profile.
func (p *PackedRow) Total(level, sampleType int) (int64, error) {
	switch {
	case sampleType >= len(p.Totals):
		return 0, fmt.Errorf("%w: sample type %d of %d", storeerr.ErrCorrupt, sampleType, len(p.Totals))
	case p.Totals[sampleType] != bitpack.Overflowed:
		return p.Totals[sampleType], nil
	case level == layout.LevelFine:
		return 0, fmt.Errorf("%w: total of sample type %d of one profile is not counted", storeerr.ErrCorrupt, sampleType)
	}
	return 0, ErrOverflowed
}

// Single checks the totals of a row of one profile.
func (p *PackedRow) Single() error {
	for c := range p.Totals {
		if _, err := p.Total(layout.LevelFine, c); err != nil {
			return err
		}
	}
	return nil
}

// Decode reads a whole row.
func (p *PackedRow) Decode(value []byte) error {
	r := bitpack.Decoder{Data: value}
	if err := p.DecodeHead(&r); err != nil {
		return err
	}
	p.Count, p.Values, p.times = r.Rows("node count"), p.Values[:0], nil
	if r.Err != nil || p.Count == 0 {
		return r.End()
	}
	p.Nodes = r.Column("nodes")
	if err := p.decodeTypes(&r, len(p.Totals)); err != nil {
		return err
	}
	p.times = value[r.Off:]
	return checkTimes(p.times)
}

// decodeTypes reads the values of every sample type, p.count of each.
func (p *PackedRow) decodeTypes(r *bitpack.Decoder, types int) error {
	p.Values = p.Values[:0]
	for c := range types {
		var v PackedValues
		off := r.Off
		switch v.mode = r.Byte("column mode"); v.mode {
		case columnSame:
			v.same = int(r.Byte("column reference"))
			if r.Err == nil && (v.same >= c || p.Values[v.same].mode == columnSame) {
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
		v.divisor, v.ones = int64(d), p.Count
		if v.mode == columnSparse {
			v.bitmap = r.Bytes((p.Count+7)/8, "bitmap")
			v.ones = 0
			for i := range p.Count {
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
		p.Values = append(p.Values, v)
	}
	return r.Err
}

// Scratch is memory that decoding a row needs for the time of a call.
type Scratch struct{ nodes, values []uint64 }

// Snapshots are the profiles that are not parts: of a state, such as memory in use,
// the times at which it was taken.
func (p *PackedRow) Snapshots() int64 { return int64(p.Profiles - p.Parts) }

// Unit is what the values of a sample type are multiples of; 0 if there are none. The row
// must be decoded.
func (p *PackedRow) Unit(sampleType int) int64 {
	if p.Count == 0 || sampleType >= len(p.Values) {
		return 0
	}
	v := p.Values[sampleType]
	if v.ones == 0 || v.mode == columnSame && p.Values[v.same].ones == 0 {
		return 0
	}
	return v.divisor
}

// of returns the values of a sample type, and the factor that they are times of.
func (p *PackedRow) of(sampleType int) (v PackedValues, factor int64, err error) {
	if sampleType >= len(p.Values) {
		return v, 0, fmt.Errorf("%w: sample type %d of %d", storeerr.ErrCorrupt, sampleType, len(p.Values))
	}
	v = p.Values[sampleType]
	factor = v.divisor
	if v.mode == columnSame {
		v = p.Values[v.same]
	}
	return v, factor, nil
}

// AddTo adds the values of one sample type, times a sign. A node outside of the sums
// is an error; they are as they were then.
func (p *PackedRow) AddTo(sums bitpack.Sums, sampleType int, sign int64, s *Scratch) error {
	if p.Count == 0 {
		return nil
	}
	v, factor, err := p.of(sampleType)
	if err != nil {
		return err
	}
	if v.ones == p.Count {
		n, ok := bitpack.AddPairs(p.Nodes, v.column, p.Count, sums, factor*sign)
		if !ok {
			bitpack.AddPairs(p.Nodes, v.column, n, sums, -factor*sign)
			return fmt.Errorf("%w: node %d of %d cannot be read", storeerr.ErrCorrupt, n, p.Count)
		}
		return nil
	}
	nodes, values, factor, err := p.unpack(sampleType, sums.Limit(), s)
	for i, n := range nodes {
		sums.Add(n, int64(values[i]+1)*factor*sign)
	}
	return err
}

// Sum adds up the values of one sample type, whose nodes must be below a limit.
func (p *PackedRow) Sum(sampleType, limit int, s *Scratch) (sum int64, err error) {
	err = p.each(sampleType, limit, s, func(_ uint32, v int64) { sum += v })
	return sum, err
}

// each calls fn with every node, which are below a limit, and its value of one sample
// type, unless that is 0. If there is an error, it calls it with none.
func (p *PackedRow) each(sampleType, limit int, s *Scratch, fn func(node uint32, v int64)) error {
	nodes, values, factor, err := p.unpack(sampleType, limit, s)
	for i, n := range nodes {
		fn(uint32(n), int64(values[i]+1)*factor)
	}
	return err
}

// has reports whether the i-th value is not zero.
func (v *PackedValues) has(i int) bool {
	return v.mode != columnSparse || v.bitmap[i/8]>>(i%8)&1 == 1
}

// unpack returns the nodes, all of which are below a limit, whose values of a sample type
// are not zero, and these values, less 1, as multiples of factor.
func (p *PackedRow) unpack(sampleType, limit int, s *Scratch) (nodes, values []uint64, factor int64, err error) {
	if p.Count == 0 {
		return nil, nil, 0, nil
	}
	v, factor, err := p.of(sampleType)
	if err != nil {
		return nil, nil, 0, err
	}
	if nodes, err = p.AllNodes(limit, s); err == nil {
		values, err = v.unpack(s)
	}
	if err != nil {
		return nil, nil, 0, err
	}
	if v.mode == columnSparse {
		all := nodes
		nodes = nodes[:0]
		for i, n := range all {
			if v.has(i) {
				nodes = append(nodes, n)
			}
		}
	}
	return nodes, values, factor, nil
}

// unpack returns the values that are not zero.
func (v *PackedValues) unpack(s *Scratch) ([]uint64, error) {
	s.values = reuse.Grow(s.values, v.ones)
	if !v.column.Decode(s.values) {
		return nil, fmt.Errorf("%w: values end early", storeerr.ErrCorrupt)
	}
	return s.values, nil
}

// AllNodes unpacks the nodes, ascending, all of which are below a limit.
func (p *PackedRow) AllNodes(limit int, s *Scratch) ([]uint64, error) {
	s.nodes = reuse.Grow(s.nodes, p.Count)
	if p.Count > 0 && !p.Nodes.Decode(s.nodes) {
		return nil, fmt.Errorf("%w: nodes end early", storeerr.ErrCorrupt)
	}
	node := ^uint64(0)
	for i, d := range s.nodes {
		if d >= 1<<32 {
			return nil, fmt.Errorf("%w: node %d", storeerr.ErrCorrupt, d)
		}
		node += d + 1
		s.nodes[i] = node
	}
	if p.Count > 0 && node >= uint64(limit) {
		return nil, fmt.Errorf("%w: node %d of %d", storeerr.ErrCorrupt, node, limit)
	}
	return s.nodes, nil
}

// AddShare adds the part of a single profile's values that is in a range, times a
// sign. t is the profile's time. The sum is that of what it added, without the sign.
func (p *PackedRow) AddShare(sums bitpack.Sums, sampleType int, sign int64, c Clip, t int64, s *Scratch) (sum int64, err error) {
	d := int64(p.Covers() >> 1)
	from, to := c.of(t, d)
	if from >= to {
		return 0, nil
	}
	part := ShareOf(d, from, to)
	nodes, values, factor, err := p.unpack(sampleType, sums.Limit(), s)
	for i, node := range nodes {
		v, phase := int64(values[i]+1)*factor, PhaseOf(uint32(node))
		x := v // what follows is part.Of, inlined
		if !part.end {
			x = until(v, part.to, phase)
		}
		if !part.begin {
			x -= until(v, part.from, phase)
		}
		sums.Add(node, x*sign)
		sum += x
	}
	return sum, err
}

// Covers is what a row of a single profile covers, as PointList.Covers.
func (p *PackedRow) Covers() uint64 {
	d := min(p.Duration, layout.DayMs) << 1
	if p.Parts > 0 {
		d |= 1
	}
	return d
}
