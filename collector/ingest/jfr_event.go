package ingest

import (
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/grafana/jfr-parser/parser/types"
	"github.com/grafana/jfr-parser/parser/types/def"
)

// A jfrType is the profile type of an event, with Pyroscope's names. The second value's
// name is "" if there is only one value.
type jfrType struct {
	name                   string
	value, unit            string
	value2, unit2          string
	periodType, periodUnit string
}

var (
	jfrCPU     = jfrType{"process_cpu", "cpu", "nanoseconds", "", "", "cpu", "nanoseconds"}
	jfrWall    = jfrType{"wall", "wall", "nanoseconds", "", "", "wall", "nanoseconds"}
	jfrEvents  = jfrType{"events", "samples", "count", "", "", "events", "count"}
	jfrInTLAB  = jfrType{"memory", "alloc_in_new_tlab_objects", "count", "alloc_in_new_tlab_bytes", "bytes", "space", "bytes"}
	jfrOutTLAB = jfrType{"memory", "alloc_outside_tlab_objects", "count", "alloc_outside_tlab_bytes", "bytes", "space", "bytes"}
	jfrAlloc   = jfrType{"memory", "alloc_sample_objects", "count", "alloc_sample_bytes", "bytes", "space", "bytes"}
	jfrLive    = jfrType{"memory", "live", "count", "", "", "objects", "count"}
	jfrLiveMem = jfrType{"memory", "live_bytes", "bytes", "", "", "space", "bytes"}
	jfrMalloc  = jfrType{"memory", "malloc_objects", "count", "malloc_bytes", "bytes", "", ""}
	jfrMonitor = jfrType{"mutex", "contentions", "count", "delay", "nanoseconds", "mutex", "count"}
	jfrPark    = jfrType{"block", "contentions", "count", "delay", "nanoseconds", "block", "count"}
	jfrTypes   = []jfrType{jfrCPU, jfrWall, jfrEvents, jfrInTLAB, jfrOutTLAB, jfrAlloc, jfrLive, jfrLiveMem, jfrMalloc, jfrMonitor, jfrPark}
)

// States of a sampled thread.
const (
	jfrSleeping = "STATE_SLEEPING"
	jfrRunnable = "STATE_RUNNABLE"
)

// A correlation links an event to the request that was running: a label set of the
// snapshot, and a span.
type correlation struct {
	context, span, spanName, traceHi, traceLo uint64
}

// addEvent adds the event that the parser has just read.
func (r *recording) addEvent(event def.TypeID) error {
	p := r.parser
	switch event {
	case p.TypeMap.T_EXECUTION_SAMPLE:
		e := &p.ExecutionSample
		return r.addExecution(e.State, correlation{e.ContextId, e.SpanId, e.SpanName, e.TraceIdHi, e.TraceIdLo}, e.StackTrace, r.interval(e.StartTime, 0))
	case p.TypeMap.T_WALL_CLOCK_SAMPLE:
		return r.addWallClock()
	case p.TypeMap.T_ALLOC_IN_NEW_TLAB:
		e := &p.ObjectAllocationInNewTLAB
		c := correlation{e.ContextId, e.SpanId, e.SpanName, e.TraceIdHi, e.TraceIdLo}
		return r.add2(jfrInTLAB, c, e.StackTrace, r.interval(e.StartTime, 0), e.TlabSize)
	case p.TypeMap.T_ALLOC_OUTSIDE_TLAB:
		e := &p.ObjectAllocationOutsideTLAB
		c := correlation{e.ContextId, e.SpanId, e.SpanName, e.TraceIdHi, e.TraceIdLo}
		return r.add2(jfrOutTLAB, c, e.StackTrace, r.interval(e.StartTime, 0), e.AllocationSize)
	case p.TypeMap.T_ALLOC_SAMPLE:
		e := &p.ObjectAllocationSample
		if r.old(e.EventThread) {
			return nil
		}
		return r.add2(jfrAlloc, correlation{}, e.StackTrace, r.interval(e.StartTime, 0), e.Weight)
	case p.TypeMap.T_LIVE_OBJECT:
		return r.addLiveObject()
	case p.TypeMap.T_MALLOC:
		e := &p.Malloc
		return r.add2(jfrMalloc, correlation{}, e.StackTrace, r.interval(e.StartTime, 0), e.Size)
	case p.TypeMap.T_MONITOR_ENTER:
		e := &p.JavaMonitorEnter
		c := correlation{e.ContextId, e.SpanId, e.SpanName, e.TraceIdHi, e.TraceIdLo}
		return r.add2(jfrMonitor, c, e.StackTrace, r.interval(e.StartTime, e.Duration), r.lasted(e.Duration))
	case p.TypeMap.T_THREAD_PARK:
		e := &p.ThreadPark
		return r.add2(jfrPark, correlation{}, e.StackTrace, r.interval(e.StartTime, e.Duration), r.lasted(e.Duration))
	}
	return nil
}

