package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/corruption"
	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/reuse"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/scan"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/symdb"
)

// A maintainer merges windows of time that are over, and drops what is too old or too
// much. It is safe for concurrent use.
type maintainer struct {
	kv     *kv.DB
	epochs *epochs.Set
	log    *slog.Logger

	mu      sync.Mutex     // held during a run
	dropped []droppedRange // whose space is to be given back
}

// maintainEvery merges closed windows and applies retention, until ctx ends.
func (db *DB) maintainEvery(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := db.maintain(ctx, quietTime)
		if err == nil || ctx.Err() != nil {
			told = ""
			continue
		}
		db.metrics.MaintenanceErrors.Inc()
		if text := corruption.OneLine(err); text != told { // what cannot be read fails every time
			told = text
			db.log.Error("store maintenance", "err", text)
		}
	}
}

// maintain does what is due: windows that are over and got no profile for the
// quiet time are merged, what is too old or too much is dropped. An error of one day
// does not keep it from the others; the error has all of them.
func (db *DB) maintain(ctx context.Context, quiet time.Duration) error {
	var errs []error
	err := db.call("maintain", func() (err error) {
		errs, err = db.maintainer.maintainAll(ctx, quiet)
		return err
	})
	return errors.Join(append(errs, err)...)
}

// maintainAll is maintain. errs are those of single days, err what ended it.
func (mt *maintainer) maintainAll(ctx context.Context, quiet time.Duration) (errs []error, err error) {
	mt.mu.Lock()
	defer mt.mu.Unlock()
	now := mt.epochs.Now()
	failed := func(id uint32, what string, err error) (end error) {
		if err == nil || ctx.Err() != nil || mt.kv.Failure.Err() != nil {
			return cmp.Or(ctx.Err(), mt.kv.Failure.Err())
		}
		mt.kv.Metrics.FailedDays.Inc()
		errs = append(errs, fmt.Errorf("%s of epoch %d: %w", what, id, err))
		return nil
	}
	if err := mt.retain(ctx, now, failed); err != nil {
		return errs, fmt.Errorf("retention: %w", err)
	}
	for _, id := range mt.epochs.Between(0, 1<<62) {
		entry := mt.epochs.Cache.Peek(budget.Key{Epoch: id, Partition: budget.EpochItself})
		if entry == nil {
			continue // no window to merge: it would be pinned
		}
		err := mt.mergeEpoch(ctx, entry.Value.(*epochs.Epoch), now.UnixMilli(), quiet)
		mt.epochs.Cache.Release(entry)
		if err := failed(id, "merge windows", err); err != nil {
			return errs, err
		}
	}
	return errs, nil
}

// mergeEpoch does what is due in an epoch: merges slots and hours, then days, and
// writes tables of the index. What fails is left for the next time, and the rest done.
func (mt *maintainer) mergeEpoch(ctx context.Context, e *epochs.Epoch, now int64, quiet time.Duration) (err error) {
	defer mt.kv.Recover(&err)
	var errs epochs.TaskErrors
	contributors := &contributorLists{epoch: e}
	for _, t := range e.Due(now, quiet) {
		if err := ctx.Err(); err != nil {
			return err
		}
		errs.Add(mt.mergeWindows(ctx, e, t, contributors))
	}
	errs.Add(mt.epochs.WriteIndexes(ctx, e, now, quiet))
	errs.Add(mt.mergeDays(ctx, e, now, quiet))
	e.Evict(quiet)
	return errs.Join()
}

