package rowcodec

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

// A Tag says which span and trace a sample belongs to.
type Tag struct {
	Span  SpanID
	Trace TraceID
}

// Compare orders tags.
func (t Tag) Compare(o Tag) int {
	return cmp.Or(cmp.Compare(t.Span, o.Span), bytes.Compare(t.Trace[:], o.Trace[:]))
}

// Read takes a label of a sample, and reports whether it is one that names a span
// or a trace, and so is none of a series. IDs that cannot be read are no IDs, and
// of several the first counts, as in Pyroscope, whose older clients call the
// span's profile_id.
func (t *Tag) Read(name, value string) bool {
	switch name {
	case "span_id", "profile_id":
		if id, err := ParseSpanID(value); err == nil && t.Span == 0 {
			t.Span = id
		}
	case "trace_id":
		if id, err := ParseTraceID(value); err == nil && t.Trace == (TraceID{}) {
			t.Trace = id
		}
	default:
		return false
	}
	return true
}

// Spans are the samples of a profile that have a tag: for each tag the nodes,
// ascending, with the values of all sample types.
type Spans struct {
	Tags   []Tag // sorted, none twice
	Counts []int // of each tag's nodes
	Nodes  []uint32
	Values [][]int64 // [sample type][index in nodes]
}

// NewSpans returns the spans of samples of some sample types, given their tags, of
// which there may be fewer than samples, and the nodes that Importer.Nodes found,
// sorted.
func NewSpans(samples []*googlev1.Sample, tags []Tag, types int, order []uint64) *Spans {
	tagged := make([]uint64, 0, len(order))
	for _, o := range order {
		if i := int(uint32(o)); i < len(tags) && tags[i] != (Tag{}) {
			tagged = append(tagged, o)
		}
	}
	slices.SortStableFunc(tagged, func(a, b uint64) int { return tags[uint32(a)].Compare(tags[uint32(b)]) })
	s := &Spans{Values: make([][]int64, types)}
	for len(tagged) > 0 {
		t := tags[uint32(tagged[0])]
		n := slices.IndexFunc(tagged, func(o uint64) bool { return tags[uint32(o)] != t })
		if n < 0 {
			n = len(tagged)
		}
		before := len(s.Nodes)
		s.Nodes = appendSums(s.Nodes, s.Values, tagged[:n], func(i uint32) []int64 { return samples[i].Value })
		s.Tags, s.Counts = append(s.Tags, t), append(s.Counts, len(s.Nodes)-before)
		tagged = tagged[n:]
	}
	return s
}

