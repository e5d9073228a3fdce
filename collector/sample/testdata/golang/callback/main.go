// Burns CPU time in Go functions that C calls and that Go has called, and
// profiles itself with Go's own profiler meanwhile. Arguments: seconds to run;
// file for the profile.
package main

/*
#cgo CFLAGS: -O2
extern unsigned long goLeaf(unsigned long);
unsigned long viaC(unsigned long n);
unsigned long inC(unsigned long n);
*/
import "C"

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"syscall"
	"time"
)

//export goLeaf
func goLeaf(n C.ulong) C.ulong { return C.ulong(outer(uint64(n))) }

//go:noinline
func outer(n uint64) uint64 { return inner(n) + 1 }

//go:noinline
func inner(n uint64) uint64 {
	for range 2000 {
		n = (n ^ n>>3) * 1099511628211
	}
	return n
}

//go:noinline
func turn(n uint64) uint64 {
	return uint64(C.viaC(C.ulong(n))) + uint64(C.inC(C.ulong(n)))
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
	runtime.SetCPUProfileRate(250)
	if err := pprof.StartCPUProfile(f); err != nil {
		panic(err)
	}
	var sum uint64
	for began := time.Now(); time.Since(began).Seconds() < seconds; {
		for i := range uint64(100) {
			sum += turn(i)
		}
	}
	pprof.StopCPUProfile()
	if err := f.Close(); err != nil {
		panic(err)
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stderr, sum)
	fmt.Println(0, 0, u.Utime.Nano()+u.Stime.Nano())
}
