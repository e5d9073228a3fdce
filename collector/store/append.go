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
// disk. Calls that run at the same time share a sync. A profile of a series
// that was stored with the same ID and time replaces it; one without an ID is
// never a duplicate. Errors about the profiles wrap ErrInvalid.
//
// Samples with string labels become series of their own, which have those
// labels too. Samples with a negative value are left out and counted in a
// metric.
//
// An error that wraps ErrUnavailable says that the disk takes no profiles at
// present; some of the call may be stored all the same.
func (db *DB) Append(ctx context.Context, ps []profile.Profile) (err error) {
	defer func() {
		if db.heal(err) {
			err = db.Append(ctx, ps)
		}
	}()
	// A write that the disk does not take never returns; the call has to.
	type result struct {
		err      error
		panicked any
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			r.panicked = recover()
			done <- r
		}()
		r.err = db.append(ctx, ps)
	}()
	select {
	case r := <-done:
		if r.panicked != nil {
			panic(r.panicked)
		}
		return r.err
	case <-db.Failed():
		return db.Err()
	}
}

func (db *DB) append(ctx context.Context, ps []profile.Profile) error {
	leave, err := db.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := db.Writable(); err != nil {
		return err
	}
	began := time.Now()
	now := db.options.Now()
	var pieces []piece
	for i, p := range ps {
		cut, err := db.split(p, now)
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
	batch := db.pebble.NewBatch()
	defer batch.Close()
	var finish []func()
	defer func() {
		for _, f := range finish {
			f()
		}
	}()
	samples := 0
	for i := range pieces {
		if err := ctx.Err(); err != nil {
			return err
		}
		done, err := db.appendPiece(batch, &pieces[i])
		if err != nil {
			return err
		}
		finish = append(finish, done)
		samples += len(pieces[i].samples)
	}
	if err := db.commit(batch, pebble.Sync); err != nil {
		return fmt.Errorf("write profiles: %w", err)
	}
	db.metrics.profiles.Add(float64(len(ps)))
	db.metrics.samples.Add(float64(samples))
	db.metrics.rowBytes.Add(float64(batch.Len()))
	db.metrics.appendSeconds.Observe(time.Since(began).Seconds())
	return nil
}

// appendPiece adds a piece's row to a batch, and writes what the row refers to.
// The caller calls the returned function once the batch is committed, or not.
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
	r := row{profiles: 1, duration: uint64(p.duration)}
	err = db.extend(part.value, func(d *dictionary) { r.fill(d, p) })
	if err == nil {
		err = e.value.begin(db, s, p.time)
	}
	if err != nil {
		release()
		return nil, err
	}
	key := binary.BigEndian.AppendUint64(windowKey(e.value.id, kindRow, levelFine, s.id, p.time), p.id)
	if err := batch.Set(key, r.append(nil), nil); err != nil {
		e.value.finish(s, p.time)
		release()
		return nil, err
	}
	return func() {
		e.value.finish(s, p.time)
		release()
	}, nil
}

// place finds or makes the stream of a piece and its partition. A partition with
// a damaged dictionary cannot grow, so a new one takes its place.
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
	for {
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
	if key := string(s.def.append(nil)); e.byKey[key] == s {
		delete(e.byKey, key)
	}
}

