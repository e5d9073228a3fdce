package funcname

import "strings"

// Pushed returns the name to display for a function of a pushed profile. A mangled name
// is demangled in style Templates; additions of profilers are kept: a module before it
// (libfoo.so._ZN3foo3barEv), an offset or a mark such as _[k] after it. A demangled Rust
// name loses its hash, which differs between builds. Other names are returned unchanged.
func Pushed(name string) string {
	if at := mangledAt(name); at >= 0 {
		end := at
		for end < len(name) && inSymbol(name[end]) {
			end++
		}
		if end < len(name) && name[end] == '[' && end > at && name[end-1] == '_' {
			end-- // of a mark such as _[k]
		}
		symbol := name[at:end]
		shown := Demangle(symbol, Templates)
		if shown == symbol || strings.HasPrefix(symbol, shown) {
			return name
		}
		return strings.ToValidUTF8(name[:at]+shown+name[end:], "\uFFFD")
	}
	if begin, end, ok := rustHash(name); ok {
		return name[:begin] + name[end:]
	}
	return name
}

// Mangled reports whether Pushed may change a name. It is cheap.
func Mangled(name string) bool {
	if mangledAt(name) >= 0 {
		return true
	}
	_, _, ok := rustHash(name)
	return ok
}

// mangledAt returns the offset of a mangled symbol in a name: 0, or that after a module,
// which profilers join to it by a dot, ` or !. It returns -1 if there is none.
func mangledAt(name string) int {
	if len(name) < 3 {
		return -1
	}
	if name[0] == '_' && (name[1] == 'Z' || name[1] == 'R' || name[1] == '_') {
		return 0
	}
	if i := strings.Index(name, "_ZN"); i > 0 && strings.IndexByte(".`!", name[i-1]) >= 0 {
		return i
	}
	return -1
}

// inSymbol reports whether a mangled symbol may hold a byte.
func inSymbol(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '$' || c == '.'
}

// hashBytes is the length of the hash at the end of a Rust path: ::h and 16
// hexadecimal digits.
const hashBytes = 3 + 16

// rustHash finds the hash at the end of a Rust path, which a mark such as _[k] or an
// offset such as +0x1f may follow.
func rustHash(name string) (begin, end int, ok bool) {
	end = len(name)
	if end <= hashBytes {
		return 0, 0, false
	}
	if name[end-hashBytes] != ':' {
		switch last := name[end-1]; {
		case last == ']':
			end -= len("_[k]")
		case isHex(last):
			for end > 0 && isHex(name[end-1]) {
				end--
			}
			end -= len("+0x")
		}
		if end <= hashBytes || !strings.HasPrefix(name[end:], "_[") && !strings.HasPrefix(name[end:], "+0x") {
			return 0, 0, false
		}
	}
	return end - hashBytes, end, isRustHash(name[end-hashBytes : end])
}

func isRustHash(s string) bool {
	if s[0] != ':' || s[1] != ':' || s[2] != 'h' {
		return false
	}
	for i := 3; i < len(s); i++ {
		if !isHex(s[i]) {
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }
