package symbolize

import (
	"bytes"
	"cmp"

	"github.com/flameline/flameline/collector/funcname"
)

// compareAliases orders symbols at one address, the one to show last: sized
// over unsized, real over stub, function over untyped, global or weak over
// local, whole function over clone, public over internal name (malloc over
// __libc_malloc), short over long.
func (ss *symbols) compareAliases(a, b symbol) int {
	if c := compareBool(a.size > 0, b.size > 0); c != 0 {
		return c
	}
	if c := cmp.Compare(a.rank, b.rank); c != 0 {
		return c
	}
	x, y := ss.name(a), ss.name(b)
	if c := compareBool(!isClone(x), !isClone(y)); c != 0 {
		return c
	}
	if c := cmp.Compare(underscores(y), underscores(x)); c != 0 {
		return c
	}
	if c := cmp.Compare(len(y), len(x)); c != 0 {
		return c
	}
	return bytes.Compare(y, x)
}

// name returns the bytes of a symbol's name in the blob.
func (ss *symbols) name(s symbol) []byte {
	b := ss.blob[s.name:]
	return b[:bytes.IndexByte(b, 0)]
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// isClone tells names such as foo.cold from foo.
func isClone(name []byte) bool {
	return len(funcname.WithoutCloneSuffix(string(name))) != len(name)
}

// underscores counts leading underscores, without those of a mangled name.
func underscores(name []byte) int {
	n := len(name) - len(bytes.TrimLeft(name, "_"))
	if n > 0 && n < len(name) && (name[n] == 'Z' || name[n] == 'R') {
		n--
	}
	return n
}
