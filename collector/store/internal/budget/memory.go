package budget

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// Memory is what all queries together may take for what they are working on and for
// their answers, Options.QueryBytes. Who has to wait is served in the order of coming,
// so that large queries get their turn too. It is safe for concurrent use.
type Memory struct {
	max     int64
	refused func() // is called for every query that is refused

	mu    sync.Mutex
	used  int64
	peak  int64     // the most that was used at a time
	queue list.List // of *waiter
}

// A waiter is a query that waits for n bytes, and has none meanwhile.
type waiter struct {
	n     int64
	ready chan struct{} // closed once it has them
}

// NewMemory returns memory of max bytes. refused is called for every query that gets none.
func NewMemory(max int64, refused func()) *Memory { return &Memory{max: max, refused: refused} }

// memoryTimeout is how long a query without a deadline waits for others to end.
const memoryTimeout = 30 * time.Second

// Patience is how long a request waits for its turn: without a deadline the given
// time, with one so long that a refusal still reaches the client.
func Patience(ctx context.Context, without time.Duration) (wait time.Duration, deadline time.Time) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return without, deadline
	}
	left := time.Until(deadline)
	return left - min(left/10, 500*time.Millisecond), deadline
}

// Grow takes n bytes if they are free, for a query that is at work: it does not queue,
// since those who wait can only get what it gives back at its end.
func (m *Memory) Grow(n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.take(n)
}

// take takes n bytes if they are free. The caller holds the lock.
func (m *Memory) take(n int64) bool {
	if n > m.max-m.used {
		return false
	}
	m.used += n
	m.peak = max(m.peak, m.used)
	return true
}

// begin takes n bytes, not more than there are at all, for a query that has none. Where
// others have them it waits for its turn, or returns an error that wraps ErrLimit.
func (m *Memory) begin(ctx context.Context, n int64) error {
	m.mu.Lock()
	if m.queue.Len() == 0 && m.take(n) {
		m.mu.Unlock()
		return nil
	}
	w := &waiter{n: n, ready: make(chan struct{})}
	at := m.queue.PushBack(w)
	m.mu.Unlock()
	wait, deadline := Patience(ctx, memoryTimeout)
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	case <-timeout.C:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-w.ready: // meanwhile
		if ctx.Err() == nil {
			return nil
		}
		m.used -= n
	default:
		m.queue.Remove(at)
	}
	m.serve()
	if err := ctx.Err(); err != nil {
		return err
	}
	until := ""
	if !deadline.IsZero() {
		until = ", and the deadline of the request is at " + deadline.UTC().Format("15:04:05.000 UTC")
	}
	return fmt.Errorf("%w: the query needs %d bytes of memory, and other queries had too much of the %d bytes that all may take together (limits.max_query_bytes) for %s%s; ask again later",
		storeerr.ErrLimit, n, m.max, wait.Round(time.Millisecond), until)
}

// Free gives n bytes back.
func (m *Memory) Free(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= n
	m.serve()
}

// serve lets those who wait have what is free. The caller holds the lock.
func (m *Memory) serve() {
	for e := m.queue.Front(); e != nil; e = m.queue.Front() {
		w := e.Value.(*waiter)
		if !m.take(w.n) {
			return
		}
		m.queue.Remove(e)
		close(w.ready)
	}
}

// State is what is used, the most that was, and how many queries wait.
func (m *Memory) State() (used, peak int64, waiting int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used, m.peak, m.queue.Len()
}

// maxPooled bounds the memory that an item of a pool keeps.
const maxPooled = 32 << 20

// PutBack puts an item back into its pool, unless it has come to be large.
func PutBack(pool *sync.Pool, item any, bytes int) {
	if bytes <= maxPooled {
		pool.Put(item)
	}
}
