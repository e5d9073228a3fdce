package ingest

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grafana/jfr-parser/parser"
	"github.com/grafana/jfr-parser/parser/types"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/profile"
)

// JFR reads a recording of Java's flight recorder, as the JDK, async-profiler and
// Pyroscope's Java agent write them, which may be compressed with gzip or zstd. Every
// kind of event becomes the profile type that Pyroscope makes of it:
//
//	process_cpu  cpu in nanoseconds: jdk.CPUTimeSample, jdk.ExecutionSample
//	wall         wall in nanoseconds: profiler.WallClockSample, jdk.NativeMethodSample
//	memory       alloc_in_new_tlab, alloc_outside_tlab, alloc_sample and malloc,
//	             each as objects and bytes; live objects, and estimated live_bytes
//	mutex        contentions and delay: jdk.JavaMonitorEnter
//	block        contentions and delay: jdk.ThreadPark
//
// A sample counts the time between two samples by the recording's own settings, and by
// m.SampleRate where they do not tell. Where a chunk has samples of CPU time, its
// jdk.ExecutionSample events are left out, since they sample the same time.
//
// Each event keeps its time: a recording longer than five seconds becomes one profile
// per five-second window. recording.setTimes describes how times follow from the
// recording and from m.
//
// snapshot is the part "labels" of the form that Pyroscope's agent sends: the label sets
// that events refer to, compressed or not. It may be empty.
//
// Events of other kinds are reported in l.Report if they have stacktraces. A recording
// that has only such events is an error that lists them, unless events of a kind that is
// read were enabled and none occurred.
//
// size is the size of the recording after decompression, in bytes. Errors name the chunk
// and the offset.
func JFR(body, snapshot []byte, m Push, l Limits) (ps []profile.Profile, size int, err error) {
	raw, err := decompress(body, l)
	if err != nil {
		return nil, 0, fmt.Errorf("jfr: %w", err)
	}
	if len(raw) == 0 {
		return nil, 0, errors.New("jfr: the recording is empty")
	}
	contexts, err := readContexts(snapshot, l)
	if err != nil {
		return nil, 0, fmt.Errorf("labels: %w", err)
	}
	r := recording{budget: newBudget(l), push: m, contexts: contexts, drafts: map[jfrSeries]*jfrDraft{}, alloc: m.AllocInterval}
	for i, at := 0, 0; at < len(raw); i++ {
		chunk, err := scanJFR(raw[at:], at, l)
		if err != nil {
			return nil, 0, fmt.Errorf("jfr: chunk %d, from byte %d: %w", i, at, err)
		}
		r.chunks = append(r.chunks, chunk)
		at += chunk.size
	}
	r.setTimes()
	r.times.latest, r.times.ticks = max(r.end, m.Until.UnixNano()), l.SampleTimes
	r.chooseCPU()
	for i, chunk := range r.chunks {
		if err := r.addChunk(raw[chunk.base:], chunk); err != nil {
			return nil, 0, fmt.Errorf("jfr: chunk %d, from byte %d: %w", i, chunk.base, err)
		}
	}
	r.flush()
	if err := r.note(); err != nil {
		return nil, 0, fmt.Errorf("jfr: %w", err)
	}
	return r.done, len(raw), nil
}

// A recording collects the profiles of one recording.
type recording struct {
	budget
	push      Push
	contexts  contexts
	chunks    []*jfrChunk
	times     timelines
	drafts    map[jfrSeries]*jfrDraft
	order     []jfrSeries
	done      []profile.Profile
	event     string // the event that async-profiler samples by
	begin     int64  // of the recording, in ns since 1970
	end       int64
	used      bool // some event has become part of a profile
	misplaced int  // events outside the time of their chunk
	early     int  // events of which a part is too old for the receiver

	// The following belong to the chunk that is being read.
	chunk  *jfrChunk
	parser *parser.Parser
	stacks map[stackKey][]uint64 // locations of stacktraces, by draft
	cpu    int64                 // ns between two samples
	wall   int64
	alloc  int64 // allocated bytes between two samples; 0 if unknown
	batch  int   // index of the chunk's next batch
}