// old reports whether a sample of an allocation is the first one of a thread that is
// older than the recording.
func (r *recording) old(ref types.ThreadRef) bool {
	if len(r.push.OldThreads) == 0 {
		return false
	}
	i, ok := r.parser.Threads.IDMap[ref]
	if !ok || int(i) >= len(r.parser.Threads.Thread) {
		return false
	}
	thread := r.parser.Threads.Thread[i].OsThreadId
	first := r.push.OldThreads[thread]
	delete(r.push.OldThreads, thread)
	return first
}

// addLiveObject adds a profiler.LiveObject, which is a sample of the objects in use. The
// bytes that it stands for follow from the mean number of allocated bytes between two
// samples; where that is unknown, only the sample is counted.
func (r *recording) addLiveObject() error {
	e := &r.parser.LiveObject
	at := r.interval(e.StartTime, 0)
	if err := r.add(jfrLive, correlation{}, e.StackTrace, at, 1); err != nil || r.alloc <= 0 {
		return err
	}
	return r.add(jfrLiveMem, correlation{}, e.StackTrace, at, bytesPerSample(e.AllocationSize, r.alloc))
}

// bytesPerSample returns the bytes that a sampled object of a size stands for. The JVM
// samples a byte in every so many on average, so an object is sampled with the
// probability 1 - exp(-size/every).
func bytesPerSample(size uint64, every int64) int64 {
	s := float64(min(max(size, 1), 1<<50))
	return int64(math.Round(s / -math.Expm1(-s/float64(every))))
}

// addWallClock adds a profiler.WallClockSample: several successive samples with the same
// stacktrace.
func (r *recording) addWallClock() error {
	e := &r.parser.WallClockSample
	c := correlation{e.ContextId, e.SpanId, e.SpanName, e.TraceIdHi, e.TraceIdLo}
	took := uint64(0)
	if r.batch < len(r.chunk.batches) {
		took = r.chunk.batches[r.batch]
		r.batch++
	}
	at := r.interval(e.StartTime, took)
	hi, lo := bits.Mul64(uint64(r.wall), uint64(e.Samples))
	if hi > 0 || lo > math.MaxInt64 {
		return fmt.Errorf("event %s: %d samples are too many", jfrWallClockSample, e.Samples)
	}
	value := int64(lo)
	if r.event == "wall" && r.state(e.State) == jfrRunnable {
		if err := r.add(jfrCPU, c, e.StackTrace, at, value); err != nil {
			return err
		}
	}
	return r.add(jfrWall, c, e.StackTrace, at, value)
}

