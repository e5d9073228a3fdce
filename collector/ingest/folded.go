package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/flameline/flameline/pkg/profile"
)

// Folded reads folded stacks, the text that FlameGraph's stackcollapse scripts write: on
// each line the functions of a stacktrace, outermost first, with semicolons between, a
// space and the number of samples. Function names may hold spaces. Empty lines and
// comments, which begin with #, are skipped; stacktraces that are there several times
// are added up. Numbers may have fractions, which are rounded so that the sum stays
// right. The text is UTF-8 or UTF-16, and may be compressed as in Pprof.
//
// The application's name gives the profile type. Errors name the line, or the format
// that the body has instead. A file with two numbers on each line is a comparison, and
// an error. size is the size of the body after decompression, in bytes.
func Folded(body []byte, m Push, l Limits) (ps []profile.Profile, size int, err error) {
	return readLines("folded", body, m, l, true)
}

// Lines reads stacktraces as Folded does, one line per sample and without numbers.
func Lines(body []byte, m Push, l Limits) (ps []profile.Profile, size int, err error) {
	return readLines("lines", body, m, l, false)
}

func readLines(format string, body []byte, m Push, l Limits, counted bool) ([]profile.Profile, int, error) {
	fail := func(line int, err error) ([]profile.Profile, int, error) {
		if line > 0 {
			return nil, 0, fmt.Errorf("%s: line %d: %w", format, line, err)
		}
		return nil, 0, fmt.Errorf("%s: %w", format, err)
	}
	t, err := m.stackType()
	if err != nil {
		return nil, 0, err
	}
	raw, err := decompress(body, l)
	if err != nil {
		return fail(0, err)
	}
	size := len(raw)
	if raw, err = plainText(raw, l); err != nil {
		return fail(0, err)
	}
	if bytes.IndexByte(raw, '\n') < 0 { // line ends of the classic Mac OS
		raw = bytes.ReplaceAll(raw, []byte("\r"), []byte("\n"))
	}
	for _, what := range []string{kindOfBinary(raw, l), kindOfText(raw)} {
		if what != "" {
			return fail(0, fmt.Errorf("this is %s", what))
		}
	}
	if counted {
		if n := comparison(raw); n > 0 {
			return fail(n, errors.New("two numbers: this is a comparison of two profiles (as difffolded.pl writes); send the profiles one by one"))
		}
	}
	s := newStacks(l)
	s.pySpy = m.PySpy
	count := scaled{scale: max(t.scale, 1)}
	t.scale = 0 // applied to the values already
	n, negative, firstLine := 0, 0, 0
	var first []byte // number that is negative
	for line := range bytes.Lines(raw) {
		n++
		if line = bytes.TrimRight(line, " \t\r\n"); len(line) == 0 || isComment(line) {
			continue
		}
		stack, value := line, count.scale
		if counted {
			stack, value, err = count.read(line)
		}
		switch {
		case err != nil:
		case value < 0:
			if negative++; negative == 1 {
				first, firstLine = bytes.Clone(line[len(stack):]), n
			}
		default:
			err = s.addText(stack, value)
		}
		if err != nil {
			return fail(n, err)
		}
	}
	if sum := count.sum; sum.negative > 0 && sum.negative >= sum.positive {
		return fail(firstLine, fmt.Errorf("the value %s is negative, as are half of all or more: a comparison of two profiles is not a profile", cut(bytes.TrimSpace(first))))
	}
	l.Report.Skip("sample", "with a negative value", negative)
	if count.rounded > 0 {
		l.Report.Correct("value", "with a fraction, which was rounded", count.rounded)
	}
	ps, size, err := s.profiles(t, &m, size)
	if err != nil {
		return fail(0, err)
	}
	return ps, size, nil
}

// isComment reports whether a line is a comment: # or // followed by a space, or #
// followed by words that do not form a stacktrace.
func isComment(line []byte) bool {
	if rest, ok := bytes.CutPrefix(line, []byte("//")); ok {
		return len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t'
	}
	if line[0] != '#' {
		return false
	}
	if len(line) == 1 || bytes.IndexByte([]byte(" \t#!="), line[1]) >= 0 {
		return true
	}
	_, last := lastField(line)
	return bytes.IndexByte(line, ';') < 0 || !isNumber(last)
}

