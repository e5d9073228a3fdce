// Package tools is what `flameline convert`, `diff`, `import` and `export` do: it reads
// files of any format, and profiles of a server, and hands them to collector/render.
//
// It reads no format itself: collector/ingest and collector/fold do.
package tools

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/fold"
	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/pkg/profile"
)

// A UsageError is a mistake in a command's arguments: its exit code is 2.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

func usage(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// The formats that are read, by the names that the flag --input takes.
const (
	perfText   = "perf"       // the output of `perf script`
	pprofFile  = "pprof"      // profile.proto and the older formats of go tool pprof
	jfr        = "jfr"        // recordings of the JDK and async-profiler
	folded     = "folded"     // one or two numbers on each line
	speedscope = "speedscope" // speedscope's own JSON
	gecko      = "gecko"      // the Firefox Profiler's JSON
	flameHTML  = "html"       // async-profiler's flame graphs
)

// Inputs are the formats that are read.
var Inputs = []string{perfText, pprofFile, jfr, folded, speedscope, gecko, flameHTML}

// maxInput bounds the bytes of a file, decompressed, of all formats but `perf script`,
// which is read as a stream.
const maxInput = 2 << 30

// limits bound what a file may make of that.
var limits = ingest.Limits{
	MaxProfileBytes: maxInput, MaxSamples: 50_000_000, MaxSymbols: 100_000_000,
	MaxStackDepth: 1 << 16, MaxSymbolBytes: 1 << 20,
	MaxLabels: 1000, MaxLabelNameBytes: 1 << 16, MaxLabelValueBytes: 1 << 20, MaxSeries: 100_000,
}

// ReadOptions say how files are read.
type ReadOptions struct {
	// Input is one of Inputs; "" means that the content decides.
	Input string
	// Perf are the options for `perf script`. PerfGiven says that one of them was given,
	// so that the input must be that.
	Perf      fold.Options
	PerfGiven bool
	// Stdin is what the file name - means.
	Stdin io.Reader
	// Progress is told how many bytes were read; it may be nil.
	Progress func(bytes int64)
}

// An Input is a file that was read.
type Input struct {
	Name     string // as errors and titles call it
	Format   string // one of Inputs
	Profiles []profile.Profile
	// Stacks is set instead of Profiles for the output of `perf script`.
	Stacks *fold.Stacks
	// Sides are set instead of Profiles for folded stacks with two numbers per line.
	Sides *[2]*profile.Tree
	// Range is the time that a server was asked for.
	Range Range
	// Notes name what was left out or corrected.
	Notes []string

	raw   []byte // the file, decompressed, except for `perf script`
	pySpy bool   // it is folded stacks of py-spy
}

// Read reads a file; - is the standard input. Errors begin with the file's name.
func Read(ctx context.Context, name string, o ReadOptions) (*Input, error) {
	in := &Input{Name: name}
	var r io.Reader
	if name == "-" {
		in.Name = "standard input"
		r = o.Stdin
	} else {
		f, err := os.Open(name)
		if err != nil {
			return nil, err // names the file
		}
		defer f.Close()
		if fi, err := f.Stat(); err == nil && fi.IsDir() {
			return nil, fmt.Errorf("%s: is a directory", name)
		}
		r = f
	}
	if err := in.read(&watched{ctx: ctx, r: r, progress: o.Progress}, o); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("%s: %w", in.Name, err)
	}
	return in, nil
}

// headBytes is how much of a file decides what it is.
const headBytes = 256 << 10

func (in *Input) read(r io.Reader, o ReadOptions) error {
	if o.Input != "" && !slices.Contains(Inputs, o.Input) {
		return usage("--input: %q is not one of %s", o.Input, strings.Join(Inputs, ", "))
	}
	b := bufio.NewReaderSize(r, headBytes)
	if err := checkEmpty(b); err != nil {
		return err
	}
	b, done, err := decompressed(b)
	if err != nil {
		return err
	}
	defer done()
	head, err := b.Peek(headBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if ingest.IsPerfData(head) {
		return errors.New("this is a perf.data file, which only perf can read; run perf script -i FILE > perf.txt and give perf.txt")
	}
	in.Format = o.Input
	if in.Format == "" {
		if in.Format = sniff(head); o.PerfGiven {
			in.Format = perfText
		}
	}
	if in.Format == perfText {
		return in.readPerf(b, o.Perf)
	}
	raw, err := io.ReadAll(io.LimitReader(b, maxInput+1))
	if err != nil {
		return err
	}
	if len(raw) > maxInput {
		return fmt.Errorf("more than %d bytes", maxInput)
	}
	return in.decode(raw)
}

func checkEmpty(b *bufio.Reader) error {
	if _, err := b.Peek(1); errors.Is(err, io.EOF) {
		return errors.New("is empty")
	} else if err != nil {
		return err
	}
	return nil
}

// decompressed opens gzip and zstd, which their first bytes identify, as streams.
func decompressed(b *bufio.Reader) (*bufio.Reader, func(), error) {
	magic, _ := b.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, nil, fmt.Errorf("gzip: %w", err)
		}
		return bufio.NewReaderSize(named{"gzip", z}, headBytes), func() { _ = z.Close() }, nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, fmt.Errorf("zstd: %w", err)
		}
		return bufio.NewReaderSize(named{"zstd", z}, headBytes), z.Close, nil
	}
	return b, func() {}, nil
}

