package query

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sync/errgroup"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/symdb"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/profile/view"
)

// A ViewRequest asks for a flame graph that a view changes.
type ViewRequest struct {
	// Selections are one, or two to compare, of which the first is the left side. Their
	// MaxNodes and Functions do not count.
	Selections []Selection
	View       *view.View
	// GroupBy are the names of labels whose values have frames below the root: the largest
	// MaxViewGroups, and one frame for all others.
	GroupBy []string
	// MaxNodes limits the nodes, as DB.Tree does with Functions; 0 means no limit. With
	// GroupBy each group has its share of them, but at least minGroupNodes.
	MaxNodes int64
	// LeastSample, unless 0, asks for numbers of samples in place of values: these are
	// divided by the number that they are multiples of, if that is at least LeastSample.
	LeastSample int64
}

// A ViewTree is a flame graph whose root has the total of the selections: what the view
// drops is own value of the root.
type ViewTree struct {
	*profile.DiffTree
	Samples bool // the values are numbers of samples
}

// Bounds of groups.
const (
	MaxViewGroups   = 100
	minGroupNodes   = 64
	maxGraphsAtOnce = 4 // that are made, as each takes the memory of a query
)

// viewNodeBytes is what a node of a graph takes until the graph is cut.
const viewNodeBytes = 200

// View merges selections as Tree and Diff do, shows what a view says of all their
// stacktraces, and then cuts the flame graph to its largest calls. Errors are those of Tree.
func (q *Queries) View(ctx context.Context, r ViewRequest) (out *ViewTree, err error) {
	err = q.e.within(ctx, "view", func(h *budget.Reservation) error {
		return scaled(func(scale int64) error {
			out, err = q.e.viewIn(ctx, h, &r, scale)
			return err
		})
	})
	return out, err
}

func (q *Engine) viewIn(ctx context.Context, h *budget.Reservation, r *ViewRequest, scale int64) (*ViewTree, error) {
	sides, scales, err := q.planSides(ctx, h, r.Selections, r.GroupBy, scale)
	if err != nil {
		return nil, err
	}
	marks, err := q.markPlaces(ctx, h, r.View, sides)
	if err != nil {
		return nil, err
	}
	groups := []viewGroup{{sides: sides, nodes: r.MaxNodes}}
	if len(r.GroupBy) > 0 {
		if groups, err = q.viewGroups(ctx, h, r, sides); err != nil {
			return nil, err
		}
	}
	w, graphs := q.newViewer(h, r, marks), make([]view.Group, len(groups))
	atOnce := min(q.workers(), maxGraphsAtOnce, len(groups))
	short, err := h.Try(func() error { return w.graphs(ctx, groups, graphs, atOnce) })
	if short && atOnce > 1 {
		w = q.newViewer(h, r, marks)
		err = w.graphs(ctx, groups, graphs, 1)
	}
	if err != nil {
		return nil, err
	}
	out := &ViewTree{}
	if len(r.GroupBy) > 0 {
		out.DiffTree = view.Join(graphs)
	} else {
		out.DiffTree = graphs[0].Tree
	}
	descale(out.DiffTree, scales)
	if r.LeastSample > 0 && w.unit >= r.LeastSample && scales == [2]int64{1, 1} {
		descale(out.DiffTree, [2]int64{w.unit, w.unit})
		out.Samples = true
	}
	h.Keep(int64(len(out.Nodes)) * nodeBytes)
	return out, nil
}

// A viewer makes the graphs of groups. It is safe for concurrent use.
type viewer struct {
	q       *Engine
	hold    *budget.Reservation
	request *ViewRequest
	marks   view.Marks

	mu    sync.Mutex
	total [2]int64 // of all groups so far
	unit  int64    // what the values of all groups so far are multiples of, 0 for none
}

func (q *Engine) newViewer(h *budget.Reservation, r *ViewRequest, marks view.Marks) *viewer {
	return &viewer{q: q, hold: h, request: r, marks: marks}
}

