// Burns CPU time in small functions that call each other in the ways that Go
// has, and profiles itself with Go's own profiler meanwhile. Arguments: seconds
// to run; file for the profile.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"syscall"
	"time"
)

var sink uint64

// turn calls every kind of work once. Each takes some 100 µs.
//
//go:noinline
func turn() {
	sink += shopLoop(8000)
	sink += climb(40)
	sink += methodValues(8000)
	sink += closures(8000)
	sink += generics(4000)
	sink += bigFrames(30)
	sink += panics(200)
	sink += interfaces(8000)
	sink += systemCalls(200)
	sink += fib(19)
}

func main() {
	seconds, err := strconv.ParseFloat(os.Args[1], 64)
	if err != nil {
		panic(err)
	}
	f, err := os.Create(os.Args[2])
	if err != nil {
		panic(err)
	}
	block(4)
	// More often than the 100 Hz that StartCPUProfile would set; it then
	// complains, and keeps this rate.
	runtime.SetCPUProfileRate(250)
	if err := pprof.StartCPUProfile(f); err != nil {
		panic(err)
	}
	for began := time.Now(); time.Since(began).Seconds() < seconds; {
		turn()
	}
	pprof.StopCPUProfile()
	if err := f.Close(); err != nil {
		panic(err)
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	fmt.Println(0, 0, u.Utime.Nano()+u.Stime.Nano())
}

// block leaves goroutines that wait in system calls.
func block(n int) {
	for range n {
		var p [2]int
		if err := syscall.Pipe(p[:]); err != nil {
			panic(err)
		}
		go func() {
			var b [1]byte
			_, _ = syscall.Read(p[0], b[:])
		}()
	}
}
