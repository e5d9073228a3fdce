package profile_test

import (
	"bytes"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// column is how flamegraph.pl takes the last number off a line.
var column = regexp.MustCompile(`^(.*)\s+?(\d+(?:\.\d*)?)$`)

// readFolded reads folded stacks with one value a line, as flamegraph.pl does: a
// second number before the last would make it a line of a diff.
func readFolded(t testing.TB, text string) *profile.Tree {
	t.Helper()
	b := profile.NewBuilder(0)
	for line := range strings.Lines(text) {
		m := column.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		require.NotNil(t, m, "line %q", line)
		require.Nil(t, column.FindStringSubmatch(m[1]), "line %q has two columns", line)
		v, err := strconv.ParseInt(m[2], 10, 64)
		require.NoError(t, err)
		at := int32(0)
		for name := range strings.SplitSeq(m[1], ";") {
			at = b.Child(at, b.Name(name))
		}
		b.Add(at, v)
	}
	return b.Tree()
}

func TestFoldedNames(t *testing.T) {
	b := profile.NewBuilder(0)
	add := func(v int64, names ...string) {
		at := int32(0)
		for _, n := range names {
			at = b.Child(at, b.Name(n))
		}
		b.Add(at, v)
	}
	add(1, "main", "a;b")
	add(2, "main", "two\nlines\r\n\tand a tab")
	add(3, "main", "operator() 12")
	add(4, "main", "operator() 12", "leaf 1.5")
	add(5, "main", "")
	add(6, "main", " ")
	add(7, "main", "std::vector<int, std::allocator<int> >::push_back")
	add(8, "main", "v1.2")
	add(9, "grüße", "関数")
	add(10, "main", "\xff\xfe")
	add(11, "12")
	add(12)
	var out bytes.Buffer
	require.NoError(t, b.Tree().WriteFolded(&out))
	require.Equal(t, `total 12
12 11
grüße;関数 9
main;[unknown] 5
main;[unknown] 6
main;a:b 1
main;operator()_12 3
main;operator() 12;leaf_1.5 4
main;std::vector<int, std::allocator<int> >::push_back 7
main;two lines   and a tab 2
main;v1.2 8
main;?? 10
`, out.String())
	require.EqualValues(t, 78, readFolded(t, out.String()).Total())
}

func TestFoldedRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		tree := random(r, 60)
		var out bytes.Buffer
		require.NoError(t, tree.WriteFolded(&out))
		require.Equal(t, draw(tree), draw(readFolded(t, out.String())))
	}
}

func TestFoldedDiff(t *testing.T) {
	d := profile.Diff(parse("main;a 3", "main;b 5", "gone 2"), parse("main;a 4", "main;c 1"))
	var out bytes.Buffer
	require.NoError(t, d.WriteFolded(&out))
	require.Equal(t, "gone 2 0\nmain;a 3 4\nmain;b 5 0\nmain;c 0 1\n", out.String())
}

func FuzzFoldedName(f *testing.F) {
	for _, s := range []string{"a;b", "x 12", "x 1.", "\n", "", "\u2028", "a\xff", "3.4.5", " 7"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		b := profile.NewBuilder(0)
		b.Add(b.Child(b.Child(0, b.Name(name)), b.Name(name)), 42)
		var out bytes.Buffer
		require.NoError(t, b.Tree().WriteFolded(&out))
		tree := readFolded(t, out.String())
		require.EqualValues(t, 42, tree.Total())
		require.Len(t, tree.Nodes, 3, "%q gives %q", name, out.String())
	})
}
