package epochs

import (
	"encoding/binary"
	"fmt"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// Links are the bases of an epoch's streams that have one, as of a snapshot.
func (es *Set) Links(from *Snapshot, epoch uint32) (map[uint32]uint32, error) {
	var out map[uint32]uint32
	prefix := layout.KindKey(epoch, layout.KindSender)
	err := es.KV.EachIn(from, prefix, layout.After(prefix), func(key, value []byte) error {
		n, base, err := readNumber(key, value, budget.EpochItself, "base")
		if err != nil {
			es.KV.Corrupt(err)
			return nil
		}
		if out == nil {
			out = map[uint32]uint32{}
		}
		out[n] = base
		return nil
	})
	return out, kv.WithoutGaps(err)
}

// LongestOf is the longest time that a row of a partition covers, in ms.
func (es *Set) LongestOf(epoch, partition uint32) (int64, error) {
	e, err := es.Acquire(epoch)
	if err != nil {
		return 0, err
	}
	defer e.Release()
	return e.Value.longestOf(partition), nil
}

func (e *Epoch) longestOf(partition uint32) int64 {
	e.Mu.RLock()
	defer e.Mu.RUnlock()
	return max(e.longest[partition], e.defaultLongest)
}

// readLongest reads what lengthen wrote.
func (e *Epoch) readLongest(key, value []byte) error {
	partition, longest, err := readNumber(key, value, layout.SlotMs+1, "time")
	if err != nil {
		e.Set.KV.Corrupt(err)
		longest = layout.SlotMs // to look back too far does no harm
	}
	if len(key) == 9 {
		e.longest[partition] = int64(longest)
	}
	return nil
}

// readNumber reads a number below a limit, and which number its key ends with.
func readNumber(key, value []byte, limit int, what string) (of, n uint32, err error) {
	if len(key) != 9 {
		return 0, 0, fmt.Errorf("read %x: %w: key names none", key, storeerr.ErrCorrupt)
	}
	r := bitpack.Decoder{Data: value}
	n = r.Below(limit, what)
	return binary.BigEndian.Uint32(key[5:]), n, r.End()
}