// lastField splits a line at its last space. before is nil if there is no space.
func lastField(line []byte) (before, last []byte) {
	i := bytes.LastIndexAny(line, " \t")
	if i < 0 {
		return nil, line
	}
	return bytes.TrimRight(line[:i], " \t"), line[i+1:]
}

// isNumber reports whether text is a decimal number, with or without sign, fraction and
// exponent.
func isNumber(b []byte) bool {
	if len(b) == 0 || len(b) > 64 || b[len(b)-1] > '9' && b[len(b)-1] != '.' {
		return false
	}
	for _, c := range b {
		if (c < '0' || c > '9') && bytes.IndexByte([]byte("+-.eE"), c) < 0 {
			return false
		}
	}
	_, err := strconv.ParseFloat(string(b), 64)
	return err == nil || errors.Is(err, strconv.ErrRange)
}

// comparison returns the first line that ends in two numbers, if most lines do, else 0.
// Where only a few do, the first number belongs to a name, such as a thread's.
func comparison(raw []byte) (line int) {
	n, one, two := 0, 0, 0
	for text := range bytes.Lines(raw) {
		n++
		if text = bytes.TrimRight(text, " \t\r\n"); len(text) == 0 || isComment(text) {
			continue
		}
		before, last := lastField(text)
		_, first := lastField(before)
		switch {
		case before != nil && len(first) < len(before) && isNumber(first) && isNumber(last):
			if two++; two == 1 {
				line = n
			}
		default:
			one++
		}
	}
	if two > one {
		return line
	}
	return 0
}

// scaled reads numbers of samples and multiplies them by scale.
type scaled struct {
	scale   int64
	carry   float64 // sum of rounding errors so far
	rounded int
	sum     signedSum // of the numbers
}

// read splits a line into its stacktrace and its value, which is -1 if it is negative.
func (c *scaled) read(line []byte) (stack []byte, value int64, err error) {
	stack, last := lastField(line)
	if stack == nil && len(last) == len(line) {
		return nil, 0, fmt.Errorf("%q has no space with a number of samples after it", cut(line))
	}
	value, err = strconv.ParseInt(string(last), 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return nil, 0, fmt.Errorf("%s is more than %d", cut(last), int64(math.MaxInt64))
	case err != nil && bytes.IndexByte(last, ',') >= 0:
		return nil, 0, fmt.Errorf("%q has a comma, which may separate thousands or a fraction; write numbers without commas and fractions with a dot", cut(last))
	case err != nil && !isNumber(last):
		return nil, 0, fmt.Errorf("%q is not a number of samples", cut(last))
	case err != nil:
		value, err = c.fraction(last)
		return stack, value, err
	}
	if c.sum.add(value); value < 0 {
		return stack, -1, nil
	}
	v, ok := times(value, c.scale)
	if !ok {
		return nil, 0, fmt.Errorf("the value %d, times the %d ns of a sample, is more than %d", value, c.scale, int64(math.MaxInt64))
	}
	return stack, v, nil
}

// fraction reads a number with a fraction. The rounding error is carried to the next
// number, so that the total is right.
func (c *scaled) fraction(b []byte) (int64, error) {
	v, err := strconv.ParseFloat(string(b), 64)
	switch {
	case v < 0:
		c.sum.negative -= v
		return -1, nil
	case err != nil || v*float64(c.scale) >= math.MaxInt64:
		return 0, fmt.Errorf("%s is more than %d", cut(b), int64(math.MaxInt64))
	}
	c.sum.positive += v
	v *= float64(c.scale)
	whole := max(math.Round(v+c.carry), 0)
	c.carry += v - whole
	if math.Abs(v-whole) > 1e-3 {
		c.rounded++
	}
	return int64(whole), nil
}

// addText adds a stacktrace whose functions are separated by semicolons. Trailing
// semicolons are ignored, as FlameGraph's scripts do.
func (s *stacks) addText(stack []byte, value int64) error {
	n := uint32(0)
	stack = bytes.TrimRight(stack, ";")
	for len(stack) > 0 {
		name, rest, _ := bytes.Cut(stack, []byte{';'})
		var err error
		if s.pySpy {
			n, err = s.pySpyCall(n, name)
		} else {
			n, err = s.call(n, name)
		}
		if err != nil {
			return err
		}
		stack = rest
	}
	return s.add(n, value)
}

// cut shortens text for a message.
func cut(b []byte) []byte { return b[:min(len(b), 64)] }
