package view_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/profile/view"
)

// stacks are values of both sides by stacktrace, from the root on, joined by semicolons.
type stacks map[string][2]int64

// tree builds the tree of stacktraces.
func (s stacks) tree() *profile.DiffTree {
	b := profile.NewDiffBuilder()
	for stack, v := range s {
		at := int32(0)
		for _, f := range frames(stack) {
			at = b.Child(at, b.Name(f))
		}
		b.Add(at, v)
	}
	return b.Tree()
}

func frames(stack string) []string {
	if stack == "" {
		return nil
	}
	return strings.Split(stack, ";")
}

// stacksOf returns the stacktraces of a tree.
func stacksOf(t *profile.DiffTree) stacks {
	out := stacks{}
	paths := make([]string, len(t.Nodes))
	for i, n := range t.Nodes {
		if i > 0 {
			paths[i] = strings.TrimPrefix(paths[n.Parent]+";"+t.Names[n.Name], ";")
		}
		if v := [2]int64{n.Self, n.SelfRight}; v != [2]int64{} {
			out.add(paths[i], v)
		}
	}
	return out
}

func (s stacks) add(stack string, v [2]int64) {
	sum := s[stack]
	s[stack] = [2]int64{sum[0] + v[0], sum[1] + v[1]}
}

// sets are names of the sets of functions of random stacktraces.
var sets = map[string]string{"go-runtime": `^runtime\.`, "netty": `^io\.netty\.`}

// apply is what a view does with stacktraces, step by step and without a tree.
func (s stacks) apply(o view.Options) stacks {
	out := stacks{}
	for stack, v := range s {
		out.add(strings.Join(applyTo(frames(stack), o), ";"), v)
	}
	return out
}

// compiled returns a regular expression of these tests, which are few.
func compiled(re string) *regexp.Regexp {
	known, ok := expressions[re]
	if !ok {
		known = regexp.MustCompile(re)
		expressions[re] = known
	}
	return known
}

var expressions = map[string]*regexp.Regexp{}

// applyTo returns what is shown of a stacktrace, nil if it is dropped.
func applyTo(f []string, o view.Options) []string {
	matches := func(re string) func(string) bool {
		return func(s string) bool { return compiled(re).MatchString(s) }
	}
	if o.Focus != "" && !slices.ContainsFunc(f, matches(o.Focus)) || o.Ignore != "" && slices.ContainsFunc(f, matches(o.Ignore)) {
		return nil
	}
	if o.Hide != "" {
		f = slices.DeleteFunc(slices.Clone(f), matches(o.Hide))
	}
	if o.ShowFrom != "" {
		i := slices.IndexFunc(f, matches(o.ShowFrom))
		if i < 0 {
			return nil
		}
		f = f[i:]
	}
	var folded []string
	for _, name := range f {
		set := ""
		for _, fold := range o.Fold {
			if set == "" && matches(sets[fold])(name) {
				set = "[" + fold + "]"
			}
		}
		if set == "" {
			folded = append(folded, name)
		} else if len(folded) == 0 || folded[len(folded)-1] != set {
			folded = append(folded, set)
		}
	}
	f = folded
	if o.Function != "" {
		switch i := slices.Index(f, o.Function); {
		case i < 0:
			return nil
		case o.Reverse:
			f = f[:i+1]
		default:
			f = f[i:]
		}
	}
	if o.CollapseRecursion {
		var path []string
		firsts := map[string][]string{}
		for _, name := range f {
			if first := firsts[name]; first != nil && name[0] != '[' {
				path = first
				continue
			}
			path = append(slices.Clone(path), name)
			firsts[name] = path
		}
		f = path
	}
	if o.Reverse {
		f = slices.Clone(f)
		slices.Reverse(f)
	}
	if n := int(o.MaxDepth); n > 0 && len(f) > n {
		f = append(slices.Clone(f[:n]), view.Deeper)
	}
	return f
}

var functions = []string{"main", "a", "b", "ab", "abc", "runtime.x", "runtime.y", "io.netty.z", "total", "other"}

func randomStacks(r *rand.Rand) stacks {
	out := stacks{}
	for range 1 + r.IntN(60) {
		var f []string
		for range r.IntN(10) {
			f = append(f, functions[r.IntN(len(functions))])
		}
		out.add(strings.Join(f, ";"), [2]int64{int64(r.IntN(50)), int64(r.IntN(3) * r.IntN(50))})
	}
	for stack, v := range out {
		if v == [2]int64{} {
			delete(out, stack)
		}
	}
	return out
}

