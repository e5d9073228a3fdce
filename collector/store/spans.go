package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/reuse"
	"github.com/flameline/flameline/collector/store/internal/storeerr"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// A SpanID is an OpenTelemetry span's, of whose 8 bytes the first is the
// highest. 0 is no span.
type SpanID uint64

// ParseSpanID reads 16 hexadecimal digits.
func ParseSpanID(s string) (SpanID, error) {
	var b [8]byte
	if err := parseHex(b[:], s); err != nil {
		return 0, err
	}
	return SpanID(binary.BigEndian.Uint64(b[:])), nil
}

func (id SpanID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// A TraceID is an OpenTelemetry trace's. Zeros are no trace.
type TraceID [16]byte

// ParseTraceID reads 32 hexadecimal digits.
func ParseTraceID(s string) (id TraceID, err error) {
	return id, parseHex(id[:], s)
}

func (id TraceID) String() string { return hex.EncodeToString(id[:]) }

func parseHex(to []byte, s string) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(to) {
		return fmt.Errorf("%q is not %d hexadecimal digits", s, 2*len(to))
	}
	copy(to, b)
	return nil
}

// A spanTag says which span and trace a sample belongs to.
type spanTag struct {
	span  SpanID
	trace TraceID
}

func (t spanTag) compare(o spanTag) int {
	return cmp.Or(cmp.Compare(t.span, o.span), bytes.Compare(t.trace[:], o.trace[:]))
}

// read takes a label of a sample, and reports whether it is one that names a span
// or a trace, and so is none of a series. IDs that cannot be read are no IDs, and
// of several the first counts, as in Pyroscope, whose older clients call the
// span's profile_id.
func (t *spanTag) read(name, value string) bool {
	switch name {
	case "span_id", "profile_id":
		if id, err := ParseSpanID(value); err == nil && t.span == 0 {
			t.span = id
		}
	case "trace_id":
		if id, err := ParseTraceID(value); err == nil && t.trace == (TraceID{}) {
			t.trace = id
		}
	default:
		return false
	}
	return true
}

// spans are the samples of a profile that have a tag: for each tag the nodes,
// ascending, with the values of all sample types.
type spans struct {
	tags   []spanTag // sorted, none twice
	counts []int     // of each tag's nodes
	nodes  []uint32
	values [][]int64 // [sample type][index in nodes]
}

// newSpans returns the spans of samples of some sample types, given their tags, of
// which there may be fewer than samples, and the nodes that Importer.Nodes found,
// sorted.
func newSpans(samples []*googlev1.Sample, tags []spanTag, types int, order []uint64) *spans {
	tagged := make([]uint64, 0, len(order))
	for _, o := range order {
		if i := int(uint32(o)); i < len(tags) && tags[i] != (spanTag{}) {
			tagged = append(tagged, o)
		}
	}
	slices.SortStableFunc(tagged, func(a, b uint64) int { return tags[uint32(a)].compare(tags[uint32(b)]) })
	s := &spans{values: make([][]int64, types)}
	for _, o := range tagged {
		n, t := uint32(o>>32), tags[uint32(o)]
		last := len(s.tags) - 1
		if last < 0 || s.tags[last] != t {
			s.tags, s.counts = append(s.tags, t), append(s.counts, 0)
			last++
		}
		if s.counts[last] == 0 || s.nodes[len(s.nodes)-1] != n {
			s.counts[last]++
			s.nodes = append(s.nodes, n)
			for c := range s.values {
				s.values[c] = append(s.values[c], 0)
			}
		}
		for c, v := range samples[uint32(o)].Value {
			s.values[c][len(s.nodes)-1] += v
		}
	}
	return s
}