// graphs makes the graphs of groups, so many at once.
func (w *viewer) graphs(ctx context.Context, of []viewGroup, to []view.Group, atOnce int) error {
	makers, ctx := errgroup.WithContext(ctx)
	makers.SetLimit(atOnce)
	for i, g := range of {
		makers.Go(func() (err error) {
			defer w.q.KV.Recover(&err)
			to[i].Label = g.label
			to[i].Tree, err = w.graph(ctx, g)
			return err
		})
	}
	return makers.Wait()
}

// add adds the totals of a group.
func (w *viewer) add(p *partials) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for side := range w.total {
		if w.total[side] = bitpack.AddTotals(w.total[side], p.total[side]); w.total[side] == bitpack.Overflowed {
			return storeerr.ErrOverflow
		}
	}
	w.unit = rowcodec.CommonUnit(w.unit, p.unit)
	return nil
}

// graph returns the graph of a group.
func (w *viewer) graph(ctx context.Context, of viewGroup) (*profile.DiffTree, error) {
	h, sels := w.hold, w.request.Selections
	p := newPartials(h, len(sels))
	defer p.free()
	if err := w.q.gather(ctx, sels, make([][]string, len(sels)), of.sides, p, answerNodes{most: 1}); err != nil {
		return nil, err
	}
	if err := w.add(p); err != nil {
		return nil, err
	}
	g, taken := view.NewGraph(w.request.View, w.marks), int64(0)
	g.Room = func(nodes int64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		taken += nodes * viewNodeBytes
		return h.Take(nodes * viewNodeBytes)
	}
	list := p.sorted()
	p.list = nil
	for _, c := range list {
		if err := g.Add(c.CallTree(), 0); err != nil {
			return nil, err
		}
		h.Give(c.Bytes())
		c.Free()
	}
	tree, err := g.Tree(of.nodes)
	if err != nil {
		return nil, err
	}
	h.Give(taken)
	return tree, h.Take(int64(len(tree.Nodes)) * nodeBytes)
}

// markPlaces finds the functions of jobs that match by the file or binary that they are in.
func (q *Engine) markPlaces(ctx context.Context, h *budget.Reservation, v *view.View, sides [2][]*Job) (view.Marks, error) {
	if v.NeedsPlaces() == nil {
		return nil, nil
	}
	pairs := pairJobs(sides)
	jobs := make([]*Job, len(pairs))
	for i, p := range pairs {
		jobs[i] = cmp.Or(p[0], p[1])
	}
	const perMark = 64
	var mu sync.Mutex
	marks := view.Marks{}
	err := q.Run(ctx, h, jobs, func(j *Job, s *JobReader) error {
		return s.open(j.partition, func(d *dictionary) error {
			found := placesOf(&d.View, v)
			if err := h.Take(int64(len(found)) * perMark); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for name, bits := range found {
				marks[d.Strings[name]] |= bits
			}
			return nil
		})
	})
	return marks, err
}

// placesOf returns what the functions of a dictionary match by their files and binaries, by
// the strings of their names.
func placesOf(d *symdb.View, v *view.View) map[uint32]uint32 {
	matcher := func(kind view.Kind) func(text uint32) uint32 {
		known := map[uint32]uint32{}
		return func(text uint32) uint32 {
			bits, ok := known[text]
			if !ok {
				bits = v.Matches(kind, d.Strings[text])
				known[text] = bits
			}
			return bits
		}
	}
	file, binary := matcher(view.File), matcher(view.Binary)
	out := map[uint32]uint32{}
	mark := func(name, bits uint32) {
		if bits != 0 {
			out[name] |= bits
		}
	}
	for _, l := range d.Locations {
		bits := binary(d.Mappings[l.Mapping].File)
		if l.First == l.End {
			mark(l.Name, bits)
		}
		for _, line := range d.Lines[l.First:l.End] {
			f := &d.Functions[line.Function]
			mark(f.Name, bits|file(f.File))
		}
	}
	return out
}

