package server

import (
	"encoding/binary"
	"math/bits"
	"slices"

	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of querier.v1's FlameGraph and FlameGraphDiff (equal where both have the
// field), of Level, and of the responses.
const (
	fieldFlamegraph = 1
	fieldNames      = 1
	fieldLevels     = 2
	fieldTotal      = 3
	fieldMaxSelf    = 4
	fieldLeftTicks  = 5
	fieldRightTicks = 6
	fieldValues     = 1
)

// appendFlame appends an encoded response if it holds a flame graph and nothing else,
// and reports whether it did. It passes over the levels' values once; generated code
// passes three times, twice to compute sizes.
func appendFlame(to []byte, message any) ([]byte, bool) {
	switch m := message.(type) {
	case *querierv1.SelectMergeStacktracesResponse:
		f := m.Flamegraph
		if f == nil || len(m.Tree) > 0 || m.Dot != "" || m.Async != nil || m.Pprof != nil || hasUnknown(m) || hasUnknown(f) {
			return to, false
		}
		return enclosed(to, fieldFlamegraph, func(to []byte) []byte {
			return appendTotals(appendGraph(to, f.Names, f.Levels), f.Total, f.MaxSelf)
		}), true
	case *querierv1.DiffResponse:
		f := m.Flamegraph
		if f == nil || hasUnknown(m) || hasUnknown(f) {
			return to, false
		}
		return enclosed(to, fieldFlamegraph, func(to []byte) []byte {
			to = appendTotals(appendGraph(to, f.Names, f.Levels), f.Total, f.MaxSelf)
			return appendNumber(appendNumber(to, fieldLeftTicks, f.LeftTicks), fieldRightTicks, f.RightTicks)
		}), true
	}
	return to, false
}

// enclosed appends a length-delimited field whose content body appends. It leaves room
// for the longest length, and moves the content down once the length is known.
func enclosed(to []byte, field protowire.Number, body func([]byte) []byte) []byte {
	to = protowire.AppendTag(to, field, protowire.BytesType)
	at := len(to)
	to = body(append(to, make([]byte, binary.MaxVarintLen32)...))
	content := to[at+binary.MaxVarintLen32:]
	head := protowire.AppendVarint(to[:at], uint64(len(content)))
	return append(head, content...)
}

func appendGraph(to []byte, names []string, levels []*querierv1.Level) []byte {
	for _, name := range names {
		to = protowire.AppendString(protowire.AppendTag(to, fieldNames, protowire.BytesType), name)
	}
	for _, l := range levels {
		to = enclosed(to, fieldLevels, func(to []byte) []byte {
			if len(l.Values) == 0 {
				return to
			}
			return enclosed(to, fieldValues, func(to []byte) []byte { return appendNumbers(to, l.Values) })
		})
	}
	return to
}

// appendNumbers appends numbers as varints. An answer has tens of thousands, most of
// several bytes. Three shifts spread a number's bits over its bytes; a loop, whose
// length the processor mispredicts, takes three times as long.
func appendNumbers(to []byte, numbers []int64) []byte {
	for chunk := range slices.Chunk(numbers, 64) {
		to = slices.Grow(to, len(chunk)*binary.MaxVarintLen64)
		room, at := to[:cap(to)], len(to)
		for _, n := range chunk {
			x := uint64(n)
			if x >= 1<<56 {
				at += binary.PutUvarint(room[at:], x)
				continue
			}
			size := uint(bits.Len64(x|1)*9+64) / 64
			x = x&(1<<28-1) | x>>28<<32
			x = x&0x00003fff_00003fff | x&0x0fffc000_0fffc000<<2
			x = x&0x007f007f_007f007f | x&0x3f803f80_3f803f80<<1
			binary.LittleEndian.PutUint64(room[at:], x|0x80808080808080&(1<<((size*8-8)&63)-1))
			at += int(size)
		}
		to = room[:at]
	}
	return to
}

func appendTotals(to []byte, total, maxSelf int64) []byte {
	return appendNumber(appendNumber(to, fieldTotal, total), fieldMaxSelf, maxSelf)
}

// appendNumber appends a number field, and nothing if the number is 0.
func appendNumber(to []byte, field protowire.Number, v int64) []byte {
	if v == 0 {
		return to
	}
	return protowire.AppendVarint(protowire.AppendTag(to, field, protowire.VarintType), uint64(v))
}
