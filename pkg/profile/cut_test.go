package profile_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// shapes are trees that are hard to cut.
func shapes() map[string]*profile.Tree {
	shape := func(add func(line func(format string, args ...any))) *profile.Tree {
		var lines []string
		add(func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) })
		return parse(lines...)
	}
	many := func(n int, format string) *profile.Tree {
		return shape(func(line func(string, ...any)) {
			for i := range n {
				line(strings.ReplaceAll(format, "#", fmt.Sprint(i)) + " 1")
			}
		})
	}
	return map[string]*profile.Tree{
		"leaves of one sample": many(5000, "main;lock;caller#"),
		"a callee below each":  many(5000, "main;lock;caller#;futex"),
		"chains":               many(800, "main;a#;b#;c#;d#;e#"),
		"a cut child each": shape(func(line func(string, ...any)) {
			for i := range 3000 {
				line("main;handler%d 10", i)
				line("main;handler%d;leaf%d 1", i, i%7)
			}
		}),
		"one leaf everywhere": shape(func(line func(string, ...any)) {
			for i := range 3000 {
				line("main;handler%d;mallocgc %d", i, 100+i)
			}
		}),
		"everywhere, two levels down": shape(func(line func(string, ...any)) {
			for i := range 300 {
				for j := range 20 {
					line("main;service%d;handler%d;json;mallocgc %d", i, j, 1+(i+j)%3)
					line("main;service%d;handler%d;json;memmove 1", i, j)
				}
			}
		}),
		"recursion": shape(func(line func(string, ...any)) {
			for i := range 400 {
				line("main%s;leaf%d 1", strings.Repeat(";fib", i), i%5)
			}
		}),
		"one path": parse(strings.Repeat("f;", 2000) + "g 7"),
	}
}

func all(tree *profile.Tree) *profile.DiffTree {
	return profile.Diff(tree, parse())
}

// A cut tree has no more nodes than it may, whatever the tree is like, and the same
// whichever way it was built.
func TestTruncateBoundsNodes(t *testing.T) {
	for name, tree := range shapes() {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int64{1, 2, 7, 50, 100, 400, 1000, 2500} {
				got := tree.Truncate(n)
				require.LessOrEqual(t, int64(len(got.Nodes)-1), profile.Room(n), n)
				require.Equal(t, tree.Total(), got.Total())
				require.Equal(t, draw(got), draw(shuffled(tree).Truncate(n)))
				diff := all(tree).Truncate(n + 1)
				require.Len(t, diff.Nodes, len(got.Nodes))
				functions := all(tree).TruncateFunctions(n)
				require.LessOrEqual(t, int64(len(functions.Nodes)-1), profile.Room(n), n)
			}
			require.LessOrEqual(t, len(tree.Truncate(1000).Nodes), 1100)
			require.LessOrEqual(t, len(all(tree).TruncateFunctions(1000).Nodes), 1100)
		})
	}
}

// shuffled is the same tree with its nodes and names in another order.
func shuffled(tree *profile.Tree) *profile.Tree {
	var lines []string
	var path []string
	tree.Walk(func(level int, n *profile.Node, name string) {
		if path = path[:max(level-1, 0)]; level > 0 {
			path = append(path, name)
		}
		if n.Self != 0 {
			lines = append(lines, fmt.Sprintf("%s %d", strings.Join(path, ";"), n.Self))
		}
	})
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	return parse(lines...)
}

// Equal nodes are kept from the root on, in the order of their names.
func TestTruncateOfEqualNodes(t *testing.T) {
	tree := parse("main;b 1", "main;c;z 1", "main;a;x 1", "main;d;y 1")
	require.Equal(t, []string{"total 0/4", " main 0/4", "  a 0/1", "   x 1/1", "  b 1/1", "  c 0/1", "   z 1/1", "  d 0/1", "   y 1/1"}, draw(tree.Truncate(6)),
		"a leaf takes no more than the rest node that would stand for it")
	require.Equal(t, []string{"total 0/4", " main 0/4", "  a 0/1", "   x 1/1", "  b 1/1", "  other 2/2"}, draw(tree.Truncate(3)))
}

