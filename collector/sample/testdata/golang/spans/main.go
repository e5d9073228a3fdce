// Burns CPU time in a goroutine with the labels that OpenTelemetry's integrations for Go
// profiles set: seven parts of ten in one span, two in another one of the same trace, and
// one without labels, measured by the thread's CPU clock. Argument: CPU seconds to burn.
// Prints the CPU nanoseconds of both spans and of the process.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"syscall"
	"unsafe"
)

const (
	processClock = 2
	threadClock  = 3

	trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	heavy = "00f067aa0ba902b7"
	light = "00f067aa0ba902b8"
)

var sink uint64

func cpu(clock uintptr) int64 {
	var t syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}

//go:noinline
func burn(ns int64) {
	for until := cpu(threadClock) + ns; cpu(threadClock) < until; {
		for i := range uint64(20000) {
			sink = sink*31 + i
		}
	}
}

func main() {
	seconds, err := strconv.ParseFloat(os.Args[1], 64)
	if err != nil {
		panic(err)
	}
	runtime.LockOSThread()
	const turn = 10_000_000
	turns := int64(seconds * 1e9 / turn)
	for range turns {
		pprof.Do(context.Background(), pprof.Labels("span_id", heavy, "trace_id", trace, "handler", "/buy"), func(context.Context) { burn(turn * 7 / 10) })
		pprof.Do(context.Background(), pprof.Labels("trace_id", trace, "span_id", light), func(context.Context) { burn(turn * 2 / 10) })
		burn(turn / 10)
	}
	fmt.Println(turns*turn*7/10, turns*turn*2/10, cpu(processClock))
}