// randomOptions sets each option in one of three cases.
func randomOptions(r *rand.Rand) (o view.Options) {
	pick := func(of ...string) string {
		if i := r.IntN(3 * len(of)); i < len(of) {
			return of[i]
		}
		return ""
	}
	patterns := []string{"a", "^b$", "runtime", "^(a|main)$", "nothing"}
	o.Focus, o.Ignore, o.Hide, o.ShowFrom = pick(patterns...), pick(patterns...), pick(patterns...), pick(patterns...)
	if r.IntN(3) == 0 {
		o.Fold = [][]string{{"go-runtime"}, {"netty"}, {"netty", "go-runtime"}}[r.IntN(3)]
	}
	o.Function = pick("a", "abc", "[go-runtime]", "nothing")
	o.CollapseRecursion, o.Reverse = r.IntN(3) == 0, r.IntN(3) == 0
	if r.IntN(3) == 0 {
		o.MaxDepth = int64(1 + r.IntN(5))
	}
	return o
}

func graph(t *testing.T, o view.Options, maxNodes int64, trees ...*profile.DiffTree) *profile.DiffTree {
	t.Helper()
	v, err := view.New(o)
	require.NoError(t, err)
	g := view.NewGraph(v, nil)
	for _, tree := range trees {
		require.NoError(t, g.Add(tree.Calls(), tree.Rest))
	}
	out, err := g.Tree(maxNodes)
	require.NoError(t, err)
	checkTree(t, out)
	return out
}

// checkTree checks that parents come first, and that totals are those of own values.
func checkTree(t *testing.T, tree *profile.DiffTree) {
	t.Helper()
	sums := slices.Clone(tree.Nodes)
	for i := len(sums) - 1; i >= 0; i-- {
		n := &sums[i]
		require.Less(t, n.Parent, int32(i))
		n.Total -= n.Self
		n.TotalRight -= n.SelfRight
		require.Zero(t, n.Total, "node %d", i)
		require.Zero(t, n.TotalRight, "node %d", i)
		if i > 0 {
			sums[n.Parent].Total -= tree.Nodes[i].Total
			sums[n.Parent].TotalRight -= tree.Nodes[i].TotalRight
		}
	}
}

// Every combination of options gives what they give step by step, for stacktraces in one
// tree or in several.
func TestOptions(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		all, trees := stacks{}, []*profile.DiffTree(nil)
		for range 1 + r.IntN(3) {
			s := randomStacks(r)
			trees = append(trees, s.tree())
			for stack, v := range s {
				all.add(stack, v)
			}
		}
		o := randomOptions(r)
		require.Equal(t, all.apply(o), stacksOf(graph(t, o, 0, trees...)), "%+v of %v", o, all)
	}
}

// A graph that is cut has the whole's total, and of each call that it shows the whole's
// value. Reversed, it has the largest calls.
func TestCut(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		s, o, n := randomStacks(r), randomOptions(r), int64(1+r.IntN(40))
		whole, cut := graph(t, o, 0, s.tree()), graph(t, o, n, s.tree())
		require.LessOrEqual(t, int64(len(cut.Nodes)-1), profile.Room(n)+1, "%d %+v %v", n, o, stacksOf(cut)) // a frame Deeper may be added to the last
		require.Equal(t, whole.Nodes[0].Total, cut.Nodes[0].Total)
		require.Equal(t, whole.Nodes[0].TotalRight, cut.Nodes[0].TotalRight)
		if !o.Reverse {
			continue // pkg/profile has the tests of its cuts
		}
		totals := totalsOf(whole)
		least := int64(1 << 60)
		for path, v := range totalsOf(cut) {
			if !strings.Contains(path, cut.RestName()) || cut.Rest == 0 {
				require.Equal(t, totals[path], v, path)
				if !strings.Contains(path, view.Deeper) {
					least = min(least, max(v[0], v[1]))
				}
			}
		}
		for path, v := range totals {
			if _, ok := totalsOf(cut)[path]; !ok {
				require.LessOrEqual(t, max(v[0], v[1]), least, path)
			}
		}
	}
}

func totalsOf(t *profile.DiffTree) stacks {
	out, paths := stacks{}, make([]string, len(t.Nodes))
	for i, n := range t.Nodes[1:] {
		paths[i+1] = paths[n.Parent] + ";" + t.Names[n.Name]
		out.add(paths[i+1], [2]int64{n.Total, n.TotalRight})
	}
	return out
}

// Nodes that a server cut off stay rest nodes, whatever their name matches.
func TestRestNodes(t *testing.T) {
	in := stacks{"main;a;b": {5, 0}, "main;a;other": {3, 0}, "main;other": {2, 0}}.tree()
	in.Rest = int32(slices.Index(in.Names, "other"))
	got := graph(t, view.Options{Focus: "^a$|other", Hide: "other", CollapseRecursion: true}, 0, in)
	require.Equal(t, stacks{"main;a;b": {5, 0}, "main;a;other": {3, 0}, "": {2, 0}}, stacksOf(got), "the rest of main is not known to have a")
	require.Equal(t, "other", got.RestName())
	got = graph(t, view.Options{Reverse: true}, 0, in)
	require.Equal(t, stacks{"b;a;main": {5, 0}, "other;a;main": {3, 0}, "other;main": {2, 0}}, stacksOf(got))
	require.Equal(t, "other", got.RestName())
}

func TestDeepRecursion(t *testing.T) {
	b := profile.NewDiffBuilder()
	at := int32(0)
	for i := range 100_000 {
		at = b.Child(at, b.Name([]string{"even", "odd"}[i%2]))
		b.Add(at, [2]int64{1})
	}
	deep := b.Tree()
	got := stacksOf(graph(t, view.Options{CollapseRecursion: true}, 0, deep))
	require.Equal(t, stacks{"even": {50_000}, "even;odd": {50_000}}, got)
	require.Len(t, graph(t, view.Options{MaxDepth: 5000}, 0, deep).Nodes, 5002)
	reversed := graph(t, view.Options{Reverse: true}, 100, deep)
	require.EqualValues(t, 100_000, reversed.Nodes[0].Total)
}

// Files and binaries count by the marks of functions.
func TestMarks(t *testing.T) {
	v, err := view.New(view.Options{Focus: `file:\.py$`, Hide: "binary:^/usr/bin/python"})
	require.NoError(t, err)
	marks := view.Marks{"run": v.Matches(view.File, "/app/run.py"), "eval": v.Matches(view.Binary, "/usr/bin/python3.11")}
	g := view.NewGraph(v, marks)
	require.NoError(t, g.Add(stacks{"main;eval;run": {5, 0}, "main;eval": {2, 0}, "main;run;eval": {1, 0}}.tree().Calls(), 0))
	tree, err := g.Tree(0)
	require.NoError(t, err)
	require.Equal(t, stacks{"": {2, 0}, "main;run": {6, 0}}, stacksOf(tree))

	require.EqualError(t, v.NeedsPlaces(), "focus: "+view.ErrPlaces.Error())
	v, err = view.New(view.Options{Fold: []string{"go-runtime"}})
	require.NoError(t, err)
	require.NoError(t, v.NeedsPlaces())
	v, err = view.New(view.Options{Fold: []string{"spring", "asyncio"}})
	require.NoError(t, err)
	require.ErrorContains(t, v.NeedsPlaces(), "fold: ")
}

func TestSets(t *testing.T) {
	for _, c := range []struct {
		set, kind view.Kind
		text      string
		want      bool
	}{
		{"go-runtime", view.Function, "runtime.mallocgc", true},
		{"go-runtime", view.Function, "internal/runtime/maps.(*Map).getWithKey", true},
		{"go-runtime", view.Function, "runtimex.run", false},
		{"go-runtime", view.Function, "main.runtime.x", false},
		{"jvm-internals", view.Function, "jdk.internal.reflect.DirectMethodHandleAccessor.invoke", true},
		{"jvm-internals", view.Function, "java/lang/Thread.run", true},
		{"jvm-internals", view.Function, "java.util.HashMap.get", false},
		{"jvm-internals", view.Binary, "/usr/lib/jvm/java-17/lib/server/libjvm.so", true},
		{"spring", view.Function, "org.springframework.web.servlet.DispatcherServlet.doDispatch", true},
		{"netty", view.Function, "io/netty/channel/nio/NioEventLoop.run", true},
		{"tomcat", view.Function, "org.apache.tomcat.util.net.NioEndpoint.run", true},
		{"rust-std", view.Function, "<core::iter::Map<I, F> as core::iter::Iterator>::next", true},
		{"python-stdlib", view.File, "/usr/lib/python3.11/asyncio/base_events.py", true},
		{"python-stdlib", view.File, "/usr/lib/python3.11/threading.py", true},
		{"python-stdlib", view.File, "/usr/lib/python3.11/site-packages/flask/app.py", false},
		{"asyncio", view.File, "/usr/lib/python3.13/asyncio/events.py", true},
		{"node-internals", view.File, "node:internal/process/task_queues", true},
		{"kernel", view.Binary, "vmlinux", true},
	} {
		v, err := view.New(view.Options{Fold: []string{string(c.set)}})
		require.NoError(t, err)
		require.Equal(t, c.want, v.Matches(c.kind, c.text) != 0, "%s of %s %s", c.set, c.kind, c.text)
	}
}