// A jfrSeries identifies the profile that an event belongs to.
type jfrSeries struct {
	jfrType
	event string    // the event that async-profiler samples by
	chunk *jfrChunk // for values that each chunk counts at its end; else nil
}

// A jfrDraft is a profile under construction, with the times of its samples.
type jfrDraft struct {
	draft
	times *timeline // nil until a sample needs its own time
	whole bool      // all samples have the profile's time
}

type stackKey struct {
	draft *jfrDraft
	ref   types.StackTraceRef
}

// addChunk reads the chunk at the start of b.
func (r *recording) addChunk(b []byte, chunk *jfrChunk) (err error) {
	// The scan before has bounded what the parser allocates. It does not check
	// everything that the parser assumes, such as a field's type, so the parser may
	// panic.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the parser panicked: %v", p)
		}
	}()
	r.chunk, r.stacks, r.batch = chunk, map[stackKey][]uint64{}, 0
	r.parser = parser.NewParser(b[:chunk.size:chunk.size], parser.Options{SymbolProcessor: mergeGenerated})
	r.settings()
	for {
		event, err := r.parser.ParseEvent()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("parse: %w", err)
		}
		if err := r.addEvent(event); err != nil {
			return err
		}
	}
	return r.addOwn()
}

const (
	// Intervals of async-profiler where its settings say 0.
	asprofInterval     = 10 * time.Millisecond
	asprofWallInterval = 50 * time.Millisecond
	// jfrLongest is longer than any sampling interval.
	jfrLongest = time.Hour
	// jfrLongestAlloc is more than any number of allocated bytes between two samples.
	jfrLongestAlloc = 1 << 40
)

// settings determines the time that a sample of this chunk stands for.
func (r *recording) settings() {
	of := func(event, name string) (time.Duration, bool) {
		ns, err := strconv.ParseInt(r.chunk.settings[jfrSetting{event, name}], 10, 64)
		return time.Duration(ns), err == nil && ns >= 0 && time.Duration(ns) <= jfrLongest
	}
	if event := r.chunk.settings[jfrSetting{"jdk.ActiveRecording", "event"}]; event != "" {
		r.event = event
	}
	r.cpu = r.period(jfrExecutionSample)
	r.wall = int64(asprofWallInterval)
	if n, err := strconv.ParseInt(r.chunk.settings[jfrSetting{"jdk.ObjectAllocationInNewTLAB", "alloc"}], 10, 64); err == nil && n >= 0 && n <= jfrLongestAlloc {
		r.alloc = n
	}
	if every, ok := of("jdk.ExecutionSample", "interval"); ok && r.timed() {
		if r.event == "wall" {
			every = cmp.Or(every, asprofWallInterval)
			r.wall = int64(every)
		}
		r.cpu = int64(cmp.Or(every, asprofInterval))
	}
	if every, ok := of("jdk.ExecutionSample", "wall"); ok && every > 0 {
		r.wall = int64(every)
	}
	if r.chunk.cpuTimed {
		r.cpu = r.cpuTimePeriod()
	}
}

// timed reports whether samples are taken by time rather than by other events such as
// cache-misses. The JDK names no event.
func (r *recording) timed() bool {
	switch r.event {
	case "", "cpu", "cpu-clock", "ctimer", "itimer", "task-clock", "wall":
		return true
	}
	return false
}

// period returns the time between two samples of an event in ns, by the JDK's settings,
// else by the request.
func (r *recording) period(event string) int64 {
	if number, unit, ok := strings.Cut(r.chunk.settings[jfrSetting{event, "period"}], " "); ok {
		n, err := strconv.ParseInt(number, 10, 64)
		if d := jfrUnits[unit]; err == nil && d > 0 && n > 0 && n <= int64(jfrLongest/d) {
			return n * int64(d)
		}
	}
	return cmp.Or(r.push.period(), int64(asprofInterval))
}

