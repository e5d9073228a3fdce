package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/serieslimit"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/symdb"
	"github.com/flameline/flameline/pkg/profile"
)

// An appender stores profiles. It is safe for concurrent use.
type appender struct {
	kv                *kv.DB
	epochs            *epochs.Set
	maxFuture, maxAge time.Duration // as Options.MaxFuture and Options.MaxAge
	claims            claims
	series            *serieslimit.Limit // nil if there is no limit
}

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
	return db.write(func() error { return db.appender.append(ctx, ps) })
}

func (a *appender) append(ctx context.Context, ps []profile.Profile) error {
	began := time.Now()
	now := a.epochs.Now()
	var pieces []piece
	for i, p := range ps {
		cut, err := a.split(p, now, pieces)
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
	end, err := a.claim(ctx, pieces)
	if err != nil {
		return err
	}
	defer end()
	batch := a.kv.Pebble.NewBatch()
	defer batch.Close()
	var finish []func()
	defer func() {
		for _, f := range finish {
			f()
		}
	}()
	profiles, samples, duplicates := 0, 0, 0
	var last *symdb.Profile
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
				done, err := a.appendPiece(batch, part)
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
	a.kv.Metrics.Duplicates.Add(float64(duplicates))
	if batch.Empty() {
		return nil
	}
	if err := a.kv.Commit(batch, pebble.Sync); err != nil {
		return fmt.Errorf("write profiles: %w", err)
	}
	a.kv.Metrics.Profiles.Add(float64(profiles))
	a.kv.Metrics.Samples.Add(float64(samples))
	a.kv.Metrics.RowBytes.Add(float64(batch.Len()))
	a.kv.Metrics.AppendSeconds.Observe(time.Since(began).Seconds())
	return nil
}

// appendPiece adds a piece's row to a batch, and writes what the row refers to,
// or marks the piece as a duplicate. The caller calls the returned function once
// the batch is committed, or not.
func (a *appender) appendPiece(batch *pebble.Batch, p *piece) (done func(), err error) {
	e, s, part, err := a.place(p)
	if err != nil {
		return nil, err
	}
	defer part.Release()
	release := func() {
		e.Value.EndWrite()
		e.Release()
	}
	if p.identified && !p.continues {
		if p.duplicate, err = a.stored(e.Value, s, p); p.duplicate || err != nil {
			release()
			return func() {}, err
		}
	}
	t := symdb.NewImporter(p.source, p.samples)
	defer t.Free()
	var order []uint64
	err = a.epochs.Extend(part.Value, func(d *symdb.Dictionary) { order = t.Nodes(d) })
	if err == nil {
		err = e.Value.Link(s, p.base)
	}
	if err == nil && p.flows() {
		err = e.Value.Lengthen(s.Partition, p.duration)
	}
	if err == nil {
		err = e.Value.BeginRow(s, p.time)
	}
	if err != nil {
		release()
		return nil, err
	}
	slices.Sort(order)
	r := rowcodec.Row{Profiles: 1, Duration: uint64(p.duration)}
	if p.continues {
		r.Parts = 1
	}
	r.Fill(p.samples, len(p.def.Types), order)
	r.Units = p.sampleUnits()
	r.Times = rowcodec.NewTimes(p.stamps, len(p.def.Types), p.time, p.duration)
	batch.Set(layout.ProfileKey(e.Value.ID, layout.KindRow, s.ID, p.time, p.id), r.Append(nil), nil)
	if len(p.tags) > 0 {
		batch.Set(layout.ProfileKey(e.Value.ID, layout.KindSpans, s.ID, p.time, p.id), rowcodec.NewSpans(p.samples, p.tags, len(p.def.Types), order).Append(nil), nil)
	}
	if p.identified && !p.continues {
		batch.Set(layout.IDKey(e.Value.ID, s.ID, p.id), binary.AppendUvarint(nil, uint64(p.time)), nil)
	}
	return func() {
		e.Value.FinishRow(s, p.time)
		release()
	}, nil
}

// place finds or makes the stream of a piece and its partition. A partition with
// a corrupt dictionary cannot grow, so a new one takes its place.
func (a *appender) place(p *piece) (e budget.Ref[*epochs.Epoch], s *labelindex.Stream, part budget.Ref[*epochs.Partition], err error) {
	id := layout.EpochOf(p.time)
	if e, err = a.epochs.Acquire(id); err != nil {
		return e, nil, part, err
	}
	if !e.Value.BeginWrite() {
		e.Release()
		return e, nil, part, fmt.Errorf("%w: time_nanos: older than the retention", storeerr.ErrInvalid)
	}
	a.epochs.Add(id)
	for range 10 { // one, as a rule; more if the cache is too small for a dictionary
		if s, err = e.Value.Stream(&p.def); err != nil {
			break
		}
		if part, err = a.epochs.AcquirePartition(id, s.Partition); err != nil {
			break
		}
		if part.Value.Damage == nil {
			return e, s, part, nil
		}
		part.Release()
		e.Value.Abandon(s)
		err = fmt.Errorf("%w: stacktraces of the day cannot be read: %w", storeerr.ErrUnavailable, part.Value.Damage)
	}
	e.Value.EndWrite()
	e.Release()
	return e, nil, part, err
}
