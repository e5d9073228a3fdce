package query

import (
	"cmp"
	"math"
	"slices"
	"sync"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/calltree"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/symdb"
	"github.com/flameline/flameline/pkg/profile"
)

// partials collect the values of partitions, each a partial of one, in as much memory as there is: where
// it ends, those that are there are merged into one. They are safe for
// concurrent use.
type partials struct {
	hold  *budget.Reservation
	sides int

	mu     sync.Mutex
	list   []orderedPartial
	merged bool       // list is one partial that mergeAll made
	begun  int        // partials that are being filled
	ended  *sync.Cond // one of them is not any more
	total  [2]int64   // of all that were added
	unit   int64      // what the values of all rows are multiples of, 0 for none
}

type orderedPartial struct {
	order int
	*calltree.Values
}

func newPartials(h *budget.Reservation, sides int) *partials {
	p := &partials{hold: h, sides: sides}
	p.ended = sync.NewCond(&p.mu)
	return p
}

// begin returns a partial to be filled and then added, or dropped. Where there is no
// memory for it, partials that were added become one, and then it waits for those of the
// same query that are being filled, which have their memory.
func (p *partials) begin(v *symdb.View) (*calltree.Values, error) {
	n := calltree.SizeOf(symdb.SizeOf(v), p.sides)
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		err := p.hold.Take(n)
		if err == nil {
			p.begun++
			return calltree.New(v, p.sides), nil
		}
		switch {
		case len(p.list) > 0 && !p.merged:
			if err := p.mergeAll(); err != nil {
				return nil, err
			}
		case p.begun > 0:
			p.ended.Wait()
		default:
			return nil, err
		}
	}
}

// mergeAll makes one partial of all that were added. The caller holds the lock.
func (p *partials) mergeAll() error {
	bytes, order := int64(0), p.list[0].order
	for _, o := range p.list {
		bytes += o.Bytes()
		order = min(order, o.order)
	}
	list := p.sorted()
	p.list = p.list[:0]
	one, err := calltree.Combine(list, p.sides)
	p.hold.Give(bytes)
	if err == nil {
		err = p.hold.Take(one.Bytes())
	}
	if err != nil {
		return err
	}
	p.list, p.merged = append(p.list, orderedPartial{order, one}), true
	return nil
}

// combine makes one call of those of a partial that have one caller and name. If it fails,
// the partial is dropped.
func (p *partials) combine(c *calltree.Values) (*calltree.Values, error) {
	bytes := c.Bytes()
	one, err := calltree.Combine([]*calltree.Values{c}, p.sides)
	p.hold.Give(bytes)
	if err == nil {
		err = p.hold.Take(one.Bytes())
	}
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.end()
		return nil, err
	}
	return one, nil
}

// add takes a partial that was filled, which has its place among the others.
func (p *partials) add(order int, c *calltree.Values) error {
	for s, total := range c.Totals(0) {
		if !p.count(s, total) {
			p.drop(c)
			return storeerr.ErrOverflow
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list, p.merged = append(p.list, orderedPartial{order, c}), false
	p.end()
	return nil
}

// units takes what the values of further rows are multiples of.
func (p *partials) units(unit int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unit = commonDivisor(p.unit, unit)
}

// count adds to the total of a side, and reports whether it is a number.
func (p *partials) count(side int, total int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total[side] += total
	return p.total[side] >= 0
}

// drop takes a partial that is not to be added.
func (p *partials) drop(c *calltree.Values) {
	p.hold.Give(c.Bytes())
	c.Free()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
}

func (p *partials) end() {
	p.begun--
	p.ended.Broadcast()
}

// sorted are the partials in their order.
func (p *partials) sorted() []*calltree.Values {
	slices.SortFunc(p.list, func(a, b orderedPartial) int { return cmp.Compare(a.order, b.order) })
	out := make([]*calltree.Values, len(p.list))
	for i, o := range p.list {
		out[i] = o.Values
	}
	return out
}

// tree is the tree of all partials, which are one afterwards if it is whole or cut by
// functions. With keepRoot the root counts as one of its nodes.
func (p *partials) tree(answer answerNodes, keepRoot bool) (*profile.DiffTree, error) {
	most := answer.most
	if most <= 0 {
		most = math.MaxInt64
	}
	if len(p.list) > 1 && (answer.functions || answer.most <= 0) {
		if err := p.mergeAll(); err != nil {
			return nil, err
		}
	}
	calls := most
	if keepRoot {
		calls--
	}
	if answer.functions && len(p.list) > 0 && calls > 0 {
		bytes := int64(len(p.list[0].View.Calls)) * profile.CutBytes
		if err := p.hold.Take(bytes); err != nil {
			return nil, err
		}
		cut := p.list[0].CutByFunctions(calls)
		p.hold.Give(bytes)
		if cut != nil {
			return cut, nil
		}
	}
	return calltree.TopN(p.sorted(), most, keepRoot), nil
}

func (p *partials) free() {
	for _, c := range p.list {
		c.Free()
	}
	p.list = nil
}
