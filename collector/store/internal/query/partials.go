package query

import (
	"cmp"
	"math"
	"slices"
	"sync"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/calltree"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
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

// add adds a partial whose values fill adds to it. renamed says that several calls of the
// view may be one.
func (p *partials) add(order int, v *symdb.View, renamed bool, fill func(c *calltree.Values) error) error {
	c, err := p.begin(v)
	if err != nil {
		return err
	}
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.begun--; c != nil {
			p.hold.Give(c.Bytes())
			c.Free()
		}
		p.ended.Broadcast()
	}()
	if err = fill(c); err == nil {
		err = c.Sum()
	}
	if err == nil && renamed {
		c, err = p.combine([]*calltree.Values{c})
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for side, total := range c.Totals(0) {
		if p.total[side] += total; p.total[side] < 0 {
			return storeerr.ErrOverflow
		}
	}
	p.list, p.merged = append(p.list, orderedPartial{order, c}), false
	c = nil
	return nil
}

// begin returns a partial to be filled. Where there is no memory for it, partials that
// were added become one, and then it waits for those of the same query that are being
// filled, which have their memory.
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
	list := p.sorted()
	order := p.list[0].order
	p.list = p.list[:0]
	one, err := p.combine(list)
	if err == nil {
		p.list, p.merged = append(p.list, orderedPartial{order, one}), true
	}
	return err
}

// combine makes one partial of several, or one call of those of a partial that have one
// caller and name. What it was given is freed, also if it fails.
func (p *partials) combine(list []*calltree.Values) (*calltree.Values, error) {
	bytes := int64(0)
	for _, c := range list {
		bytes += c.Bytes()
	}
	one, err := calltree.Combine(list, p.sides)
	p.hold.Give(bytes)
	if err == nil {
		err = p.hold.Take(one.Bytes())
	}
	if err != nil {
		return nil, err
	}
	return one, nil
}

// units takes what the values of further rows are multiples of.
func (p *partials) units(unit int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unit = rowcodec.CommonUnit(p.unit, unit)
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
// functions.
func (p *partials) tree(answer answerNodes) (*profile.DiffTree, error) {
	if len(p.list) > 1 && (answer.functions || answer.most <= 0) {
		if err := p.mergeAll(); err != nil {
			return nil, err
		}
	}
	calls := answer.most
	if answer.root {
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
	most := answer.most
	if most <= 0 {
		most = math.MaxInt64
	}
	return calltree.TopN(p.sorted(), most, answer.root), nil
}

func (p *partials) free() {
	for _, c := range p.list {
		c.Free()
	}
	p.list = nil
}
