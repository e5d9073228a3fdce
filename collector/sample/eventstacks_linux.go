//go:build linux && (amd64 || arm64)

package sample

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// maxEventStacks bounds the stacktraces that wait for their events.
const maxEventStacks = 1 << 16

// eventStacks are stacktraces that wait for what our own programs tell about the same
// events: the unwinder passes on no more than thread and time. It is safe for concurrent
// use.
type eventStacks struct {
	lost *prometheus.CounterVec // reason

	mu    sync.Mutex
	byTID stacksByTID
	held  int
}

// stacksByTID are the stacktraces of each thread, the oldest first.
type stacksByTID map[uint32][]eventStack

// An eventStack is a stacktrace and when it was taken, just after its event.
type eventStack struct {
	time  uint64 // CLOCK_MONOTONIC, ns
	event *event
}

func newEventStacks(lost *prometheus.CounterVec) eventStacks {
	return eventStacks{lost: lost, byTID: stacksByTID{}}
}

// add takes a stacktrace.
func (s *eventStacks) add(tid uint32, time uint64, e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held >= maxEventStacks {
		s.lost.WithLabelValues("queue_full").Inc()
		return
	}
	s.held++
	s.byTID[tid] = append(s.byTID[tid], eventStack{time, &e})
}

// take removes and returns all stacktraces.
func (s *eventStacks) take() stacksByTID {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.byTID
	s.byTID, s.held = stacksByTID{}, 0
	return taken
}

// giveBack returns stacktraces that were taken and may still be needed: those from a time
// on.
func (s *eventStacks) giveBack(stacks stacksByTID, from uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for tid, list := range stacks {
		list = slices.DeleteFunc(list, func(e eventStack) bool { return e.time < from })
		if len(list) > 0 {
			s.byTID[tid] = append(list, s.byTID[tid]...)
			s.held += len(list)
		}
	}
}

// of returns the first stacktrace of a thread that was taken between two times, nil if
// there is none.
func (s stacksByTID) of(tid uint32, from, until uint64) *event {
	for _, e := range s[tid] {
		if e.time >= from && e.time <= until {
			return e.event
		}
	}
	return nil
}
