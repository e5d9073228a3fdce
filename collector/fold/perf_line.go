package fold

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
)

// The parsers of this file accept the lines that the regular expressions of
// stackcollapse-perf.pl accept, and take the same parts of them, with the same choice
// where there are several ways to match: the output has to be the same, byte for byte.

// An event is the first line of a sample.
type event struct {
	command  []byte
	pid, tid []byte // digits; tid is empty if there is one number only
	// named says that the line ends in an event's name, with or without a period in
	// front of it.
	named        bool
	name, period []byte
}

// parseEvent reads the first line of a sample:
//
//	java 24636/25607 [000] 4794564.109216: 1 cycles:
//
// A command of at least two characters, whitespace, digits that may be followed by
// slashes and more digits, and whitespace. The command ends as early as possible. A line
// may have no event at its end, as those of tracepoints with fields.
func parseEvent(line []byte) (e event, ok bool) {
	for i := 1; i < len(line); i++ {
		if !isSpace(line[i]) {
			continue
		}
		from := max(i, 2) // a command has two characters, of which the second may be a space
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if from >= i {
			continue
		}
		pid := digits(line[i:])
		if pid == 0 {
			continue
		}
		at := i + pid
		slashes := 0
		for at < len(line) && line[at] == '/' {
			at, slashes = at+1, slashes+1
		}
		tid := 0
		if slashes > 0 {
			tid = digits(line[at:])
		}
		if at+tid >= len(line) || !isSpace(line[at+tid]) {
			i = max(i, at+tid-1) // no command ends within the digits
			continue
		}
		e.command, e.pid, e.tid = line[:from], line[i:i+pid], line[at:at+tid]
		e.parseName(line)
		return e, true
	}
	return e, false
}

// parseName reads the end of the line: a colon, a period or none, whitespace, and the
// event's name with a colon.
func (e *event) parseName(line []byte) {
	line = trimRight(line)
	n := len(line)
	if n < 2 || line[n-1] != ':' {
		return
	}
	start := n
	for start > 0 && !isSpace(line[start-1]) {
		start--
	}
	name := line[start : n-1]
	before := trimRight(line[:start])
	if len(name) == 0 || len(before) == 0 || len(before) == start {
		return
	}
	if before[len(before)-1] == ':' {
		e.named, e.name = true, name
		return
	}
	first := len(before)
	for first > 0 && isDigit(before[first-1]) {
		first--
	}
	colon := trimRight(before[:first])
	if first == len(before) || len(colon) == 0 || colon[len(colon)-1] != ':' {
		return
	}
	e.named, e.name, e.period = true, name, before[first:]
}

// parsePeriod reads a period; 0 counts as 1.
func parsePeriod(b []byte) (int64, error) {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the period %.40s is more than %d", b, int64(math.MaxInt64))
	}
	return max(n, 1), nil
}

// A frame is a line of a stacktrace.
type frame struct{ address, symbol, module []byte }

// parseFrame reads a line of a stacktrace:
//
//	7f722d142778 Ljava/io/PrintStream;::print (/tmp/perf-19982.map)
//
// Letters and digits, a symbol that may have spaces, and in the last parentheses that
// have a space in front, the module. Where the symbol is missing, the last character of
// the address is taken for it, as the script does.
func parseFrame(line []byte) (f frame, ok bool) {
	closing := bytes.LastIndexByte(line, ')')
	if closing < 3 {
		return f, false
	}
	// The last " (" in front of the closing parenthesis.
	gap := -1
	for i := closing - 1; i > 0; i-- {
		if line[i] == '(' && line[i-1] == ' ' {
			gap = i - 1
			break
		}
	}
	if gap < 0 {
		return f, false
	}
	start := 0
	for start < len(line) && isSpace(line[start]) {
		start++
	}
	end := start // of the address
	for end < len(line) && isWord(line[end]) {
		end++
	}
	if end == start {
		return f, false
	}
	symbol := end
	for symbol < len(line) && isSpace(line[symbol]) {
		symbol++
	}
	switch {
	case symbol < gap:
	case gap > end: // a symbol of one space
		symbol = gap - 1
	case end-1 > start: // the address' last character
		end--
		symbol = end
	default:
		return f, false
	}
	return frame{line[start:end], line[symbol:gap], line[gap+2 : closing]}, true
}

// Classes of bytes.
const (
	space = 1 << iota
	digit
	word // digits too
)

var classes = func() (out [256]uint8) {
	for c := range out {
		switch c := byte(c); {
		case c == ' ' || c >= '\t' && c <= '\r':
			out[c] = space
		case c >= '0' && c <= '9':
			out[c] = digit | word
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_':
			out[c] = word
		}
	}
	return out
}()

func isSpace(c byte) bool { return classes[c]&space != 0 }

func isDigit(c byte) bool { return classes[c]&digit != 0 }

func isWord(c byte) bool { return classes[c]&word != 0 }

// digits returns the number of digits at the start of b.
func digits(b []byte) (n int) {
	for n < len(b) && isDigit(b[n]) {
		n++
	}
	return n
}

func trimRight(b []byte) []byte {
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}
