// Burns CPU time in two functions, in a goroutine: seven parts of ten in
// burnHeavy, three in burnLight, measured by the thread's CPU clock. Argument:
// CPU seconds to burn. Prints the CPU nanoseconds of both functions and of the
// process.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

const (
	processClock = 2
	threadClock  = 3
)

var (
	sink         uint64
	heavy, light int64
)

func cpu(clock uintptr) int64 {
	var t syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}

//go:noinline
func burnHeavy(until int64) {
	for cpu(threadClock) < until {
		for i := range uint64(20000) {
			sink = sink*31 + i
		}
	}
}

//go:noinline
func burnLight(until int64) {
	for cpu(threadClock) < until {
		for i := range uint64(20000) {
			sink ^= i * 17
		}
	}
}

//go:noinline
func turn() {
	a := cpu(threadClock)
	burnHeavy(a + 7e6)
	b := cpu(threadClock)
	burnLight(b + 3e6)
	c := cpu(threadClock)
	heavy += b - a
	light += c - b
}

func worker(goal float64, done chan<- bool) {
	runtime.LockOSThread()
	for cpu(threadClock) < int64(goal*1e9) {
		turn()
	}
	done <- true
}

func main() {
	goal, err := strconv.ParseFloat(os.Args[1], 64)
	if err != nil {
		panic(err)
	}
	done := make(chan bool)
	go worker(goal, done)
	<-done
	fmt.Println(heavy, light, cpu(processClock))
}
