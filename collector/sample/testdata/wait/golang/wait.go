// Wait waits in known functions: 14 ms and 6 ms in a system call, and for a pipe that
// another thread writes to. Go's own waits, such as time.Sleep, park a goroutine, and the
// thread goes on. Argument: seconds to run. Prints the nanoseconds that each took by the
// clock less those of its thread's CPU time.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

var request, answer [2]int

//go:noinline
func waitLong() { sleep(14 * time.Millisecond) }

//go:noinline
func waitShort() { sleep(6 * time.Millisecond) }

//go:noinline
func waitPipe() {
	var b [1]byte
	syscall.Write(request[1], b[:])
	syscall.Read(answer[0], b[:])
}

func sleep(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	syscall.Nanosleep(&t, nil)
}

func other() {
	runtime.LockOSThread()
	var b [1]byte
	for {
		syscall.Read(request[0], b[:])
		sleep(7 * time.Millisecond)
		syscall.Write(answer[1], b[:])
	}
}

func cpu() int64 {
	const clockThreadCPUTimeID = 3
	var t syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockThreadCPUTimeID, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}

func measure(spent *int64, wait func()) {
	a, c := time.Now(), cpu()
	wait()
	*spent += int64(time.Since(a)) - (cpu() - c)
}

var spent [3]int64

//go:noinline
func turn() {
	measure(&spent[0], waitLong)
	measure(&spent[1], waitShort)
	measure(&spent[2], waitPipe)
}

func main() {
	runtime.LockOSThread()
	seconds, _ := strconv.ParseFloat(os.Args[1], 64)
	syscall.Pipe(request[:])
	syscall.Pipe(answer[:])
	go other()
	for range 150 { // until the sampler knows the process
		sleep(10 * time.Millisecond)
	}
	for end := time.Now().Add(time.Duration(seconds * 1e9)); time.Now().Before(end); {
		turn()
	}
	fmt.Println(spent[0], spent[1], spent[2])
}
