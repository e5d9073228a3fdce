package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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
	families  []*jobFamily // if all streams of the partition are to be read as one
	order     int          // of results
}

type jobStream struct {
	id         uint32
	span       span // from its first to its last profile in the query's range, or more
	sampleType int
	labels     labels.Labels // of the series, those that were asked for
}

// A jobFamily stands for streams that are in a job too.
type jobFamily struct {
	family
	streams []jobStream // one for each sample type, of which id and span say nothing
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
	p := &planner{
		matchers: append([]*labels.Matcher{typ}, sel.Matchers...), names: names,
		jobs: map[jobKey]*job{}, families: map[jobFamilyKey]*jobFamily{}, seen: map[uint32][]int32{},
	}
	p.whole = p.isWhole()
	if err := db.eachTable(ctx, sel.Start, sel.End, p.add); err != nil {
		return nil, err
	}
	for key, f := range p.families {
		if f.stream, f.known, err = db.findFamily(key.epoch, key.partition, &p.kinds[key.kind]); err != nil {
			return nil, err
		}
		j := p.jobs[key.jobKey]
		j.families = append(j.families, f)
	}
	jobs := slices.SortedFunc(maps.Values(p.jobs), func(a, b *job) int {
		return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.partition, b.partition))
	})
	for i, j := range jobs {
		j.order = i
		if len(j.streams) < minFamily {
			j.families = nil
		}
		slices.SortStableFunc(j.streams, func(a, b jobStream) int { return cmp.Compare(a.id, b.id) })
	}
	return jobs, nil
}

// A planner makes jobs of tables.
type planner struct {
	matchers []*labels.Matcher
	names    []string // labels that are asked for
	whole    bool     // streams of a family are all selected or none, and told apart by nobody
	jobs     map[jobKey]*job
	families map[jobFamilyKey]*jobFamily
	kinds    []kind
	seen     map[uint32][]int32 // by epoch and stream: the place in its job plus one
}

type jobKey struct{ epoch, partition uint32 }

type jobFamilyKey struct {
	jobKey
	kind int // index in kinds
}

// isWhole reports whether matchers and names are about what streams of a family
// have in common.
func (p *planner) isWhole() bool {
	common := func(name string) bool {
		return follows(name) || name == labelName || columnName(name) == labelServiceName
	}
	return !slices.ContainsFunc(p.matchers, func(m *labels.Matcher) bool { return !common(m.Name) }) &&
		!slices.ContainsFunc(p.names, func(name string) bool { return !common(name) })
}

// add adds the streams of a table.
func (p *planner) add(epoch uint32, t *table, slots uint16, hour uint8) error {
	picked, err := t.pick(p.matchers, slots)
	if err != nil || len(picked.rows) == 0 {
		return err
	}
	project, err := t.project(p.names)
	if err != nil {
		return err
	}
	var kinds []int
	if p.whole {
		kinds = p.number(t.kinds)
	}
	seen := p.seen[epoch]
	defer func() { p.seen[epoch] = seen }()
	var j *job
	for _, row := range picked.rows {
		stream, key := t.streams[row], jobKey{epoch, t.partitions[row]}
		if j == nil || j.epoch != key.epoch || j.partition != key.partition {
			if j = p.jobs[key]; j == nil {
				j = &job{epoch: key.epoch, partition: key.partition}
				p.jobs[key] = j
			}
		}
		for int(stream) >= len(seen) {
			seen = append(seen, 0)
		}
		types := picked.types[t.kindOf[row]]
		at := spanOf(hour, t.slots[row]&slots)
		if seen[stream] == 0 {
			seen[stream] = int32(len(j.streams)) + 1
			for _, i := range types {
				j.streams = append(j.streams, jobStream{id: stream, span: at, sampleType: i, labels: project.of(row, i)})
			}
		} else { // it was in an earlier hour
			for i := range types {
				j.streams[int(seen[stream])-1+i].span.join(at)
			}
		}
		if !p.whole {
			continue
		}
		id := jobFamilyKey{key, kinds[t.kindOf[row]]}
		f := p.families[id]
		if f == nil {
			f = &jobFamily{}
			for _, i := range types {
				f.streams = append(f.streams, jobStream{sampleType: i, labels: project.of(row, i)})
			}
			p.families[id] = f
		}
		f.add(hour, stream, t.slots[row]&slots)
	}
	return nil
}

// number finds the planner's numbers of a table's kinds.
func (p *planner) number(kinds []kind) []int {
	out := make([]int, len(kinds))
	for i := range kinds {
		key := string(kinds[i].def.append(nil))
		at := slices.IndexFunc(p.kinds, func(k kind) bool { return string(k.def.append(nil)) == key })
		if at < 0 {
			at = len(p.kinds)
			p.kinds = append(p.kinds, kinds[i])
		}
		out[i] = at
	}
	return out
}

// coverJob visits what the streams of a job have in a time. A jobStream that is
// handed to fn may stand for several streams, whose labels are the same.
func (s *scanner) coverJob(j *job, kind byte, lo, hi int64, fn func(st *jobStream, level int, end int64, value []byte) error) error {
	for _, f := range j.families {
		for i := range f.streams {
			st := &f.streams[i]
			err := s.coverFamily(&f.family, kind, topOf(kind), lo, hi, func(level int, end int64, value []byte) error {
				return fn(st, level, end, value)
			})
			if err != nil {
				return err
			}
		}
	}
	if len(j.families) > 0 {
		return nil
	}
	for i := range j.streams {
		st := &j.streams[i]
		from, to := st.span.within(j.epoch, lo, hi)
		err := s.cover(kind, topOf(kind), st.id, from, to, func(level int, end int64, value []byte) error {
			return fn(st, level, end, value)
		})
		if err != nil {
			return err
		}
	}
	return nil
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
	err := s.coverJob(j, kindRow, lo, hi, func(st *jobStream, _ int, _ int64, value []byte) error {
		if err := b.row.decode(value); err != nil {
			return err
		}
		return b.row.addTo(sums, st.sampleType, &b.scratch)
	})
	if err != nil {
		return err
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
