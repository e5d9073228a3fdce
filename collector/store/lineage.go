package store

import (
	"context"
	"encoding/binary"
	"math"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// A lineage is the function-level trie of a service over all epochs. Every epoch
// numbers the calls of its own trie; a lineage knows which of its own calls they
// are, so that days are added up in one array, and without their dictionaries.
// It is made as it is asked for, kept in the cache, and safe for concurrent use.
type lineage struct {
	mu    sync.Mutex
	view  view // strings, hashes and calls alone
	names map[uint64]uint32
	known pairs
	maps  map[cacheKey]*lineageMap
}

// A lineageMap says which calls of a lineage the nodes of a partition belong to.
// It only grows, so what was handed out stays right.
type lineageMap struct {
	last   uint32   // first node of the partition's last segment: a stamp
	whole  bool     // nothing of the partition is missing
	callTo []uint32 // call of the partition to call of the lineage
	nodeTo []uint32
}

func newLineage() *lineage {
	return &lineage{
		view:  view{strings: []string{""}, hashes: []uint64{hashText("")}, calls: make([]call, 1)},
		names: map[uint64]uint32{hashText(""): 0},
		maps:  map[cacheKey]*lineageMap{},
	}
}

func (l *lineage) size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int64(len(l.view.strings))*96 + int64(len(l.view.calls))*8 + l.known.bytes()
	for _, m := range l.maps {
		n += int64(cap(m.callTo)+cap(m.nodeTo)) * 4
	}
	return n
}

// now is the view as it is, to read without a lock.
func (l *lineage) now() *view {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.view
	return &v
}

// calls is how many calls the lineage has.
func (l *lineage) calls() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.view.calls)
}

// has returns the calls of a partition's nodes, if it knows all of them, and
// whether the partition is whole.
func (l *lineage) has(key cacheKey, last uint32) (nodes []uint32, whole bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.maps[key]; m != nil && m.last >= last {
		return m.nodeTo, m.whole
	}
	return nil, false
}

// learn adds what a partition has beyond what is known of it.
func (l *lineage) learn(key cacheKey, v *view, last uint32, whole bool) []uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.maps[key]
	if m == nil {
		m = &lineageMap{}
		l.maps[key] = m
	}
	for _, c := range v.calls[min(len(m.callTo), len(v.calls)):] {
		if len(m.callTo) == 0 { // the root
			m.callTo = append(m.callTo, 0)
			continue
		}
		m.callTo = append(m.callTo, l.call(m.callTo[c.parent], v.strings[c.name], v.hashes[c.name]))
	}
	for _, c := range v.callOf[min(len(m.nodeTo), len(v.callOf)):] {
		m.nodeTo = append(m.nodeTo, m.callTo[c])
	}
	m.last, m.whole = max(m.last, last), whole
	return m.nodeTo
}

func (l *lineage) call(parent uint32, text string, hash uint64) uint32 {
	name, ok := l.names[hash]
	if !ok {
		name = uint32(len(l.view.strings))
		l.names[hash] = name
		l.view.strings, l.view.hashes = append(l.view.strings, text), append(l.view.hashes, hash)
	}
	at, ok := l.known.get(parent, name)
	if !ok {
		at = uint32(len(l.view.calls))
		l.known.put(parent, name, at)
		l.view.calls = append(l.view.calls, call{parent, name})
	}
	return at
}

// lineage returns that of a service.
func (db *DB) lineage(service string) (use[*lineage], error) {
	return acquire[*lineage](db.cache, cacheKey{lineageOf: service + "\x00"}, func() (cached, error) { return newLineage(), nil })
}

// nodesOf returns the calls of a lineage that the nodes of a partition belong to,
// as of the scanner's snapshot or later, and whether the partition is whole.
func (s *scanner) nodesOf(l *lineage, id uint32) (nodes []uint32, whole bool, err error) {
	last, err := s.lastSegment(id)
	if err != nil {
		return nil, false, err
	}
	key := cacheKey{epoch: s.epoch, partition: id}
	if nodes, whole := l.has(key, last); nodes != nil {
		return nodes, whole, nil
	}
	part, err := s.partition(id)
	if err != nil {
		return nil, false, err
	}
	defer part.release()
	v := part.value.view()
	whole = part.value.damage == nil
	return l.learn(key, &v, last, whole), whole, nil
}

// lastSegment is the first node of a partition's last segment. It grows with the
// partition.
func (s *scanner) lastSegment(id uint32) (first uint32, err error) {
	prefix := segmentPrefix(s.epoch, id)
	it, err := s.from.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return 0, err
	}
	if it.Last() && len(it.Key()) == len(prefix)+4 {
		first = binary.BigEndian.Uint32(it.Key()[len(prefix):])
	}
	if err = it.Close(); err != nil && unreadable(err) {
		return math.MaxUint32, nil // the partition is read without it, and does not grow
	}
	return first, err
}

// serviceOf is the service of a partition, "" if it has no name.
func (db *DB) serviceOf(epoch, partition uint32) (string, error) {
	e, err := db.epoch(epoch)
	if err != nil {
		return "", err
	}
	defer e.release()
	e.value.mu.RLock()
	defer e.value.mu.RUnlock()
	return e.value.services[partition], nil
}

// A lineageSum adds up the values of a service over several epochs. It is safe
// for concurrent use.
type lineageSum struct {
	use[*lineage]
	order int // of the first of its jobs

	mu   sync.Mutex
	self [2][]int64 // by side and call of the lineage; uncounted if too large
}

// lineageSums finds the services that have jobs in several epochs. The result is
// by job; others have none. The caller calls free.
func (db *DB) lineageSums(ctx context.Context, jobs []*job) (by []*lineageSum, free func(), err error) {
	by = make([]*lineageSum, len(jobs))
	sums := map[string]*lineageSum{}
	free = func() {
		for _, s := range sums {
			s.release()
		}
	}
	if len(jobs) == 0 || jobs[0].epoch == jobs[len(jobs)-1].epoch {
		return by, free, nil
	}
	places := map[string][]int{}
	for i, j := range jobs {
		if err := ctx.Err(); err != nil {
			return nil, free, err
		}
		service, err := db.serviceOf(j.epoch, j.partition)
		if err != nil {
			return nil, free, err
		}
		places[service] = append(places[service], i)
	}
	for service, at := range places {
		if len(at) < 2 {
			continue
		}
		l, err := db.lineage(service)
		if err != nil {
			return nil, free, err
		}
		sums[service] = &lineageSum{use: l, order: at[0]}
		for _, i := range at {
			by[i] = sums[service]
		}
	}
	return by, free, nil
}

// add adds the values of a partition's nodes.
func (l *lineageSum) add(h *hold, side int, nodeTo []uint32, values []int64) error {
	calls := l.value.calls()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := calls - len(l.self[side]); n > 0 {
		if err := h.take(int64(n) * 8); err != nil {
			return err
		}
		l.self[side] = append(l.self[side], make([]int64, n)...)
	}
	self := l.self[side]
	for n, x := range values {
		if x != 0 {
			self[nodeTo[n]] = addTotals(self[nodeTo[n]], x)
		}
	}
	return nil
}
