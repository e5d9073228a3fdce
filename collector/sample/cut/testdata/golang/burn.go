// Burns CPU time for some seconds in main.work, main.turn, main.burn, main.mix;
// with a second argument after that many nested calls of main.nest. With
// CPUPROFILE set it writes its own profile there, for the compiler.
package main

import (
	"fmt"
	"os"
	"runtime/pprof"
	"strconv"
	"time"
)

var sink uint64

// mix is small enough to be inlined; with a profile, so is burn.
func mix(x uint64) uint64 { return x*31 + x>>7 }

func burn() {
	for i := range uint64(20000) {
		sink = mix(sink + i)
		if sink%(1<<40) == 7 {
			fmt.Println("unlikely", sink)
			fmt.Fprintln(os.Stderr, "enough for the compiler to leave this function out of line", i, sink)
			panic(strconv.Itoa(int(i)))
		}
	}
}

//go:noinline
func turn() {
	for range 10 {
		burn()
	}
}

//go:noinline
func work(end time.Time) {
	for time.Now().Before(end) {
		turn()
	}
}

//go:noinline
func nest(depth int, end time.Time) int {
	if depth == 0 {
		work(end)
		return 0
	}
	return nest(depth-1, end) + 1
}

func main() {
	seconds, err := strconv.ParseFloat(os.Args[1], 64)
	if err != nil {
		panic(err)
	}
	if name := os.Getenv("CPUPROFILE"); name != "" {
		f, err := os.Create(name)
		if err != nil {
			panic(err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			panic(err)
		}
		defer pprof.StopCPUProfile()
	}
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	if len(os.Args) > 2 {
		depth, err := strconv.Atoi(os.Args[2])
		if err != nil {
			panic(err)
		}
		sink += uint64(nest(depth, end))
		return
	}
	work(end)
}
