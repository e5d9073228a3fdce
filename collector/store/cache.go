package store

import (
	"container/list"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A cache holds decoded epochs, tables, partitions and lineages, and forgets those that were not
// used for longest while they are more than max bytes together. What is in use
// stays. It is safe for concurrent use.
type cache struct {
	mu      sync.Mutex
	max     int64
	used    int64
	entries map[cacheKey]*entry
	idle    *list.List // of *entry without users, the latest used first

	hits, misses, evictions atomic.Int64
}

type cacheKey struct {
	epoch     uint32
	partition uint32 // epochItself for the epoch's state, those below it for its tables
	lineageOf string // a service and a zero byte, for its lineage over all epochs
}

const epochItself = 1<<32 - 1

// A cached value knows its size in bytes.
type cached interface{ size() int64 }

type entry struct {
	key   cacheKey
	once  sync.Once
	value cached
	err   error

	users   int
	bytes   int64
	element *list.Element
	gone    bool // dropped while in use
}

func newCache(max int64) *cache {
	return &cache{max: max, entries: map[cacheKey]*entry{}, idle: list.New()}
}

// acquire returns a value, which it loads if need be, once for all callers. The
// caller releases the entry, also when it has an error.
func (c *cache) acquire(key cacheKey, load func() (cached, error)) *entry {
	c.mu.Lock()
	e := c.entries[key]
	if e == nil {
		e = &entry{key: key}
		c.entries[key] = e
		c.misses.Add(1)
	} else {
		c.hits.Add(1)
	}
	e.users++
	if e.element != nil {
		c.idle.Remove(e.element)
		e.element = nil
	}
	c.mu.Unlock()
	loaded := false
	defer func() {
		if !loaded { // it panicked; the caller does not get to release the entry
			c.release(e)
		}
	}()
	e.once.Do(func() {
		e.err = storeerr.ErrInternal // of a load that panics
		e.value, e.err = load()
	})
	loaded = true
	return e
}

// release ends a use. Values may have grown meanwhile.
func (c *cache) release(e *entry) {
	var bytes int64
	if e.err == nil {
		bytes = e.value.size()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !e.gone {
		c.used += bytes - e.bytes
		e.bytes = bytes
	}
	if e.users--; e.users > 0 {
		return
	}
	if e.err != nil {
		c.remove(e)
		return
	}
	if !e.gone {
		e.element = c.idle.PushFront(e)
	}
	for c.used > c.max && c.idle.Len() > 0 {
		c.evictions.Add(1)
		c.remove(c.idle.Back().Value.(*entry))
	}
}

func (c *cache) remove(e *entry) {
	if e.gone {
		return
	}
	e.gone = true
	if e.element != nil {
		c.idle.Remove(e.element)
		e.element = nil
	}
	c.used -= e.bytes
	e.bytes = 0
	delete(c.entries, e.key)
}

// forget drops a value, so that the next use loads it again.
func (c *cache) forget(key cacheKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil {
		c.remove(e)
	}
}

// drop forgets everything of an epoch, and all lineages, which may have grown by
// it. Who uses it now may go on doing so.
func (c *cache) drop(epoch uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.entries {
		if k.epoch == epoch || k.lineageOf != "" {
			c.remove(e)
		}
	}
}

func (c *cache) bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// peek is acquire for a value that is in the cache.
func (c *cache) peek(key cacheKey) *entry {
	c.mu.Lock()
	e := c.entries[key]
	c.mu.Unlock()
	if e == nil {
		return nil
	}
	e = c.acquire(key, func() (cached, error) { return nil, errors.New("not in the cache") })
	if e.err != nil {
		c.release(e)
		return nil
	}
	return e
}

// A use is a cached value in use.
type use[T cached] struct {
	value T
	entry *entry
	cache *cache
}

func (u use[T]) release() {
	if u.cache != nil { // else it is the caller's alone
		u.cache.release(u.entry)
	}
}

func acquire[T cached](c *cache, key cacheKey, load func() (cached, error)) (use[T], error) {
	e := c.acquire(key, load)
	if e.err != nil {
		c.release(e)
		return use[T]{}, e.err
	}
	return use[T]{e.value.(T), e, c}, nil
}