// mergeWindows writes the merged rows of a task, unless a profile came meanwhile.
func (mt *maintainer) mergeWindows(ctx context.Context, e *epochs.Epoch, t epochs.MergeTask, contributors *contributorLists) (err error) {
	defer mt.kv.Recover(&err)
	part, err := mt.epochs.AcquirePartition(e.ID, t.Stream.Partition)
	if err != nil {
		return err
	}
	defer part.Release()
	from := mt.epochs.Snapshot()
	s := scan.New(ctx, mt.kv, from, e.ID)
	s.Complete = true
	defer func() { err = errors.Join(err, s.Close(), from.Close()) }()
	batch := mt.kv.Pebble.NewBatch()
	defer batch.Close()
	m := newMerger(e.ID, t.Stream, part.Value.View())
	defer m.free()
	var f *scan.Aggregate
	read := func(kind byte, top int, lo, hi int64, fn scan.Visit) error {
		return s.Stream(kind, top, t.Stream.ID, lo, hi, fn)
	}
	if t.Stream.Def.IsAggregate() {
		first, end := t.Hour, t.Hour+1
		if t.Hour == epochs.WholeDay {
			first, end = 0, layout.HoursPerEpoch
		}
		if f, err = contributors.of(t.Stream, first, end); err != nil {
			return err
		}
		read = func(kind byte, top int, lo, hi int64, fn scan.Visit) error {
			return s.Service(f, kind, top, lo, hi, fn)
		}
	}
	windows := 0
	window := func(level int, lo, hi int64) error {
		if f != nil && len(f.Active(e.ID, lo, hi)) < scan.MinContributors {
			return nil // their own rows serve as well
		}
		wrote, err := m.merge(read, batch, level, lo, hi)
		if wrote {
			windows++
		}
		return err
	}
	base := layout.EpochStart(e.ID)
	if t.Hour == epochs.WholeDay {
		err = window(layout.LevelDay, base, base+layout.DayMs)
	} else {
		start := base + int64(t.Hour)*layout.HourMs
		for i := range int64(layout.SlotsPerHour) {
			if err == nil && t.Slots>>i&1 == 1 {
				err = window(layout.LevelSlot, start+i*layout.SlotMs, start+(i+1)*layout.SlotMs)
			}
		}
		if err == nil && t.Over {
			err = window(layout.LevelHour, start, start+layout.HourMs)
		}
	}
	if err != nil {
		return err
	}
	written, err := e.WriteMerged(batch, t)
	if err != nil {
		return fmt.Errorf("write windows: %w", err)
	}
	if written {
		mt.kv.Metrics.Windows.Add(float64(windows))
	}
	return nil
}

// A merger merges rows of one stream, all sample types at a time.
type merger struct {
	epoch  uint32
	stream *labelindex.Stream
	sums   [][]int64 // by sample type and node, in memory of mergeSums
	row    rowcodec.PackedRow
	tmp    rowcodec.Scratch
	times  []int64
	totals [][]int64
	covers []uint64 // of each point, as PointList.Covers
}

func newMerger(epoch uint32, s *labelindex.Stream, v symdb.View) *merger {
	m := &merger{epoch: epoch, stream: s, totals: make([][]int64, len(s.Def.Types))}
	for range s.Def.Types {
		m.sums = append(m.sums, reuse.Zeroed(*mergeSums.Get().(*[]int64), len(v.Nodes)))
	}
	return m
}

func (m *merger) free() {
	for i := range m.sums {
		mergeSums.Put(&m.sums[i])
	}
}

// mergeSums is memory for sums by node, reused between windows.
var mergeSums = sync.Pool{New: func() any { return new([]int64) }}

// merge writes the row and, below a day, the points of a window, from what is read of the
// next finer level at most. It reports whether the window has any profile.
func (m *merger) merge(read func(kind byte, top int, lo, hi int64, fn scan.Visit) error, b *pebble.Batch, level int, lo, hi int64) (bool, error) {
	out := m.begin()
	single := level == layout.LevelSlot && !m.stream.Def.IsAggregate() // all rows are profiles'
	err := read(layout.KindRow, level-1, lo, hi, func(w scan.Window) error {
		if err := m.add(&out, w); err != nil || !single {
			return err
		}
		return m.addPoint(w.End)
	})
	if err != nil || out.Profiles == 0 {
		return false, err
	}
	if !single && level < layout.LevelDay {
		var list rowcodec.PointList
		if err := read(layout.KindPoints, level-1, lo, hi, func(w scan.Window) error { return m.addPoints(&list, w) }); err != nil {
			return false, err
		}
	}
	m.sortPoints()
	return true, m.write(b, &out, level, lo, hi)
}

