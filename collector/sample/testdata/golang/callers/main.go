// Prints the addresses of its own stacktrace, each as "pc ADDRESS ENTRY" with the
// address of the function that has the code, and then all functions as the Go
// runtime finds them, "FUNCTION LINE FILE". It is built with old versions of Go.
package main

import (
	"fmt"
	"runtime"
	"sort"
)

func inner(pcs []uintptr) int  { return runtime.Callers(0, pcs) }
func middle(pcs []uintptr) int { return inner(pcs) }
func outer(pcs []uintptr) int  { return middle(pcs) }

//go:noinline
func here(pcs []uintptr) int { return outer(pcs) }

type byCall struct{ pcs []uintptr }

func (b byCall) Len() int { return 2 }

func (b byCall) Swap(i, j int) {}

// Less is called by code of the standard library.
func (b byCall) Less(i, j int) bool {
	if b.pcs[0] == 0 {
		n := here(b.pcs)
		for _, pc := range b.pcs[:n] {
			fmt.Printf("pc %#x %#x\n", pc, runtime.FuncForPC(pc-1).Entry())
		}
		for frames := runtime.CallersFrames(b.pcs[:n]); ; {
			f, more := frames.Next()
			fmt.Println(f.Function, f.Line, f.File)
			if !more {
				break
			}
		}
	}
	return false
}

func main() {
	done := make(chan bool)
	go func() {
		sort.Sort(byCall{make([]uintptr, 64)})
		close(done)
	}()
	<-done
}
