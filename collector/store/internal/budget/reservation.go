package budget

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A Reservation is what one request has of the memory of queries: bytes that are reserved,
// and of those what is in use. A request waits for memory only while it works on
// nothing, so that no two of them wait for each other. It is safe for concurrent use;
// nil counts nothing.
type Reservation struct {
	of *Memory

	mu       sync.Mutex
	reserved int64
	used     int64 // not more than reserved
	kept     int64 // of used: what the answer takes, after the call
}

// firstBytes is what a query reserves before it knows what it needs.
const firstBytes = 128 << 10

// errNoMemory is wrapped by the errors of Reservation.Take.
var errNoMemory = errors.New("no memory")

// A shortError says that a query needs more than is reserved for it and free. The query
// gives up what it has, see Memory.Within.
type shortError struct{ need int64 }

func (e *shortError) Error() string { return fmt.Sprintf("%d bytes of memory are not free", e.need) }
func (e *shortError) Unwrap() error { return errNoMemory }

// Take uses n bytes more. It does not wait: if they are neither reserved nor free, the
// error is a shortError.
func (h *Reservation) Take(n int64) error {
	if h == nil || n <= 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.reserve(h.used + n); err != nil {
		return err
	}
	h.used += n
	return nil
}

// Expect reserves n bytes beyond those in use, or all that there are for queries if
// that is less: what is expected is an estimate, or what a query can do with less of.
// The error is that of take.
func (h *Reservation) Expect(n int64) error {
	if h == nil || n <= 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reserve(h.used + min(n, h.of.max-h.used))
}

// reserve has at least n bytes reserved. The caller holds the lock.
func (h *Reservation) reserve(n int64) error {
	if n > h.reserved {
		if !h.of.Grow(n - h.reserved) {
			return &shortError{n}
		}
		h.reserved = n
	}
	return nil
}

// Give ends the use of n bytes, which stay reserved.
func (h *Reservation) Give(n int64) {
	if h != nil && n > 0 {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.used -= n
	}
}

// Try runs fn. If fn did not get enough memory, it returns true, and what fn has taken is
// not in use any more.
func (h *Reservation) Try(fn func() error) (short bool, err error) {
	h.mu.Lock()
	before := h.used
	h.mu.Unlock()
	err = fn()
	if short = errors.Is(err, errNoMemory); short {
		h.mu.Lock()
		h.used = before
		h.mu.Unlock()
	}
	return short, err
}

// Keep says how much of what is in use the call's answer takes, with what its encoding
// takes as far as that is reserved.
func (h *Reservation) Keep(n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = n
}

// shrink gives back what is not in use any more, down to n bytes.
func (h *Reservation) shrink(n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.used = n
	if more := h.reserved - n; more > 0 {
		h.reserved = n
		h.of.Free(more)
	}
}

// Most is the most that a query may take, in bytes.
func (h *Reservation) Most() int64 { return h.of.max }

type reservationKey struct{}

// Holding returns a context for one request, in which the memory that the answers of
// queries take stays counted until the request has ended and done is called: answers
// have to be encoded and sent. Calls with the context follow one after the other.
func Holding(ctx context.Context) (with context.Context, done func()) {
	h := &Reservation{}
	return context.WithValue(ctx, reservationKey{}, h), func() {
		if h.of != nil {
			h.shrink(0)
		}
	}
}

// Within runs a query, fn, with a reservation that it takes its memory from. If that is not enough,
// what the query has done is dropped; it then waits, without any memory, until as much
// as it turned out to need is reserved, and runs again. So a query that runs never
// waits for another one. If all the memory is not enough, the error says so.
//
// What earlier calls of the same request left for the answer is not counted while it
// waits.
func (m *Memory) Within(ctx context.Context, fn func(h *Reservation) error) error {
	h, _ := ctx.Value(reservationKey{}).(*Reservation)
	if h == nil {
		h = &Reservation{}
		defer func() { h.shrink(0) }()
	}
	h.of = m
	before := h.used
	defer func() { h.shrink(min(before+h.kept, h.reserved)) }()
	want := min(before+firstBytes, h.of.max)
	for {
		if h.kept = 0; before == 0 || h.Expect(want-before) != nil {
			h.shrink(0)
			if err := h.of.begin(ctx, want); err != nil {
				m.refused()
				return err
			}
			h.reserved, h.used = want, before
		}
		err := fn(h)
		var short *shortError
		if !errors.As(err, &short) {
			return err
		}
		h.kept = 0
		if short.need > h.of.max {
			m.refused()
			return fmt.Errorf("%w: the query needs more than %d bytes of memory (limits.max_query_bytes); choose a shorter range or fewer services", storeerr.ErrLimit, h.of.max)
		}
		h.used = before
		want = min(max(2*want, short.need+short.need/8), h.of.max)
	}
}
