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
		if len(key) != 9 {
			es.KV.Corrupt(fmt.Errorf("read sender %x: %w: key names no stream", key, storeerr.ErrCorrupt))
			return nil
		}
		r := bitpack.Decoder{Data: value}
		base := r.Below(budget.EpochItself, "base")
		if err := r.End(); err != nil {
			es.KV.Corrupt(err)
			return nil
		}
		if out == nil {
			out = map[uint32]uint32{}
		}
		out[binary.BigEndian.Uint32(key[5:])] = base
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
	if len(key) != 9 {
		e.Set.KV.Corrupt(fmt.Errorf("read longest %x: %w: key names no service", key, storeerr.ErrCorrupt))
		return nil
	}
	r := bitpack.Decoder{Data: value}
	longest := r.Below(layout.SlotMs+1, "time")
	if err := r.End(); err != nil {
		e.Set.KV.Corrupt(err)
		longest = layout.SlotMs // to look back too far does no harm
	}
	e.longest[binary.BigEndian.Uint32(key[5:])] = int64(longest)
	return nil
}
