package ingest

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/flameline/flameline/pkg/profile"
)

// Folded reads folded stacks, the text that FlameGraph's stackcollapse scripts
// write: on each line the functions of a stacktrace, outermost first, with
// semicolons between, a space and the number of samples. Function names may
// hold spaces. Empty lines are skipped; stacktraces that are there several
// times are added up. The body may be compressed as in Pprof.
//
// The application's name says which type of profile it is. An error gives the
// line. size is the body's, in bytes, after decompression.
func Folded(body []byte, m Push, l Limits) (ps []profile.Profile, size int, err error) {
	return readLines("folded", body, m, l, func(line []byte) (stack []byte, value int64, err error) {
		i := bytes.LastIndexAny(line, " \t")
		if i < 0 {
			return nil, 0, fmt.Errorf("%q has no space with a number of samples after it", cut(line))
		}
		value, err = strconv.ParseInt(string(line[i+1:]), 10, 64)
		if err != nil {
			return nil, 0, fmt.Errorf("%q is no whole number of samples", cut(line[i+1:]))
		}
		return bytes.TrimRight(line[:i], " \t"), value, nil
	})
}

// Lines reads stacktraces as Folded does, one a line for each sample, without
// numbers.
func Lines(body []byte, m Push, l Limits) (ps []profile.Profile, size int, err error) {
	return readLines("lines", body, m, l, func(line []byte) ([]byte, int64, error) { return line, 1, nil })
}

func readLines(format string, body []byte, m Push, l Limits, read func(line []byte) (stack []byte, value int64, err error)) ([]profile.Profile, int, error) {
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
	raw, err := decompress(body, l.MaxProfileBytes)
	if err != nil {
		return fail(0, err)
	}
	s := newStacks(l)
	n := 0
	for line := range bytes.Lines(raw) {
		n++
		if line = bytes.TrimRight(line, " \t\r\n"); len(line) == 0 {
			continue
		}
		stack, value, err := read(line)
		if err == nil {
			err = s.addText(stack, value)
		}
		if err != nil {
			return fail(n, err)
		}
	}
	ps, size, err := s.profiles(t, &m, len(raw))
	if err != nil {
		return fail(0, err)
	}
	return ps, size, nil
}

// addText adds a stacktrace whose functions have semicolons between them. As for
// FlameGraph's scripts, semicolons at its end say nothing.
func (s *stacks) addText(stack []byte, value int64) error {
	n := uint32(0)
	stack = bytes.TrimRight(stack, ";")
	for len(stack) > 0 {
		name, rest, _ := bytes.Cut(stack, []byte{';'})
		var err error
		if n, err = s.call(n, name); err != nil {
			return err
		}
		stack = rest
	}
	return s.add(n, value)
}

// cut shortens text for a message.
func cut(b []byte) []byte { return b[:min(len(b), 64)] }
