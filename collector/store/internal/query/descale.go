package query

import (
	"errors"

	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/pkg/profile"
)

// stateScale is what means of states are multiplied by before they are rounded to
// whole numbers, until all days and services of an answer are added up. A goroutine
// that is there in a month is a thirtieth of one in each of its days: rounded by day it
// would not be there at all, or be counted for another one.
const stateScale = 1 << 16

// scaled runs fn, which adds up states with a scale. If they add up to too much with
// it, fn runs again without.
func scaled(fn func(scale int64) error) error {
	err := fn(stateScale)
	if errors.Is(err, storeerr.ErrOverflow) {
		err = fn(1)
	}
	return err
}

// A descaler divides numbers by a scale. What is lost or gained by rounding one is
// taken into account in the next, so that the sum of several in a row is right, but
// for less than one.
type descaler struct{ scale, carry int64 }

func (d *descaler) of(x int64) int64 {
	rounded, rest := x/d.scale, x%d.scale+d.carry
	for rest >= (d.scale+1)/2 {
		rounded, rest = rounded+1, rest-d.scale
	}
	d.carry = rest
	return rounded
}

// descale divides the values of a tree by the scale of each side, and takes out nodes
// that are less than half of one then. Nodes are rounded in the order of their
// stacktraces, so that totals are right too, but for less than one.
func descale(t *profile.DiffTree, scales [2]int64) {
	if scales == [2]int64{1, 1} {
		return
	}
	left, right := descaler{scale: scales[0]}, descaler{scale: scales[1]}
	for _, i := range inDepth(t.Nodes) {
		n := &t.Nodes[i]
		n.Self, n.SelfRight = left.of(n.Self), right.of(n.SelfRight)
		n.Total, n.TotalRight = n.Self, n.SelfRight
	}
	for i := len(t.Nodes) - 1; i > 0; i-- {
		n, up := &t.Nodes[i], &t.Nodes[t.Nodes[i].Parent]
		up.Total += n.Total
		up.TotalRight += n.TotalRight
	}
	kept, at := t.Nodes[:0], make([]int32, len(t.Nodes))
	for i, n := range t.Nodes {
		if i > 0 && n.Total == 0 && n.TotalRight == 0 {
			continue
		}
		if i > 0 {
			n.Parent = at[n.Parent]
		}
		at[i] = int32(len(kept))
		kept = append(kept, n)
	}
	t.Nodes = kept
}

// inDepth lists nodes, of which parents have the lower numbers, depth first.
func inDepth(nodes []profile.DiffNode) []int32 {
	n := len(nodes)
	first, next := make([]int32, n), make([]int32, n) // child and sibling, 0 for none
	for i := n - 1; i > 0; i-- {
		p := nodes[i].Parent
		next[i], first[p] = first[p], int32(i)
	}
	order := make([]int32, 0, n)
	for at := int32(0); len(order) < n; {
		order = append(order, at)
		switch {
		case first[at] != 0:
			at = first[at]
		default:
			for at != 0 && next[at] == 0 {
				at = nodes[at].Parent
			}
			at = next[at]
		}
	}
	return order
}
