package profile

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGaps(t *testing.T) {
	b := NewBuilder(10)
	add := func(value int64, names ...string) {
		at := int32(0)
		for _, n := range names {
			at = b.Child(at, b.Name(n))
		}
		b.Add(at, value)
	}
	add(100, "main", "work")
	add(10, "main", "libx.so+0x1f", "libx.so+0x2f")            // once
	add(7, "main", "libx.so+0x2f", "work", "[JIT code]")       // by the outermost
	add(5, "[stack incomplete: stack too deep]", "[vdso]+0x1") // in both
	add(4, "[stack not sampled]")
	add(3, "[unknown Python function]")
	add(2, "0xabc")
	add(1, "[unknown]+0x1")
	// Named functions.
	add(50, "f(int) [clone 0x12]", "operator+0x", "a b+0x1", "std::x+0xg", "0x", "[socket I/O]")
	tree := b.Tree()
	want := Gaps{
		Unnamed: []Gap{{"libx.so", [2]int64{17}}, {"[vdso]", [2]int64{5}}, {"Python", [2]int64{3}}, {"unknown module", [2]int64{3}}},
		Cut:     []Gap{{"stack too deep", [2]int64{5}}, {"stack not sampled", [2]int64{4}}},
	}
	require.Equal(t, want, tree.Gaps())
	require.Equal(t, [2]int64{28}, Sum(want.Unnamed))
	require.Empty(t, (&Tree{}).Gaps().Unnamed)

	other := NewBuilder(1)
	other.Add(other.Child(0, other.Name("libx.so+0x9")), 40)
	both := Diff(tree, other.Tree()).Gaps()
	require.Equal(t, Gap{"libx.so", [2]int64{17, 40}}, both.Unnamed[0])

	// A rest node is not known.
	cut := tree.Truncate(2)
	require.Empty(t, cut.Gaps().Unnamed)
}
