//go:build !linux

package main

import "time"

var started = time.Now()

// threadCPU returns wall time, which bounds a thread's CPU time from above:
// only Linux has a clock of a thread's CPU time in golang.org/x/sys.
func threadCPU() time.Duration { return time.Since(started) }