// The editor offers all sets.
func TestSetsOfEditor(t *testing.T) {
	source, err := os.ReadFile("../../../src/foldSets.ts")
	require.NoError(t, err)
	var listed []string
	for _, m := range regexp.MustCompile(`\bset\(\s*'([a-z-]+)'`).FindAllStringSubmatch(string(source), -1) {
		listed = append(listed, m[1])
	}
	var want []string
	for name := range view.Sets {
		want = append(want, name)
	}
	require.ElementsMatch(t, want, listed)
}

func TestRefused(t *testing.T) {
	for want, o := range map[string]view.Options{
		"focus: error parsing regexp":           {Focus: "a("},
		"ignore: the regular expression has":    {Ignore: strings.Repeat("a", view.MaxPattern+1)},
		"hide: the regular expression repeats":  {Hide: strings.Repeat("(abc|def){1000}", 10)},
		"show_from: the regular expression is":  {ShowFrom: "file:"},
		`fold: "nothing" is not one of asyncio`: {Fold: []string{"nothing"}},
		"function: ":                            {Function: strings.Repeat("a", view.MaxName+1)},
		"max_depth: -1 is below 0":              {MaxDepth: -1},
	} {
		_, err := view.New(o)
		require.ErrorContains(t, err, want)
		var field *view.FieldError
		require.ErrorAs(t, err, &field)
	}
}

// The memory that nodes take is asked for before they are made.
func TestRoom(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	s := stacks{}
	for range 20_000 {
		s.add(fmt.Sprintf("f%d;f%d;f%d", r.IntN(50), r.IntN(50), r.IntN(50)), [2]int64{1})
	}
	for _, o := range []view.Options{{CollapseRecursion: true}, {Reverse: true}} {
		v, err := view.New(o)
		require.NoError(t, err)
		g, asked := view.NewGraph(v, nil), int64(0)
		g.Room = func(n int64) error {
			if asked += n; asked > 12_000 {
				return fmt.Errorf("no room")
			}
			return nil
		}
		require.EqualError(t, g.Add(s.tree().Calls(), 0), "no room")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a", "file:x", "(a{100}){100}", "binary:^$", "(?i)[^a]{2,}"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, text string) {
		if v, err := view.New(view.Options{Focus: text}); err == nil {
			v.Matches(view.Function, "main.main")
		}
	})
}

// Joined graphs have a frame for each, one name of rest nodes, and the root's own value.
func TestJoin(t *testing.T) {
	rest := stacks{"main;a": {5, 1}, "main;other": {2, 0}, "": {7, 0}}.tree()
	rest.Rest = int32(slices.Index(rest.Names, "other"))
	got := view.Join([]view.Group{
		{Label: view.GroupLabel([]string{"pod", "zone"}, labels.FromStrings("pod", "api-1")), Tree: rest},
		{Label: "pod=api-2", Tree: stacks{"other": {4, 0}}.tree()},
		{Label: "pod=api-3", Tree: stacks{"": {1, 1}}.tree()},
		{Label: "pod=api-4", Tree: &profile.DiffTree{}},
	})
	checkTree(t, got)
	require.Equal(t, stacks{
		"pod=api-1, zone=(none);main;a": {5, 1}, "pod=api-1, zone=(none);main;(other)": {2, 0}, "pod=api-2;other": {4, 0}, "": {8, 1},
	}, stacksOf(got))
	require.Equal(t, "(other)", got.RestName())
	require.False(t, got.Functions)
}
