package store

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
)

// A profile with an ID that its stream has already is a duplicate: a push that
// was sent again, since its answer was lost. The first one stays.
//
// Two pushes of the same profile may run at the same time. So a call to Append
// claims its IDs, for as long as it runs; another one that has the same ID waits,
// and then finds it stored, or not, if the first call failed.

// retryMs is how long after the start of a day IDs of the day before count.
const retryMs = layout.HourMs

// An idClaim is an ID of a stream, whichever the epoch.
type idClaim struct{ stream, id uint64 }

// claims are the IDs that running appends have. The zero value is ready.
type claims struct {
	mu sync.Mutex
	by map[idClaim]chan struct{} // closed when the claim ends
}

// take claims all IDs, and returns what ends the claims. Calls claim in the same
// order, so none waits for one that waits for it. The list is sorted and has none
// twice.
func (c *claims) take(ctx context.Context, list []idClaim) (end func(), err error) {
	done := make(chan struct{})
	end = func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, id := range list {
			if c.by[id] == done {
				delete(c.by, id)
			}
		}
		close(done)
	}
	for i := 0; i < len(list); {
		c.mu.Lock()
		if c.by == nil {
			c.by = map[idClaim]chan struct{}{}
		}
		other := c.by[list[i]]
		if other == nil {
			c.by[list[i]] = done
			i++
		}
		c.mu.Unlock()
		if other == nil {
			continue
		}
		select {
		case <-other:
		case <-ctx.Done():
			end()
			return nil, ctx.Err()
		}
	}
	return end, nil
}

// claim claims the IDs of the pieces of a call, and marks those that the call has
// more than once.
func (a *appender) claim(ctx context.Context, pieces []piece) (end func(), err error) {
	var list []idClaim
	seen := map[idClaim]bool{}
	var key []byte
	for i := range pieces {
		p := &pieces[i]
		if !p.identified {
			continue
		}
		key = p.def.Append(key[:0])
		id := idClaim{xxhash.Sum64(key), p.id}
		if p.duplicate = seen[id]; !p.duplicate {
			seen[id] = true
			list = append(list, id)
		}
	}
	if len(list) == 0 {
		return func() {}, nil
	}
	slices.SortFunc(list, func(a, b idClaim) int { return cmp.Or(cmp.Compare(a.stream, b.stream), cmp.Compare(a.id, b.id)) })
	return a.claims.take(ctx, list)
}

// stored reports whether a stream has a piece's ID already, or had it on the day
// before if that ended a moment ago: the server stamps profiles without a time, so
// one that is sent again may come a day later.
func (a *appender) stored(e *epochs.Epoch, s *labelindex.Stream, p *piece) (bool, error) {
	found, err := a.kv.Has(layout.IDKey(e.ID, s.ID, p.id))
	if found || err != nil || p.time-layout.EpochStart(e.ID) > retryMs || !a.epochs.Has(e.ID-1) {
		return found, err
	}
	u, err := a.epochs.Acquire(e.ID - 1)
	if err != nil {
		return false, err
	}
	defer u.Release()
	before, err := u.Value.LookFor(&p.def)
	if before == nil || err != nil {
		return false, err
	}
	return a.kv.Has(layout.IDKey(e.ID-1, before.ID, p.id))
}
