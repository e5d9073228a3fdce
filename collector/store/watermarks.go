package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/watermark"
)

// findWatermark reads an epoch's watermark. In the place of a corrupt one stands what age
// would have dropped; of a day that retention by size may have touched, the single
// profiles too, so that no profile is merged into a window without the others.
func (es *epochSet) findWatermark(epoch uint32) error {
	value, closer, err := es.kv.Get(layout.WatermarkKey(epoch))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil && !errors.Is(err, storeerr.ErrCorrupt) {
		return fmt.Errorf("read watermark %x: %w", layout.WatermarkKey(epoch), err)
	}
	var h watermark.Hours
	if err == nil {
		h, err = watermark.Read(value)
		err = errors.Join(err, closer.Close())
	}
	if err != nil {
		es.kv.Corrupt(fmt.Errorf("read watermark %x: %w", layout.WatermarkKey(epoch), err))
		now := es.now()
		if h = es.retention.outlived(epoch, now); es.retention.old(epoch, now) {
			h[layout.LevelFine] = layout.HoursPerEpoch
		}
	}
	es.watermarks.Set(epoch, h.Watermark(epoch))
	return nil
}

// firstContributing is the start of the finest window that exists at t: what is read
// from t on includes profiles from there on. What retention may drop before the caller
// takes its snapshot counts as dropped.
func (es *epochSet) firstContributing(epoch uint32, t int64) int64 {
	now := es.now()
	soon := es.retention.outlived(epoch, now.Add(time.Hour))
	if es.retention.maxBytes.Load() > 0 && es.retention.old(epoch, now) {
		soon[layout.LevelFine], soon[layout.LevelSlot] = layout.HoursPerEpoch, layout.HoursPerEpoch
	}
	return es.watermarks.Of(epoch).Max(soon.Watermark(epoch)).FirstContributing(t)
}

// A snapshot is the store as it is at one moment: its keys, and which rows are
// not to be looked for among them.
type snapshot struct {
	*pebble.Snapshot
	watermarks map[uint32]watermark.Watermark
}

// snapshot returns the store as it is now. The caller closes it.
func (es *epochSet) snapshot() *snapshot {
	s := &snapshot{}
	s.watermarks = es.watermarks.Snapshot(func() { s.Snapshot = es.kv.Pebble.NewSnapshot() })
	return s
}
