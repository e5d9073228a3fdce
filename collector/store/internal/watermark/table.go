package watermark

import (
	"maps"
	"sync"
)

// A Table has the watermarks of a store's epochs. Its zero value has none. It is safe for
// concurrent use.
type Table struct {
	mu  sync.RWMutex
	all map[uint32]Hours // replaced, never changed
}

// Of is the watermark of an epoch.
func (t *Table) Of(epoch uint32) Hours {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.all[epoch]
}

// Set replaces the watermark of an epoch.
func (t *Table) Set(epoch uint32, h Hours) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := maps.Clone(t.all)
	if next == nil {
		next = map[uint32]Hours{}
	}
	if next[epoch] = h; h == (Hours{}) {
		delete(next, epoch)
	}
	t.all = next
}

// Snapshot returns the watermarks of all epochs, as they are while take runs.
func (t *Table) Snapshot(take func()) map[uint32]Hours {
	t.mu.RLock()
	defer t.mu.RUnlock()
	take()
	return t.all
}
