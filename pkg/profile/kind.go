package profile

import (
	"slices"
	"strings"
	"unicode"
)

// A kind is flow or state.
type kind bool

const (
	// flow values add up over time, such as CPU time, allocated bytes, events. They are
	// shown per second.
	flow kind = false
	// state values describe an instant, such as memory in use, goroutines. They are
	// averaged over time, and added over processes.
	state kind = true
)

// Cumulative reports whether values of this type add up over time (CPU time, allocated
// bytes, events), so that a series of them is a rate. Values of other types, such as
// memory in use or goroutines, describe an instant: they are averaged over time and
// added over processes.
//
// This is the only place that decides it. A table (sampleKinds) has the types of common
// profilers; for other types the words of the sample type, the unit, the period type and
// the name decide, in this order. Without a known word a type is cumulative.
func (t Type) Cumulative() bool { return t.kind() == flow }

// CPUTime reports whether values are time on a CPU, so that their rate is in cores. Time
// on a GPU, off the CPU and on the wall clock is not.
func (t Type) CPUTime() bool {
	if d, _ := ParseUnit(t.SampleUnit); d != Time {
		return false
	}
	ws := words(t.SampleType)
	if all(ws, genericWords) {
		ws = append(words(t.Name), words(t.PeriodType)...)
	}
	return anyOf(ws, cpuWords) && !anyOf(ws, notCPUWords)
}

// kind decides by the strongest hint.
func (t Type) kind() kind {
	dimension, _ := ParseUnit(t.SampleUnit)
	if dimension == Time {
		return flow // times add up
	}
	ws := words(t.SampleType)
	if k, ok := sampleKinds[strings.Join(ws, "_")]; ok {
		return k
	}
	generic := all(ws, genericWords)
	if underWay(ws) {
		return state
	}
	if k, ok := kindOf(ws); ok {
		return k
	}
	if anyOf(ws, levelWords) {
		return state
	}
	if k, ok := kindOf(words(t.SampleUnit)); ok {
		return k
	}
	// Go's runtime/pprof writes what NewProfile counts, such as open connections, with
	// its name as sample type and period type (printCountProfile).
	if dimension == Count && t.SampleType == t.PeriodType && !anyOf(ws, genericWords) {
		return state
	}
	if k, ok := kindOf(words(t.PeriodType)); ok {
		return k
	}
	if k, ok := kindOf(words(t.Name)); ok {
		return k
	}
	// Objects and space are the content of a heap, unless the name says that they are
	// allocations.
	if generic && anyOf(ws, heldWords) {
		return state
	}
	if dimension == Bytes && generic && (anyOf(words(t.Name), memoryWords) || anyOf(words(t.PeriodType), memoryWords)) {
		return state
	}
	return flow
}

// kindOf returns the kind that words suggest, and false if they suggest none.
func kindOf(ws []string) (k kind, ok bool) {
	switch {
	case anyOf(ws, stateWords) || inUse(ws):
		return state, true
	case anyOf(ws, flowWords):
		return flow, true
	case anyOf(ws, thingWords):
		return state, true
	}
	return flow, false
}

// inUse reports whether "in" is followed by "use".
func inUse(ws []string) bool {
	for i, w := range ws {
		if w == "in" && i+1 < len(ws) && ws[i+1] == "use" {
			return true
		}
	}
	return false
}

// underWay reports whether words mean things that have begun and not ended: requests in
// flight, pending writes, active calls.
func underWay(ws []string) bool {
	for i, w := range ws {
		switch {
		case underWayWords[w]:
			return true
		case w == "in" && i+1 < len(ws) && (ws[i+1] == "flight" || ws[i+1] == "progress"):
			return true
		}
	}
	return false
}

func anyOf(ws []string, set map[string]bool) bool {
	return slices.ContainsFunc(ws, func(w string) bool { return set[w] })
}

func all(ws []string, set map[string]bool) bool {
	return !slices.ContainsFunc(ws, func(w string) bool { return !set[w] })
}

// words returns the words of a name in lower case; heap-live-size, heap_live_size and
// heapLiveSize give the same.
func words(s string) []string {
	var out []string
	var b strings.Builder
	end := func() {
		if b.Len() > 0 {
			out = append(out, b.String())
			b.Reset()
		}
	}
	lower := false
	for _, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			end()
			lower = false
			continue
		}
		if unicode.IsUpper(r) && lower {
			end()
		}
		lower = unicode.IsLower(r)
		b.WriteRune(unicode.ToLower(r))
	}
	end()
	return out
}

func setOf(list string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(list) {
		out[w] = true
	}
	return out
}

// Words by which types that are not in the table are classified.
var (
	// stateWords mean that something still exists. They take precedence: "unreleased
	// malloc size" is memory that malloc gave and that was not freed.
	stateWords = setOf(`inuse live alive resident rss pss uss swapped retained unreleased unfreed leak leaks leaked
		current currently outstanding held reachable footprint committed reserved`)
	// flowWords mean events.
	flowWords = setOf(`alloc allocs allocz allocated allocation allocations malloc mallocs calloc realloc mmap dealloc deallocated
		freed frees cpu gpu flops wall exception exceptions error errors fault faults miss misses hit hits cycles instructions
		branches references refs stalled switches migrations event events contention contentions contended lock locks mutex block
		acquire acquires release releases delay wait waits read reads write writes written sent received recv io request requests
		call calls ticks gc syscall syscalls packets drops dropped lost throttled cuda kernel park parked sleep`)
	// thingWords are things that exist in some number.
	thingWords = setOf(`goroutine goroutines coroutine coroutines fiber fibers thread threads connection connections session sessions`)
	// underWayWords take precedence over flowWords: pending writes are not written yet.
	underWayWords = setOf(`inflight ongoing pending queued active`)
	// levelWords mean a level. In a profile's name they may also belong to a product's
	// name, such as active_record.
	levelWords = setOf(`active open pending peak watermark depth used free usage`)
	// genericWords have no meaning by themselves.
	genericWords = setOf(`sample samples count counts object objects space size bytes byte memory mem heap value values time duration number`)
	// heldWords are the generic words for the content of a heap.
	heldWords = setOf(`object objects space size heap memory mem`)
	// memoryWords are names of memory profiles.
	memoryWords = setOf(`memory mem heap space heapz jemalloc tcmalloc`)

	cpuWords    = setOf(`cpu cputime oncpu itimer`)
	notCPUWords = setOf(`off offcpu gpu wait idle steal throttled blocked`)
)
