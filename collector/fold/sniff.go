package fold

import "bytes"

// sniffed bounds the lines that IsPerf looks at.
const sniffed = 400

// IsPerf reports whether a text begins like the output of `perf script`: with its header,
// the first line of a sample, or a frame with an address and a module.
func IsPerf(head []byte) bool {
	if bytes.HasPrefix(head, []byte("# ========\n")) || bytes.HasPrefix(head, []byte("# captured on")) {
		return true
	}
	n := 0
	for line := range bytes.Lines(head) {
		line = trimRight(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if n++; n > sniffed {
			return false
		}
		if isSpace(line[0]) {
			if isAddressed(line) {
				return true
			}
			continue
		}
		if e, ok := parseEvent(line); ok && e.named {
			return true
		}
		if isAddressed(line) && digitsOfAddress(line) >= 8 { // frames without indentation
			return true
		}
	}
	return false
}

// isAddressed reports whether a line is a frame that ends in its module.
func isAddressed(line []byte) bool {
	f, ok := parseFrame(line)
	return ok && line[len(line)-1] == ')' && len(f.address) == digitsOfAddress(bytes.TrimLeft(line, " \t"))
}

// digitsOfAddress returns the number of hexadecimal digits at the start of b.
func digitsOfAddress(b []byte) (n int) {
	for n < len(b) && (isDigit(b[n]) || b[n] >= 'a' && b[n] <= 'f') {
		n++
	}
	return n
}
