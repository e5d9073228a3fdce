// Package budget bounds memory: what queries reserve, and what a cache keeps.
package budget

import (
	"container/list"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A Cache holds decoded epochs, tables, partitions and tries of services, and forgets those that were not
// used for longest while they are more than max bytes together. What is in use
// stays. It is safe for concurrent use.
type Cache struct {
	mu      sync.Mutex
	max     int64
	used    int64
	entries map[Key]*Entry
	idle    *list.List // of *entry without users, the latest used first

	Hits, Misses, Evictions atomic.Int64
}

// A Key names an item: an epoch, one of its partitions, or a service over all epochs.
type Key struct {
	Epoch       uint32
	Partition   uint32 // EpochItself for the epoch's state, those below it for its tables
	ServiceTrie string // a service and a zero byte, for its trie over all epochs
}

// EpochItself in place of a partition's number names the epoch.
const EpochItself = 1<<32 - 1

// An Item value knows its size in bytes.
type Item interface{ Size() int64 }

// An Entry is an item in the cache, or one that is being loaded.
type Entry struct {
	key   Key
	once  sync.Once
	Value Item
	err   error

	users   int
	bytes   int64
	element *list.Element
	gone    bool // dropped while in use
}

// NewCache returns a cache that keeps items of max bytes together, more only while they
// are in use.
func NewCache(max int64) *Cache {
	return &Cache{max: max, entries: map[Key]*Entry{}, idle: list.New()}
}

// Acquire returns a value, which it loads if need be, once for all callers. The
// caller releases the entry, also when it has an error.
func (c *Cache) Acquire(key Key, load func() (Item, error)) *Entry {
	c.mu.Lock()
	e := c.entries[key]
	if e == nil {
		e = &Entry{key: key}
		c.entries[key] = e
		c.Misses.Add(1)
	} else {
		c.Hits.Add(1)
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
			c.Release(e)
		}
	}()
	e.once.Do(func() {
		e.err = storeerr.ErrInternal // of a load that panics
		e.Value, e.err = load()
	})
	loaded = true
	return e
}

// Release ends a use. Values may have grown meanwhile.
func (c *Cache) Release(e *Entry) {
	var bytes int64
	if e.err == nil {
		bytes = e.Value.Size()
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
		c.Evictions.Add(1)
		c.remove(c.idle.Back().Value.(*Entry))
	}
}

func (c *Cache) remove(e *Entry) {
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

// Forget drops a value, so that the next use loads it again.
func (c *Cache) Forget(key Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil {
		c.remove(e)
	}
}

// Drop forgets everything of an epoch, and all tries of services, which may have grown by
// it. Who uses it now may go on doing so.
func (c *Cache) Drop(epoch uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.entries {
		if k.Epoch == epoch || k.ServiceTrie != "" {
			c.remove(e)
		}
	}
}

// Bytes is the size of all items.
func (c *Cache) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// Peek is acquire for a value that is in the cache.
func (c *Cache) Peek(key Key) *Entry {
	c.mu.Lock()
	e := c.entries[key]
	c.mu.Unlock()
	if e == nil {
		return nil
	}
	e = c.Acquire(key, func() (Item, error) { return nil, errors.New("not in the cache") })
	if e.err != nil {
		c.Release(e)
		return nil
	}
	return e
}

// A Ref is a cached value in use.
type Ref[T Item] struct {
	Value T
	entry *Entry
	cache *Cache
}

// Release ends the use of the item, which may then leave the cache.
func (u Ref[T]) Release() {
	if u.cache != nil { // else it is the caller's alone
		u.cache.Release(u.entry)
	}
}

// Acquire returns the item of a key, which it loads if the cache does not have it.
func Acquire[T Item](c *Cache, key Key, load func() (Item, error)) (Ref[T], error) {
	e := c.Acquire(key, load)
	if e.err != nil {
		c.Release(e)
		return Ref[T]{}, e.err
	}
	return Ref[T]{e.Value.(T), e, c}, nil
}
