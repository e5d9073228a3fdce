package epochs

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/watermark"
)

// readWatermark reads an epoch's watermark. In the place of a corrupt one stands what age
// would have dropped; of a day that retention by size may have touched, the single
// profiles too, so that no profile is merged into a window without the others.
func (es *Set) readWatermark(epoch uint32) error {
	value, closer, err := es.KV.Get(layout.WatermarkKey(epoch))
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
		es.KV.Corrupt(fmt.Errorf("read watermark %x: %w", layout.WatermarkKey(epoch), err))
		now := es.Now()
		if h = es.Retention.Outlived(epoch, now); es.Retention.Old(epoch, now) {
			h[layout.LevelFine] = layout.HoursPerEpoch
		}
	}
	es.Watermarks.Set(epoch, h)
	return nil
}

// FirstContributing is the start of the finest window that exists at t: what is read
// from t on includes profiles from there on. What retention may drop before the caller
// takes its snapshot counts as dropped.
func (es *Set) FirstContributing(epoch uint32, t int64) int64 {
	now := es.Now()
	soon := es.Retention.Outlived(epoch, now.Add(time.Hour))
	if es.Retention.MaxBytes.Load() > 0 && es.Retention.Old(epoch, now) {
		soon[layout.LevelFine], soon[layout.LevelSlot] = layout.HoursPerEpoch, layout.HoursPerEpoch
	}
	return es.Watermarks.Of(epoch).Max(soon).Watermark(epoch).FirstContributing(t)
}

// A Snapshot is the store as it is at one moment: its keys, and which rows are
// not to be looked for among them.
type Snapshot struct {
	*pebble.Snapshot
	Watermarks map[uint32]watermark.Hours
}

// Snapshot returns the store as it is now. The caller closes it.
func (es *Set) Snapshot() *Snapshot {
	s := &Snapshot{}
	s.Watermarks = es.Watermarks.Snapshot(func() { s.Snapshot = es.KV.Pebble.NewSnapshot() })
	return s
}
