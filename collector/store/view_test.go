package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/calltree"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/profile/view"
)

func viewed(t *testing.T, db *DB, r query.ViewRequest, o view.Options) *query.ViewTree {
	t.Helper()
	var err error
	r.View, err = view.New(o)
	require.NoError(t, err)
	out, err := db.View(context.Background(), r)
	require.NoError(t, err)
	requireIdle(t, db)
	return out
}

// drawLeft is draw of the left side, and its total.
func drawLeft(d *profile.DiffTree) []string {
	return append(draw(d.Left()), fmt.Sprintf("of %d", d.Nodes[0].Total))
}

// viewStore has profiles of services and pods on two days.
func viewStore(t *testing.T) *DB {
	r := rand.New(rand.NewPCG(21, 22))
	db := open(t, t.TempDir(), func(o *Options) { o.Now = func() time.Time { return midnight.Add(48 * time.Hour) } })
	for i := range 80 {
		var stacks []string
		for range 1 + r.IntN(8) {
			s := "main"
			for range r.IntN(7) {
				s += fmt.Sprintf(";f%d", r.IntN(6))
			}
			stacks = append(stacks, fmt.Sprintf("%s %d", s, 1+r.IntN(20)))
		}
		p := folded(midnight.Add(time.Duration(1+r.IntN(2000))*time.Minute), stacks...)
		ls := []string{labelindex.LabelServiceName, fmt.Sprint(r.IntN(3))}
		if i%7 > 0 {
			ls = append(ls, "pod", fmt.Sprint(r.IntN(5)))
		}
		require.NoError(t, db.Append(context.Background(), []profile.Profile{cpu(p, ls...)}))
	}
	return db
}

// A view of a selection is that of its whole flame graph, as of both sides of a comparison.
func TestView(t *testing.T) {
	ctx := context.Background()
	db := viewStore(t)
	for _, o := range []view.Options{
		{}, {Focus: "f1", Ignore: "f2"}, {Hide: "main|f3"}, {ShowFrom: "f4", MaxDepth: 2}, {Function: "f5", CollapseRecursion: true},
		{Function: "f5", Reverse: true}, {Reverse: true, MaxDepth: 3}, {Focus: "nothing"},
	} {
		for _, selector := range []string{`{}`, `{service_name="1"}`, `{pod="2"}`, `{pod="none"}`} {
			sel := everything(selector)
			late := sel
			late.Start = ms(midnight.Add(20 * time.Hour))
			diff, err := db.Diff(ctx, [2]query.Selection{sel, late}, [2][]string{}, 0)
			require.NoError(t, err)
			v, err := view.New(o)
			require.NoError(t, err)
			for _, n := range []int64{0, 5, 50} {
				g := view.NewGraph(v, nil)
				require.NoError(t, g.Add(diff.Calls(), 0))
				want, err := g.Tree(n)
				require.NoError(t, err)
				got := viewed(t, db, query.ViewRequest{Selections: []query.Selection{sel, late}, MaxNodes: n}, o)
				require.Equal(t, diff.Nodes[0].Total, got.Nodes[0].Total)
				require.Equal(t, draw(want.Left()), draw(got.Left()), "%+v %s %d", o, selector, n)
				require.Equal(t, draw(want.Right()), draw(got.Right()), "%+v %s %d", o, selector, n)
			}
		}
	}
}

// Frames of labels have the flame graphs of their values.
func TestViewByLabel(t *testing.T) {
	ctx := context.Background()
	db := viewStore(t)
	for _, by := range [][]string{{labelindex.LabelServiceName}, {"pod"}, {"pod", labelindex.LabelServiceName}} {
		var groups []view.Group
		add := func(ls labels.Labels) {
			sel := everything()
			for _, name := range by {
				sel.Matchers = append(sel.Matchers, labels.MustNewMatcher(labels.MatchEqual, name, ls.Get(name)))
			}
			tree, err := db.Diff(ctx, [2]query.Selection{sel, sel}, [2][]string{}, 0)
			require.NoError(t, err)
			if tree.Nodes[0].Total > 0 {
				groups = append(groups, view.Group{Label: view.GroupLabel(by, ls), Tree: tree})
			}
		}
		for pod := range 6 {
			for service := range 3 {
				var b labels.ScratchBuilder
				if len(by) > 1 || by[0] == "pod" {
					b.Add("pod", []string{"", "0", "1", "2", "3", "4"}[pod])
				} else if pod > 0 {
					continue
				}
				if by[len(by)-1] == labelindex.LabelServiceName {
					b.Add(labelindex.LabelServiceName, fmt.Sprint(service))
				} else if service > 0 {
					continue
				}
				add(b.Labels())
			}
		}
		sel := everything()
		got := viewed(t, db, query.ViewRequest{Selections: []query.Selection{sel, sel}, GroupBy: by}, view.Options{})
		require.Equal(t, drawLeft(view.Join(groups)), drawLeft(got.DiffTree), "%v", by)
		require.Equal(t, draw(got.Left()), draw(got.Right()))
		cut := viewed(t, db, query.ViewRequest{Selections: []query.Selection{sel}, GroupBy: by, MaxNodes: 10}, view.Options{Focus: "f1"})
		require.Equal(t, got.Nodes[0].Total, cut.Nodes[0].Total)
	}
}

