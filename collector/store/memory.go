package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// memory is what all queries together may take for the results that they are
// working on, Options.QueryBytes.
type memory struct {
	max  int64
	free *semaphore.Weighted
}

func newMemory(max int64) *memory { return &memory{max: max, free: semaphore.NewWeighted(max)} }

// memoryTimeout is how long a query waits for others to end.
const memoryTimeout = 10 * time.Second

// A hold is what one query has of the memory. It is not safe for concurrent use.
type hold struct {
	of *memory
	n  int64
}

func (m *memory) hold() hold { return hold{of: m} }

// try takes n bytes more if they are free.
func (h *hold) try(n int64) bool {
	if !h.of.free.TryAcquire(n) {
		return false
	}
	h.n += n
	return true
}

// wait takes n bytes more, or returns an error that wraps ErrLimit.
func (h *hold) wait(ctx context.Context, n int64) error {
	if h.n+n > h.of.max {
		return fmt.Errorf("%w: the query needs more than %d bytes of memory (limits.max_query_bytes); choose a shorter range or fewer services", ErrLimit, h.of.max)
	}
	wait, cancel := context.WithTimeout(ctx, memoryTimeout)
	defer cancel()
	if err := h.of.free.Acquire(wait, n); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return h.busy()
	}
	h.n += n
	return nil
}

// replace holds n bytes in place of those that it has. It is for what comes to be
// large bit by bit: of several that have a part each and wait for more none would
// ever end, so one that has to wait gives its part back meanwhile, and stands in
// nobody's way. What it has counted then takes memory for a while that is not held.
func (h *hold) replace(ctx context.Context, n int64) error {
	if n <= h.n || h.try(n-h.n) {
		return nil
	}
	h.release()
	if n > h.of.max {
		return h.wait(ctx, n) // which says so
	}
	// It looks again rather than queue: the semaphore serves one after the other, so
	// a large request at its head would keep out the small ones of queries that hold
	// what it waits for.
	const pause = 2 * time.Millisecond
	for end := time.Now().Add(memoryTimeout); !h.try(n); time.Sleep(pause) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(end) {
			return h.busy()
		}
	}
	return nil
}

func (h *hold) busy() error {
	return fmt.Errorf("%w: other queries have all of the %d bytes of memory (limits.max_query_bytes) and none ended within %s", ErrLimit, h.of.max, memoryTimeout)
}

// release gives all back.
func (h *hold) release() {
	h.of.free.Release(h.n)
	h.n = 0
}

// maxPooled bounds the memory that an item of a pool keeps.
const maxPooled = 32 << 20

// putBack puts an item back into its pool, unless it has come to be large.
func putBack(pool *sync.Pool, item any, bytes int) {
	if bytes <= maxPooled {
		pool.Put(item)
	}
}