func (m *merger) begin() rowcodec.Row {
	m.times, m.covers = m.times[:0], m.covers[:0]
	for c := range m.totals {
		m.totals[c] = m.totals[c][:0]
	}
	r := rowcodec.Row{Totals: make([]int64, len(m.sums)), Values: make([][]int64, len(m.sums))}
	if !counted(m.stream.Def.Types) {
		r.Units = make([]int64, len(m.sums))
	}
	return r
}

// add adds a row to the sums.
func (m *merger) add(out *rowcodec.Row, w scan.Window) error {
	if err := m.row.Decode(w.Value); err != nil {
		return err
	}
	if len(m.row.Totals) != len(m.sums) {
		return fmt.Errorf("%w: %d sample types, want %d", storeerr.ErrCorrupt, len(m.row.Totals), len(m.sums))
	}
	if w.Level == layout.LevelFine {
		if err := m.row.Single(); err != nil {
			return err
		}
	}
	for c := range m.sums {
		if err := m.addType(c, 1); err != nil {
			for before := range c {
				err = errors.Join(err, m.addType(before, -1))
			}
			return err
		}
	}
	out.Profiles += m.row.Profiles
	out.Parts += m.row.Parts
	out.Duration += m.row.Duration
	for c, v := range m.row.Totals {
		out.Totals[c] = bitpack.AddTotals(out.Totals[c], v)
		if out.Units != nil {
			out.Units[c] = rowcodec.CommonUnit(out.Units[c], m.row.Unit(c))
		}
	}
	return nil
}

// addType adds the values of a sample type of the row that was decoded last, times
// a sign.
func (m *merger) addType(c int, sign int64) error {
	if m.row.Totals[c] == bitpack.Overflowed {
		return nil
	}
	return m.row.AddTo(bitpack.Sums{Values: m.sums[c]}, c, sign, &m.tmp)
}

// addPoint adds the totals of the row that was decoded last.
func (m *merger) addPoint(time int64) error {
	if len(m.row.Totals) != len(m.totals) {
		return fmt.Errorf("%w: %d sample types, want %d", storeerr.ErrCorrupt, len(m.row.Totals), len(m.totals))
	}
	m.times, m.covers = append(m.times, time), append(m.covers, m.row.Covers())
	for c, v := range m.row.Totals {
		m.totals[c] = append(m.totals[c], v)
	}
	return nil
}

// write writes the sums as a row, and the points.
func (m *merger) write(b *pebble.Batch, out *rowcodec.Row, level int, lo, hi int64) error {
	for c, total := range out.Totals {
		if total == bitpack.Overflowed {
			clear(m.sums[c])
		}
	}
	for n := range m.sums[0] {
		any := false
		for c := range m.sums {
			any = any || m.sums[c][n] != 0
		}
		if !any {
			continue
		}
		out.Nodes = append(out.Nodes, uint32(n))
		for c := range m.sums {
			out.Values[c] = append(out.Values[c], m.sums[c][n])
			m.sums[c][n] = 0
		}
	}
	if err := b.Set(layout.WindowKey(m.epoch, layout.KindRow, level, m.stream.ID, hi), out.Append(nil), nil); err != nil {
		return err
	}
	if level == layout.LevelDay {
		return nil
	}
	return b.Set(layout.WindowKey(m.epoch, layout.KindPoints, level, m.stream.ID, hi), rowcodec.AppendPoints(nil, lo, m.times, m.totals, m.covers), nil)
}
