package ingest

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/grafana/jfr-parser/parser/types"
	"github.com/grafana/jfr-parser/parser/types/def"
)

// A jfrType is a profile type that events become, by the names that Pyroscope
// gives it. The second value is "" where there is one only.
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
	jfrMalloc  = jfrType{"memory", "malloc_objects", "count", "malloc_bytes", "bytes", "", ""}
	jfrMonitor = jfrType{"mutex", "contentions", "count", "delay", "nanoseconds", "mutex", "count"}
	jfrPark    = jfrType{"block", "contentions", "count", "delay", "nanoseconds", "block", "count"}
	jfrTypes   = []jfrType{jfrCPU, jfrWall, jfrEvents, jfrInTLAB, jfrOutTLAB, jfrAlloc, jfrLive, jfrMalloc, jfrMonitor, jfrPark}
)

// States of a sampled thread.
const (
	jfrSleeping = "STATE_SLEEPING"
	jfrRunnable = "STATE_RUNNABLE"
)

// A correlation is what ties an event to the request that ran: a context of the
// snapshot, and the span.
type correlation struct {
	context, span, spanName, traceHi, traceLo uint64
}

// addEvent adds the event that the parser has just read.
func (r *recording) addEvent(event def.TypeID) error {
	p := r.parser
	switch event {
	case p.TypeMap.T_EXECUTION_SAMPLE:
		e := &p.ExecutionSample
		return r.addExecution(e.State, correlation{e.ContextId, e.SpanId, e.SpanName, e.TraceIdHi, e.TraceIdLo}, e.StackTrace)
	case p.TypeMap.T_WALL_CLOCK_SAMPLE:
		e := &p.WallClockSample
		c := correlation{e.ContextId, e.SpanId, e.SpanName, e.TraceIdHi, e.TraceIdLo}
		hi, lo := bits.Mul64(uint64(r.wall), uint64(e.Samples))
		if hi > 0 || lo > math.MaxInt64 {
			return fmt.Errorf("event profiler.WallClockSample: %d samples are too many", e.Samples)
		}
		value := int64(lo)
		if r.event == "wall" && r.state(e.State) == jfrRunnable {
			if err := r.add(jfrCPU, c, e.StackTrace, value); err != nil {
				return err
			}
		}
		return r.add(jfrWall, c, e.StackTrace, value)
	case p.TypeMap.T_ALLOC_IN_NEW_TLAB:
		e := &p.ObjectAllocationInNewTLAB
		c := correlation{e.ContextId, e.SpanId, e.SpanName, e.TraceIdHi, e.TraceIdLo}
		return r.add2(jfrInTLAB, c, e.StackTrace, e.TlabSize)
	case p.TypeMap.T_ALLOC_OUTSIDE_TLAB:
		e := &p.ObjectAllocationOutsideTLAB
		c := correlation{e.ContextId, e.SpanId, e.SpanName, e.TraceIdHi, e.TraceIdLo}
		return r.add2(jfrOutTLAB, c, e.StackTrace, e.AllocationSize)
	case p.TypeMap.T_ALLOC_SAMPLE:
		return r.add2(jfrAlloc, correlation{}, p.ObjectAllocationSample.StackTrace, p.ObjectAllocationSample.Weight)
	case p.TypeMap.T_LIVE_OBJECT:
		return r.add(jfrLive, correlation{}, p.LiveObject.StackTrace, 1)
	case p.TypeMap.T_MALLOC:
		return r.add2(jfrMalloc, correlation{}, p.Malloc.StackTrace, p.Malloc.Size)
	case p.TypeMap.T_MONITOR_ENTER:
		e := &p.JavaMonitorEnter
		c := correlation{e.ContextId, e.SpanId, e.SpanName, e.TraceIdHi, e.TraceIdLo}
		return r.add2(jfrMonitor, c, e.StackTrace, r.nanos(e.Duration))
	case p.TypeMap.T_THREAD_PARK:
		return r.add2(jfrPark, correlation{}, p.ThreadPark.StackTrace, r.nanos(p.ThreadPark.Duration))
	}
	return nil
}

// addExecution adds a jdk.ExecutionSample. By its thread's state, async-profiler
// says which of its clocks took the sample: STATE_DEFAULT is the CPU's, the
// others are the wall's. The JDK knows STATE_RUNNABLE only.
func (r *recording) addExecution(state types.ThreadStateRef, c correlation, ref types.StackTraceRef) error {
	_, both := r.chunk.settings[jfrSetting{"jdk.ExecutionSample", "wall"}]
	s := r.state(state)
	switch {
	case !r.timed():
		return r.add(jfrEvents, c, ref, 1)
	case r.event == "wall":
		if s != jfrSleeping {
			if err := r.add(jfrCPU, c, ref, r.wall); err != nil {
				return err
			}
		}
		return r.add(jfrWall, c, ref, r.wall)
	case s == jfrSleeping, both && s == jfrRunnable:
		return r.add(jfrWall, c, ref, r.wall)
	}
	return r.add(jfrCPU, c, ref, r.cpu)
}

func (r *recording) state(ref types.ThreadStateRef) string {
	if s := r.parser.GetThreadState(ref); s != nil {
		return s.Name
	}
	return ""
}

// nanos converts an event's duration, which is in ticks.
func (r *recording) nanos(ticks uint64) uint64 {
	if r.chunk.ticks == 0 || r.chunk.ticks == 1e9 {
		return ticks
	}
	hi, lo := bits.Mul64(ticks, 1e9)
	if hi >= r.chunk.ticks {
		return math.MaxUint64
	}
	ns, _ := bits.Div64(hi, lo, r.chunk.ticks)
	return ns
}

// add2 adds an event that counts once and has a size.
func (r *recording) add2(t jfrType, c correlation, ref types.StackTraceRef, size uint64) error {
	if size > math.MaxInt64 {
		return fmt.Errorf("event of type %s: %d is negative", t.value2, int64(size))
	}
	return r.add(t, c, ref, 1, int64(size))
}

// add adds values to the profile of a type.
func (r *recording) add(t jfrType, c correlation, ref types.StackTraceRef, values ...int64) error {
	d := r.drafts[t]
	if d == nil {
		if r.drafts == nil {
			r.drafts = map[jfrType]*draft{}
		}
		d = newDraft(&r.budget, valueType{t.value, t.unit}, valueType{t.value2, t.unit2})
		d.period(valueType{t.periodType, t.periodUnit}, 0)
		switch t {
		case jfrCPU:
			d.pprof.Period = r.cpu
		case jfrWall:
			d.pprof.Period = r.wall
		}
		r.drafts[t] = d
	}
	locations, err := r.locations(d, ref)
	if err != nil {
		return err
	}
	return d.add(locations, r.contexts.labels(c), values...)
}