// A viewGroup is what has one frame below the root, or everything.
type viewGroup struct {
	label string
	sides [2][]*Job
	nodes int64 // that its graph may have
}

// viewGroups divides jobs into groups, the largest first.
func (q *Engine) viewGroups(ctx context.Context, h *budget.Reservation, r *ViewRequest, sides [2][]*Job) ([]viewGroup, error) {
	type sized struct {
		labels labels.Labels
		size   float64
	}
	sizes := map[string]*sized{}
	find := func(ls labels.Labels) *sized {
		key := string(ls.Bytes(nil))
		if sizes[key] == nil {
			sizes[key] = &sized{labels: ls}
		}
		return sizes[key]
	}
	for side, jobs := range sides {
		for _, j := range jobs {
			for i := range j.Streams {
				find(groupOf(j.Streams[i].labels, r.GroupBy))
			}
		}
		if len(jobs) == 0 {
			continue
		}
		all := SeriesRequest{Selection: r.Selections[side], GroupBy: r.GroupBy}
		all.Step = time.Duration(min(all.End-all.Start+1, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
		all.Start = all.End
		sel, err := all.prepare()
		if err != nil {
			return nil, err
		}
		gs := q.newGroups(&all, nil, &sel, h)
		if err := gs.fill(ctx, q, sel); err != nil {
			return nil, err
		}
		for _, s := range gs.result(0) {
			for _, p := range s.Points {
				find(s.Labels).size += p.Value
			}
		}
	}
	list := make([]*sized, 0, len(sizes))
	total := 0.
	for _, s := range sizes {
		list = append(list, s)
		total += s.size
	}
	slices.SortFunc(list, func(a, b *sized) int {
		return cmp.Or(cmp.Compare(b.size, a.size), labels.Compare(a.labels, b.labels))
	})
	groups := make([]viewGroup, min(len(list), MaxViewGroups+1))
	at := make(map[string]int, len(list)) // group by labels
	for i, s := range list {
		k := min(i, MaxViewGroups)
		at[string(s.labels.Bytes(nil))] = k
		g := &groups[k]
		if g.label = view.GroupLabel(r.GroupBy, s.labels); i >= MaxViewGroups {
			g.label = fmt.Sprintf("(%d others by %s)", len(list)-MaxViewGroups, strings.Join(r.GroupBy, ", "))
		}
		if r.MaxNodes > 0 && total > 0 {
			g.nodes += int64(float64(r.MaxNodes) * s.size / total)
		}
	}
	for i := range groups {
		if r.MaxNodes > 0 {
			groups[i].nodes = max(groups[i].nodes, minGroupNodes)
		}
	}
	for side, jobs := range sides {
		for _, j := range jobs {
			parts := j.divide(func(ls labels.Labels) int { return at[string(groupOf(ls, r.GroupBy).Bytes(nil))] })
			for k, part := range parts {
				groups[k].sides[side] = append(groups[k].sides[side], part)
			}
		}
	}
	return groups, nil
}

// divide returns the job's parts by the groups of its streams' labels. The job must not be
// used afterwards.
func (j *Job) divide(group func(labels.Labels) int) map[int]*Job {
	parts := map[int]*Job{}
	part := func(k int) *Job {
		if parts[k] == nil {
			parts[k] = &Job{Epoch: j.Epoch, partition: j.partition, scale: j.scale}
		}
		return parts[k]
	}
	for i := range j.Streams {
		p := part(group(j.Streams[i].labels))
		p.Streams = append(p.Streams, j.Streams[i])
	}
	if len(parts) == 1 { // it may be read by its aggregates
		for k := range parts {
			parts[k] = j
		}
		return parts
	}
	for _, s := range j.senders {
		of := map[int][]JobStream{}
		for _, st := range s.streams {
			k := group(st.labels)
			of[k] = append(of[k], st)
		}
		for k, streams := range of {
			s.streams = streams
			p := part(k)
			p.senders = append(p.senders, s)
		}
	}
	return parts
}
