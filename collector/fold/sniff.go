package fold

import "bytes"

// IsPerf reports whether a text begins like the output of `perf script`: with its header,
// the first line of a sample, or a frame with an address and a module.
func IsPerf(head []byte) bool {
	if bytes.HasPrefix(head, []byte("# ========\n")) || bytes.HasPrefix(head, []byte("# captured on")) {
		return true
	}
	for line := range bytes.Lines(head) {
		line = trimRight(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if isSpace(line[0]) {
			if isAddressed(line) {
				return true
			}
			continue
		}
		if isNamedEvent(line) {
			return true
		}
		if isAddressed(line) && digitsOfAddress(line) >= 8 { // frames without indentation
			return true
		}
	}
	return false
}

// HasSample reports whether a text has a sample of `perf script`, the line of an event and
// that of a frame below, which no other format has. The names of processes, which samples
// begin with, may be anything.
func HasSample(head []byte) bool {
	below := false // the line before was that of an event
	for line := range bytes.Lines(head) {
		line = trimRight(line)
		if below && len(line) > 0 && isSpace(line[0]) && isAddressed(line) {
			return true
		}
		below = len(line) > 0 && isNamedEvent(line)
	}
	return false
}

// isNamedEvent reports whether a line begins a sample and ends in the event's name.
func isNamedEvent(line []byte) bool {
	_, ok := parseEvent(line)
	return ok && line[len(line)-1] == ':'
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
