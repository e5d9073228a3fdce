package epochs

import (
	"sync/atomic"
	"time"

	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/watermark"
)

// A Retention says for how long profiles are kept: the ages above which profiles, and the
// rows of single profiles, of five minutes and of an hour are dropped, and the size above
// which the oldest are. 0 keeps them.
type Retention struct {
	All, Raw, Slot, Hour time.Duration
	MaxBytes             atomic.Int64
}

// fineSteps is the retention of a level from which on its rows are dropped by
// whole days, not by the hour. A day is one range of keys; an hour is one range for
// every stream, and cuts through every file.
const fineSteps = 3 * 24 * time.Hour

// untouched is for how long retention by size leaves rows of every level.
const untouched = 24 * time.Hour

// Expired reports whether an epoch is older than the retention.
func (r *Retention) Expired(epoch uint32, now time.Time) bool {
	return r.All > 0 && layout.EpochStart(epoch)+layout.DayMs < now.Add(-r.All).UnixMilli()
}

// Old reports whether retention by size may drop rows of single levels.
func (r *Retention) Old(epoch uint32, now time.Time) bool {
	return layout.EpochStart(epoch)+layout.DayMs <= now.Add(-untouched).UnixMilli()
}

// of is how long rows of a level are kept; 0 for good. None is kept for
// longer than those of a coarser one.
func (r *Retention) of(level int) time.Duration {
	keep := r.All
	for l, age := range [...]time.Duration{layout.LevelFine: r.Raw, layout.LevelSlot: r.Slot, layout.LevelHour: r.Hour} {
		if l >= level && age > 0 && (keep == 0 || age < keep) {
			keep = age
		}
	}
	return keep
}

// Outlived are the hours of an epoch whose rows are too old.
func (r *Retention) Outlived(epoch uint32, now time.Time) (h watermark.Hours) {
	for level := range h {
		keep := r.of(level)
		if keep == 0 {
			continue
		}
		hours := (now.Add(-keep).UnixMilli() - layout.EpochStart(epoch)) / layout.HourMs
		switch {
		case hours >= layout.HoursPerEpoch:
			h[level] = layout.HoursPerEpoch
		case hours > 0 && keep < fineSteps && level < layout.LevelHour:
			h[level] = uint8(hours)
		}
	}
	return h
}
