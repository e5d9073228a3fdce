//go:build linux

package main

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// load runs a load program, most of them until they are killed.
func load(name string) {
	runtime.LockOSThread() // as a goroutine that waits in system calls
	switch name {
	case "compute":
		for {
			outer(time.Second)
		}
	case "read":
		readZero()
	case "sleep":
		for {
			nap()
		}
	case "grow":
		for {
			grow()
		}
	case "short":
		outer(shortTime)
	case "spawn":
		spawn()
	default:
		log.Fatalf("guest: no load program %q", name)
	}
}

// outer, middle and inner use CPU time.
//
//go:noinline
func outer(d time.Duration) { middle(cpuTime() + d) }

//go:noinline
func middle(end time.Duration) {
	for cpuTime() < end {
		inner()
	}
}

//go:noinline
func inner() {
	var sum uint64
	for i := range uint64(200_000) {
		sum += i * i
	}
	runtime.KeepAlive(sum)
}

// cpuTime is the time that this thread has run.
func cpuTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		log.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// readZero spends its time in the kernel.
//
//go:noinline
func readZero() {
	f, err := os.Open("/dev/zero")
	if err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	for {
		if _, err := unix.Read(int(f.Fd()), buf); err != nil {
			log.Fatal(err)
		}
	}
}

// nap waits in the kernel.
//
//go:noinline
func nap() {
	ts := unix.NsecToTimespec((50 * time.Millisecond).Nanoseconds())
	if err := unix.Nanosleep(&ts, nil); err != nil && err != unix.EINTR {
		log.Fatal(err)
	}
}

// grow makes memory resident, and gives it back.
//
//go:noinline
func grow() {
	mem, err := unix.Mmap(-1, 0, 8<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		log.Fatal(err)
	}
	for i := 0; i < len(mem); i += os.Getpagesize() {
		mem[i] = 1
	}
	if err := unix.Munmap(mem); err != nil {
		log.Fatal(err)
	}
}

// spawn runs short processes one after the other.
func spawn() {
	for range shortProcesses {
		cmd := exec.Command("/init", "short")
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			log.Fatal(fmt.Errorf("short process: %w", err))
		}
	}
}
