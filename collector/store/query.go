package store

import (
	"context"
	"errors"
	"math"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/reuse"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/symdb"
)

// queries answer what is asked about profiles. They are safe for concurrent use.
type queries struct {
	epochs      *epochs.Set
	kv          *kv.DB
	cache       *budget.Cache
	memory      *budget.Memory
	now         func() time.Time
	concurrency int // as Options.Concurrency
}

// workers is how many jobs of a query run at a time.
func (q *queries) workers() int {
	if q.concurrency > 0 {
		return q.concurrency
	}
	return runtime.GOMAXPROCS(0)
}

// A job is the part of a query that concerns one partition: the streams to read,
// each with one sample type.
type job struct {
	epoch      uint32
	partition  uint32
	streams    []jobStream
	aggregates []*jobAggregate // if all streams of the partition are to be read as one
	senders    []jobSender     // of a state: whose streams they are
	order      int             // of results
	scale      int64           // of a state's sums, see stateScale
}

type jobStream struct {
	id         uint32
	span       span // from its first to its last profile in the query's range, or more
	sampleType int
	labels     labels.Labels // of the series, those that were asked for
	group      *group        // of points: what they are added to
}

// A jobAggregate stands for streams that are in a job too.
type jobAggregate struct {
	aggregate
	streams []jobStream // one for each sample type, of which id and span say nothing
}

// visitStream is a visit of what a stream of a job has. The jobStream may stand for
// several streams, whose labels are the same.
type visitStream func(st *jobStream, w window) error

func (fn visitStream) of(st *jobStream) visit { return func(w window) error { return fn(st, w) } }

// job visits what the streams of a job have in a time.
func (s *jobReader) each(j *job, kind byte, lo, hi int64, fn visitStream) error {
	for _, f := range j.aggregates {
		for i := range f.streams {
			st := &f.streams[i]
			if err := s.service(&f.aggregate, kind, topOf(kind), lo, hi, fn.of(st)); err != nil {
				return err
			}
		}
	}
	if len(j.aggregates) > 0 {
		return nil
	}
	for i := range j.streams {
		st := &j.streams[i]
		from, to := s.within(st.span, lo, hi)
		if err := s.stream(kind, topOf(kind), st.id, from, to, fn.of(st)); err != nil {
			return err
		}
	}
	return nil
}

// A jobReader reads what one job is about. It is not safe for concurrent use.
type jobReader struct {
	*scanner
	q    *queries
	hold *budget.Reservation // whose memory is used, nil for none
}

// dictionary returns a partition as of the reader's snapshot, or later.
func (s *jobReader) dictionary(id uint32) (budget.Ref[*epochs.Partition], error) {
	return s.q.epochs.AcquirePartitionAt(s.from, s.epoch, id)
}

