package epochs

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

// A Set has the epochs of a store, on disk and in the cache. It is safe for
// concurrent use.
type Set struct {
	KV        *kv.DB
	Cache     *budget.Cache
	Now       func() time.Time
	Retention *Retention

	mu  sync.Mutex
	ids map[uint32]bool // of the epochs on disk

	Watermarks watermark.Table
}

// Open reads which epochs a database has, and loads those with windows or label
// indexes to write.
func Open(kv *kv.DB, cache *budget.Cache, now func() time.Time, keep *Retention) (*Set, error) {
	es := &Set{KV: kv, Cache: cache, Now: now, Retention: keep, ids: map[uint32]bool{}}
	if err := es.FindEpochs(); err != nil {
		return nil, err
	}
	return es, es.pinDirty()
}

// Add notes that an epoch has profiles.
func (es *Set) Add(id uint32) {
	es.mu.Lock()
	defer es.mu.Unlock()
	es.ids[id] = true
}

// Remove notes that an epoch has no profiles any more.
func (es *Set) Remove(id uint32) {
	es.mu.Lock()
	defer es.mu.Unlock()
	delete(es.ids, id)
}

// FindEpochs lists the epochs on disk, by one seek for each.
func (es *Set) FindEpochs() (err error) {
	it, err := es.KV.NewIterator(es.KV.Pebble, nil, layout.EpochKey(layout.MetaEpoch))
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
		if err := es.readWatermark(id); err != nil {
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
func (es *Set) pinDirty() error {
	for _, id := range es.Between(0, 1<<62) {
		for _, kind := range []byte{layout.KindDirty, layout.KindPending} {
			found := errors.New("found")
			err := es.KV.Each(layout.KindKey(id, kind), func(_, _ []byte) error { return found })
			if errors.Is(err, found) {
				var u budget.Ref[*Epoch]
				if u, err = es.Acquire(id); err == nil {
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

// Has reports whether an epoch has profiles. Of one that is dropped it says
// no before the profiles go.
func (es *Set) Has(id uint32) bool {
	es.mu.Lock()
	defer es.mu.Unlock()
	return es.ids[id]
}

// Between lists the epochs with profiles that overlap a range in ms.
func (es *Set) Between(start, end int64) []uint32 {
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

// Acquire returns an epoch, read from disk if it is not in the cache.
func (es *Set) Acquire(id uint32) (budget.Ref[*Epoch], error) {
	u, err := budget.Acquire[*Epoch](es.Cache, budget.Key{Epoch: id, Partition: budget.EpochItself}, func() (budget.Item, error) { return es.loadEpoch(id) })
	if err == nil {
		u.Value.Mu.Lock()
		u.Value.keep()
		u.Value.Mu.Unlock()
	}
	return u, err
}
