// Package fold folds the text of `perf script`: it adds up the samples by stacktrace, as
// FlameGraph's stackcollapse-perf.pl does, to the same bytes.
//
// It reads a stream in memory that is bounded by the distinct stacktraces. Other formats
// are read by collector/ingest.
package fold

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"

	"github.com/flameline/flameline/pkg/profile"
)

// Options are those of stackcollapse-perf.pl with the same names. The zero value is its
// default.
type Options struct {
	PID    bool // append the process ID to the command: comm-123
	TID    bool // append process and thread ID: comm-123/124
	Kernel bool // append _[k] to functions of the kernel
	JIT    bool // append _[j] to functions of a perf map
	Addrs  bool // show the address of functions without a symbol
	// Event selects the samples of one event; "" means the event of the first sample.
	Event string

	// MaxCalls bounds the nodes of the call tree, 0 means DefaultMaxCalls. A node takes
	// up to 80 bytes of memory.
	MaxCalls int
}

// Bounds of the memory that a file may take.
const (
	DefaultMaxCalls = 8 << 20
	maxLine         = 16 << 20  // bytes of a line
	maxNames        = 512 << 20 // bytes of all names
	maxFrames       = 1 << 18   // of one sample
)

// Stacks are the stacktraces of a file with the sums of their samples' periods.
type Stacks struct {
	// Tree has the command as its outermost call. Names are bytes as they were in the
	// file, UTF-8 or not.
	Tree *profile.Tree
	// Event is the event of the samples, "" if the file names none.
	Event string
	// Periods says that samples have periods, which the values add up. Otherwise values
	// are numbers of samples.
	Periods bool
	Notes   Notes
}

// Notes say what of a file was left out.
type Notes struct {
	Samples int // samples that are in the tree
	// OtherEvents are samples of events other than Stacks.Event, by event.
	OtherEvents map[string]int
	// Unrecognized counts lines that are neither a sample's nor a frame's; Line is the
	// number and Text the beginning of the first one.
	Unrecognized int
	Line         int
	Text         string
	// Incomplete is the line of a last sample that is left out since the empty line
	// behind it is missing, 0 if there is none.
	Incomplete int
}

// stackBits is the binary logarithm of the stacktraces whose nodes are remembered.
const stackBits = 16

// maxOtherEvents bounds the events that Notes names.
const maxOtherEvents = 32