// A function keeps its name whatever it is called, and no rest has that name.
func TestFunctionsNamedLikeTheRest(t *testing.T) {
	names := []string{"other", "(other)", "((other))", "total", "", "rest"}
	for k := range names {
		var lines []string
		for i, name := range names[:k+1] {
			lines = append(lines, fmt.Sprintf("main;%s;leaf 3", name), fmt.Sprintf("main;%s %d", name, 1000+i))
		}
		for i := range 100 {
			lines = append(lines, fmt.Sprintf("main;f%d 2", i))
		}
		tree := parse(lines...)
		for _, cut := range []*profile.Tree{tree.Truncate(20), left(all(tree).TruncateFunctions(20)), left(all(tree).Truncate(20))} {
			require.NotContains(t, names[:k+1], cut.RestName())
			require.NotEmpty(t, cut.RestName())
			own := ownOf(cut)
			for i, name := range names[:k+1] {
				require.EqualValues(t, 1000+i, own[name], "%q of %q", name, names[:k+1])
			}
			again, err := profile.ParseFlamegraph(cut.Flamegraph())
			require.NoError(t, err)
			require.Equal(t, cut.RestName(), again.RestName())
			require.Equal(t, draw(cut), draw(again))
			data, err := cut.MarshalBinary()
			require.NoError(t, err)
			again, err = profile.UnmarshalTree(data)
			require.NoError(t, err)
			require.Equal(t, own, ownOf(again))
		}
		require.Empty(t, tree.RestName())
		require.Empty(t, tree.Truncate(1000).RestName())
	}
}

// What was cut can be cut again.
func TestTruncateTwice(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for range 30 {
		tree := random(r, 200)
		require.Equal(t, draw(tree.Truncate(10)), draw(tree.Truncate(40).Truncate(10)))
		functions := left(all(tree).TruncateFunctions(60))
		require.Equal(t, tree.Total(), functions.Truncate(20).Total())
	}
}

// left is the left side of a comparison.
func left(d *profile.DiffTree) *profile.Tree {
	out := &profile.Tree{Names: d.Names, Rest: d.Rest}
	for _, n := range d.Nodes {
		out.Nodes = append(out.Nodes, profile.Node{Parent: n.Parent, Name: n.Name, Self: n.Self, Total: n.Total})
	}
	return out
}

// right is the right side of a comparison.
func right(d *profile.DiffTree) *profile.Tree {
	out := left(d)
	for i, n := range d.Nodes {
		out.Nodes[i].Self, out.Nodes[i].Total = n.SelfRight, n.TotalRight
	}
	return out
}

// ownOf adds up own values by function, as Grafana's table does.
func ownOf(tree *profile.Tree) map[string]int64 {
	own := map[string]int64{}
	for i, n := range tree.Nodes {
		if i > 0 {
			own[tree.Names[n.Name]] += n.Self
		}
	}
	return own
}

// paths are the totals of a tree's nodes by path. What is below a rest node is left out.
func paths(tree *profile.Tree) map[string]int64 {
	at := make([]string, len(tree.Nodes))
	out := map[string]int64{}
	for i := range tree.Nodes {
		n := &tree.Nodes[i]
		if tree.IsRest(n) || i > 0 && at[n.Parent] == "-" {
			at[i] = "-"
			continue
		}
		if i > 0 {
			at[i] = at[n.Parent] + ";" + tree.Names[n.Name]
		}
		out[at[i]] = n.Total
	}
	return out
}

