package store

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
)

// A sender is what pushes the profiles of one set of labels: a process, say. Samples
// with labels of their own are streams of their own. When a state was taken is known
// by the sender's stream without such labels, its base: a stream that lacks a
// snapshot then was at zero. So the base has a row for every profile of states, also
// if all samples have labels, and the other streams have a link to it on disk.

// withBase adds the base to the pieces of a profile that has states, by the key of
// their samples' labels, if there are samples with labels or all are at zero.
func withBase(pieces []piece, by map[string]int, proto piece, base labels.Labels) []piece {
	if proto.source.States == 0 || len(proto.source.Sample) == 0 {
		return pieces
	}
	at, ok := by[""]
	if ok && len(pieces) == 1 {
		return pieces
	}
	if !ok {
		at = len(pieces)
		p := proto
		p.def.Labels = withService(base)
		pieces = append(pieces, p)
	}
	for i := range pieces {
		if i != at {
			pieces[i].base = &pieces[at].def
		}
	}
	return pieces
}

// link writes which stream is the base of a stream, by its definition, unless it is known to be
// written. The write is in the log before any later one, but not synced.
func (e *epoch) link(s *labelindex.Stream, to *labelindex.Definition) error {
	e.mu.RLock()
	linked := s.Linked
	e.mu.RUnlock()
	if to == nil || linked {
		return nil
	}
	base, err := e.stream(to)
	if err != nil || base == s {
		return err
	}
	value := binary.AppendUvarint(nil, uint64(base.ID))
	if err := e.set.kv.Set(layout.SenderKey(e.id, s.ID), value, pebble.NoSync); err != nil {
		return err
	}
	e.mu.Lock()
	s.Linked = true
	e.mu.Unlock()
	return nil
}

// links are the bases of an epoch's streams that have one, as of a snapshot.
func (es *epochSet) links(from *snapshot, epoch uint32) (map[uint32]uint32, error) {
	var out map[uint32]uint32
	prefix := layout.KindKey(epoch, layout.KindSender)
	err := es.kv.EachIn(from, prefix, layout.After(prefix), func(key, value []byte) error {
		r := bitpack.Decoder{Data: value}
		base := r.Below(budget.EpochItself, "base")
		if err := r.End(); err != nil || len(key) != 9 {
			es.kv.Corrupt(err)
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

// longestOf is the longest time that a row of a partition covers, in ms.
func (es *epochSet) longestOf(epoch, partition uint32) (int64, error) {
	e, err := es.epoch(epoch)
	if err != nil {
		return 0, err
	}
	defer e.Release()
	return e.Value.longestOf(partition), nil
}

func (e *epoch) longestOf(partition uint32) int64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return max(e.longest[partition], e.defaultLongest)
}

// lengthen notes how long a row covers before the row is written, so that queries
// look back far enough. Notes are rounded up, since each is a write.
func (e *epoch) lengthen(partition uint32, duration int64) error {
	e.mu.RLock()
	noted := e.longest[partition]
	e.mu.RUnlock()
	if duration <= noted {
		return nil
	}
	longest := int64(layout.SlotMs)
	for _, ms := range []int64{5000, 10500, 15500, 20500, 31000, 61000, 121000} {
		if duration <= ms {
			longest = ms
			break
		}
	}
	value := binary.AppendUvarint(nil, uint64(longest))
	if err := e.set.kv.Set(layout.LongestKey(e.id, partition), value, pebble.NoSync); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.longest[partition] = max(e.longest[partition], longest)
	return nil
}

// readLongest reads what lengthen wrote.
func (e *epoch) readLongest(key, value []byte) error {
	r := bitpack.Decoder{Data: value}
	longest := r.Below(layout.SlotMs+1, "time")
	if err := r.End(); err != nil || len(key) != 9 {
		e.set.kv.Corrupt(err)
		longest = layout.SlotMs // to look back too far does no harm
	}
	if len(key) == 9 {
		e.longest[binary.BigEndian.Uint32(key[5:])] = int64(longest)
	}
	return nil
}
