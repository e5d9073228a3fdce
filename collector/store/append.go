package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/pkg/profile"
)

// Append stores profiles, all of them or none, and returns when they are on
// disk. Calls that run at the same time share a sync. A profile with an ID that
// its series has already on the same day, in UTC, is a duplicate, also if its time
// differs: it is not stored again. One without an ID never is. Errors about the
// profiles wrap ErrInvalid.
//
// Samples with string labels become series of their own, which have those
// labels too. Samples with a negative value are left out and counted in a
// metric.
//
// An error that wraps ErrUnavailable says that the disk takes no profiles at
// present; some of the call may be stored all the same.
func (db *DB) Append(ctx context.Context, ps []profile.Profile) error {
	return db.write(func() error { return db.append(ctx, ps) })
}

func (db *DB) append(ctx context.Context, ps []profile.Profile) error {
	began := time.Now()
	now := db.options.Now()
	var pieces []piece
	for i, p := range ps {
		cut, err := db.split(p, now, pieces)
		if err != nil {
			if len(ps) > 1 {
				err = fmt.Errorf("profile %d: %w", i, err)
			}
			return err
		}
		pieces = append(pieces, cut...)
	}
	if len(pieces) == 0 {
		return nil
	}
	end, err := db.claim(ctx, pieces)
	if err != nil {
		return err
	}
	defer end()
	batch := db.pebble.NewBatch()
	defer batch.Close()
	var finish []func()
	defer func() {
		for _, f := range finish {
			f()
		}
	}()
	profiles, samples, duplicates := 0, 0, 0
	var last *source
	for i := range pieces {
		p := &pieces[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		if !p.duplicate {
			err := p.eachPart(func(part *piece) error {
				if p.duplicate { // as its first part turned out to be
					return nil
				}
				done, err := db.appendPiece(batch, part)
				if err == nil {
					finish = append(finish, done)
					p.duplicate = part.duplicate
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		if p.duplicate {
			duplicates++
			continue
		}
		if samples += len(p.samples); p.source != last {
			profiles++
			last = p.source
		}
	}
	db.metrics.duplicates.Add(float64(duplicates))
	if batch.Empty() {
		return nil
	}
	if err := db.commit(batch, pebble.Sync); err != nil {
		return fmt.Errorf("write profiles: %w", err)
	}
	db.metrics.profiles.Add(float64(profiles))
	db.metrics.samples.Add(float64(samples))
	db.metrics.rowBytes.Add(float64(batch.Len()))
	db.metrics.appendSeconds.Observe(time.Since(began).Seconds())
	return nil
}

// appendPiece adds a piece's row to a batch, and writes what the row refers to,
// or marks the piece as a duplicate. The caller calls the returned function once
// the batch is committed, or not.
func (db *DB) appendPiece(batch *pebble.Batch, p *piece) (done func(), err error) {
	e, s, part, err := db.place(p)
	if err != nil {
		return nil, err
	}
	defer part.release()
	release := func() {
		e.value.endWrite()
		e.release()
	}
	if p.identified && !p.continues {
		if p.duplicate, err = db.stored(e.value, s, p); p.duplicate || err != nil {
			release()
			return func() {}, err
		}
	}
	t := newTranslator(p)
	defer t.free()
	var order []uint64
	err = db.extend(part.value, func(d *dictionary) { order = t.nodes(d) })
	if err == nil {
		err = e.value.link(db, s, p)
	}
	if err == nil && p.flows() {
		err = e.value.lengthen(db, s.partition, p.duration)
	}
	if err == nil {
		err = e.value.begin(db, s, p.time)
	}
	if err != nil {
		release()
		return nil, err
	}
	slices.Sort(order)
	r := row{profiles: 1, duration: uint64(p.duration)}
	if p.continues {
		r.parts = 1
	}
	r.fill(p, order)
	batch.Set(profileKey(e.value.id, kindRow, s.id, p.time, p.id), r.append(nil), nil)
	if len(p.tags) > 0 {
		batch.Set(profileKey(e.value.id, kindSpans, s.id, p.time, p.id), newSpans(p, order).append(nil), nil)
	}
	if p.identified && !p.continues {
		batch.Set(idKey(e.value.id, s.id, p.id), binary.AppendUvarint(nil, uint64(p.time)), nil)
	}
	return func() {
		e.value.finish(s, p.time)
		release()
	}, nil
}

// place finds or makes the stream of a piece and its partition. A partition with
// a corrupt dictionary cannot grow, so a new one takes its place.
func (db *DB) place(p *piece) (e use[*epoch], s *stream, part use[*partition], err error) {
	id := epochOf(p.time)
	if e, err = db.epoch(id); err != nil {
		return e, nil, part, err
	}
	if !e.value.beginWrite() {
		e.release()
		return e, nil, part, fmt.Errorf("%w: time_nanos: older than the retention", ErrInvalid)
	}
	db.mu.Lock()
	db.epochs[id] = true
	db.mu.Unlock()
	for range 10 { // one, as a rule; more if the cache is too small for a dictionary
		if s, err = e.value.stream(db, &p.def); err != nil {
			break
		}
		if part, err = db.partition(id, s.partition); err != nil {
			break
		}
		if part.value.damage == nil {
			return e, s, part, nil
		}
		part.release()
		e.value.abandon(s)
		err = fmt.Errorf("%w: stacktraces of the day cannot be read: %w", ErrUnavailable, part.value.damage)
	}
	e.value.endWrite()
	e.release()
	return e, nil, part, err
}

// abandon makes the next lookup of a stream create another one, in another
// partition.
func (e *epoch) abandon(s *stream) {
	e.grow.Lock()
	defer e.grow.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if service := s.def.labels.Get(labelServiceName); e.current[service] == s.partition {
		delete(e.current, service)
	}
}

// begin notes that a row is about to be written: windows that hold its time are
// not merged any more. The note is in the log before the row.
func (e *epoch) begin(db *DB, s *stream, t int64) error {
	e.grow.Lock()
	defer e.grow.Unlock()
	f, err := e.familyStream(db, s)
	if err != nil {
		return err
	}
	hour, slot := hourOf(t), uint16(1)<<slotOf(t)
	b := db.pebble.NewBatch()
	defer b.Close()
	known, err := e.noteRow(b, s, f, t)
	if err != nil {
		return err
	}
	if !b.Empty() {
		if err := db.commit(b, pebble.NoSync); err != nil {
			return fmt.Errorf("write hour: %w", err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !known {
		s.noted.add(hour, slot)
		e.note(s, hour, slot)
	}
	now := momentNow()
	for _, s := range []*stream{s, f} {
		o, day := e.openHour(s, hour), e.openHour(s, wholeDay)
		if day.dirty == 0 {
			e.days++
		}
		o.dirty, day.dirty = o.dirty|slot, 1
		o.last[slotOf(t)], day.last[0] = now, now
		for _, o := range []*openHour{o, day} {
			o.flying++
			o.gen++
		}
	}
	e.keep(db)
	return nil
}

// noteRow adds to a batch what has to be on disk before a row of a stream, which
// has a family, and reports whether the index knows its slot. What it makes of
// the hour keeps the streams from being retired.
func (e *epoch) noteRow(b *pebble.Batch, s, f *stream, t int64) (known bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t <= e.refused {
		return false, fmt.Errorf("%w: time_nanos: %s is of a time of which merged rows are kept alone (storage.retention_raw, storage.max_bytes)",
			ErrInvalid, time.UnixMilli(t).UTC().Format(time.RFC3339))
	}
	hour, slot := hourOf(t), uint16(1)<<slotOf(t)
	for _, s := range []*stream{s, f} {
		if e.live[s.id] == nil { // retired since it was looked up
			e.addLive(s)
		}
		if o := e.openHour(s, hour); o.dirty&slot == 0 {
			e.mark(b, s, hour, o.dirty|slot)
			for level := levelSlot; level <= levelHour; level++ {
				end := windowEnd(level, t)
				b.Delete(windowKey(e.id, kindRow, level, s.id, end), nil)
				b.Delete(windowKey(e.id, kindPoints, level, s.id, end), nil)
			}
		}
		if e.openHour(s, wholeDay).dirty == 0 {
			e.mark(b, s, wholeDay, 1)
			b.Delete(windowKey(e.id, kindRow, levelDay, s.id, windowEnd(levelDay, t)), nil)
		}
	}
	if known = s.noted.hour(hour)&slot != 0; !known {
		pending := e.hours[hour].slotsOf(s.id) | slot
		b.Set(pendingKey(e.id, hour, s.id), binary.AppendUvarint(nil, uint64(pending)), nil)
	}
	return known, nil
}

func (e *epoch) openHour(s *stream, hour uint8) *openHour {
	id := hourID{s.id, hour}
	o := e.open[id]
	if o == nil {
		o = &openHour{}
		e.open[id] = o
	}
	return o
}

// mark writes which windows are to be merged. The hour stays open.
func (e *epoch) mark(b *pebble.Batch, s *stream, hour uint8, dirty uint16) {
	b.Set(dirtyKey(e.id, s.id, hour), binary.AppendUvarint(nil, uint64(dirty)), nil)
}

// finish ends what begin began.
func (e *epoch) finish(s *stream, t int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range []uint32{s.id, s.family.id} {
		for _, hour := range []uint8{hourOf(t), wholeDay} {
			e.open[hourID{id, hour}].flying--
		}
	}
}

// fill adds up the values of a piece's samples, given the nodes that
// translator.nodes found, sorted.
func (r *row) fill(p *piece, order []uint64) {
	types := len(p.def.types)
	r.totals = make([]int64, types)
	r.values = make([][]int64, types)
	for c := range r.values {
		r.values[c] = make([]int64, 0, len(order))
	}
	r.nodes = make([]uint32, 0, len(order))
	for _, o := range order {
		n, s := uint32(o>>32), p.samples[uint32(o)]
		if last := len(r.nodes) - 1; last < 0 || r.nodes[last] != n {
			r.nodes = append(r.nodes, n)
			for c := range r.values {
				r.values[c] = append(r.values[c], 0)
			}
		}
		for c, v := range s.Value {
			r.values[c][len(r.nodes)-1] += v
			r.totals[c] += v
		}
	}
}
