package server

import (
	"fmt"
	"unsafe"

	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/flameline/flameline/collector/ingest"
)

// pushPartCost is the memory, in bytes, that the largest part of a PushRequest takes when
// it is decoded, with pointers to it in a slice that grew.
const pushPartCost = int64(unsafe.Sizeof(pushv1.RawProfileSeries{})) + 16

// checkPush bounds the parts of a PushRequest before it is decoded, and takes their memory
// from the push's share: an empty part has two bytes, and takes fifty times as much.
func (l Limits) checkPush(message []byte, json bool, share *pushShare) error {
	if json {
		in := l.Ingest
		in.Reserve = share.spend
		return checked(ingest.CheckJSON(message, in, pushPartCost))
	}
	series, profiles, parts := 0, 0, 0
	count := func(b []byte, base int, each func(num protowire.Number, value []byte, at int) error) error {
		for at := 0; at < len(b); {
			num, typ, n := protowire.ConsumeTag(b[at:])
			if n < 0 {
				return fmt.Errorf("%w, at byte %d of the message", protowire.ParseError(n), base+at)
			}
			size := protowire.ConsumeFieldValue(num, typ, b[at+n:])
			if size < 0 {
				return fmt.Errorf("%w, at byte %d of the message", protowire.ParseError(size), base+at)
			}
			at += n
			if typ == protowire.BytesType {
				value, _ := protowire.ConsumeBytes(b[at:])
				if err := each(num, value, base+at+size-len(value)); err != nil {
					return err
				}
			}
			at += size
		}
		return nil
	}
	part := func(num protowire.Number, _ []byte, _ int) error {
		if num == 2 {
			if profiles++; l.profiles(profiles) != nil {
				return l.profiles(profiles)
			}
		}
		if parts++; l.Ingest.MaxSymbols > 0 && parts > l.Ingest.MaxSymbols {
			return fmt.Errorf("series: more than %d labels and samples (limits.max_symbols)", l.Ingest.MaxSymbols)
		}
		return nil
	}
	err := count(message, 0, func(num protowire.Number, value []byte, at int) error {
		if num != 1 {
			return nil
		}
		series++
		if err := l.series(series); err != nil {
			return err
		}
		return count(value, at, part)
	})
	if err != nil {
		return checked(err)
	}
	return share.spend(int64(series+parts) * pushPartCost)
}

// checked gives an error about a message its code, unless it has one.
func checked(err error) error {
	if err == nil {
		return nil
	}
	return invalidPush(fmt.Errorf("message: %w", err))
}
