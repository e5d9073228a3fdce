package ingest

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// appendNode encodes a node as both formats do.
func appendNode(b []byte, text string, value, children uint64) []byte {
	b = binary.AppendUvarint(b, uint64(len(text)))
	b = append(b, text...)
	b = binary.AppendUvarint(b, value)
	return binary.AppendUvarint(b, children)
}

// chain is a tree of n functions, each called by the one before, all with a
// value. As a trie its names are "a", "aa", "aaa".
func chain(n int) []byte {
	b := appendNode(nil, "", 0, 1)
	for range n - 1 {
		b = appendNode(b, "a", 1, 1)
	}
	return appendNode(b, "a", 1, 0)
}

func TestTrie(t *testing.T) {
	var b []byte
	b = appendNode(b, "", 0, 3)
	b = appendNode(b, "main;w", 0, 2)
	b = appendNode(b, "ork", 30, 1)
	b = appendNode(b, "ers;poll;", 7, 0) // ends with a whole name
	b = appendNode(b, "ait", 5, 1)
	b = appendNode(b, ";futex", 2, 0)
	b = appendNode(b, "idle", 4, 0)
	b = appendNode(b, "main", 1, 0)
	for _, body := range [][]byte{b, gzipped(t, b)} {
		ps, size, err := Trie(body, pushOf(t, "shop"), Limits{})
		require.NoError(t, err)
		require.Equal(t, len(b), size)
		require.Equal(t, []string{
			"idle 4", "main 1", "main;wait 5", "main;wait;futex 2", "main;work 30", "main;workers;poll 7",
		}, foldedText(sole(t, ps, Limits{})))
	}
}

func TestTree(t *testing.T) {
	var b []byte
	b = appendNode(b, "", 3, 2)
	b = appendNode(b, "main", 1, 2)
	b = appendNode(b, "a b;c", 30, 0)
	b = appendNode(b, "d", 0, 1)
	b = appendNode(b, "main", 5, 0)
	b = appendNode(b, "idle", 2, 0)
	ps, _, err := Tree(b, pushOf(t, "shop"), Limits{})
	require.NoError(t, err)
	require.Equal(t, []string{" 3", "idle 2", "main 1", "main;a b;c 30", "main;d;main 5"}, foldedText(sole(t, ps, Limits{})))
	ps, _, err = Tree(nil, pushOf(t, "shop"), Limits{})
	require.NoError(t, err)
	require.Empty(t, ps)
}

func TestTreesNameTheOffset(t *testing.T) {
	whole := appendNode(appendNode(nil, "", 0, 1), "ab", 1, 0)
	big := binary.AppendUvarint(appendNode(nil, "", 0, 1), 0)
	big = append(binary.AppendUvarint(big, math.MaxInt64+1), 0)
	for name, tc := range map[string]struct {
		in   []byte
		l    Limits
		want string
	}{
		"cut":           {whole[:3], Limits{}, "at byte "},
		"cut name":      {append(appendNode(nil, "", 0, 1), "\x09abc"...), Limits{}, "a name of 9 bytes, but only 3 bytes are left, at byte 3"},
		"cut value":     {append(bytes.Clone(whole[:6]), 0x80), Limits{}, "the body ends before a value, at byte 6"},
		"long number":   {bytes.Repeat([]byte{0xff}, 11), Limits{}, "a name's length of more than 64 bits, at byte 0"},
		"long name":     {append(bytes.Repeat([]byte{0xff}, 9), 1), Limits{}, "a name of 18446744073709551615 bytes, but only 0 bytes are left, at byte 0"},
		"many children": {appendNode(nil, "", 0, 1<<62), Limits{}, "4611686018427387904 children, but only 0 bytes are left, at byte 2"},
		"large value":   {big, Limits{}, "the value 9223372036854775808 is more than"},
		"more follows":  {append(bytes.Clone(whole), 0), Limits{}, "1 bytes follow the end of the tree, at byte 8"},
		"nodes":         {chain(10), Limits{MaxSymbols: 5}, "(limits.max_symbols)"},
		"samples":       {chain(10), Limits{MaxSamples: 5}, "more than 5 stacktraces (limits.max_samples)"},
		"symbol":        {whole, Limits{MaxSymbolBytes: 1}, "(limits.max_symbol_bytes)"},
		"bytes":         {whole, Limits{MaxProfileBytes: 3}, "(limits.max_profile_bytes)"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Trie(tc.in, pushOf(t, "shop"), tc.l)
			require.ErrorContains(t, err, "trie: ")
			require.ErrorContains(t, err, tc.want)
			_, _, err = Tree(tc.in, pushOf(t, "shop"), tc.l)
			require.ErrorContains(t, err, "tree: ")
			require.ErrorContains(t, err, tc.want)
		})
	}
	_, _, err := Tree(chain(10), pushOf(t, "shop"), Limits{MaxStackDepth: 9})
	require.ErrorContains(t, err, "a stacktrace of more than 9 frames (limits.max_stack_depth), at byte ")
	_, _, err = Tree(appendNode(nil, "all", 1, 0), pushOf(t, "shop"), Limits{})
	require.ErrorContains(t, err, `tree: the root has the name "all"`)
	_, _, err = Trie(appendNode(appendNode(nil, "", 0, 1), "", 1, 0), pushOf(t, "shop"), Limits{})
	require.ErrorContains(t, err, "trie: a node without text below the root")
}

// A trie whose names grow by a letter a node has many long names in few bytes.
func TestTrieRefusesBombs(t *testing.T) {
	_, _, err := Trie(chain(100_000), pushOf(t, "shop"), Limits{MaxProfileBytes: 1 << 20, MaxSymbolBytes: 65535, MaxSamples: 200_000})
	require.ErrorContains(t, err, "(limits.max_profile_bytes)")
	long := appendNode(appendNode(nil, "", 0, 1), strings.Repeat("a", 60_000), 0, 10_000)
	for range 10_000 {
		long = appendNode(long, ";", 0, 0)
	}
	_, _, err = Trie(long, pushOf(t, "shop"), Limits{MaxProfileBytes: 1 << 20, MaxSymbolBytes: 65535})
	require.ErrorContains(t, err, "more than 1048576 bytes of names (limits.max_profile_bytes)")
	_, _, err = Tree(chain(100_000), pushOf(t, "shop"), Limits{MaxProfileBytes: 1 << 20, MaxSymbolBytes: 65535, MaxSamples: 200_000})
	require.ErrorContains(t, err, "bytes as pprof (limits.max_profile_bytes)")
}

// FuzzTrie checks that trees of any bytes are refused with a reason or sound.
func FuzzTrie(f *testing.F) {
	f.Add(chain(3), true)
	f.Add(appendNode(appendNode(appendNode(nil, "", 1, 2), "a;b", 1, 0), "a;c;", 2, 0), false)
	f.Add(gzipped(f, chain(5)), true)
	f.Add(bytes.Repeat([]byte{0xff}, 10), false)
	f.Fuzz(func(t *testing.T, b []byte, whole bool) {
		read, format := Trie, "trie: "
		if whole {
			read, format = Tree, "tree: "
		}
		ps, _, err := read(b, pushOf(t, "shop"), fuzzLimits)
		if err == nil {
			for _, p := range ps {
				sole(t, ps, fuzzLimits)
				require.NotEmpty(t, p.Pprof.Sample)
			}
			return
		}
		checkRead(t, nil, err, format)
	})
}
