package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

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
		db.metrics.maintenanceErrors.Inc()
		if text := oneLine(err); text != told { // what cannot be read fails every time
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
		errs, err = db.maintainAll(ctx, quiet)
		return err
	})
	return errors.Join(append(errs, err)...)
}

// maintainAll is maintain. errs are those of single days, err what ended it.
func (db *DB) maintainAll(ctx context.Context, quiet time.Duration) (errs []error, err error) {
	db.maintenance.Lock()
	defer db.maintenance.Unlock()
	if db.unpinned.Load() {
		if err := db.pinDirty(); err != nil {
			return nil, err
		}
		db.unpinned.Store(false)
	}
	now := db.options.Now()
	failed := func(id uint32, what string, err error) (end error) {
		if err == nil || ctx.Err() != nil || db.Err() != nil {
			return cmp.Or(ctx.Err(), db.Err())
		}
		db.metrics.failedDays.Inc()
		errs = append(errs, fmt.Errorf("%s of epoch %d: %w", what, id, err))
		return nil
	}
	if err := db.retain(ctx, now, failed); err != nil {
		return errs, fmt.Errorf("retention: %w", err)
	}
	for _, id := range db.epochsBetween(0, 1<<62) {
		entry := db.cache.peek(cacheKey{epoch: id, partition: epochItself})
		if entry == nil {
			continue // no window to merge: it would be pinned
		}
		err := db.mergeEpoch(ctx, entry.value.(*epoch), now.UnixMilli(), quiet)
		db.cache.release(entry)
		if err := failed(id, "merge windows", err); err != nil {
			return errs, err
		}
	}
	return errs, nil
}

// peek is acquire for a value that is in the cache.
func (c *cache) peek(key cacheKey) *entry {
	c.mu.Lock()
	e := c.entries[key]
	c.mu.Unlock()
	if e == nil {
		return nil
	}
	e = c.acquire(key, func() (cached, error) { return nil, errors.New("not in the cache") })
	if e.err != nil {
		c.release(e)
		return nil
	}
	return e
}

// A mergeTask is an hour, or a day, of a stream with windows that can be merged.
type mergeTask struct {
	stream *stream
	hour   uint8
	slots  uint16 // to merge
	rest   uint16 // to leave for later
	over   bool   // the hour is over, and its row can be made too
	gen    uint64
}

// mergeEpoch does what is due in an epoch: merges slots and hours, then days, and
// writes tables of the index. What fails is left for the next time, and the rest done.
func (db *DB) mergeEpoch(ctx context.Context, e *epoch, now int64, quiet time.Duration) (err error) {
	defer db.recovered(&err)
	var errs taskErrors
	members := newMemberLists(db, e)
	for _, t := range e.due(now, quiet) {
		if err := ctx.Err(); err != nil {
			return err
		}
		errs.add(db.mergeWindows(ctx, e, t, members))
	}
	errs.add(db.writeTables(ctx, e, now, quiet))
	errs.add(db.mergeDays(ctx, e, now, quiet))
	e.retire(quiet)
	return errs.join()
}

// taskErrors are what went wrong with the tasks of an epoch, which may be as many as
// it has streams.
type taskErrors struct {
	first []error
	more  int
}

func (e *taskErrors) add(err error) {
	const most = 3
	switch {
	case err == nil:
	case len(e.first) < most:
		e.first = append(e.first, err)
	default:
		e.more++
	}
}

func (e *taskErrors) join() error {
	if e.more > 0 {
		return errors.Join(append(e.first, fmt.Errorf("and %d errors more", e.more))...)
	}
	return errors.Join(e.first...)
}

