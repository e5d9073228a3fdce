package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/flameline/flameline/pkg/profile"
)

// FlameHTML reads a flame graph in HTML that async-profiler writes, of its versions 3 and
// 4 (src/res/flame.html and FlameGraph.java of async-profiler): a list of names with
// common prefixes left out, and calls in depth-first order, whose arguments are a name, a
// level, a distance and a number of samples. Calls of less than the graph's minimal
// width are not in the file; their samples count for their caller.
//
// The application's name gives the profile type, as in Folded. Errors name the line. size
// is the size of the body after decompression, in bytes.
func FlameHTML(body []byte, m Push, l Limits) (ps []profile.Profile, size int, err error) {
	t, err := m.stackType()
	if err != nil {
		return nil, 0, err
	}
	raw, err := decompress(body, l)
	if err != nil {
		return nil, 0, fmt.Errorf("html: %w", err)
	}
	r := flameReader{stacks: newStacks(l), scale: max(t.scale, 1)}
	t.scale = 0
	for line := range bytes.Lines(raw) {
		r.line++
		done, err := r.read(bytes.TrimRight(line, "\r\n"))
		if err != nil {
			return nil, 0, fmt.Errorf("html: line %d: %w", r.line, err)
		}
		if done {
			break
		}
	}
	switch {
	case r.part == beforeNames:
		return nil, 0, errors.New("html: this is no flame graph of async-profiler 3 or 4, which has a line that begins with const cpool")
	case r.part != afterCalls:
		return nil, 0, fmt.Errorf("html: ends after line %d within the flame graph", r.line)
	}
	if err := r.flush(0); err != nil {
		return nil, 0, fmt.Errorf("html: %w", err)
	}
	return r.stacks.profiles(t, &m, len(raw))
}

// The parts of the file in their order.
const (
	beforeNames = iota
	inNames
	beforeCalls
	inCalls
	afterCalls
)

// A flameReader reads a flame graph by lines.
type flameReader struct {
	stacks *stacks
	scale  int64
	line   int
	part   int
	names  []string
	bytes  int64  // of names
	last   []byte // the last name
	open   []flameCall
	total  int64 // of the last call
}

// A flameCall is a call whose callees are being read.
type flameCall struct {
	node uint32
	self int64 // what callees have not used so far
}

func (r *flameReader) read(line []byte) (done bool, err error) {
	switch r.part {
	case beforeNames:
		if bytes.HasPrefix(line, []byte("const cpool")) {
			r.part = inNames
		}
	case inNames:
		return false, r.name(line)
	case beforeCalls:
		if len(line) > 1 && line[1] == '(' && bytes.IndexByte([]byte("fun"), line[0]) >= 0 {
			r.part = inCalls
			return false, r.call(line)
		}
	case inCalls:
		switch {
		case len(line) == 0 || bytes.HasPrefix(line, []byte("search(")):
			r.part = afterCalls
			return true, nil
		case bytes.HasPrefix(line, []byte("d=")): // of a comparison: the difference, not the value
			return false, nil
		}
		return false, r.call(line)
	}
	return false, nil
}

// name reads a line of the list: a character that is 32 more than the number of
// characters that the name has in common with the one before, and the rest of it. The
// first name is that of the root, without such a character.
func (r *flameReader) name(line []byte) error {
	if len(line) == 0 || line[0] != '\'' {
		r.part = beforeCalls
		return nil
	}
	end := bytes.LastIndexByte(line, '\'')
	if end == 0 {
		return errors.New("a name without a closing quote")
	}
	text := unescapeQuoted(line[1:end])
	if len(r.names) > 0 {
		if len(text) == 0 || text[0] < ' ' || int(text[0]-' ') > len(r.last) {
			return fmt.Errorf("%.60q does not say how much of the name before it begins with", text)
		}
		text = append(append(make([]byte, 0, int(text[0]-' ')+len(text)), r.last[:text[0]-' ']...), text[1:]...)
	}
	// A short line may repeat a long name.
	if r.bytes += int64(len(text)) + 16; exceeds(r.bytes, r.stacks.limits.MaxProfileBytes) {
		return tooLarge(r.stacks.limits.MaxProfileBytes)
	}
	r.last = text
	r.names = append(r.names, string(text))
	return nil
}

// unescapeQuoted removes the backslashes before quotes and backslashes. The result
// shares memory with b.
func unescapeQuoted(b []byte) []byte {
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) {
			i++
		}
		out = append(out, b[i])
	}
	return out
}

// call reads a call: f(name and type, level, distance, total, …), one level below the
// last call u(name and type, total, …), beside it n(name and type, total, …). A total
// that is missing or 0 is that of the last call.
func (r *flameReader) call(line []byte) error {
	if len(line) < 3 || line[1] != '(' || line[len(line)-1] != ')' || bytes.IndexByte([]byte("fun"), line[0]) < 0 {
		return fmt.Errorf("%.60q is not a call of f, u or n", line)
	}
	var args [4]int64
	given := 0
	for field := range bytes.SplitSeq(line[2:len(line)-1], []byte{','}) {
		if given == len(args) {
			break // how much of the total was compiled how
		}
		v, err := strconv.ParseInt(string(bytes.TrimSpace(field)), 10, 64)
		if err != nil || v < 0 && given != 2 {
			return fmt.Errorf("%.60q: argument %d is not a number from 0", line, given+1)
		}
		args[given] = v
		given++
	}
	level, total := int64(len(r.open)), args[1]
	switch line[0] {
	case 'f':
		if level, total = args[1], args[3]; given < 3 {
			return fmt.Errorf("%.60q has fewer than three arguments", line)
		}
	case 'n':
		level = max(level-1, 0) // the root is beside nothing
	}
	if line[0] != 'f' && given < 2 {
		total = 0
	}
	if total == 0 {
		total = r.total
	}
	r.total = total
	if level < 0 || level > int64(len(r.open)) {
		return fmt.Errorf("%.60q: level %d below a call of level %d", line, level, len(r.open)-1)
	}
	name := args[0] >> 3 // the lower bits are how it was compiled
	if name >= int64(len(r.names)) {
		return fmt.Errorf("%.60q: name %d of %d", line, name, len(r.names))
	}
	if err := r.flush(int(level)); err != nil {
		return err
	}
	node := uint32(0)
	if level > 0 {
		parent := &r.open[level-1]
		if parent.self -= total; parent.self < 0 {
			return fmt.Errorf("%.60q: the callees have more samples than their caller", line)
		}
		var err error
		if node, err = r.stacks.call(parent.node, []byte(r.names[name])); err != nil {
			return err
		}
	}
	r.open = append(r.open, flameCall{node, total})
	return nil
}

// flush ends the calls of a level and below.
func (r *flameReader) flush(level int) error {
	for i := len(r.open) - 1; i >= level; i-- {
		v, ok := times(r.open[i].self, r.scale)
		if !ok {
			return fmt.Errorf("%d samples of %d ns are too many", r.open[i].self, r.scale)
		}
		if err := r.stacks.add(r.open[i].node, v); err != nil {
			return err
		}
	}
	r.open = r.open[:level]
	return nil
}
