package forward

import (
	"slices"
	"sync"
)

// A queue holds the profiles that wait for the server, oldest first, within its
// bounds. A profile that is put in while it is queued already, as its ID says, is
// the same one.
type queue struct {
	maxProfiles int
	maxBytes    int64
	wake        chan struct{} // capacity 1; receives when something came

	mu     sync.Mutex
	closed bool
	items  []*item
	byID   map[key]*item
	bytes  int64
	// acknowledged counts items that got through.
	acknowledged uint64
}

// A key tells items apart: profiles of several types may share an ID.
type key struct{ id, labels string }

func (it *item) key() key { return key{it.id, it.labels} }

func newQueue(maxProfiles int, maxBytes int64) *queue {
	return &queue{maxProfiles: maxProfiles, maxBytes: maxBytes, wake: make(chan struct{}, 1), byID: map[key]*item{}}
}

// put adds items and returns how many had to go to make room: the oldest, of
// those that are not on their way.
func (q *queue) put(items []*item) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range items {
		if q.closed {
			it.tell(ErrDropped)
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
		i := slices.IndexFunc(q.items, func(it *item) bool { return !it.flying })
		if i < 0 {
			break // all of it is on its way
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

// drop ends an item, which the caller takes out of items.
func (q *queue) drop(it *item, outcome error) {
	it.gone = true
	delete(q.byID, it.key())
	q.bytes -= it.bytes
	it.tell(outcome)
}

// take returns the oldest items for a request, which are then on their way: up to
// limit of them, and no more than maxPlain bytes before compression, but at least
// one. It returns none if the queue is empty.
func (q *queue) take(limit int, maxPlain int64) []*item {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, plain := 0, int64(0)
	for n < min(limit, len(q.items)) && (n == 0 || plain+q.items[n].plain <= maxPlain) {
		plain += q.items[n].plain
		q.items[n].flying = true
		n++
	}
	return slices.Clone(q.items[:n])
}

// settle takes items out that the server acknowledged or, with an error, that it
// will never take.
func (q *queue) settle(batch []*item, outcome error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if outcome == nil {
		q.acknowledged += uint64(len(batch))
	}
	for _, it := range batch {
		it.flying = false
		q.drop(it, outcome)
	}
	q.items = slices.DeleteFunc(q.items, func(it *item) bool { return it.gone })
}

// keep leaves items in the queue, to be sent again.
func (q *queue) keep(batch []*item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range batch {
		it.flying = false
	}
}

// postpone leaves an item in the queue behind all others, so that these do not
// wait for one that may be at fault. It returns how often that was the case while
// others got through.
func (q *queue) postpone(it *item) (alone int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it.flying = false
	if it.alone == 0 || q.acknowledged > it.acknowledged {
		it.alone++
		it.acknowledged = q.acknowledged
	}
	if i := slices.Index(q.items, it); i >= 0 {
		q.items = append(slices.Delete(q.items, i, i+1), it)
	}
	return it.alone
}

// close drops what is left and returns how much that was.
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
