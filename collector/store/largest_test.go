package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/calltree"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/pkg/profile"
)

func TestMaxNodesIsTruncate(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(10, 10))
	db := open(t, t.TempDir())
	for range 60 {
		var stacks []string
		for range 1 + r.IntN(8) {
			s := "main"
			for range r.IntN(7) {
				s += fmt.Sprintf(";f%d", r.IntN(6))
			}
			if r.IntN(4) == 0 {
				s += ";other"
			}
			stacks = append(stacks, fmt.Sprintf("%s %d", s, 1+r.IntN(20)))
		}
		p := folded(midnight.Add(time.Duration(1+r.IntN(1000))*time.Minute), stacks...)
		require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p, labelindex.LabelServiceName, fmt.Sprint(r.IntN(4)))}))
	}
	for _, selector := range []string{`{}`, `{service_name="1"}`, `{service_name="none"}`} {
		whole, err := db.Tree(ctx, everything(selector), nil)
		require.NoError(t, err)
		for n := int64(1); n < 400; n += 1 + n/7 {
			sel := everything(selector)
			sel.MaxNodes = n
			got, err := db.Tree(ctx, sel, nil)
			require.NoError(t, err)
			want := whole.Truncate(n)
			require.Equal(t, draw(want), draw(got), "%s %d", selector, n)
			require.Equal(t, len(want.Nodes), len(got.Nodes))
			for i, node := range got.Nodes[1:] {
				require.LessOrEqual(t, node.Parent, int32(i))
			}
		}
	}
}

// Cut by functions, the tree is that of profile.TruncateFunctions, of one service and of
// several.
func TestFunctionsAreExact(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(12, 12))
	db := open(t, t.TempDir())
	for service := range 3 {
		var stacks []string
		for i := range 700 {
			s := fmt.Sprintf("main;handler%d", r.IntN(600))
			for range r.IntN(4) {
				s += fmt.Sprintf(";f%d", r.IntN(80))
			}
			stacks = append(stacks, fmt.Sprintf("%s;hot %d", s, 1+r.IntN(3)), fmt.Sprintf("%s;other;f%d %d", s, i%90, 1+r.IntN(3)))
		}
		require.NoError(t, db.Append(ctx, []profile.Profile{cpu(folded(midnight.Add(time.Hour), stacks...), labelindex.LabelServiceName, fmt.Sprint(service))}))
	}
	own := func(tree *profile.Tree) map[string]int64 {
		out := map[string]int64{}
		for i, n := range tree.Nodes[1:] {
			require.LessOrEqual(t, n.Parent, int32(i))
			out[tree.Names[n.Name]] += n.Self
		}
		return out
	}
	for _, selector := range []string{`{}`, `{service_name="1"}`} {
		whole, err := db.Tree(ctx, everything(selector), nil)
		require.NoError(t, err)
		exact := own(whole)
		for _, n := range []int64{20, 200, 700} {
			sel := everything(selector)
			sel.MaxNodes, sel.Functions = n, true
			got, err := db.Tree(ctx, sel, nil)
			require.NoError(t, err)
			require.True(t, got.Functions)
			require.Equal(t, whole.Total(), got.Total())
			require.LessOrEqual(t, int64(len(got.Nodes)-1), profile.Room(n))
			require.Equal(t, "(other)", got.RestName())
			require.Equal(t, exact["hot"], own(got)["hot"], "%s %d", selector, n)
			require.LessOrEqual(t, own(got)["other"], exact["other"])

			diff, err := db.Diff(ctx, [2]query.Selection{sel, sel}, [2][]string{}, n+1)
			require.NoError(t, err)
			require.True(t, diff.Functions)
			require.Equal(t, draw(got), draw(calltree.Left(&profile.DiffTree{Names: diff.Names, Nodes: diff.Nodes, Rest: diff.Rest})))

			sel.Functions = false
			want, err := db.Tree(ctx, sel, nil)
			require.NoError(t, err)
			require.Less(t, own(want)["hot"], exact["hot"])
			require.False(t, want.Functions)
		}
	}
	sel := everything(`{}`) // all fits
	sel.MaxNodes, sel.Functions = 1<<20, true
	got, err := db.Tree(ctx, sel, nil)
	require.NoError(t, err)
	require.Empty(t, got.RestName())
	requireIdle(t, db)
}

// Of equal calls, as many are kept as there is room for; the same in a part, in several,
// and of the whole tree.
func TestMaxNodesOfEqualCalls(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	for service := range 2 {
		var stacks []string
		for i := range 3000 {
			stacks = append(stacks, fmt.Sprintf("main;lock;caller%d 1", (i*7919)%3000+service*2500), fmt.Sprintf("main;a%d;b;c%d 1", i%500, i%3))
		}
		require.NoError(t, db.Append(ctx, []profile.Profile{cpu(folded(midnight.Add(time.Hour), stacks...), labelindex.LabelServiceName, fmt.Sprint(service))}))
	}
	for _, selector := range []string{`{}`, `{service_name="1"}`} {
		whole, err := db.Tree(ctx, everything(selector), nil)
		require.NoError(t, err)
		for _, n := range []int64{1, 2, 3, 10, 100, 505, 1000, 2000, 5000} {
			sel := everything(selector)
			sel.MaxNodes = n
			got, err := db.Tree(ctx, sel, nil)
			require.NoError(t, err)
			require.Equal(t, draw(whole.Truncate(n)), draw(got), "%s %d", selector, n)
			require.LessOrEqual(t, int64(len(got.Nodes)-1), profile.Room(n))
			diff, err := db.Diff(ctx, [2]query.Selection{sel, everything(`{service_name="none"}`)}, [2][]string{}, n+1)
			require.NoError(t, err)
			require.Equal(t, draw(got), draw(calltree.Left(&profile.DiffTree{Names: diff.Names, Nodes: diff.Nodes, Rest: diff.Rest})))
		}
	}
}