// Of many values of a label the largest have a frame each.
func TestViewOfManyValues(t *testing.T) {
	db := open(t, t.TempDir())
	for i := range query.MaxViewGroups + 5 {
		p := folded(midnight.Add(time.Hour), fmt.Sprintf("main;work %d", 1000+i))
		require.NoError(t, db.Append(context.Background(), []profile.Profile{cpu(p, labelindex.LabelServiceName, "app", "pod", fmt.Sprint(i))}))
	}
	got := viewed(t, db, query.ViewRequest{Selections: []query.Selection{everything()}, GroupBy: []string{"pod"}, MaxNodes: 1000, LeastSample: 1}, view.Options{})
	require.True(t, got.Samples, "values are multiples of a sample's time")
	frames := map[string]int64{}
	for _, n := range got.Nodes[1:] {
		if n.Parent == 0 {
			frames[got.Names[n.Name]] = n.Total
		}
	}
	require.Len(t, frames, query.MaxViewGroups+1)
	require.EqualValues(t, 1005, frames["pod=5"])
	require.EqualValues(t, 1000+1001+1002+1003+1004, frames["(5 others by pod)"])
}

// Patterns may be of files and binaries.
func TestViewByPlace(t *testing.T) {
	db := open(t, t.TempDir())
	for day := range 2 {
		p := folded(midnight.Add(time.Duration(1+24*day)*time.Hour), "main;a;b 3", "main;+inlined;a 4", "main;c 5")
		require.NoError(t, db.Append(context.Background(), []profile.Profile{cpu(p, labelindex.LabelServiceName, "app")}))
	}
	r := query.ViewRequest{Selections: []query.Selection{everything()}}
	for _, c := range []struct {
		o    view.Options
		want []string
	}{
		{view.Options{Focus: `file:^/src/b\.go$`}, []string{" 180000000", "main;a;b 60000000", "of 240000000"}},
		{view.Options{Ignore: `file:/inlined\.go`, Hide: `file:a\.go$`}, []string{" 80000000", "main;b 60000000", "main;c 100000000", "of 240000000"}},
		{view.Options{Focus: `binary:/app$`, Hide: `file:main`}, []string{"a;b 60000000", "c 100000000", "inlined;a 80000000", "of 240000000"}},
		{view.Options{Focus: `binary:^app$`}, []string{" 240000000", "of 240000000"}},
	} {
		require.Equal(t, c.want, drawLeft(viewed(t, db, r, c.o).DiffTree), "%+v", c.o)
	}
}

// States are averages over time, of the labels' values as of all.
func TestViewOfStates(t *testing.T) {
	s := newStateStore(t)
	for i := range 6 {
		at := time.Hour + time.Duration(i)*time.Minute
		s.heap(at, time.Minute, "1", "a", 100+i, "x", "b", 30, "y")
		if i < 3 {
			s.heap(at, time.Minute, "2", "a", 900, "x")
		}
	}
	want := s.tree(time.Hour, time.Hour+10*time.Minute)
	sel := everything()
	sel.Type, sel.Start, sel.End = inuseType, ms(midnight.Add(time.Hour))+1, ms(midnight.Add(time.Hour+10*time.Minute))
	for _, by := range [][]string{nil, {"pod"}, {"worker"}, {"pod", "worker"}} {
		got := viewed(t, s.db, query.ViewRequest{Selections: []query.Selection{sel}, GroupBy: by, LeastSample: 1}, view.Options{Reverse: true})
		require.False(t, got.Samples)
		sums := map[string]int64{}
		for _, n := range got.Nodes {
			if name := got.Names[n.Name]; name == "a" || name == "b" {
				sums["main;"+name] += n.Total
			}
		}
		require.Len(t, sums, 2)
		for stack, v := range sums {
			require.InDelta(t, want[stack], v, 4, "%v %s", by, stack)
		}
	}
}

// A view is made in as much memory as there is; what needs more is refused.
func TestViewInLittleMemory(t *testing.T) {
	db := open(t, t.TempDir(), func(o *Options) { o.QueryBytes = 1 << 20 })
	r := rand.New(rand.NewPCG(31, 32))
	for service := range 8 {
		var stacks []string
		for range 800 {
			stacks = append(stacks, fmt.Sprintf("main;f%d;f%d;f%d 1", r.IntN(20), r.IntN(20), r.IntN(20)))
		}
		require.NoError(t, db.Append(context.Background(), []profile.Profile{cpu(folded(midnight.Add(time.Hour), stacks...), labelindex.LabelServiceName, fmt.Sprint(service))}))
	}
	sel := everything()
	sel.MaxNodes = 100
	want, err := db.Tree(context.Background(), sel, nil)
	require.NoError(t, err)
	v, err := view.New(view.Options{Focus: "f1$"})
	require.NoError(t, err)
	got, err := db.View(context.Background(), query.ViewRequest{Selections: []query.Selection{sel}, View: v, MaxNodes: 100})
	if err != nil {
		require.ErrorContains(t, err, "limits.max_query_bytes")
	} else {
		require.Equal(t, want.Total(), got.Nodes[0].Total)
	}
	requireIdle(t, db)
	v, err = view.New(view.Options{Function: "f1"})
	require.NoError(t, err)
	got, err = db.View(context.Background(), query.ViewRequest{Selections: []query.Selection{sel}, View: v, MaxNodes: 100, GroupBy: []string{labelindex.LabelServiceName}})
	require.NoError(t, err, "services are added one after the other")
	require.Equal(t, want.Total(), calltree.Left(got.DiffTree).Total())
	requireIdle(t, db)
}
