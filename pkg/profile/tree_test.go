package profile_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// parse makes a tree of folded stacks, such as "a;b 3".
func parse(stacks ...string) *profile.Tree {
	b := profile.NewBuilder(0)
	for _, s := range stacks {
		i := strings.LastIndexByte(s, ' ')
		var v int64
		if _, err := fmt.Sscan(s[i+1:], &v); err != nil {
			panic(err)
		}
		at := int32(0)
		if s[:i] != "" {
			for name := range strings.SplitSeq(s[:i], ";") {
				at = b.Child(at, b.Name(name))
			}
		}
		b.Add(at, v)
	}
	return b.Tree()
}

// draw writes a tree as one line per node, indented by its level.
func draw(t *profile.Tree) []string {
	var out []string
	t.Walk(func(level int, n *profile.Node, name string) {
		out = append(out, fmt.Sprintf("%s%s %d/%d", strings.Repeat(" ", level), name, n.Self, n.Total))
	})
	return out
}

func drawDiff(t *profile.DiffTree) []string {
	var out []string
	t.Walk(func(level int, n *profile.DiffNode, name string) {
		out = append(out, fmt.Sprintf("%s%s %d/%d %d/%d", strings.Repeat(" ", level), name, n.Self, n.Total, n.SelfRight, n.TotalRight))
	})
	return out
}

// random makes a tree with recursion and equal names under several parents.
func random(r *rand.Rand, stacks int) *profile.Tree {
	b := profile.NewBuilder(0)
	for range stacks {
		at := int32(0)
		for range 1 + r.IntN(9) {
			at = b.Child(at, b.Name(fmt.Sprintf("f%d", r.IntN(12))))
		}
		b.Add(at, 1+r.Int64N(1000))
	}
	return b.Tree()
}

func TestWalkGoesDepthFirstInNameOrder(t *testing.T) {
	tree := parse("main;b 2", "main;a 1", "main 4", "other 1", "z;y 3")
	require.Equal(t, []string{
		"total 0/11", " main 4/7", "  a 1/1", "  b 2/2", " other 1/1", " z 0/3", "  y 3/3",
	}, draw(tree))
	require.Equal(t, []string{"total 0/11", " main 4/7", "  b 2/2", "  (other) 1/1", " z 0/3", "  y 3/3", " (other) 1/1"}, draw(tree.Truncate(4)), "a rest is last")
	require.EqualValues(t, 11, tree.Total())
}

func TestMerge(t *testing.T) {
	got := profile.Merge(parse("a;b 1", "a;c 2"), parse(), parse("a;b 10", "d 5", " 7"))
	require.Equal(t, []string{"total 7/25", " a 0/13", "  b 11/11", "  c 2/2", " d 5/5"}, draw(got))
	require.Equal(t, []string{"total 0/0"}, draw(profile.Merge()))
}

func TestTruncate(t *testing.T) {
	tree := parse("a;b 10", "a;c 5", "a;d 1", "e 2", "e;f 1", "g 4")
	tests := []struct {
		name string
		max  int64
		want []string
	}{
		{"no limit", 0, []string{"total 0/23", " a 0/16", "  b 10/10", "  c 5/5", "  d 1/1", " e 2/3", "  f 1/1", " g 4/4"}},
		{"room for all", 7, []string{"total 0/23", " a 0/16", "  b 10/10", "  c 5/5", "  d 1/1", " e 2/3", "  f 1/1", " g 4/4"}},
		{"folds per parent", 3, []string{"total 0/23", " a 0/16", "  b 10/10", "  c 5/5", "  other 1/1", " other 7/7"}},
		{"two equal nodes", 6, []string{"total 0/23", " a 0/16", "  b 10/10", "  c 5/5", "  d 1/1", " e 2/3", "  f 1/1", " g 4/4"}},
		{"one", 1, []string{"total 0/23", " a 0/16", "  other 16/16", " other 7/7"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, draw(tree.Truncate(tt.max)))
		})
	}
	t.Run("beside a function of that name", func(t *testing.T) {
		got := parse("a 10", "other;x 8", "b 1").Truncate(3)
		require.Equal(t, []string{"total 0/19", " a 10/10", " other 0/8", "  x 8/8", " (other) 1/1"}, draw(got))
	})
}

func TestTruncateIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		tree := random(r, 200)
		limit := 1 + r.Int64N(100)
		got := tree.Truncate(limit)
		require.Equal(t, tree.Total(), got.Total())
		var self int64
		for i, n := range got.Nodes {
			self += n.Self
			if i > 0 {
				require.Less(t, n.Parent, int32(i))
			}
		}
		require.Equal(t, tree.Total(), self)
	}
}

func TestDiff(t *testing.T) {
	d := profile.Diff(parse("a;b 3", "a;c 1"), parse("a;b 5", "d 2", "a 1"))
	require.Equal(t, []string{"total 0/4 0/8", " a 0/4 1/6", "  b 3/3 5/5", "  c 1/1 0/0", " d 0/0 2/2"}, drawDiff(d))
	require.Equal(t, []string{"total 0/4 0/8", " a 0/4 1/6", "  b 3/3 5/5", "  other 1/1 0/0", " other 0/0 2/2"}, drawDiff(d.Truncate(3)))
	require.Same(t, d, d.Truncate(0))
}

func TestSidesOfADiff(t *testing.T) {
	left, right := parse("a;b 3", "a;c 1"), parse("a;b 5", "a;c 2", "a 1")
	d := profile.Diff(left, right)
	require.Equal(t, draw(left), draw(d.Left()))
	require.Equal(t, draw(right), draw(d.Right()))
	l, r := d.Totals()
	require.Equal(t, []int64{4, 8}, []int64{l, r})

	l, r = (&profile.DiffTree{}).Totals()
	require.Equal(t, []int64{0, 0}, []int64{l, r})
	require.Zero(t, (&profile.DiffTree{}).Left().Total())
}

func TestFlamegraph(t *testing.T) {
	f := parse("a;b 3", "a 1", "c;b 2", "c;e 4").Flamegraph()
	require.Equal(t, []string{"total", "a", "b", "c", "e"}, f.Names)
	require.Equal(t, [][]int64{
		{0, 10, 0, 0},
		{0, 4, 1, 1, 0, 6, 0, 3},
		{1, 3, 3, 2, 0, 2, 2, 2, 0, 4, 4, 4},
	}, f.Levels)
	require.EqualValues(t, 10, f.Total)
	require.EqualValues(t, 4, f.MaxSelf)

	empty := (&profile.Tree{}).Flamegraph()
	require.Equal(t, profile.Flamegraph{Names: []string{"total"}, Levels: [][]int64{{0, 0, 0, 0}}}, empty)
}

func TestFlamegraphRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		tree := random(r, 100)
		got, err := profile.ParseFlamegraph(tree.Flamegraph())
		require.NoError(t, err)
		require.Equal(t, draw(tree), draw(got))

		d := profile.Diff(tree, random(r, 100))
		gotDiff, err := profile.ParseFlamegraphDiff(d.Flamegraph())
		require.NoError(t, err)
		require.Equal(t, drawDiff(d), drawDiff(gotDiff))

		b, err := tree.MarshalBinary()
		require.NoError(t, err)
		fromBytes, err := profile.UnmarshalTree(b)
		require.NoError(t, err)
		require.Equal(t, draw(tree), draw(fromBytes))
	}
}