// run does jobs in parallel, with memory of the hold. All see the store as it is now.
func (q *queries) run(ctx context.Context, h *budget.Reservation, jobs []*job, fn func(*job, *jobReader) error) (err error) {
	if len(jobs) == 0 {
		return nil
	}
	snapshot := q.epochs.Snapshot()
	defer func() { err = errors.Join(err, snapshot.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var next atomic.Int64
	var failed sync.Once
	var first error
	work := func() {
		for i := int(next.Add(1)) - 1; i < len(jobs); i = int(next.Add(1)) - 1 {
			if err := q.runOne(ctx, h, snapshot, jobs[i], fn); err != nil {
				failed.Do(func() { first = err })
				cancel()
			}
		}
	}
	// The caller works too, since its stack has grown already: starting a goroutine
	// for each job and growing its stack took 7 % of the time of short queries.
	var helpers sync.WaitGroup
	for range min(q.workers(), len(jobs)) - 1 {
		helpers.Go(work)
	}
	work()
	helpers.Wait()
	return first
}

func (q *queries) runOne(ctx context.Context, h *budget.Reservation, from *epochs.Snapshot, j *job, fn func(*job, *jobReader) error) (err error) {
	defer q.kv.Recover(&err)
	if err := ctx.Err(); err != nil {
		return err
	}
	s := newScanner(ctx, q.kv, from, j.epoch)
	defer func() { err = errors.Join(err, s.close()) }()
	if s.longest, err = q.epochs.LongestOf(j.epoch, j.partition); err != nil {
		return err
	}
	return fn(j, &jobReader{scanner: s, q: q, hold: h})
}

// bytesPerSum is the memory of a node's sum, and of decoding rows that have the node.
const bytesPerSum = 8 + 12

// merge adds up the values of every job's streams by node, of stacktraces that begin
// with the call site if there is one, and calls fn with the sums, in parallel. The
// sums are valid during the call only.
func (q *queries) merge(ctx context.Context, h *budget.Reservation, jobs []*job, sel Selection, callSite []string, fn func(j *job, v *symdb.View, sums []int64) error) error {
	var all atomic.Int64
	return q.run(ctx, h, jobs, func(j *job, s *jobReader) error {
		part, err := s.dictionary(j.partition)
		if err != nil {
			return err
		}
		defer part.Release()
		v := part.Value.View()
		s.subtract = part.Value.Damage == nil
		bytes := int64(len(v.Nodes)) * bytesPerSum
		if err := h.Take(bytes); err != nil {
			return err
		}
		defer h.Give(bytes)
		b := buffers.Get().(*buffer)
		defer buffers.Put(b)
		sums := b.zeros(len(v.Nodes))
		within := v.Within(v.CallOf, callSite)
		total, err := q.mergeJob(s, j, sel, bitpack.Sums{Values: sums}, within)
		if err != nil {
			return err
		}
		if within != nil {
			total = 0
			for n, x := range sums {
				if x != 0 && !within(uint32(n)) {
					x, sums[n] = 0, 0
				}
				total += x
			}
		}
		if all.Add(total) < 0 {
			return storeerr.ErrOverflow
		}
		return fn(j, &v, sums)
	})
}

// mergeJob adds the values of a job's streams to the sums of its partition's nodes,
// which are zero, and returns what they are together. Too much is an error; but if
// within is given, what counts is what is within it, and the sums may be of that
// alone. The caller sets s.subtract.
func (q *queries) mergeJob(s *jobReader, j *job, sel Selection, sums bitpack.Sums, within func(node uint32) bool) (total int64, err error) {
	all, err := q.addJob(s, j, sel, sums, nil)
	if err == nil && all.large() && within != nil {
		clear(sums.Values)
		all, err = q.addJob(s, j, sel, sums, within)
	}
	if err == nil && all.large() {
		err = storeerr.ErrOverflow
	}
	return int64(all.lo), err
}

// addJob is mergeJob of what is within, or of everything if that is nil. If the
// total is large, sums may be wrong.
func (q *queries) addJob(s *jobReader, j *job, sel Selection, sums bitpack.Sums, within func(node uint32) bool) (total wide, err error) {
	if len(j.senders) > 0 {
		return q.addStates(s, j, sel, sums, within)
	}
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	lo, hi := sel.times(j.epoch)
	// Rows of format 2 were not cut, and count at their time.
	whole := s.longest == 0
	add := func(st *jobStream, w window) error {
		if err := b.row.Decode(w.value); err != nil {
			return err
		}
		v, err := b.row.Total(w.level, st.sampleType)
		switch {
		case err != nil:
			return err
		case w.level == layout.LevelFine && !whole && !w.clip.Whole(w.end, int64(b.row.Duration)):
			v, err = b.row.AddShare(sums, st.sampleType, w.sign, w.clip, w.end, within, &b.scratch)
		case within != nil:
			v, err = b.row.AddWithin(sums, st.sampleType, w.sign, within, &b.scratch)
		default:
			err = b.row.AddTo(sums, st.sampleType, w.sign, &b.scratch)
		}
		if err == nil {
			total.add(v, w.sign)
		}
		return err
	}
	switch {
	case sel.hasSpans():
		return s.addSpans(j, &sel, sums, within, b)
	case len(sel.Profiles) > 0:
		whole = true
		err = s.eachProfile(j, layout.KindRow, &sel, add)
	default:
		err = s.each(j, layout.KindRow, lo, hi, add)
	}
	return total, err
}

// A wide is a sum of 128 bits in two's complement: what is added to it may exceed an
// int64 before the rest is taken off.
type wide struct{ hi, lo uint64 }

// add adds v, which is not negative, times a sign.
func (w *wide) add(v, sign int64) {
	var carry uint64
	if sign < 0 {
		w.lo, carry = bits.Sub64(w.lo, uint64(v), 0)
		w.hi -= carry
		return
	}
	w.lo, carry = bits.Add64(w.lo, uint64(v), 0)
	w.hi += carry
}

// large reports whether the sum is more than an int64 holds.
func (w *wide) large() bool { return int64(w.hi) > 0 || w.hi == 0 && w.lo > math.MaxInt64 }

// A buffer is memory for sums by node and for decoding rows, reused between
// queries.
type buffer struct {
	nodes   []int64
	row     rowcodec.PackedRow
	list    rowcodec.PointList
	single  rowcodec.PointValues
	scratch rowcodec.Scratch
}

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// zeros returns n zeros in the buffer's memory.
func (b *buffer) zeros(n int) []int64 {
	b.nodes = reuse.Zeroed(b.nodes, n)
	return b.nodes
}
