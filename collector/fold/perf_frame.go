package fold

import (
	"bytes"
	"slices"
)

var (
	unknown         = []byte("[unknown]")
	arrow           = []byte("->")
	anonymous       = []byte("anonymous namespace)")
	kernelSuffix    = []byte("_[k]")
	jitSuffix       = []byte("_[j]")
	inlinedSuffix   = []byte("_[i]")
	vmlinux         = []byte("vmlinux")
	unknownInModule = []byte("unknown")
)

// functions returns the numbers of the functions of a symbol without its offset,
// innermost first. There are several where the symbol lists inlined functions, with
// arrows from caller to callee, and none for a symbol that only names a process. The
// result is valid until the next call. addressed says that the address is part of it.
func (p *perfReader) functions(symbol, address []byte, m *module) (names []int32, addressed bool, err error) {
	p.found = p.found[:0]
	if len(symbol) > 0 && symbol[0] == '(' {
		return nil, false, nil
	}
	// Empty names at the end are dropped, others are kept.
	for bytes.HasSuffix(symbol, arrow) {
		symbol = symbol[:len(symbol)-len(arrow)]
	}
	for more := len(symbol) > 0; more; {
		var one []byte
		one, symbol, more = bytes.Cut(symbol, arrow)
		addressed = addressed || p.o.Addrs && bytes.Equal(one, unknown)
		id, err := p.name(p.function(one, address, m, len(p.found) > 0))
		if err != nil {
			return nil, false, err
		}
		p.found = append(p.found, id)
	}
	slices.Reverse(p.found)
	return p.found, addressed, nil
}

// withoutOffset cuts the offset +0x1f off a symbol.
func withoutOffset(symbol []byte) []byte {
	i := len(symbol)
	for i > 0 && (isDigit(symbol[i-1]) || symbol[i-1] >= 'a' && symbol[i-1] <= 'f') {
		i--
	}
	if i == len(symbol) || !bytes.HasSuffix(symbol[:i], []byte("+0x")) {
		return symbol
	}
	return symbol[:i-3]
}

// function returns the name that a function is shown by. The result is valid until the
// next call.
func (p *perfReader) function(name, address []byte, m *module, inlined bool) []byte {
	b := p.scratch[:0]
	if bytes.Equal(name, unknown) {
		b = append(b, '[')
		if m.unknown {
			b = append(b, "unknown"...)
		} else {
			b = append(b, m.base...)
		}
		if p.o.Addrs {
			b = append(append(append(b, " <"...), address...), '>')
		}
		b = append(b, ']')
	} else {
		b = append(b, name...)
	}
	b = tidy(b)
	if p.java && len(b) > 0 && b[0] == 'L' && bytes.IndexByte(b, '/') >= 0 {
		b = b[1:] // of a class' descriptor, Ljava/lang/String;
	}
	switch {
	case inlined:
		if !bytes.Contains(b, inlinedSuffix) {
			b = append(b, inlinedSuffix...)
		}
	case p.o.Kernel && m.kernel:
		b = append(b, kernelSuffix...)
	case p.o.JIT && m.perfMap:
		if !bytes.Contains(b, jitSuffix) {
			b = append(b, jitSuffix...)
		}
	}
	if cap(b) > cap(p.scratch) {
		p.scratch = b[:0]
	}
	return b
}

// tidy changes a name in place: semicolons become colons, arguments and quotes are
// removed. Parentheses stay in names of Go's methods, as in "net/http.(*Client).Do", and
// those of "(anonymous namespace)".
func tidy(b []byte) []byte {
	for i, c := range b {
		if c == ';' {
			b[i] = ':'
		}
	}
	if open := bytes.IndexByte(b, '('); open >= 0 && !isGoMethod(b) {
		for at := open; ; {
			if !bytes.HasPrefix(b[at+1:], anonymous) {
				b = b[:at]
				break
			}
			next := bytes.IndexByte(b[at+1:], '(')
			if next < 0 {
				break
			}
			at += 1 + next
		}
	}
	if bytes.IndexByte(b, '"') < 0 && bytes.IndexByte(b, '\'') < 0 {
		return b
	}
	kept := b[:0]
	for _, c := range b {
		if c != '"' && c != '\'' {
			kept = append(kept, c)
		}
	}
	return kept
}

// isGoMethod reports whether a name has ".(" and behind it ").".
func isGoMethod(b []byte) bool {
	i := bytes.Index(b, []byte(".("))
	return i >= 0 && bytes.Contains(b[i+2:], []byte(")."))
}

// isKernel reports whether a module is the kernel or one of its modules, which stand in
// brackets, as far as the script can tell: [vdso] is one too.
func isKernel(module []byte) bool {
	return (bytes.HasPrefix(module, []byte("[")) || bytes.HasSuffix(module, vmlinux)) && !bytes.Contains(module, unknownInModule)
}

// isPerfMap reports whether a module is a table of symbols of a just-in-time compiler:
// /tmp/perf-123.map.
func isPerfMap(module []byte) bool {
	for {
		_, rest, ok := bytes.Cut(module, []byte("/tmp/perf-"))
		if !ok {
			return false
		}
		if n := digits(rest); n > 0 && bytes.HasPrefix(rest[n:], []byte(".map")) {
			return true
		}
		module = rest
	}
}