// Every function whose own value is larger than the largest call that is left out has
// its exact own value; every call that is shown has its total.
func checkFunctions(t *testing.T, whole, cut *profile.Tree) (kept int) {
	t.Helper()
	all, shown := paths(whole), paths(cut)
	floor := int64(0)
	for path, total := range all {
		if v, ok := shown[path]; ok {
			if total != v {
				require.Equal(t, total, v, path)
			}
		} else {
			floor = max(floor, total)
		}
	}
	for path := range shown {
		if _, ok := all[path]; !ok {
			require.Fail(t, "no such call", path)
		}
	}
	want, got := ownOf(whole), ownOf(cut)
	for name, v := range want {
		if v > floor && got[name] != v || got[name] > v {
			require.Equal(t, v, got[name], "own value of %s, with calls up to %d left out", name, floor)
		}
	}
	sum := make([]int64, len(cut.Nodes))
	for i := len(cut.Nodes) - 1; i >= 0; i-- {
		n := cut.Nodes[i]
		sum[i] += n.Self
		if n.Total != sum[i] {
			require.Equal(t, n.Total, sum[i])
		}
		if i > 0 {
			sum[n.Parent] += sum[i]
		}
	}
	require.Equal(t, whole.Total(), sum[0])
	return len(shown)
}

func TestTruncateFunctionsIsExact(t *testing.T) {
	trees := shapes()
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 20 {
		trees[fmt.Sprint("random ", i)] = random(r, 50+r.IntN(1500))
	}
	for name, tree := range trees {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int64{10, 60, 300, 1000} {
				checkFunctions(t, tree, left(all(tree).TruncateFunctions(n)))
			}
		})
	}
	for range 20 { // of both sides of a comparison, the larger counts
		l, r := random(r, 500), random(r, 300)
		d := profile.Diff(l, r).TruncateFunctions(200)
		require.Equal(t, l.Total(), left(d).Total())
		require.Equal(t, r.Total(), right(d).Total())
		shown, floor := paths(left(d)), int64(0)
		for _, whole := range []*profile.Tree{l, r} {
			for path, total := range paths(whole) {
				if _, ok := shown[path]; !ok {
					floor = max(floor, total)
				}
			}
		}
		for name := range ownOf(left(d)) {
			if max(ownOf(l)[name], ownOf(r)[name]) > floor {
				require.Equal(t, ownOf(l)[name], ownOf(left(d))[name], name)
				require.Equal(t, ownOf(r)[name], ownOf(right(d))[name], name)
			}
		}
	}
}

// totalsOf adds up totals by function, as Grafana's table does: recursion counts once.
func totalsOf(tree *profile.Tree) map[string]int64 {
	totals, calls := map[string]int64{}, map[string]int{}
	var path []string
	tree.Walk(func(level int, n *profile.Node, name string) {
		for len(path) > level {
			calls[path[len(path)-1]]--
			path = path[:len(path)-1]
		}
		if calls[name]++; calls[name] == 1 {
			totals[name] += n.Total
		}
		path = append(path, name)
	})
	return totals
}

// The totals of functions lack no more than a thousandth, if one or a few are called
// from everywhere.
func TestTruncateFunctionsHasTotals(t *testing.T) {
	for name, tree := range shapes() {
		for _, n := range []int64{100, 300, 1000} {
			shown := totalsOf(left(all(tree).TruncateFunctions(n)))
			for f, total := range totalsOf(tree) {
				require.LessOrEqual(t, shown[f], total, "%s: %s", name, f)
				switch name {
				case "everywhere, two levels down": // 20 handlers
				case "recursion": // of which each level has a rest, at 100 nodes
				default:
					require.LessOrEqual(t, total-shown[f], max(tree.Total()/1000, tree.Total()/(n/4)), "%s: %s", name, f)
				}
			}
		}
	}
}

func TestTruncateFunctionsShowsWhereFrom(t *testing.T) {
	var lines []string
	for i := range 40 {
		lines = append(lines, fmt.Sprintf("main;handler%02d;json;mallocgc %d", i, 10+i))
	}
	lines = append(lines, "main;big;work 500")
	require.Equal(t, []string{
		"total 0/1680", " main 0/1680", "  big 0/500", "   work 500/500",
		"  handler37 0/47", "   other 0/47", "    mallocgc 47/47", // json is as large as handler36
		"  handler38 0/48", "   json 0/48", "    mallocgc 48/48",
		"  handler39 0/49", "   json 0/49", "    mallocgc 49/49",
		"  other 0/1036", "   json 0/1036", "    mallocgc 1036/1036",
	}, draw(left(all(parse(lines...)).TruncateFunctions(10))))
}
