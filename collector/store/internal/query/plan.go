package query

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/scan"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/pkg/profile"
)

// Plan lists the jobs of a selection, in the order of epochs and partitions, with the
// labels of streams that are named. Their memory is of the hold.
func (q *Engine) Plan(ctx context.Context, h *budget.Reservation, sel Selection, names ...string) ([]*Job, error) {
	return q.planWith(ctx, sel, &planner{hold: h, names: names})
}

// planWith is Plan by a planner of which hold, and names or all, may be set.
func (q *Engine) planWith(ctx context.Context, sel Selection, p *planner) ([]*Job, error) {
	if sel.Type.SampleType == "" {
		return nil, fmt.Errorf("%w: profile type: missing", storeerr.ErrInvalid)
	}
	typ, err := labels.NewMatcher(labels.MatchEqual, labelindex.LabelProfileType, sel.Type.String())
	if err != nil {
		return nil, err
	}
	p.matchers = []*labels.Matcher{typ}
	for _, m := range sel.Matchers {
		// All of a dashboard's variable matches every series; as a matcher of a label that
		// differs within a service it would keep aggregates from being read.
		if m.Type != labels.MatchRegexp || m.Value != ".*" {
			p.matchers = append(p.matchers, m)
		}
	}
	p.jobs, p.aggregates, p.seen = map[jobKey]*Job{}, map[jobAggregateKey]*jobAggregate{}, map[uint32][]int32{}
	p.whole = !p.all && p.isWhole()
	p.captures = profile.WantsCaptures(sel.Matchers)
	start := sel.Start
	if !sel.Type.Cumulative() && !sel.hasSpans() && start > holdMs && start < math.MaxUint32*layout.DayMs {
		// A snapshot before it may stand for its begin.
		start = max(start-holdMs, layout.EpochStart(layout.EpochOf(start)))
	}
	if err := q.Epochs.EachIndex(ctx, start, sel.End, true, p.add); err != nil {
		return nil, err
	}
	for key, f := range p.aggregates {
		if f.Stream, f.Known, err = q.Epochs.FindAggregate(key.epoch, key.partition, &f.kind); err != nil {
			return nil, err
		}
		j := p.jobs[key.jobKey]
		j.aggregates = append(j.aggregates, f)
	}
	jobs := slices.SortedFunc(maps.Values(p.jobs), func(a, b *Job) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.partition, b.partition))
	})
	for i, j := range jobs {
		j.Order = i
		if len(j.Streams) < scan.MinContributors {
			j.aggregates = nil
		}
		slices.SortStableFunc(j.Streams, func(a, b JobStream) int { return cmp.Compare(a.ID, b.ID) })
	}
	return jobs, nil
}

// A planner makes jobs of tables.
type planner struct {
	matchers   []*labels.Matcher
	hold       *budget.Reservation
	names      []string // labels that are asked for
	all        bool     // all are
	whole      bool     // aggregates serve, as matchers and names use only what all streams of one have in common
	captures   bool     // the matchers ask for streams of captures, which are left out else
	jobs       map[jobKey]*Job
	aggregates map[jobAggregateKey]*jobAggregate
	seen       map[uint32][]int32 // by epoch and stream: the place in its job plus one
}

type jobKey struct{ epoch, partition uint32 }

type jobAggregateKey struct {
	jobKey
	kind string // an encoded definition
}

// isWhole reports whether matchers and names use only labels that all streams of an
// aggregate have in common.
func (p *planner) isWhole() bool {
	common := func(name string) bool {
		return labelindex.Follows(name) || name == labelindex.LabelName || labelindex.ColumnName(name) == labelindex.LabelServiceName
	}
	return !slices.ContainsFunc(p.matchers, func(m *labels.Matcher) bool { return !common(m.Name) }) &&
		!slices.ContainsFunc(p.names, func(name string) bool { return !common(name) })
}

// add adds the streams of a table.
func (p *planner) add(epoch uint32, t *labelindex.HourIndex, slots uint16, hour uint8) error {
	picked, err := t.Pick(p.matchers, slots)
	if err != nil || len(picked.Rows) == 0 {
		return err
	}
	names := p.names
	if p.all {
		names = t.AllNames()
	}
	project, err := t.Project(names)
	if err != nil {
		return err
	}
	var kinds []string
	if p.whole {
		for i := range t.Kinds {
			kinds = append(kinds, string(t.Kinds[i].Def.Append(nil)))
		}
	}
	seen := p.seen[epoch]
	defer func() { p.seen[epoch] = seen }()
	bytes := int64(0)
	var j *Job
	for _, row := range picked.Rows {
		if !p.captures && t.Kinds[t.KindOf[row]].Captured() {
			continue
		}
		stream, key := t.Streams[row], jobKey{epoch, t.Partitions[row]}
		if j == nil || j.Epoch != key.epoch || j.partition != key.partition {
			if j = p.jobs[key]; j == nil {
				j = &Job{Epoch: key.epoch, partition: key.partition}
				p.jobs[key] = j
			}
		}
		for int(stream) >= len(seen) {
			seen = append(seen, 0)
		}
		types := picked.Types[t.KindOf[row]]
		at := scan.SpanOf(hour, t.Slots[row]&slots)
		if seen[stream] == 0 {
			seen[stream] = int32(len(j.Streams)) + 1
			for _, i := range types {
				st := JobStream{ID: stream, span: at, SampleType: i, labels: project.Of(row, i)}
				bytes += st.bytes()
				j.Streams = append(j.Streams, st)
			}
		} else { // it was in an earlier hour
			for i := range types {
				j.Streams[int(seen[stream])-1+i].span.Join(at)
			}
		}
		if !p.whole {
			continue
		}
		id := jobAggregateKey{key, kinds[t.KindOf[row]]}
		f := p.aggregates[id]
		if f == nil {
			f = &jobAggregate{kind: t.Kinds[t.KindOf[row]]}
			for _, i := range types {
				f.streams = append(f.streams, JobStream{SampleType: i, labels: project.Of(row, i)})
			}
			p.aggregates[id] = f
		}
		f.Add(hour, stream, t.Slots[row]&slots)
		bytes += 2 * int64(unsafe.Sizeof(scan.Contributor{}))
	}
	return p.hold.Take(bytes)
}

// bytes is the memory of a stream in a plan, in a slice that grows.
func (st *JobStream) bytes() int64 {
	const perLabel = 48 // the header and the text of a label that is not shared
	return 2*int64(unsafe.Sizeof(*st)) + int64(st.labels.Len())*perLabel
}
