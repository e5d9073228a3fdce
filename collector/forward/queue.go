package forward

import (
	"slices"
	"sync"
)

// A queue holds the profiles to send, oldest first, within its bounds. A profile whose
// ID is queued already is not queued again.
type queue struct {
	maxProfiles int
	maxBytes    int64
	wake        chan struct{} // capacity 1; receives when a profile was added

	mu     sync.Mutex
	closed bool
	items  []*item
	byID   map[key]*item
	bytes  int64
	// acknowledged counts the items that the server has acknowledged.
	acknowledged uint64
}

// A key identifies an item: profiles of several types may share an ID.
type key struct{ id, labels string }

func (it *item) key() key { return key{it.id, it.labels} }

func newQueue(maxProfiles int, maxBytes int64) *queue {
	return &queue{maxProfiles: maxProfiles, maxBytes: maxBytes, wake: make(chan struct{}, 1), byID: map[key]*item{}}
}

// put adds items and returns how many were dropped to make room: the oldest that are not
// in flight.
func (q *queue) put(items []*item) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range items {
		if q.closed {
			it.finish(ErrDropped)
			dropped++
			continue
		}
		if known := q.byID[it.key()]; known != nil {
			known.waiting = append(known.waiting, it.waiting...)
			continue
		}
		q.items = append(q.items, it)
		q.byID[it.key()] = it
		q.bytes += it.bytes
	}
	for len(q.items) > q.maxProfiles || q.bytes > q.maxBytes {
		i := slices.IndexFunc(q.items, func(it *item) bool { return !it.inFlight })
		if i < 0 {
			break // all items are in flight
		}
		q.drop(q.items[i], ErrDropped)
		q.items = slices.Delete(q.items, i, i+1)
		dropped++
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return dropped
}

// drop removes an item with an outcome, except from the slice items, which is left to
// the caller.
func (q *queue) drop(it *item, outcome error) {
	it.removed = true
	delete(q.byID, it.key())
	q.bytes -= it.bytes
	it.finish(outcome)
}

// take returns the oldest items for a request and marks them as in flight: up to limit
// items, and up to maxPlain bytes before compression, but at least one item. It returns
// none if the queue is empty.
func (q *queue) take(limit int, maxPlain int64) []*item {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, plain := 0, int64(0)
	for n < min(limit, len(q.items)) && (n == 0 || plain+q.items[n].plain <= maxPlain) {
		plain += q.items[n].plain
		q.items[n].inFlight = true
		n++
	}
	return slices.Clone(q.items[:n])
}

// settle removes items that the server acknowledged (outcome nil), or that are given up
// with an error.
func (q *queue) settle(batch []*item, outcome error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if outcome == nil {
		q.acknowledged += uint64(len(batch))
	}
	for _, it := range batch {
		it.inFlight = false
		q.drop(it, outcome)
	}
	q.items = slices.DeleteFunc(q.items, func(it *item) bool { return it.removed })
}

// keep marks items of a failed request as not in flight, so that they are sent again.
func (q *queue) keep(batch []*item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range batch {
		it.inFlight = false
	}
}

// postpone moves an item to the end of the queue, so that the others do not wait for one
// that may be refused. It returns item.alone.
func (q *queue) postpone(it *item) (alone int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it.inFlight = false
	if it.alone == 0 || q.acknowledged > it.acknowledged {
		it.alone++
		it.acknowledged = q.acknowledged
	}
	if i := slices.Index(q.items, it); i >= 0 {
		q.items = append(slices.Delete(q.items, i, i+1), it)
	}
	return it.alone
}

// close drops the remaining items and returns their number.
func (q *queue) close() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	n := len(q.items)
	for _, it := range q.items {
		q.drop(it, ErrDropped)
	}
	q.items = nil
	return n
}

// size returns the number of items and their bytes.
func (q *queue) size() (profiles int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items), q.bytes
}
