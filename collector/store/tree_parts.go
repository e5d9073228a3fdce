package store

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

// parts collect the values of partitions, in as much memory as there is: where
// it ends, those that are there are added up into one. They are safe for
// concurrent use.
type parts struct {
	hold  *budget.Reservation
	sides int

	mu        sync.Mutex
	list      []orderedPart
	collapsed bool       // list is one part that collapse made
	begun     int        // parts that are being filled
	ended     *sync.Cond // one of them is not any more
	total     [2]int64   // of all that were added
}

type orderedPart struct {
	order int
	*calltree.Values
}

func newParts(h *budget.Reservation, sides int) *parts {
	p := &parts{hold: h, sides: sides}
	p.ended = sync.NewCond(&p.mu)
	return p
}

// begin returns a part to be filled and then added, or dropped. Where there is no
// memory for it, parts that were added become one, and then it waits for those of the
// same query that are being filled, which have their memory.
func (p *parts) begin(v *symdb.View) (*calltree.Values, error) {
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
		case len(p.list) > 0 && !p.collapsed:
			if err := p.collapse(); err != nil {
				return nil, err
			}
		case p.begun > 0:
			p.ended.Wait()
		default:
			return nil, err
		}
	}
}

// collapse makes one part of all that were added. The caller holds the lock.
func (p *parts) collapse() error {
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
	p.list, p.collapsed = append(p.list, orderedPart{order, one}), true
	return nil
}

// add takes a part that was filled, which has its place among the others.
func (p *parts) add(order int, c *calltree.Values) error {
	for s, total := range c.Totals(0) {
		if !p.count(s, total) {
			p.drop(c)
			return storeerr.ErrOverflow
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list, p.collapsed = append(p.list, orderedPart{order, c}), false
	p.end()
	return nil
}

// count adds to the total of a side, and reports whether it is a number.
func (p *parts) count(side int, total int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total[side] += total
	return p.total[side] >= 0
}

// drop takes a part that is not to be added.
func (p *parts) drop(c *calltree.Values) {
	p.hold.Give(c.Bytes())
	c.Free()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
}

func (p *parts) end() {
	p.begun--
	p.ended.Broadcast()
}

// sorted are the parts in their order.
func (p *parts) sorted() []*calltree.Values {
	slices.SortFunc(p.list, func(a, b orderedPart) int { return cmp.Compare(a.order, b.order) })
	out := make([]*calltree.Values, len(p.list))
	for i, o := range p.list {
		out[i] = o.Values
	}
	return out
}

// tree is the tree of all parts, which are one afterwards if it is whole or cut by
// functions. With keepRoot the root counts as one of its nodes.
func (p *parts) tree(answer answerNodes, keepRoot bool) (*profile.DiffTree, error) {
	most := answer.most
	if most <= 0 {
		most = math.MaxInt64
	}
	if len(p.list) > 1 && (answer.functions || answer.most <= 0) {
		if err := p.collapse(); err != nil {
			return nil, err
		}
	}
	calls := most
	if keepRoot {
		calls--
	}
	if answer.functions && len(p.list) > 0 && calls > 0 {
		if cut, _ := profile.TruncateFunctions(callTree{p.list[0].Values}, calls); cut != nil {
			return cut, nil
		}
	}
	return calltree.TopN(p.sorted(), most, keepRoot), nil
}

// A callTree shows the calls of a part as a profile.CallTree.
type callTree struct{ *calltree.Values }

func (c callTree) Len() int { return len(c.Ranks) }
func (c callTree) Call(i int32) (caller, name int32) {
	k := c.View.Calls[i]
	return int32(k.Parent), int32(k.Name)
}
func (c callTree) Next(i int32) (callee, sibling int32) { return c.Ranks[i].Child, c.Ranks[i].Next }
func (c callTree) Self(i int32) [2]int64                { return c.Selves(i) }
func (c callTree) Total(i int32) [2]int64               { return c.Totals(i) }
func (c callTree) Names() []string                      { return c.View.Strings }

func (p *parts) free() {
	for _, c := range p.list {
		c.Free()
	}
	p.list = nil
}
