package symbolize

import (
	"bytes"
	"cmp"
	"strings"

	"github.com/flameline/flameline/collector/funcname"
)

// compareAliases orders symbols at one address, the one to show last: sized
// over unsized, function over marker, real over stub, function over untyped, global or weak over
// local, whole function over clone, public over internal name (malloc over
// __libc_malloc), short over long.
func (ss *symbols) compareAliases(a, b symbol) int {
	if c := compareBool(a.size > 0, b.size > 0); c != 0 {
		return c
	}
	x, y := ss.name(a), ss.name(b)
	if a.size == 0 && b.size == 0 {
		if c := compareBool(!isMarker(x), !isMarker(y)); c != 0 {
			return c
		}
	}
	if c := cmp.Compare(a.rank, b.rank); c != 0 {
		return c
	}
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

// isMarker reports whether a symbol without a size marks where code begins or ends
// and is no function: those of the linkers of Go (runtime.text, runtime.etext, also
// with a number where there are several parts, and those that begin with go:text)
// and of C (etext, __executable_start, __start_NAME and __stop_NAME of a
// section).
func isMarker(name []byte) bool {
	switch s := string(name); s {
	case "runtime.text", "runtime.etext", "etext", "_etext", "__etext", "_ftext", "__executable_start", "_stext", "__text_start", "__text_end":
		return true
	default:
		if part, ok := strings.CutPrefix(s, "runtime.text."); ok {
			return part != "" && strings.Trim(part, "0123456789") == ""
		}
		return strings.HasPrefix(s, "go:text") || strings.HasPrefix(s, "__start_") || strings.HasPrefix(s, "__stop_")
	}
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