// A comparison is that of the whole trees, also where memory ends and parts are
// added up on the way.
func TestDiffIsThatOfWholeTrees(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(11, 11))
	db := open(t, t.TempDir())
	for day := range 3 {
		for range 30 {
			var stacks []string
			for range 1 + r.IntN(8) {
				s := "main"
				for range r.IntN(6) {
					s += fmt.Sprintf(";f%d", r.IntN(5))
				}
				stacks = append(stacks, fmt.Sprintf("%s %d", s, 1+r.IntN(20)))
			}
			at := midnight.Add(time.Duration(day-2) * 24 * time.Hour).Add(time.Duration(1+r.IntN(1000)) * time.Minute)
			require.NoError(t, db.Append(ctx, []profile.Profile{cpu(folded(at, stacks...), labelindex.LabelServiceName, fmt.Sprint(r.IntN(4)))}))
		}
	}
	drawDiff := func(d *profile.DiffTree) (out []string) {
		d.Walk(func(level int, n *profile.DiffNode, name string) {
			out = append(out, fmt.Sprint(level, name, n.Self, n.Total, n.SelfRight, n.TotalRight))
		})
		return out
	}
	memory := db.queries.Memory
	for _, selectors := range [][2]string{{`{}`, `{service_name=~"[12]"}`}, {`{service_name="1"}`, `{service_name="2"}`}, {`{}`, `{service_name="none"}`}} {
		sels := [2]query.Selection{everything(selectors[0]), everything(selectors[1])}
		sels[0].End = midnight.Add(-24 * time.Hour).UnixMilli()
		var trees [2]*profile.Tree
		for i, sel := range sels {
			var err error
			trees[i], err = db.Tree(ctx, sel, nil)
			require.NoError(t, err)
		}
		for n := int64(0); n < 300; n += 1 + n/5 {
			want := drawDiff(profile.Diff(trees[0], trees[1]).Truncate(n))
			for _, max := range []int64{128 << 20, 14 << 10} {
				db.queries.Memory = budget.NewMemory(max, func() {})
				got, err := db.Diff(ctx, sels, [2][]string{}, n)
				require.NoError(t, err)
				require.Equal(t, want, drawDiff(got), "%s %d in %d bytes", selectors, n, max)
				requireIdle(t, db)
			}
			db.queries.Memory = memory
		}
	}
	db.queries.Memory = budget.NewMemory(1<<10, func() {})
	_, err := db.Tree(ctx, everything(`{}`), nil)
	require.ErrorIs(t, err, storeerr.ErrLimit)
	require.ErrorContains(t, err, "limits.max_query_bytes")
	db.queries.Memory = memory
}

// Values that add up to more than there are numbers for are an error: nothing
// could be said about which call is larger than another.
func TestTreesDoNotOverflow(t *testing.T) {
	const half = 1 << 62
	for name, stacks := range map[string][2]string{ // of two services
		"one call in two services":       {"main;a", "main;a"},
		"calls of two services":          {"main;a", "other;b"},
		"two calls of one service":       {"main;a|main;b", ""},
		"a call and its caller":          {"main;a|main", ""},
		"so many that they are 0 again":  {"main;a|main;b|main;c|main;d", ""},
		"three in one service, one more": {"main;a|main;b|main;c", "main;a"},
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, t.TempDir())
			for service, list := range stacks {
				for i, stack := range strings.Split(list, "|") {
					if stack == "" {
						continue
					}
					p := folded(midnight.Add(time.Duration(i+1)*time.Hour), stack+" 1")
					p.Sample[0].Value[1] = half
					require.NoError(t, db.Append(t.Context(), []profile.Profile{cpu(p, labelindex.LabelServiceName, fmt.Sprint(service))}))
				}
			}
			sel := everything("{}")
			for _, sel.MaxNodes = range []int64{0, 1, 10} {
				_, err := db.Tree(t.Context(), sel, nil)
				require.ErrorIs(t, err, storeerr.ErrLimit)
				require.ErrorContains(t, err, "more than 9223372036854775807")
				_, err = db.Diff(t.Context(), [2]query.Selection{sel, everything(`{service_name="0"}`)}, [2][]string{}, sel.MaxNodes)
				require.ErrorIs(t, err, storeerr.ErrLimit)
			}
			requireIdle(t, db)
			sel.End = midnight.Add(time.Hour).UnixMilli()
			sel.Matchers = everything(`{service_name="0"}`).Matchers
			tree, err := db.Tree(t.Context(), sel, nil)
			require.NoError(t, err)
			require.EqualValues(t, half, tree.Total())
		})
	}
}