// Perf reads the output of `perf script` to its end. The error names the line, or is the
// reader's.
func Perf(r io.Reader, o Options) (*Stacks, error) {
	p := newPerfReader(o)
	l := lineReader{r: r, buffer: make([]byte, 256<<10)}
	for {
		line, err := l.next()
		if errors.Is(err, io.EOF) {
			break
		}
		p.line++
		if err == nil {
			err = p.read(line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", p.line, err)
		}
	}
	if p.open {
		p.notes.Incomplete = p.sampleLine
	}
	return &Stacks{Tree: p.tree.Tree(), Event: p.o.Event, Periods: p.periods, Notes: p.notes}, nil
}

// A perfReader is the state between two lines. A sample is a line with command, thread
// and event, lines with one frame each, the innermost first, and an empty line.
type perfReader struct {
	o       Options
	tree    *profile.Builder
	names   map[string]int32 // numbers of the builder's names
	nodes   int32            // of the tree, the root included
	bytes   int              // of names
	total   int64
	periods bool
	notes   Notes
	line    int
	cache   *symbolCache

	known []int32 // nodes by a hash of their stacktrace, each the last one with this hash

	modules    []module
	moduleIDs  map[string]int32
	lastModule int32

	// The open sample. As in the script, a sample whose empty line is missing goes on
	// under the next sample's command.
	open       bool
	sampleLine int
	command    []int32 // names; several where the command has a semicolon
	java       bool
	period     int64
	frames     []int32 // innermost first

	scratch []byte
	found   []int32
}

func newPerfReader(o Options) *perfReader {
	if o.MaxCalls <= 0 {
		o.MaxCalls = DefaultMaxCalls
	}
	return &perfReader{o: o, tree: profile.NewBuilder(1 << 10), names: map[string]int32{}, nodes: 1, cache: newSymbolCache(), known: make([]int32, 1<<stackBits), moduleIDs: map[string]int32{}}
}

// read takes a line without its line end.
func (p *perfReader) read(line []byte) error {
	if len(line) == 0 {
		return p.end()
	}
	if line[0] == '#' {
		return nil
	}
	if !isSpace(line[0]) {
		if e, ok := parseEvent(line); ok {
			return p.begin(e)
		}
	}
	f, ok := parseFrame(line)
	switch {
	case !ok:
		p.unrecognized(line)
		return nil
	case !p.open: // a frame of a sample that is left out
		return nil
	}
	if err := p.add(f); err != nil {
		return err
	}
	if len(p.frames) > maxFrames {
		return fmt.Errorf("the sample that begins in line %d has more than %d frames", p.sampleLine, maxFrames)
	}
	return nil
}

// add adds the functions of a frame to the open sample.
func (p *perfReader) add(f frame) error {
	module, err := p.moduleOf(f.module)
	if err != nil {
		return err
	}
	symbol := withoutOffset(f.symbol)
	slot, hash, found := p.cache.find(symbol, module, p.java)
	switch {
	case !found:
		names, addressed, err := p.functions(symbol, f.address, &p.modules[module])
		if err != nil {
			return err
		}
		if p.frames = append(p.frames, names...); !addressed {
			slot.put(hash, symbol, module, names)
		}
	case slot.one >= 0:
		p.frames = append(p.frames, slot.one)
	default:
		p.frames = append(p.frames, slot.names...)
	}
	return nil
}

func (p *perfReader) unrecognized(line []byte) {
	if p.notes.Unrecognized++; p.notes.Unrecognized == 1 {
		p.notes.Line, p.notes.Text = p.line, string(line[:min(len(line), 80)])
	}
}

// begin starts a sample, unless it is of another event.
func (p *perfReader) begin(e event) error {
	if e.named {
		switch {
		case p.o.Event == "":
			p.o.Event = string(e.name)
		case string(e.name) != p.o.Event:
			p.other(e.name)
			return nil
		}
	}
	p.period = 1
	if len(e.period) > 0 {
		p.periods = true
		n, err := parsePeriod(e.period)
		if err != nil {
			return err
		}
		p.period = n
	}
	pid, tid := e.pid, e.tid
	if len(tid) == 0 || string(tid) == "0" { // one number is the thread's
		tid, pid = e.pid, []byte{'?'}
	}
	b := append(p.scratch[:0], e.command...)
	switch {
	case p.o.TID:
		b = append(append(append(append(b, '-'), pid...), '/'), tid...)
	case p.o.PID:
		b = append(append(b, '-'), pid...)
	}
	for i, c := range b {
		if c == ' ' {
			b[i] = '_'
		}
	}
	p.scratch = b
	p.open, p.sampleLine = true, p.line
	// The script's published results keep the L of Java's classes behind --pid and --tid,
	// where the script itself has removed it since 2017; the results decide here.
	p.java = !p.o.PID && !p.o.TID && bytes.HasPrefix(b, []byte("java"))
	p.command = p.command[:0]
	for rest, more := b, true; more; {
		var name []byte
		name, rest, more = bytes.Cut(rest, []byte{';'})
		id, err := p.name(name)
		if err != nil {
			return err
		}
		p.command = append(p.command, id)
	}
	return nil
}

func (p *perfReader) other(event []byte) {
	if p.notes.OtherEvents == nil {
		p.notes.OtherEvents = map[string]int{}
	}
	if _, ok := p.notes.OtherEvents[string(event)]; !ok && len(p.notes.OtherEvents) >= maxOtherEvents {
		event = []byte("others")
	}
	p.notes.OtherEvents[string(event)]++
}

// end adds the open sample to the tree.
func (p *perfReader) end() error {
	if !p.open {
		return nil
	}
	if p.period > math.MaxInt64-p.total {
		return fmt.Errorf("the periods add up to more than %d", int64(math.MaxInt64))
	}
	p.total += p.period
	for _, name := range slices.Backward(p.command) {
		p.frames = append(p.frames, name)
	}
	node, err := p.node(p.frames)
	if err != nil {
		return err
	}
	p.tree.Add(node, p.period)
	p.notes.Samples++
	p.open, p.frames = false, p.frames[:0]
	return nil
}

// node returns the node of a stacktrace, innermost first.
func (p *perfReader) node(stack []int32) (int32, error) {
	h := uint64(len(stack))
	for _, name := range stack {
		h = bits.RotateLeft64(h^uint64(uint32(name)), 23) * 0x9E3779B97F4A7C15
	}
	known := &p.known[h>>(64-stackBits)]
	if *known != 0 && p.tree.IsPath(*known, stack) {
		return *known, nil
	}
	node := int32(0)
	for _, name := range slices.Backward(stack) {
		node = p.child(node, name)
	}
	if int(p.nodes) > p.o.MaxCalls {
		return 0, fmt.Errorf("more than %d different calls in stacktraces; raise the bound by --max-calls, or fold the file in parts", p.o.MaxCalls)
	}
	*known = node
	return node, nil
}

func (p *perfReader) child(parent, name int32) int32 {
	n := p.tree.Child(parent, name)
	p.nodes = max(p.nodes, n+1)
	return n
}

// name interns a name.
func (p *perfReader) name(b []byte) (int32, error) {
	if id, ok := p.names[string(b)]; ok {
		return id, nil
	}
	if err := p.grow(len(b)); err != nil {
		return 0, err
	}
	s := string(b)
	id := p.tree.Name(s)
	p.names[s] = id
	return id, nil
}

// grow counts the memory of a name of n bytes.
func (p *perfReader) grow(n int) error {
	if p.bytes += n + 64; p.bytes > maxNames {
		return fmt.Errorf("the names of functions and modules take more than %d bytes", maxNames)
	}
	return nil
}

// A lineReader cuts a stream into lines.
type lineReader struct {
	r          io.Reader
	buffer     []byte
	start, end int
	err        error
}

// next returns a line without its end, \n or \r\n. It is valid until the next call. The
// last line may lack its end. The error is io.EOF behind it.
func (l *lineReader) next() ([]byte, error) {
	scanned := 0
	for {
		if i := bytes.IndexByte(l.buffer[l.start+scanned:l.end], '\n'); i >= 0 {
			line := l.buffer[l.start : l.start+scanned+i]
			l.start += scanned + i + 1
			return withoutReturn(line), nil
		}
		scanned = l.end - l.start
		if l.err != nil {
			line := l.buffer[l.start:l.end]
			if l.start = l.end; len(line) > 0 && errors.Is(l.err, io.EOF) {
				return withoutReturn(line), nil
			}
			return nil, l.err
		}
		if l.start > 0 {
			copy(l.buffer, l.buffer[l.start:l.end])
			l.start, l.end = 0, scanned
		}
		if l.end == len(l.buffer) {
			if l.end >= maxLine {
				return nil, fmt.Errorf("longer than %d bytes", maxLine)
			}
			l.buffer = append(l.buffer, make([]byte, len(l.buffer))...)
		}
		n, err := l.r.Read(l.buffer[l.end:])
		l.end += n
		l.err = err
	}
}

// withoutReturn cuts the carriage return off that files from Windows have.
func withoutReturn(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1]
	}
	return line
}
