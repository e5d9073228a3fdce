package profile_test

import (
	"encoding/binary"
	"testing"

	"github.com/flameline/flameline/pkg/profile"
)

func FuzzParseType(f *testing.F) {
	f.Add("process_cpu:cpu:nanoseconds:cpu:nanoseconds")
	f.Fuzz(func(t *testing.T, s string) {
		typ, err := profile.ParseType(s)
		if err != nil {
			return
		}
		again, err := profile.ParseType(typ.String())
		if err != nil || again != typ {
			t.Fatalf("%q: got %v, %v", s, again, err)
		}
	})
}

func FuzzParseSelector(f *testing.F) {
	f.Add(`{a="b",c!~"d"}`)
	f.Add(`name{"x.y"=~"\n"}`)
	f.Fuzz(func(t *testing.T, s string) {
		ms, err := profile.ParseSelector(s)
		if err != nil {
			return
		}
		text := profile.FormatSelector(ms)
		again, err := profile.ParseSelector(text)
		if err != nil {
			t.Fatalf("%q as %q: %v", s, text, err)
		}
		if got := profile.FormatSelector(again); got != text {
			t.Fatalf("%q: %q, then %q", s, text, got)
		}
	})
}

func FuzzUnmarshalTree(f *testing.F) {
	f.Add([]byte("\x00\x00\x02\x01a\x00\x01\x01b\xac\x02\x00\x01c\x01\x00"))
	f.Add([]byte("\x00\x00\x03\x01a\x00\x02\x01b\x01\x00\x01c\x01\x00\x01b\x00\x02\x01a\x01\x00\x01c\x02\x00\x05other\x03\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := profile.UnmarshalTree(b)
		if err != nil {
			return
		}
		check(t, tree)
		for n := range int64(4) {
			for _, cut := range []*profile.Tree{tree.Truncate(n), left(profile.Diff(tree, &profile.Tree{}).TruncateFunctions(n))} {
				if check(t, cut); cut.Total() != tree.Total() || n > 0 && int64(len(cut.Nodes)-1) > profile.Room(n) {
					t.Fatalf("cut to %d: %d nodes, total %d of %d", n, len(cut.Nodes), cut.Total(), tree.Total())
				}
			}
		}
	})
}

// FuzzParseFlamegraph reads levels from bytes: a level's number of values, then
// the values, as varints.
func FuzzParseFlamegraph(f *testing.F) {
	f.Add([]byte{8, 0, 20, 0, 0, 8, 0, 10, 10, 2}, false)
	f.Add([]byte{14, 0, 20, 0, 0, 10, 0, 0, 14, 0, 20, 20, 0, 10, 10, 2}, true)
	f.Fuzz(func(t *testing.T, b []byte, diff bool) {
		var levels [][]int64
		for len(b) > 0 {
			n, w := binary.Varint(b)
			if w <= 0 {
				break
			}
			b = b[w:]
			var level []int64
			for ; n > 0 && len(b) > 0; n-- {
				v, w := binary.Varint(b)
				if w <= 0 {
					return
				}
				level, b = append(level, v), b[w:]
			}
			levels = append(levels, level)
		}
		names := []string{"total", "a", "b", "other"}
		if diff {
			tree, err := profile.ParseFlamegraphDiff(profile.FlamegraphDiff{Names: names, Levels: levels})
			if err != nil {
				return
			}
			again, err := profile.ParseFlamegraphDiff(tree.Flamegraph())
			if err != nil || len(again.Nodes) != len(tree.Nodes) {
				t.Fatalf("got %d nodes of %d, %v", len(again.Nodes), len(tree.Nodes), err)
			}
			return
		}
		tree, err := profile.ParseFlamegraph(profile.Flamegraph{Names: names, Levels: levels})
		if err != nil {
			return
		}
		check(t, tree)
		again, err := profile.ParseFlamegraph(tree.Flamegraph())
		if err != nil || len(again.Nodes) != len(tree.Nodes) || again.Total() != tree.Total() {
			t.Fatalf("got %v of %v, %v", again, tree, err)
		}
	})
}

// check fails if a parent does not come before its child, if a call is there twice, or if
// totals are wrong.
func check(t *testing.T, tree *profile.Tree) {
	t.Helper()
	var sum int64
	type call struct{ parent, name int32 }
	calls := map[call]bool{}
	for i, n := range tree.Nodes {
		if c := (call{n.Parent, n.Name}); calls[c] {
			t.Fatalf("node %d is twice below %d", i, n.Parent)
		} else {
			calls[c] = true
		}
		if i > 0 && (n.Parent < 0 || int(n.Parent) >= i) {
			t.Fatalf("node %d has parent %d", i, n.Parent)
		}
		if n.Self < 0 || n.Total < n.Self {
			t.Fatalf("node %d: self %d of total %d", i, n.Self, n.Total)
		}
		sum += n.Self
	}
	if sum != tree.Total() {
		t.Fatalf("own values sum to %d of total %d", sum, tree.Total())
	}
}