// jfrUnits are the units of sampling periods in the JDK's settings.
var jfrUnits = map[string]time.Duration{
	"ns": time.Nanosecond, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "m": time.Minute,
}

// flush completes the profiles under construction.
func (r *recording) flush() {
	slices.SortStableFunc(r.order, func(a, b jfrSeries) int {
		return cmp.Compare(slices.Index(jfrTypes, a.jfrType), slices.Index(jfrTypes, b.jfrType))
	})
	for _, of := range r.order {
		d := r.drafts[of]
		begin, end := r.begin, r.end
		if of.chunk != nil {
			begin, end = of.chunk.begin, of.chunk.end
		}
		d.pprof.TimeNanos, d.pprof.DurationNanos = begin, end-begin
		ls := labels.NewBuilder(r.push.named(of.name))
		if of.event != "" {
			ls.Set("jfr_event", of.event)
		}
		if r.push.ServiceNamed && r.push.Labels.Get("app_name") == "" {
			ls.Set("app_name", r.push.App)
		}
		tidyLabels(d.pprof, r.limits)
		for _, p := range d.times.cut(d.pprof) {
			r.done = append(r.done, profile.Profile{Labels: ls.Labels(), Pprof: p})
		}
	}
}

// hidden matches the JDK's names of lambda classes, whose numbers differ between
// processes: Fib$$Lambda$97+0x00007fd394007a08/2100961961.
var hidden = regexp.MustCompile(`\$\$Lambda(\$\d+)?\+0x[0-9a-f]+(/\d+)?$`)

// mergeGenerated gives generated classes names without numbers, as Pyroscope does, so
// that processes share functions.
func mergeGenerated(symbols *types.SymbolList) {
	parser.ProcessSymbols(symbols)
	for i := range symbols.Symbol {
		if s := &symbols.Symbol[i]; strings.Contains(s.String, "$$Lambda") {
			s.String = hidden.ReplaceAllString(s.String, "$$$$Lambda_")
		}
	}
}

// locations returns the IDs of a stacktrace's locations in a draft, leaf first. A
// stacktrace that the recording lacks is shown as unknown.
func (r *recording) locations(d *jfrDraft, ref types.StackTraceRef) ([]uint64, error) {
	if ids, ok := r.stacks[stackKey{d, ref}]; ok {
		return ids, nil
	}
	var ids []uint64
	st := r.parser.GetStacktrace(ref)
	if st == nil || len(st.Frames) == 0 {
		ids = []uint64{d.location(frameUnknown, 0)}
	} else {
		if exceeds(len(st.Frames), r.limits.MaxStackDepth) {
			return nil, fmt.Errorf("stacktrace %d: %d frames are more than %d (limits.max_stack_depth)", ref, len(st.Frames), r.limits.MaxStackDepth)
		}
		ids = make([]uint64, 0, len(st.Frames)+1)
		for i := range st.Frames {
			f := &st.Frames[i]
			ids = append(ids, d.location(r.method(f.Method), int64(f.LineNumber)))
		}
		if st.Truncated {
			ids = append(ids, d.location(frameTruncated, 0))
		}
	}
	r.stacks[stackKey{d, ref}] = slices.Clip(ids)
	return ids, d.fits()
}

const (
	frameUnknown   = "[unknown]"
	frameTruncated = "[truncated]"
	frameLost      = "[lost samples]"
)

// method names a function as Pyroscope does: java/lang/Thread.run, and
// libc.so.6.start_thread.
func (r *recording) method(ref types.MethodRef) string {
	m := r.parser.GetMethod(ref)
	if m == nil {
		return frameUnknown
	}
	name := r.parser.GetSymbolString(m.Name)
	if class := r.parser.GetClass(m.Type); class != nil {
		if of := r.parser.GetSymbolString(class.Name); of != "" {
			name = of + "." + name
		}
	}
	// The parser's strings share memory with the recording; without a copy they would
	// keep it alive.
	return strings.ToValidUTF8(strings.Clone(cmp.Or(name, frameUnknown)), "\uFFFD")
}