// addExecution adds a jdk.ExecutionSample. In async-profiler's recordings the thread's
// state tells which clock took the sample: STATE_DEFAULT the CPU clock, others the wall
// clock. The JDK's recordings have only STATE_RUNNABLE.
func (r *recording) addExecution(state types.ThreadStateRef, c correlation, ref types.StackTraceRef, at interval) error {
	if r.chunk.cpuTimed {
		return nil
	}
	_, both := r.chunk.settings[jfrSetting{"jdk.ExecutionSample", "wall"}]
	s := r.state(state)
	switch {
	case !r.timed():
		return r.add(jfrEvents, c, ref, at, 1)
	case r.event == "wall":
		if s != jfrSleeping {
			if err := r.add(jfrCPU, c, ref, at, r.wall); err != nil {
				return err
			}
		}
		return r.add(jfrWall, c, ref, at, r.wall)
	case s == jfrSleeping, both && s == jfrRunnable:
		return r.add(jfrWall, c, ref, at, r.wall)
	}
	return r.add(jfrCPU, c, ref, at, r.cpu)
}

func (r *recording) state(ref types.ThreadStateRef) string {
	if s := r.parser.GetThreadState(ref); s != nil {
		return s.Name
	}
	return ""
}

// nanos converts ticks to ns, with math.MaxInt64 for a result that overflows.
func (c *jfrChunk) nanos(ticks uint64) int64 {
	if c.ticks == 0 || c.ticks == 1e9 {
		return int64(min(ticks, math.MaxInt64))
	}
	hi, lo := bits.Mul64(ticks, 1e9)
	if hi >= c.ticks {
		return math.MaxInt64
	}
	ns, _ := bits.Div64(hi, lo, c.ticks)
	return int64(min(ns, math.MaxInt64))
}

// lasted returns an event's duration in ns, or, if that overflows, a value that add2
// refuses.
func (r *recording) lasted(ticks uint64) uint64 {
	if ns := r.chunk.nanos(ticks); ns < math.MaxInt64 {
		return uint64(ns)
	}
	return math.MaxUint64
}

// add2 adds an event that has two values: a count of 1 and a size.
func (r *recording) add2(t jfrType, c correlation, ref types.StackTraceRef, at interval, size uint64) error {
	if size > math.MaxInt64 {
		return fmt.Errorf("event of type %s: %d is negative", t.value2, int64(size))
	}
	return r.add(t, c, ref, at, 1, int64(size))
}

// add adds values to the profile of a type. The first of two values is counted at the
// beginning of the event's time; the other, or the only one, is spread over that time.
func (r *recording) add(t jfrType, c correlation, ref types.StackTraceRef, at interval, values ...int64) error {
	d := r.draft(t)
	locations, err := r.locations(d, ref)
	if err != nil {
		return err
	}
	return r.addTo(d, locations, c, at, values...)
}

func (r *recording) addTo(d *jfrDraft, locations []uint64, c correlation, at interval, values ...int64) error {
	r.used = true
	if late := r.clip(at); late != at {
		last := len(values) - 1
		values[last] = share(values[last], late.to-late.from, at.to-at.from)
		at = late
	}
	i, err := d.add(locations, r.contexts.labels(c), values...)
	if err != nil || d.whole || r.whole(at) {
		return err
	}
	if d.times == nil {
		d.times = r.times.newTimeline(len(values))
	}
	switch {
	case at.from == at.to:
		return d.times.add(i, at.from, values...)
	case len(values) == 1:
		return d.times.spread(i, at.from, at.to, values[0])
	}
	return errors.Join(d.times.add(i, at.from, values[0], 0), d.times.spread(i, at.from, at.to, 0, values[1]))
}

// draft returns the draft for events of a type.
func (r *recording) draft(t jfrType) *jfrDraft {
	of := jfrSeries{jfrType: t, event: r.event}
	if t == jfrLive || t == jfrLiveMem { // counts all live objects at the chunk's end
		of.chunk = r.chunk
	}
	d := r.drafts[of]
	if d == nil {
		d = &jfrDraft{draft: *newDraft(&r.budget, valueType{t.value, t.unit}, valueType{t.value2, t.unit2}), whole: of.chunk != nil}
		d.period(valueType{t.periodType, t.periodUnit}, 0)
		switch t {
		case jfrCPU:
			d.pprof.Period = r.cpu
		case jfrWall:
			d.pprof.Period = r.wall
		}
		r.drafts[of] = d
		r.order = append(r.order, of)
	}
	return d
}