// begin notes that a row is about to be written: windows that hold its time are
// not merged any more. The note is in the log before the row.
func (e *epoch) begin(db *DB, s *stream, t int64) error {
	e.grow.Lock()
	defer e.grow.Unlock()
	hour, slot := hourOf(t), uint16(1)<<slotOf(t)
	b := db.pebble.NewBatch()
	defer b.Close()
	e.mu.Lock()
	o, day := e.openHour(s, hour), e.openHour(s, wholeDay)
	if o.dirty&slot == 0 {
		e.mark(b, s, hour, o.dirty|slot)
		for level := levelSlot; level <= levelHour; level++ {
			end := windowEnd(level, t)
			b.Delete(windowKey(e.id, kindRow, level, s.id, end), nil)
			b.Delete(windowKey(e.id, kindPoints, level, s.id, end), nil)
		}
	}
	if day.dirty == 0 {
		e.mark(b, s, wholeDay, 1)
		b.Delete(windowKey(e.id, kindRow, levelDay, s.id, windowEnd(levelDay, t)), nil)
	}
	active := s.active.hour(hour)
	if active&slot == 0 {
		b.Set(hourKey(e.id, kindActive, s.id, hour), binary.AppendUvarint(nil, uint64(active|slot)), nil)
	}
	e.mu.Unlock()
	if !b.Empty() {
		if err := db.commit(b, pebble.NoSync); err != nil {
			return fmt.Errorf("write hour: %w", err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	o.dirty |= slot
	day.dirty = 1
	s.active.add(hour, slot)
	for _, o := range []*openHour{o, day} {
		o.flying++
		o.gen++
	}
	o.last[slotOf(t)] = time.Now()
	day.last[0] = time.Now()
	e.keep(db)
	return nil
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
	b.Set(hourKey(e.id, kindDirty, s.id, hour), binary.AppendUvarint(nil, uint64(dirty)), nil)
}

// finish ends what begin began.
func (e *epoch) finish(s *stream, t int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, hour := range []uint8{hourOf(t), wholeDay} {
		e.open[hourID{s.id, hour}].flying--
	}
}

// fill translates a piece's samples into nodes of a dictionary, which grows by
// what it does not know.
func (r *row) fill(d *dictionary, p *piece) {
	t := translator{source: p.source, to: d, locations: make([]uint32, len(p.source.Location))}
	d.find()
	order := make([]uint64, len(p.samples)) // node and sample, to sort
	for i, s := range p.samples {
		n := uint32(0)
		for j := len(s.LocationId) - 1; j >= 0; j-- {
			n = d.addNode(n, t.location(s.LocationId[j]))
		}
		order[i] = uint64(n)<<32 | uint64(i)
	}
	slices.Sort(order)
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

// A translator finds a pprof profile's parts in a dictionary, each once.
type translator struct {
	source    *source
	to        *dictionary
	locations []uint32 // by index: number plus one
	functions []uint32
	mappings  []uint32
	strings   []uint32
	lines     []line
}

func (t *translator) location(id uint64) uint32 {
	i, _ := t.source.locations.index(id)
	if n := t.locations[i]; n != 0 {
		return n - 1
	}
	l := t.source.Location[i]
	loc := location{mapping: t.mapping(l.MappingId), folded: l.IsFolded, address: l.Address}
	if t.to.mappings[loc.mapping].flags&hasFunctions != 0 {
		// The mapping's range is not kept: make the address relative to it.
		if loc.address = 0; len(l.Line) == 0 {
			j, _ := t.source.mappings.index(l.MappingId)
			m := t.source.Mapping[j]
			loc.address = l.Address - m.MemoryStart + m.FileOffset
		}
	}
	t.lines = t.lines[:0]
	for _, ln := range l.Line {
		t.lines = append(t.lines, line{t.function(ln.FunctionId), ln.Line})
	}
	n := t.to.addLocation(loc, t.lines)
	t.locations[i] = n + 1
	return n
}

func (t *translator) function(id uint64) uint32 {
	if t.functions == nil {
		t.functions = make([]uint32, len(t.source.Function))
	}
	i, _ := t.source.functions.index(id)
	if n := t.functions[i]; n != 0 {
		return n - 1
	}
	f := t.source.Function[i]
	n := t.to.addFunction(function{
		name: t.string(f.Name), systemName: t.string(f.SystemName), file: t.string(f.Filename), startLine: f.StartLine,
	})
	t.functions[i] = n + 1
	return n
}

func (t *translator) mapping(id uint64) uint32 {
	if id == 0 {
		return 0
	}
	if t.mappings == nil {
		t.mappings = make([]uint32, len(t.source.Mapping))
	}
	i, _ := t.source.mappings.index(id)
	if n := t.mappings[i]; n != 0 {
		return n - 1
	}
	m := t.source.Mapping[i]
	to := mapping{file: t.string(m.Filename), buildID: t.string(m.BuildId), start: m.MemoryStart, limit: m.MemoryLimit, offset: m.FileOffset}
	for bit, has := range []bool{m.HasFunctions, m.HasFilenames, m.HasLineNumbers, m.HasInlineFrames} {
		if has {
			to.flags |= 1 << bit
		}
	}
	if to.flags&hasFunctions != 0 {
		to.start, to.limit, to.offset = 0, 0, 0
	}
	n := t.to.addMapping(to)
	t.mappings[i] = n + 1
	return n
}

// string finds a string once, as system names are most often names and files
// have many functions. Index 0 is "", whatever a profile says.
func (t *translator) string(i int64) uint32 {
	if i == 0 {
		return 0
	}
	if t.strings == nil {
		t.strings = make([]uint32, len(t.source.StringTable))
	}
	if t.strings[i] == 0 {
		t.strings[i] = t.to.addString(t.source.StringTable[i]) + 1
	}
	return t.strings[i] - 1
}