// Append appends the encoding, which FORMAT.md describes.
func (s *Spans) Append(b []byte) []byte {
	var traces []TraceID
	for _, t := range s.Tags {
		if t.Trace != (TraceID{}) {
			traces = append(traces, t.Trace)
		}
	}
	compare := func(a, b TraceID) int { return bytes.Compare(a[:], b[:]) }
	slices.SortFunc(traces, compare)
	traces = slices.Compact(traces)
	b = binary.AppendUvarint(b, uint64(len(traces)))
	for _, t := range traces {
		b = append(b, t[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(s.Tags)))
	tmp := make([]uint64, 0, len(s.Nodes))
	for _, t := range s.Tags {
		b = binary.BigEndian.AppendUint64(b, uint64(t.Span))
		at := 0
		if t.Trace != (TraceID{}) {
			at, _ = slices.BinarySearchFunc(traces, t.Trace, compare)
			at++
		}
		tmp = append(tmp, uint64(at))
	}
	b = bitpack.AppendColumn(b, tmp)
	tmp = tmp[:0]
	for _, n := range s.Counts {
		tmp = append(tmp, uint64(n-1))
	}
	b = bitpack.AppendColumn(b, tmp)
	tmp = tmp[:0]
	nodes := s.Nodes
	for _, n := range s.Counts {
		next := uint32(0)
		for _, node := range nodes[:n] {
			tmp, next = append(tmp, uint64(node-next)), node+1
		}
		nodes = nodes[n:]
	}
	b = bitpack.AppendColumn(b, tmp)
	b = binary.AppendUvarint(b, uint64(len(s.Values)))
	return appendTypes(b, s.Values, nil, tmp[:0])
}

// PackedSpans are spans of which the tags alone are decoded. They refer to the
// value's bytes.
type PackedSpans struct {
	Tags   []Tag
	Counts []uint64  // of each tag's nodes
	Row    PackedRow // nodes and values of all tags, without totals
}

// Decode reads spans into p, whose memory it reuses.
func (p *PackedSpans) Decode(value []byte) error {
	r := bitpack.Decoder{Data: value}
	traces := r.Bytes(16*r.Count(16, "trace count"), "traces")
	n := r.Count(8, "span count")
	ids := r.Bytes(8*n, "spans")
	of, counts := r.Column("trace numbers"), r.Column("node counts")
	p.Row.Nodes = r.Column("nodes")
	types := r.Count(2, "sample type count")
	if n == 0 {
		r.Fail("no span")
	}
	if r.Err != nil {
		return r.Err
	}
	p.Tags, p.Counts, p.Row.Count = p.Tags[:0], reuse.Grow(p.Counts, n), 0
	if !of.Decode(p.Counts) {
		return fmt.Errorf("%w: trace numbers end early", storeerr.ErrCorrupt)
	}
	for i, number := range p.Counts {
		t := Tag{Span: SpanID(binary.BigEndian.Uint64(ids[8*i:]))}
		if number > uint64(len(traces)/16) {
			return fmt.Errorf("%w: trace %d of %d", storeerr.ErrCorrupt, number, len(traces)/16)
		}
		if number > 0 {
			copy(t.Trace[:], traces[16*(number-1):])
		}
		if t == (Tag{}) || i > 0 && p.Tags[i-1].Compare(t) >= 0 {
			return fmt.Errorf("%w: span %d is none, or not after the one before", storeerr.ErrCorrupt, i)
		}
		p.Tags = append(p.Tags, t)
	}
	if !counts.Decode(p.Counts) {
		return fmt.Errorf("%w: node counts end early", storeerr.ErrCorrupt)
	}
	for i := range p.Counts {
		// A node takes one bit at least.
		if p.Counts[i] >= uint64(len(value)*8-p.Row.Count) {
			return fmt.Errorf("%w: node count %d exceeds the value", storeerr.ErrCorrupt, p.Counts[i])
		}
		p.Counts[i]++
		p.Row.Count += int(p.Counts[i])
	}
	if err := p.Row.decodeTypes(&r, types); err != nil {
		return err
	}
	return r.End()
}

// Each calls fn with every node of every tag and its value of one sample type,
// unless that is 0. All nodes are below limit. If there is an error, it calls it with
// none.
func (p *PackedSpans) Each(sampleType, limit int, s *Scratch, fn func(t *Tag, node uint32, value int64)) error {
	v, factor, err := p.Row.of(sampleType)
	if err != nil {
		return err
	}
	values, err := v.unpack(s)
	if err != nil {
		return err
	}
	nodes := reuse.Grow(s.nodes, p.Row.Count)
	if s.nodes = nodes; !p.Row.Nodes.Decode(nodes) {
		return fmt.Errorf("%w: nodes end early", storeerr.ErrCorrupt)
	}
	i := 0
	for _, count := range p.Counts {
		next := uint64(0)
		for range count {
			if nodes[i] >= uint64(limit)-next {
				return fmt.Errorf("%w: node %d after %d, of %d", storeerr.ErrCorrupt, nodes[i], next, limit)
			}
			nodes[i] += next
			next = nodes[i] + 1
			i++
		}
	}
	i, j := 0, 0
	for k := range p.Tags {
		for range p.Counts[k] {
			if v.has(i) {
				fn(&p.Tags[k], uint32(nodes[i]), int64(values[j]+1)*factor)
				j++
			}
			i++
		}
	}
	return nil
}