// due lists the hours with windows to merge.
func (e *epoch) due(now int64, quiet time.Duration) (tasks []mergeTask) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.dropped {
		return nil
	}
	base := epochStart(e.id)
	for id, o := range e.open {
		if id.hour == wholeDay || o.flying > 0 {
			continue
		}
		t := mergeTask{stream: e.live[id.stream], hour: id.hour, gen: o.gen}
		start := base + int64(id.hour)*hourMs
		t.over = start+hourMs <= now
		for i := range uint(slotsPerHour) {
			bit := o.dirty & (1 << i)
			if start+int64(i+1)*slotMs <= now && o.last[i].ago() >= quiet {
				t.slots |= bit
			} else {
				t.rest |= bit
			}
		}
		t.over = t.over && t.rest == 0
		if t.slots != 0 || t.over {
			tasks = append(tasks, t)
		}
	}
	// A family's windows are made of those of its streams.
	slices.SortFunc(tasks, func(a, b mergeTask) int {
		return cmp.Or(cmpBool(a.stream.def.isFamily(), b.stream.def.isFamily()), cmp.Compare(a.stream.partition, b.stream.partition))
	})
	return tasks
}

// cmpBool orders false before true.
func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// mergeWindows writes the merged rows of a task, unless a profile came meanwhile.
func (db *DB) mergeWindows(ctx context.Context, e *epoch, t mergeTask, members *memberLists) (err error) {
	defer db.recovered(&err)
	part, err := db.partition(e.id, t.stream.partition)
	if err != nil {
		return err
	}
	defer part.release()
	from := db.snapshot()
	s := db.newScanner(ctx, from, e.id)
	s.complete = true
	defer func() { err = errors.Join(err, s.close(), from.Close()) }()
	batch := db.pebble.NewBatch()
	defer batch.Close()
	m := newMerger(e.id, t.stream, part.value.view())
	defer m.free()
	var f *family
	if t.stream.def.isFamily() {
		first, end := t.hour, t.hour+1
		if t.hour == wholeDay {
			first, end = 0, hoursPerEpoch
		}
		if f, err = members.of(t.stream, first, end); err != nil {
			return err
		}
	}
	windows := 0
	window := func(level int, lo, hi int64) (err error) {
		var wrote bool
		if f != nil {
			wrote, err = m.mergeFamily(s, f, batch, level, lo, hi)
		} else {
			wrote, err = m.merge(s, batch, level, t.slots, lo, hi)
		}
		if wrote {
			windows++
		}
		return err
	}
	base := epochStart(e.id)
	if t.hour == wholeDay {
		err = window(levelDay, base, base+dayMs)
	} else {
		start := base + int64(t.hour)*hourMs
		for i := range int64(slotsPerHour) {
			if err == nil && t.slots>>i&1 == 1 {
				err = window(levelSlot, start+i*slotMs, start+(i+1)*slotMs)
			}
		}
		if err == nil && t.over {
			err = window(levelHour, start, start+hourMs)
		}
	}
	if err != nil {
		return err
	}
	e.grow.Lock()
	defer e.grow.Unlock()
	id := hourID{t.stream.id, t.hour}
	e.mu.RLock()
	o := e.open[id]
	changed := o == nil || o.gen != t.gen || o.flying > 0 || e.dropped
	e.mu.RUnlock()
	if changed {
		return nil // later, with what came
	}
	if t.over {
		batch.Delete(dirtyKey(e.id, t.stream.id, t.hour), nil)
	} else {
		e.mark(batch, t.stream, t.hour, t.rest)
	}
	if err := db.commit(batch, pebble.NoSync); err != nil {
		return fmt.Errorf("write windows: %w", err)
	}
	db.metrics.windows.Add(float64(windows))
	e.mu.Lock()
	defer e.mu.Unlock()
	if o.dirty = t.rest; t.over {
		delete(e.open, id)
		e.keep(db)
	}
	return nil
}

// A merger merges rows of one stream, all sample types at a time.
type merger struct {
	epoch  uint32
	stream *stream
	sums   [][]int64 // by sample type and node, memory of buffers
	memory []*buffer
	row    packedRow
	tmp    scratch
	times  []int64
	totals [][]int64
	covers []uint64 // of each point, as pointList.covers
}

func newMerger(epoch uint32, s *stream, v view) *merger {
	m := &merger{epoch: epoch, stream: s, totals: make([][]int64, len(s.def.types))}
	for range s.def.types {
		b := buffers.Get().(*buffer)
		m.memory = append(m.memory, b)
		m.sums = append(m.sums, b.zeros(len(v.nodes)))
	}
	return m
}

func (m *merger) free() {
	for _, b := range m.memory {
		buffers.Put(b)
	}
}