// named adds the name of a compression to errors.
type named struct {
	name string
	r    io.Reader
}

func (n named) Read(b []byte) (int, error) {
	k, err := n.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s: %w", n.name, err)
	}
	return k, err
}

// watched is a reader that ends with its context and reports how much it has read.
type watched struct {
	ctx      context.Context
	r        io.Reader
	progress func(int64)
	bytes    int64
}

func (w *watched) Read(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.r.Read(b)
	w.bytes += int64(n)
	if w.progress != nil {
		w.progress(w.bytes)
	}
	return n, err
}

func (in *Input) readPerf(r io.Reader, o fold.Options) error {
	s, err := fold.Perf(r, o)
	if err != nil {
		return err
	}
	in.Stacks = s
	n := s.Notes
	for _, event := range sortedKeys(n.OtherEvents) {
		in.note("left out %d samples of the event %s; --event-filter selects an event, of which %s is used", n.OtherEvents[event], event, s.Event)
	}
	if n.Unrecognized > 0 {
		in.note("left out %d lines that are no part of a sample, the first is line %d: %q", n.Unrecognized, n.Line, n.Text)
	}
	if n.Incomplete > 0 {
		in.note("left out the last sample, in line %d: the empty line after it is missing, so the file may have been cut", n.Incomplete)
	}
	if n.Samples > 0 {
		return nil
	}
	switch {
	case len(n.OtherEvents) > 0:
		return fmt.Errorf("no sample of the event %s; there are samples of %s", o.Event, strings.Join(sortedKeys(n.OtherEvents), ", "))
	case n.Incomplete > 0:
		return fmt.Errorf("no complete sample: the empty line after the one in line %d is missing; was it recorded without stacktraces (perf record -g)?", n.Incomplete)
	case n.Unrecognized > 0:
		return fmt.Errorf("no samples: line %d is no part of one: %q; run perf script -F comm,pid,tid,cpu,time,event,ip,sym,dso", n.Line, n.Text)
	}
	return errors.New("no samples")
}

func (in *Input) note(format string, args ...any) {
	in.Notes = append(in.Notes, fmt.Sprintf(format, args...))
}

// decode reads all formats but `perf script`.
func (in *Input) decode(raw []byte) error {
	in.raw = raw
	l := limits
	l.Report = &ingest.Report{}
	now := time.Now()
	// A count of samples stays a count.
	push := ingest.Push{App: "file", Labels: labels.FromStrings("service_name", "file"), From: now, Until: now}
	var err error
	switch in.Format {
	case pprofFile:
		p, _, e := ingest.Pprof(raw, l)
		if err = e; e == nil {
			in.Profiles = []profile.Profile{{Labels: labels.FromStrings(model.MetricNameLabel, ingest.Metric(p)), Pprof: p}}
		}
	case jfr:
		in.Profiles, _, err = ingest.JFR(raw, nil, push, l)
	case speedscope:
		in.Profiles, _, err = ingest.Speedscope(raw, push, l)
	case gecko:
		in.Profiles, _, err = ingest.Gecko(raw, push, l)
	case flameHTML:
		in.Profiles, _, err = ingest.FlameHTML(raw, push, l)
	case folded:
		err = in.decodeFolded(raw, push, l)
	}
	if err != nil {
		return err
	}
	if s := l.Report.String(); s != "" {
		in.note("%s", s)
	}
	if in.Sides == nil && len(in.Profiles) == 0 {
		return errors.New("no samples")
	}
	return nil
}

func (in *Input) decodeFolded(raw []byte, push ingest.Push, l ingest.Limits) (err error) {
	left, right, two, err := ingest.FoldedSides(raw)
	if err != nil {
		return err
	}
	in.pySpy = ingest.IsPySpy(raw)
	push.PySpy = in.pySpy
	if !two {
		in.Profiles, _, err = ingest.Folded(raw, push, l)
		return err
	}
	in.Sides = new([2]*profile.Tree)
	for i, side := range [][]byte{left, right} {
		ps, _, err := ingest.Folded(side, push, l)
		if err != nil {
			return err
		}
		in.Sides[i] = treeOf(ps, defaultType(ps))
	}
	return nil
}
