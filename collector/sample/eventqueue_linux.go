//go:build linux && (amd64 || arm64)

package sample

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"go.opentelemetry.io/ebpf-profiler/times"
)

// An eventQueue holds what an eBPF program reports by a ring buffer until the window of
// the report is over. A report has the layout of T, with no bytes left over. It is safe
// for concurrent use.
type eventQueue[T any] struct {
	limit  int                 // of reports that wait
	when   func(T) uint64      // CLOCK_MONOTONIC, ns
	lost   func(reason string) // is called for each that is lost: read_error, queue_full
	reader *ringbuf.Reader     // nil until open
	stop   chan struct{}
	end    sync.Once
	done   sync.WaitGroup

	mu   sync.Mutex
	held []T
}

func newEventQueue[T any](limit int, when func(T) uint64, lost func(reason string)) *eventQueue[T] {
	return &eventQueue[T]{limit: limit, when: when, lost: lost, stop: make(chan struct{})}
}

// open opens a ring buffer whose program wakes nobody up: it is looked at every reportPoll
// once read is called.
func (q *eventQueue[T]) open(ring *ebpf.Map) error {
	r, err := ringbuf.NewReader(ring)
	if err != nil {
		return fmt.Errorf("open the buffer of reports: %w", err)
	}
	r.SetDeadline(time.Unix(1, 0)) // in the past: reading does not wait
	q.reader = r
	return nil
}

// reportPoll is how often ring buffers are looked at. Each of them has room for what comes
// meanwhile many times over.
const reportPoll = 250 * time.Millisecond

// read reads the reports from now on.
func (q *eventQueue[T]) read() {
	q.done.Go(func() {
		poll := time.NewTicker(reportPoll)
		defer poll.Stop()
		var buf ringbuf.Record
		for {
			select {
			case <-poll.C:
				q.readAll(&buf)
			case <-q.stop:
				q.readAll(&buf)
				return
			}
		}
	})
}

// readAll reads what is in the ring buffer.
func (q *eventQueue[T]) readAll(buf *ringbuf.Record) {
	for {
		err := q.reader.ReadInto(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ringbuf.ErrClosed) {
			return
		}
		var v T
		if err == nil {
			_, err = binary.Decode(buf.RawSample, binary.LittleEndian, &v)
		}
		if err != nil {
			q.lost("read_error")
			return
		}
		q.add(v)
	}
}

func (q *eventQueue[T]) add(v T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.held) >= q.limit {
		q.lost("queue_full")
		return
	}
	q.held = append(q.held, v)
}

// take removes and returns the reports until a time of CLOCK_MONOTONIC in ns.
func (q *eventQueue[T]) take(until int64) (ready []T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var later []T
	for _, v := range q.held {
		if int64(q.when(v)) <= until {
			ready = append(ready, v)
		} else {
			later = append(later, v)
		}
	}
	q.held = later
	return ready
}

// finish reads what is left, if read was called, and closes the ring buffer. What was read
// can be taken afterwards.
func (q *eventQueue[T]) finish() (err error) {
	if q == nil || q.reader == nil {
		return nil
	}
	q.end.Do(func() {
		close(q.stop)
		q.done.Wait()
		err = q.reader.Close()
	})
	return err
}

// stackedWindows returns the windows that windows makes of the reports until a time in Unix
// ns, and of the stacktraces that the unwinder has passed on. start gives the window that a
// time of CLOCK_MONOTONIC falls into.
func stackedWindows[T any](
	q *eventQueue[T], s *eventStacks, interval time.Duration, now time.Time, until int64,
	windows func(ready []T, stacks stacksByTID, start func(uint64) int64) []*tally,
) []*tally {
	offset := now.UnixNano() - int64(times.GetKTime()) // of the wall clock
	ready, stacks := q.take(until-offset), s.take()
	ts := windows(ready, stacks, func(t uint64) int64 { return windowStart(int64(t)+offset, interval) })
	s.giveBack(stacks, uint64(max(until-offset, 0)))
	return ts
}
