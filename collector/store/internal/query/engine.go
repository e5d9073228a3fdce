// Package query answers what is asked about profiles. An Engine plans which partitions and
// streams a query concerns, reads each partition in a job of its own with package scan,
// and adds up what the jobs find: call trees, pprof, points over time, single profiles,
// labels.
//
// Answers are encoded elsewhere, but for pprof.
package query

import (
	"cmp"
	"context"
	"errors"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
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

// An Engine answers queries. Its fields are set before the first one. It is safe for
// concurrent use.
type Engine struct {
	Epochs      *epochs.Set
	KV          *kv.DB
	Cache       *budget.Cache
	Memory      *budget.Memory
	Now         func() time.Time
	Concurrency int   // as Options.Concurrency
	Names       Names // nil: none but those that are stored
	// Call runs a query; it has a name for metrics.
	Call func(name string, fn func() error) error
}

// Queries are what may be asked of an Engine.
type Queries struct{ e *Engine }

// New returns the queries of an engine.
func New(e *Engine) *Queries { return &Queries{e} }

// within runs a query with memory of its own.
func (q *Engine) within(ctx context.Context, name string, fn func(h *budget.Reservation) error) error {
	return q.Call(name, func() error { return q.Memory.Within(ctx, fn) })
}

// workers is how many jobs of a query run at a time.
func (q *Engine) workers() int {
	if q.Concurrency > 0 {
		return q.Concurrency
	}
	return runtime.GOMAXPROCS(0)
}

// A Job is the part of a query that concerns one partition: the streams to read,
// each with one sample type.
type Job struct {
	Epoch      uint32
	partition  uint32
	Streams    []JobStream
	aggregates []*jobAggregate // if all streams of the partition are to be read as one
	senders    []jobSender     // of a state: whose streams they are
	Order      int             // of results
	scale      int64           // of a state's sums, see stateScale
}

// A JobStream is a stream with one of its sample types.
type JobStream struct {
	ID         uint32
	span       scan.Span // from its first to its last profile in the query's range, or more
	SampleType int
	labels     labels.Labels // of the series, those that were asked for
	group      *group        // of points: what they are added to
}

// A jobAggregate stands for streams that are in a job too.
type jobAggregate struct {
	scan.Aggregate
	kind    labelindex.Kind
	streams []JobStream // one for each sample type, of which ID and span say nothing
}

// VisitStream is a visit of what a stream of a job has. The JobStream may stand for
// several streams, whose labels are the same.
type VisitStream func(st *JobStream, w scan.Window) error

func (fn VisitStream) of(st *JobStream) scan.Visit {
	return func(w scan.Window) error { return fn(st, w) }
}

// Each visits what the streams of a job have in a time.
func (s *JobReader) Each(j *Job, kind byte, lo, hi int64, fn VisitStream) error {
	if len(j.aggregates) == 0 {
		return s.eachStream(j, kind, scan.TopOf(kind), lo, hi, fn)
	}
	for _, f := range j.aggregates {
		for i := range f.streams {
			st := &f.streams[i]
			if err := s.Service(&f.Aggregate, kind, scan.TopOf(kind), lo, hi, fn.of(st)); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachStream is Each of single streams, with windows of level top at most.
func (s *JobReader) eachStream(j *Job, kind byte, top int, lo, hi int64, fn VisitStream) error {
	for i := range j.Streams {
		st := &j.Streams[i]
		from, to := s.Within(st.span, lo, hi)
		if err := s.Stream(kind, top, st.ID, from, to, fn.of(st)); err != nil {
			return err
		}
	}
	return nil
}

// A JobReader reads what one job is about. It is not safe for concurrent use.
type JobReader struct {
	*scan.Scanner
	q    *Engine
	hold *budget.Reservation // whose memory is used, nil for none
	unit int64               // what the values of all rows that were merged are multiples of, 0 for none
}

// A dictionary is a partition's, with the names that are known now.
type dictionary struct {
	symdb.View
	renamed bool // several strings may be one name
	whole   bool // nothing of the partition is missing
}

// open calls fn with the dictionary of a partition as of the reader's snapshot, or later.
func (s *JobReader) open(partition uint32, fn func(d *dictionary) error) error {
	part, err := s.q.Epochs.AcquirePartitionAt(s.From, s.Epoch, partition)
	if err != nil {
		return err
	}
	defer part.Release()
	d := dictionary{whole: part.Value.Damage == nil}
	if d.View, d.renamed, err = s.q.named(s.hold, part.Value.View()); err != nil {
		return err
	}
	return fn(&d)
}

// Run does jobs in parallel, with memory of the hold. All see the store as it is now.
func (q *Engine) Run(ctx context.Context, h *budget.Reservation, jobs []*Job, fn func(*Job, *JobReader) error) (err error) {
	if len(jobs) == 0 {
		return nil
	}
	snapshot := q.Epochs.Snapshot()
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

func (q *Engine) runOne(ctx context.Context, h *budget.Reservation, from *epochs.Snapshot, j *Job, fn func(*Job, *JobReader) error) (err error) {
	defer q.KV.Recover(&err)
	if err := ctx.Err(); err != nil {
		return err
	}
	s := scan.New(ctx, q.KV, from, j.Epoch)
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.Longest, err = q.Epochs.LongestOf(j.Epoch, j.partition); err != nil {
		return err
	}
	return fn(j, &JobReader{Scanner: s, q: q, hold: h})
}

// bytesPerSum is the memory of a node's sum, and of decoding rows that have the node.
const bytesPerSum = 8 + 12

// mergeNodes calls fn with the values of a job's streams by node, of which there are n,
// and with their sum. If under is given, it has by node the node itself or 0, and those
// that have 0 do not count. The sums are valid during the call only.
func (s *JobReader) mergeNodes(j *Job, sel Selection, under []uint32, n int, fn func(sums []int64, total int64) error) error {
	bytes := int64(n) * bytesPerSum
	if err := s.hold.Take(bytes); err != nil {
		return err
	}
	defer s.hold.Give(bytes)
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	b.nodes = reuse.Zeroed(b.nodes, n)
	total, err := s.mergeJob(j, sel, target{bitpack.Sums{Values: b.nodes, Place: under}, under != nil})
	if err != nil {
		return err
	}
	return fn(b.nodes, total)
}

// A target is where values are added to. With rest, what does not count goes to place 0
// of the sums.
type target struct {
	bitpack.Sums
	rest bool
}

// uncounted is what place 0 has of values that do not count.
func (t *target) uncounted() int64 {
	if t.rest {
		return t.Values[0]
	}
	return 0
}

// mergeJob adds the values of a job's streams to sums, which are zero, and returns what
// those that count are together. The caller sets s.Subtract.
func (s *JobReader) mergeJob(j *Job, sel Selection, to target) (sum int64, err error) {
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	var all total
	add := func(st *JobStream, w scan.Window) error {
		v, err := s.addRow(b, st.SampleType, w, to)
		if err == nil {
			all.add(v, w.Sign)
		}
		return err
	}
	lo, hi := sel.Times(j.Epoch)
	switch {
	case len(j.senders) > 0:
		all, err = s.addStates(j, sel, to, b)
	case sel.hasSpans():
		all, err = s.addSpans(j, &sel, to, b)
	case len(sel.Profiles) > 0:
		err = s.eachProfile(j, layout.KindRow, &sel, add)
	default:
		err = s.Each(j, layout.KindRow, lo, hi, add)
	}
	if to.rest {
		to.Values[0] = 0
	}
	return all.sum, cmp.Or(err, all.err())
}

// addRow adds the values of one sample type of a window's row, or the part of a profile's
// that is in the window's clip. It returns what it added that counts, without the sign.
func (s *JobReader) addRow(b *buffer, sampleType int, w scan.Window, to target) (int64, error) {
	if err := b.row.Decode(w.Value); err != nil {
		return 0, err
	}
	v, err := b.row.Total(w.Level, sampleType)
	s.unit = rowcodec.CommonUnit(s.unit, b.row.Unit(sampleType))
	if err != nil {
		return 0, err
	}
	before := to.uncounted()
	// Rows of a day without a longest one, and those of states, count at their time.
	if w.Level == layout.LevelFine && s.Longest > 0 && !w.Clip.Whole(w.End, int64(b.row.Duration)) {
		v, err = b.row.AddShare(to.Sums, sampleType, w.Sign, w.Clip, w.End, &b.scratch)
	} else {
		err = b.row.AddTo(to.Sums, sampleType, w.Sign, &b.scratch)
	}
	return v - (to.uncounted()-before)*w.Sign, err
}

// A total is the sum of what was added to sums. Of a window that is not all in the range
// the profiles outside are taken off first, so that too much at any time is too much.
type total struct {
	sum  int64
	over bool // it is more than an int64 holds
}

// add adds v, which is not negative, times a sign.
func (t *total) add(v, sign int64) {
	t.over = t.over || sign > 0 && t.sum > math.MaxInt64-v
	t.sum += v * sign
}

// err is an error if the total is too much.
func (t *total) err() error {
	if t.over {
		return storeerr.ErrOverflow
	}
	return nil
}

// A buffer is memory for sums by node and for decoding rows, reused between
// queries.
type buffer struct {
	nodes   []int64
	row     rowcodec.PackedRow
	points  scan.PointReader
	scratch rowcodec.Scratch
}

var buffers = sync.Pool{New: func() any { return new(buffer) }}
