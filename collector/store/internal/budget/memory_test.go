package budget

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// Queries that wait for memory get it in the order of coming: a small one does not pass
// a large one that waits, and one at work may grow meanwhile.
func TestMemoryIsServedInOrder(t *testing.T) {
	m := NewMemory(100, func() {})
	require.NoError(t, m.begin(t.Context(), 60))
	var order []int64
	var mu sync.Mutex
	var g sync.WaitGroup
	for i, n := range []int64{90, 20, 10} {
		g.Go(func() {
			if err := m.begin(t.Context(), n); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, n)
			mu.Unlock()
			m.Free(n)
		})
		for _, _, waiting := m.State(); waiting <= i; _, _, waiting = m.State() {
			runtime.Gosched()
		}
	}
	require.True(t, m.Grow(40), "who is at work does not queue")
	require.False(t, m.Grow(1))
	require.Empty(t, order)
	m.Free(100)
	g.Wait()
	require.EqualValues(t, 90, order[0])
	require.ElementsMatch(t, []int64{90, 20, 10}, order)
	used, peak, waiting := m.State()
	require.Zero(t, used)
	require.EqualValues(t, 100, peak)
	require.Zero(t, waiting)
}

// A query whose deadline comes is refused before it, by a message that says what it
// needed, and leaves the queue to the others.
func TestMemoryIsRefusedBeforeTheDeadline(t *testing.T) {
	m := NewMemory(100, func() {})
	require.NoError(t, m.begin(t.Context(), 60))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	small := make(chan error, 1)
	large := make(chan error, 1)
	go func() { large <- m.begin(ctx, 90) }()
	for _, _, waiting := m.State(); waiting == 0; _, _, waiting = m.State() {
		runtime.Gosched()
	}
	go func() { small <- m.begin(t.Context(), 40) }()
	err := <-large
	require.ErrorIs(t, err, storeerr.ErrLimit)
	require.ErrorContains(t, err, "needs 90 bytes")
	require.ErrorContains(t, err, "100 bytes that all may take together (limits.max_query_bytes)")
	require.ErrorContains(t, err, "deadline of the request is at ")
	require.NoError(t, <-small)

	// Who does not wait any more is no error of the memory.
	gone, leave := context.WithCancel(t.Context())
	go func() { large <- m.begin(gone, 90) }()
	for _, _, waiting := m.State(); waiting == 0; _, _, waiting = m.State() {
		runtime.Gosched()
	}
	leave()
	require.ErrorIs(t, <-large, context.Canceled)
}
