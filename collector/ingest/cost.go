package ingest

import (
	"unsafe"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"google.golang.org/protobuf/encoding/protowire"
)

// These are the sizes in memory of the parts of a decoded profile, in bytes, each with
// the pointer to it.
const (
	sampleCost   = int64(unsafe.Sizeof(googlev1.Sample{})) + 8
	labelCost    = int64(unsafe.Sizeof(googlev1.Label{})) + 8
	mappingCost  = int64(unsafe.Sizeof(googlev1.Mapping{})) + 8
	locationCost = int64(unsafe.Sizeof(googlev1.Location{})) + 8 + lineCost
	lineCost     = int64(unsafe.Sizeof(googlev1.Line{})) + 8
	functionCost = int64(unsafe.Sizeof(googlev1.Function{})) + 8
	typeCost     = int64(unsafe.Sizeof(googlev1.ValueType{})) + 8
	stringCost   = int64(unsafe.Sizeof(""))
	numberCost   = 8
)

// A reservation counts the memory of the parts of a profile as they are decoded, and
// reserves, ahead of that, what they take beyond CostPerByte for each byte of the profile.
// Ordinary profiles take no more, but one of many empty parts does: an empty location
// has two bytes, and takes more than a hundred when decoded.
type reservation struct {
	reserve  func(int64) error // nil if memory is not counted
	total    int64             // of the parts
	expected int64             // CostPerByte for each byte
	reserved int64
	err      error // of reserve
}

// newReservation begins to count for a profile. compressed says that CostPerByte was
// reserved during decompression.
func newReservation(raw []byte, compressed bool, l Limits) *reservation {
	r := &reservation{reserve: l.Reserve, expected: int64(len(raw)) * CostPerByte}
	if compressed {
		r.reserved = r.expected
	}
	return r
}

// spend counts parts of n bytes, and reports whether there is memory for them.
func (r *reservation) spend(n int64) bool {
	r.total += n
	if r.reserve == nil || r.total <= r.expected {
		return true
	}
	wanted := r.total + r.total/2 // with checking and storing them
	if r.err == nil && wanted > r.reserved {
		r.err = r.reserve(wanted - r.reserved)
		r.reserved = wanted
	}
	return r.err == nil
}

// spendAll is spend of all parts of a profile, of which some may have been counted.
func (r *reservation) spendAll(raw []byte) bool {
	return r.reserve == nil || r.spend(max(partsCost(raw)-r.total, 0))
}

// partsCost returns the memory that the parts of a profile.proto message take. It stops
// at a broken field, as decoding does.
func partsCost(raw []byte) (total int64) {
	for at := 0; at < len(raw); {
		if to := endOfShort(raw, at); to != 0 && to <= len(raw) {
			total += partCost(int(raw[at]>>3), raw[at+2:to])
			at = to
			continue
		}
		field, wire, _, from, to, ok := next(raw, at)
		switch {
		case !ok: // another wire type, or broken
			if _, _, n := protowire.ConsumeField(raw[at:]); n > 0 {
				at += n
				continue
			}
			return total
		case wire == wireBytes:
			total += partCost(field, raw[from:to])
		}
		at = to
	}
	return total
}

// endOfShort returns the end, which may be beyond that of b, of a field that begins at at,
// if it is of bytes, and tag and length have a byte each; else 0. Most fields are such.
func endOfShort(b []byte, at int) int {
	if at+1 < len(b) && b[at]&0x87 == wireBytes && b[at] > 7 && b[at+1] < 0x80 {
		return at + 2 + int(b[at+1])
	}
	return 0
}

func partCost(field int, part []byte) int64 {
	switch field {
	case 1, 11:
		return typeCost
	case 2:
		// A number has at least one byte.
		return sampleCost + int64(len(part))*numberCost + fieldsOf(part, 3)*labelCost
	case 3:
		return mappingCost
	case 4:
		return locationCost + fieldsOf(part, 4)*lineCost
	case 5:
		return functionCost
	case 6, 13:
		return stringCost
	}
	return 0
}

// fieldsOf counts how often a message has a field.
func fieldsOf(message []byte, number int) (n int64) {
	for at := 0; at < len(message); {
		tag := message[at]
		to := endOfShort(message, at)
		if to == 0 && tag < 0x80 && tag > 7 && tag&7 == wireVarint && at+1 < len(message) && message[at+1] < 0x80 {
			to = at + 2
		}
		if to == 0 || to > len(message) {
			var ok bool
			if _, _, _, _, to, ok = next(message, at); !ok {
				return n
			}
		}
		if int(tag>>3) == number {
			n++
		}
		at = to
	}
	return n
}