// merge writes the row and the points of a window, from rows of the next finer
// level at most. Those of an hour's dirty slots do not count. It reports whether
// the window has any profile.
func (m *merger) merge(s *scanner, b *pebble.Batch, level int, dirty uint16, lo, hi int64) (bool, error) {
	out := m.begin()
	var err error
	switch level {
	case levelSlot:
		err = m.cover(s, &out, levelFine, lo, hi)
	case levelHour:
		for i := range int64(slotsPerHour) {
			top := levelSlot
			if dirty>>i&1 == 1 {
				top = levelFine
			}
			if err == nil {
				err = m.cover(s, &out, top, lo+i*slotMs, lo+(i+1)*slotMs)
			}
		}
	case levelDay: // without points
		err = s.cover(kindRow, levelHour, m.stream.id, lo, hi, func(level int, _ int64, value []byte) error { return m.add(&out, level, value) })
	}
	if err != nil || out.profiles == 0 {
		return false, err
	}
	return true, m.write(b, &out, level, lo, hi)
}

// cover adds the rows and points of a time, from those of level top at most.
func (m *merger) cover(s *scanner, out *row, top int, lo, hi int64) error {
	err := s.cover(kindRow, top, m.stream.id, lo, hi, func(level int, end int64, value []byte) error {
		if err := m.add(out, level, value); err != nil || top > levelFine {
			return err
		}
		return m.addPoint(end)
	})
	if err != nil || top == levelFine {
		return err
	}
	var list pointList
	return s.cover(kindPoints, top, m.stream.id, lo, hi, func(level int, end int64, value []byte) error {
		return m.addPoints(&list, level, end, value)
	})
}

func (m *merger) begin() row {
	m.times, m.covers = m.times[:0], m.covers[:0]
	for c := range m.totals {
		m.totals[c] = m.totals[c][:0]
	}
	return row{totals: make([]int64, len(m.sums)), values: make([][]int64, len(m.sums))}
}

// add adds a row of a level to the sums.
func (m *merger) add(out *row, level int, value []byte) error {
	if err := m.row.decode(value); err != nil {
		return err
	}
	if len(m.row.totals) != len(m.sums) {
		return fmt.Errorf("%w: %d sample types, want %d", ErrCorrupt, len(m.row.totals), len(m.sums))
	}
	if level == levelFine {
		if err := m.row.single(); err != nil {
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
	out.profiles += m.row.profiles
	out.parts += m.row.parts
	out.duration += m.row.duration
	for c, v := range m.row.totals {
		out.totals[c] = addTotals(out.totals[c], v)
	}
	return nil
}

// addType adds the values of a sample type of the row that was decoded last, times
// a sign.
func (m *merger) addType(c int, sign int64) error {
	if m.row.totals[c] == uncounted {
		return nil
	}
	return m.row.addTo(nodeSums{values: m.sums[c]}, c, sign, &m.tmp)
}

// addPoint adds the totals of the row that was decoded last.
func (m *merger) addPoint(time int64) error {
	if len(m.row.totals) != len(m.totals) {
		return fmt.Errorf("%w: %d sample types, want %d", ErrCorrupt, len(m.row.totals), len(m.totals))
	}
	m.times, m.covers = append(m.times, time), append(m.covers, m.row.covers())
	for c, v := range m.row.totals {
		m.totals[c] = append(m.totals[c], v)
	}
	return nil
}

// write writes the sums as a row, and the points.
func (m *merger) write(b *pebble.Batch, out *row, level int, lo, hi int64) error {
	for c, total := range out.totals {
		if total == uncounted {
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
		out.nodes = append(out.nodes, uint32(n))
		for c := range m.sums {
			out.values[c] = append(out.values[c], m.sums[c][n])
			m.sums[c][n] = 0
		}
	}
	if err := b.Set(windowKey(m.epoch, kindRow, level, m.stream.id, hi), out.append(nil), nil); err != nil {
		return err
	}
	if level == levelDay {
		return nil
	}
	return b.Set(windowKey(m.epoch, kindPoints, level, m.stream.id, hi), appendPoints(nil, lo, m.times, m.totals, m.covers), nil)
}
