package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/watermark"
)

// An epochSet has the epochs of a store, on disk and in the cache. It is safe for
// concurrent use.
type epochSet struct {
	kv        *kv.DB
	cache     *budget.Cache
	now       func() time.Time
	retention *retention

	mu  sync.Mutex
	ids map[uint32]bool // of the epochs on disk

	watermarks watermark.Table
}

// openEpochs reads which epochs a database has, and loads those with windows or label
// indexes to write.
func openEpochs(kv *kv.DB, cache *budget.Cache, now func() time.Time, keep *retention) (*epochSet, error) {
	es := &epochSet{kv: kv, cache: cache, now: now, retention: keep, ids: map[uint32]bool{}}
	if err := es.findEpochs(); err != nil {
		return nil, err
	}
	return es, es.pinDirty()
}

// add notes that an epoch has profiles.
func (es *epochSet) add(id uint32) {
	es.mu.Lock()
	defer es.mu.Unlock()
	es.ids[id] = true
}

// remove notes that an epoch has no profiles any more.
func (es *epochSet) remove(id uint32) {
	es.mu.Lock()
	defer es.mu.Unlock()
	delete(es.ids, id)
}

// findEpochs lists the epochs on disk, by one seek for each.
func (es *epochSet) findEpochs() (err error) {
	it, err := es.kv.NewIterator(es.kv.Pebble, nil, layout.EpochKey(layout.MetaEpoch), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.SeekGE(nil); ok; {
		if len(it.Key()) < 4 {
			return fmt.Errorf("%w: key %x", storeerr.ErrCorrupt, it.Key())
		}
		id := binary.BigEndian.Uint32(it.Key())
		es.ids[id] = true
		if err := es.findWatermark(id); err != nil {
			return err
		}
		if id == layout.MetaEpoch-1 {
			break
		}
		ok = it.SeekGE(layout.EpochKey(id + 1))
	}
	return it.Error()
}

// pinDirty loads the epochs that have windows or tables to write, so that the
// next maintenance goes on where the last run ended.
func (es *epochSet) pinDirty() error {
	for _, id := range es.epochsBetween(0, 1<<62) {
		for _, kind := range []byte{layout.KindDirty, layout.KindPending} {
			found := errors.New("found")
			err := es.kv.Each(layout.KindKey(id, kind), func(_, _ []byte) error { return found })
			if errors.Is(err, found) {
				var u budget.Ref[*epoch]
				if u, err = es.epoch(id); err == nil {
					u.Release()
				}
			}
			if kv.WithoutGaps(err) != nil {
				return err
			}
		}
	}
	return nil
}

// hasEpoch reports whether an epoch has profiles. Of one that is dropped it says
// no before the profiles go.
func (es *epochSet) hasEpoch(id uint32) bool {
	es.mu.Lock()
	defer es.mu.Unlock()
	return es.ids[id]
}

// epochsBetween lists the epochs with profiles that overlap a range in ms.
func (es *epochSet) epochsBetween(start, end int64) []uint32 {
	if end < 1 || start > end {
		return nil
	}
	const last = int64(layout.MetaEpoch-1) * layout.DayMs // later times have no epoch
	lo, hi := layout.EpochOf(min(max(start, 1), last)), layout.EpochOf(min(end, last))
	es.mu.Lock()
	defer es.mu.Unlock()
	var out []uint32
	for id := range es.ids {
		if id >= lo && id <= hi {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// epoch returns an epoch, read from disk if it is not in the cache.
func (es *epochSet) epoch(id uint32) (budget.Ref[*epoch], error) {
	u, err := budget.Acquire[*epoch](es.cache, budget.Key{Epoch: id, Partition: budget.EpochItself}, func() (budget.Item, error) { return es.loadEpoch(id) })
	if err == nil {
		u.Value.mu.Lock()
		u.Value.keep()
		u.Value.mu.Unlock()
	}
	return u, err
}
