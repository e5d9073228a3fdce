package store

import (
	"cmp"
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
	labels     labels.Labels // of the series, those that were asked for
}

// A streamSet is a bitmap by stream number.
type streamSet []uint64

// add reports whether the stream was not in the set.
func (s *streamSet) add(stream uint32) bool {
	for int(stream/64) >= len(*s) {
		*s = append(*s, 0)
	}
	word, bit := &(*s)[stream/64], uint64(1)<<(stream%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

// plan lists the jobs of a selection, in the order of epochs and partitions.
func (db *DB) plan(ctx context.Context, sel Selection) ([]*job, error) {
	return db.planBy(ctx, sel, nil)
}

// planBy is plan with the labels of the given names for every stream.
func (db *DB) planBy(ctx context.Context, sel Selection, names []string) ([]*job, error) {
	if sel.Type.SampleType == "" {
		return nil, fmt.Errorf("%w: profile type: missing", ErrInvalid)
	}
	typ, err := labels.NewMatcher(labels.MatchEqual, labelProfileType, sel.Type.String())
	if err != nil {
		return nil, err
	}
	ms := append([]*labels.Matcher{typ}, sel.Matchers...)
	type epochPartition struct{ epoch, partition uint32 }
	by := map[epochPartition]*job{}
	seen := map[uint32]*streamSet{}
	var jobs []*job
	err = db.eachTable(ctx, sel.Start, sel.End, func(epoch uint32, t *table, slots uint16) error {
		p, err := t.pick(ms, slots)
		if err != nil || len(p.rows) == 0 {
			return err
		}
		var project *projection
		if len(names) > 0 {
			if project, err = t.project(names); err != nil {
				return err
			}
		}
		if seen[epoch] == nil {
			seen[epoch] = &streamSet{}
		}
		var j *job
		for _, row := range p.rows {
			if !seen[epoch].add(t.streams[row]) {
				continue // it was in an earlier hour
			}
			if at := (epochPartition{epoch, t.partitions[row]}); j == nil || j.epoch != at.epoch || j.partition != at.partition {
				if j = by[at]; j == nil {
					j = &job{epoch: at.epoch, partition: at.partition}
					by[at] = j
					jobs = append(jobs, j)
				}
			}
			for _, i := range p.types[t.kindOf[row]] {
				st := jobStream{id: t.streams[row], sampleType: i}
				if project != nil {
					st.labels = project.of(row, i)
				}
				j.streams = append(j.streams, st)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(jobs, func(a, b *job) int {
		return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.partition, b.partition))
	})
	for i, j := range jobs {
		j.order = i
		slices.SortStableFunc(j.streams, func(a, b jobStream) int { return cmp.Compare(a.id, b.id) })
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