// append appends the encoding, which FORMAT.md describes.
func (s *spans) append(b []byte) []byte {
	var traces []TraceID
	for _, t := range s.tags {
		if t.trace != (TraceID{}) {
			traces = append(traces, t.trace)
		}
	}
	compare := func(a, b TraceID) int { return bytes.Compare(a[:], b[:]) }
	slices.SortFunc(traces, compare)
	traces = slices.Compact(traces)
	b = binary.AppendUvarint(b, uint64(len(traces)))
	for _, t := range traces {
		b = append(b, t[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(s.tags)))
	tmp := make([]uint64, 0, len(s.nodes))
	for _, t := range s.tags {
		b = binary.BigEndian.AppendUint64(b, uint64(t.span))
		at := 0
		if t.trace != (TraceID{}) {
			at, _ = slices.BinarySearchFunc(traces, t.trace, compare)
			at++
		}
		tmp = append(tmp, uint64(at))
	}
	b = bitpack.AppendColumn(b, tmp)
	tmp = tmp[:0]
	for _, n := range s.counts {
		tmp = append(tmp, uint64(n-1))
	}
	b = bitpack.AppendColumn(b, tmp)
	tmp = tmp[:0]
	nodes := s.nodes
	for _, n := range s.counts {
		next := uint32(0)
		for _, node := range nodes[:n] {
			tmp, next = append(tmp, uint64(node-next)), node+1
		}
		nodes = nodes[n:]
	}
	b = bitpack.AppendColumn(b, tmp)
	b = binary.AppendUvarint(b, uint64(len(s.values)))
	return appendTypes(b, s.values, tmp[:0])
}

// packedSpans are spans of which the tags alone are decoded. They refer to the
// value's bytes.
type packedSpans struct {
	tags   []spanTag
	counts []uint64  // of each tag's nodes
	row    packedRow // nodes and values of all tags, without totals
}

// decode reads spans into p, whose memory it reuses.
func (p *packedSpans) decode(value []byte) error {
	r := bitpack.Decoder{Data: value}
	traces := r.Bytes(16*r.Count(16, "trace count"), "traces")
	n := r.Count(8, "span count")
	ids := r.Bytes(8*n, "spans")
	of, counts := r.Column("trace numbers"), r.Column("node counts")
	p.row.nodes = r.Column("nodes")
	types := r.Count(2, "sample type count")
	if n == 0 {
		r.Fail("no span")
	}
	if r.Err != nil {
		return r.Err
	}
	p.tags, p.counts, p.row.count = p.tags[:0], reuse.Grow(p.counts, n), 0
	if !of.Decode(p.counts) {
		return fmt.Errorf("%w: trace numbers end early", storeerr.ErrCorrupt)
	}
	for i, number := range p.counts {
		t := spanTag{span: SpanID(binary.BigEndian.Uint64(ids[8*i:]))}
		if number > uint64(len(traces)/16) {
			return fmt.Errorf("%w: trace %d of %d", storeerr.ErrCorrupt, number, len(traces)/16)
		}
		if number > 0 {
			copy(t.trace[:], traces[16*(number-1):])
		}
		if t == (spanTag{}) || i > 0 && p.tags[i-1].compare(t) >= 0 {
			return fmt.Errorf("%w: span %d is none, or not after the one before", storeerr.ErrCorrupt, i)
		}
		p.tags = append(p.tags, t)
	}
	if !counts.Decode(p.counts) {
		return fmt.Errorf("%w: node counts end early", storeerr.ErrCorrupt)
	}
	for i := range p.counts {
		// A node takes one bit at least.
		if p.counts[i] >= uint64(len(value)*8-p.row.count) {
			return fmt.Errorf("%w: node count %d exceeds the value", storeerr.ErrCorrupt, p.counts[i])
		}
		p.counts[i]++
		p.row.count += int(p.counts[i])
	}
	if err := p.row.decodeTypes(&r, types); err != nil {
		return err
	}
	return r.End()
}

// each calls fn with every node of every tag and its value of one sample type,
// unless that is 0. All nodes are below limit. If there is an error, it calls it with
// none.
func (p *packedSpans) each(sampleType, limit int, s *scratch, fn func(t *spanTag, node uint32, value int64)) error {
	v, factor, err := p.row.of(sampleType)
	if err != nil {
		return err
	}
	s.nodes, s.values = reuse.Grow(s.nodes, p.row.count), reuse.Grow(s.values, v.ones)
	if !p.row.nodes.Decode(s.nodes) || !v.column.Decode(s.values) {
		return fmt.Errorf("%w: nodes or values end early", storeerr.ErrCorrupt)
	}
	i := 0
	for _, count := range p.counts {
		next := uint64(0)
		for range count {
			if s.nodes[i] >= uint64(limit)-next {
				return fmt.Errorf("%w: node %d after %d, of %d", storeerr.ErrCorrupt, s.nodes[i], next, limit)
			}
			s.nodes[i] += next
			next = s.nodes[i] + 1
			i++
		}
	}
	i, j := 0, 0
	for k := range p.tags {
		for range p.counts[k] {
			if v.has(i) {
				fn(&p.tags[k], uint32(s.nodes[i]), int64(s.values[j]+1)*factor)
				j++
			}
			i++
		}
	}
	return nil
}
