package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sync/errgroup"
)

// A job is the part of a query that concerns one partition: the streams to read,
// each with one sample type.
type job struct {
	epoch     uint32
	partition uint32
	streams   []jobStream
	order     int // of results
}

type jobStream struct {
	id         uint32
	sampleType int
	labels     labels.Labels // of the series
}

// selected finds the series of an epoch that match and have profiles in the
// time from start to end. It calls fn for each under the epoch's lock.
func (e *epoch) selected(ms []*labels.Matcher, start, end int64, fn func(s *series, partition uint32)) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	e.candidates(ms, start, end).each(func(i uint32) {
		s := &e.index.series[i]
		fn(s, e.streams[s.stream].partition)
	})
}

func (e *epoch) candidates(ms []*labels.Matcher, start, end int64) seriesSet {
	slots := slotsBetween(e.id, start, end)
	set := newSeriesSet(len(e.index.series))
	for _, s := range e.streams {
		if s.active.overlaps(&slots) {
			for i := range s.def.types {
				set.set(s.series + uint32(i))
			}
		}
	}
	e.index.match(set, ms)
	return set
}

// plan lists the jobs of a selection, in the order of epochs and partitions.
func (db *DB) plan(ctx context.Context, sel Selection) ([]*job, error) {
	if sel.Type.SampleType == "" {
		return nil, fmt.Errorf("%w: profile type: missing", ErrInvalid)
	}
	typ, err := labels.NewMatcher(labels.MatchEqual, labelProfileType, sel.Type.String())
	if err != nil {
		return nil, err
	}
	// The type first: it is the cheapest to look up and narrows most.
	ms := append([]*labels.Matcher{typ}, sel.Matchers...)
	var jobs []*job
	for _, id := range db.epochsBetween(sel.Start, sel.End) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e, err := db.epoch(id)
		if err != nil {
			return nil, err
		}
		by := map[uint32]*job{}
		first := len(jobs)
		e.value.selected(ms, sel.Start, sel.End, func(s *series, partition uint32) {
			j := by[partition]
			if j == nil {
				j = &job{epoch: id, partition: partition}
				by[partition] = j
				jobs = append(jobs, j)
			}
			j.streams = append(j.streams, jobStream{s.stream, s.sampleType, s.labels})
		})
		e.release()
		slices.SortFunc(jobs[first:], func(a, b *job) int { return int(a.partition) - int(b.partition) })
	}
	for i, j := range jobs {
		j.order = i
	}
	return jobs, nil
}

// run does jobs in parallel. All see the store as it is now.
func (db *DB) run(ctx context.Context, jobs []*job, fn func(*job, *scanner) error) error {
	if len(jobs) == 0 {
		return nil
	}
	snapshot := db.pebble.NewSnapshot()
	n := db.options.Concurrency
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(n)
	for _, j := range jobs {
		g.Go(func() error { return db.runOne(ctx, snapshot, j, fn) })
	}
	return errors.Join(g.Wait(), snapshot.Close())
}

func (db *DB) runOne(ctx context.Context, from pebble.Reader, j *job, fn func(*job, *scanner) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := db.newScanner(ctx, from, j.epoch)
	return errors.Join(fn(j, s), s.close())
}

// times are the range of a selection as an interval that is open at the start,
// within an epoch.
func (sel *Selection) times(epoch uint32) (lo, hi int64) {
	base := epochStart(epoch)
	return max(sel.Start-1, base), min(sel.End, base+dayMs)
}

// merge adds up the values of every job's streams by node and calls fn with the
// sums, in parallel. The sums are valid during the call only.
func (db *DB) merge(ctx context.Context, jobs []*job, sel Selection, fn func(j *job, v *view, sums []int64) error) error {
	return db.run(ctx, jobs, func(j *job, s *scanner) error {
		part, err := db.partition(j.epoch, j.partition)
		if err != nil {
			return err
		}
		defer part.release()
		v := part.value.view()
		return db.mergeJob(s, j, sel, &v, func(sums []int64) error { return fn(j, &v, sums) })
	})
}

// mergeJob is merge for one job.
func (db *DB) mergeJob(s *scanner, j *job, sel Selection, v *view, fn func(sums []int64) error) error {
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	sums := b.zeros(len(v.nodes))
	lo, hi := sel.times(j.epoch)
	for _, st := range j.streams {
		err := s.cover(kindRow, levelDay, st.id, lo, hi, func(_ int, _ int64, value []byte) error {
			if err := b.row.decode(value); err != nil {
				return err
			}
			return b.row.addTo(sums, st.sampleType, &b.scratch)
		})
		if err != nil {
			return err
		}
	}
	return fn(sums)
}

// A buffer is memory for sums by node and for decoding rows, reused between
// queries.
type buffer struct {
	nodes   []int64
	row     packedRow
	scratch scratch
}

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// zeros returns n zeros in the buffer's memory.
func (b *buffer) zeros(n int) []int64 {
	b.nodes = zeroed(b.nodes, n)
	return b.nodes
}