func TestParseFlamegraphErrors(t *testing.T) {
	tests := []struct {
		name   string
		levels [][]int64
		want   string
	}{
		{"width", [][]int64{{0, 1, 1}}, "level 0: 3 values are not a multiple of 4"},
		{"roots", [][]int64{{0, 1, 1, 0, 0, 1, 1, 0}}, "level 0: 2 nodes, want one"},
		{"name", [][]int64{{0, 1, 1, 9}}, "level 0, node 0: name 9 of 1"},
		{"negative", [][]int64{{0, 5, 0, 0}, {0, 2, 2, 0, -1, 2, 2, 0}}, "level 1, node 1: negative value"},
		{"wider than its parent", [][]int64{{0, 5, 0, 0}, {0, 6, 6, 0}}, "level 1, node 0: outside"},
		{"beyond its parent", [][]int64{{0, 5, 0, 0}, {5, 1, 1, 0}}, "level 1, node 0: outside"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := profile.ParseFlamegraph(profile.Flamegraph{Names: []string{"total"}, Levels: tt.levels})
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestTreeBytes(t *testing.T) {
	b, err := parse("a;b 300", "c 1").MarshalBinary()
	require.NoError(t, err)
	require.Equal(t, []byte("\x00\x00\x02\x01a\x00\x01\x01b\xac\x02\x00\x01c\x01\x00"), b)
	b, err = (&profile.Tree{}).MarshalBinary()
	require.NoError(t, err)
	require.Empty(t, b)

	for in, want := range map[string]string{
		"\x00":                      "malformed number at byte 1",
		"\x05ab":                    "name of 5 bytes at byte 1",
		"\x00\x00\x00\x01":          "1 bytes after the end at byte 3",
		"\x00\x00\x02\x01a\x01\x00": "malformed number at byte 7",
		"\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00": "total overflows",
	} {
		_, err := profile.UnmarshalTree([]byte(in))
		require.ErrorContains(t, err, want, "%q", in)
	}
}

func TestDotCountsRecursionOnce(t *testing.T) {
	dot := string(parse("main;fib;fib;fib 6", "main;fib 2", "main;\"quoted\" 1").Dot("ns", 0))
	require.Contains(t, dot, `[label="fib\n8 (88.89%) of 8 (88.89%)"`)
	require.Contains(t, dot, `[label="\"quoted\"\n1 (11.11%) of 1 (11.11%)"`)
	require.Contains(t, dot, `N1 -> N2 [label="8"]`)
	require.NotContains(t, dot, "N2 -> N2") // as in the graphs of go tool pprof
	require.NotContains(t, string(parse("a;b 2", "a 3").Dot("ns", 1)), `"b`)
}

// Siblings of the same name are one node, with the children of all of them.
func TestParseFlamegraphMergesSiblings(t *testing.T) {
	const a, b, x, a2 = 1, 2, 3, 4
	names := []string{"total", "a", "b", "x", "a"}
	one := [][]int64{
		{0, 50, 0, 0},
		{0, 10, 0, a, 0, 10, 0, b, 0, 10, 0, a, 0, 10, 0, a2, 0, 10, 10, x},
		{0, 10, 10, x, 0, 10, 10, x, 0, 10, 0, x, 0, 10, 10, x},
		{20, 4, 4, a, 0, 6, 6, b},
	}
	both := make([][]int64, len(one))
	for l, vs := range one {
		for i := 0; i < len(vs); i += 4 {
			both[l] = append(both[l], vs[i], vs[i+1], vs[i+2], 2*vs[i], 2*vs[i+1], 2*vs[i+2], vs[i+3])
		}
	}
	want := []string{"b;x 10", "x 10", "a;x 20", "a;x;a 4", "a;x;b 6"}
	tree, err := profile.ParseFlamegraph(profile.Flamegraph{Names: names, Levels: one})
	require.NoError(t, err)
	require.ElementsMatch(t, want, folded(tree))
	diff, err := profile.ParseFlamegraphDiff(profile.FlamegraphDiff{Names: names, Levels: both})
	require.NoError(t, err)
	require.ElementsMatch(t, want, folded(diff.Left()))
}

// folded are the stacktraces of a tree, in folded form.
func folded(tree *profile.Tree) (out []string) {
	var path []string
	tree.Walk(func(level int, n *profile.Node, name string) {
		if path = append(path[:max(level-1, 0)], name); level > 0 && n.Self > 0 {
			out = append(out, fmt.Sprint(strings.Join(path, ";"), " ", n.Self))
		}
	})
	return out
}
