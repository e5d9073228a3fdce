package untrusted

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Defaults of a Guard.
const (
	defaultLimit = 10 * time.Second
	defaultStuck = 8

	shortestLimit = 50 * time.Millisecond
)

// A Guard keeps what happens while a file is read from others: work runs on a
// goroutine of its own, so that a panic ends only that work, and a file system
// that does not answer (FUSE, NFS) holds up only that goroutine. The zero value
// is useful. It is safe for concurrent use.
type Guard struct {
	// Limit is how long work may take; 0 is 10 s. Work that takes longer goes on
	// without anyone who waits for it.
	Limit time.Duration
	// Stuck bounds the goroutines that go on so; 0 is 8. Once there are as many,
	// nothing is read any more until one of them returns.
	Stuck int
	// Shorten says that work may take the less time the more other work goes on:
	// Limit divided by one more than their number, but shortestLimit or Limit at
	// least. So a process cannot hold up the others for Limit again and again.
	Shorten bool

	stuck atomic.Int32
}

// A PanicError is a panic while a file was read.
type PanicError struct {
	Value any
	Stack []byte
}

func (p *PanicError) Error() string { return fmt.Sprintf("panic while reading: %v", p.Value) }

// Do calls work and returns its result, a *PanicError if it panics, ErrTimeout
// if it does not return in time, ErrBusy if too much other work has not. What
// work shares with its caller it must share as if it ran forever.
func Do[T any](g *Guard, work func() (T, error)) (T, error) {
	type outcome struct {
		result T
		err    error
	}
	var none T
	limit, most := g.Limit, g.Stuck
	if limit == 0 {
		limit = defaultLimit
	}
	if most == 0 {
		most = defaultStuck
	}
	stuck := g.stuck.Load()
	if int(stuck) >= most {
		return none, ErrBusy
	}
	if g.Shorten {
		limit = max(limit/time.Duration(1+max(stuck, 0)), min(limit, shortestLimit))
	}
	done := make(chan outcome, 1)
	var state atomic.Int32 // 0: waited for, 1: given up, 2: done
	go func() {
		var out outcome
		defer func() {
			if v := recover(); v != nil {
				out = outcome{err: &PanicError{Value: v, Stack: debug.Stack()}}
			}
			if !state.CompareAndSwap(0, 2) {
				g.stuck.Add(-1)
			}
			done <- out
		}()
		// Memory that is mapped from a file which was cut off meanwhile faults.
		debug.SetPanicOnFault(true)
		out.result, out.err = work()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case out := <-done:
		return out.result, out.err
	case <-timer.C:
	}
	g.stuck.Add(1)
	if !state.CompareAndSwap(0, 1) {
		g.stuck.Add(-1)
		out := <-done
		return out.result, out.err
	}
	return none, fmt.Errorf("no answer for %v: %w", limit, ErrTimeout)
}

// Waiting returns how much work has not returned in time and goes on.
func (g *Guard) Waiting() int { return int(g.stuck.Load()) }
