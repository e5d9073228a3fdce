package query

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/calltree"
	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/symdb"
)

// What a query is going to need is estimated from its plan, and reserved before it
// reads anything.

// expectNodes estimates the nodes of the partitions of some jobs: of the largest epoch,
// as days have most of their stacktraces in common, and of the largest partition.
func (q *Engine) expectNodes(jobs []*Job) (total, largest int64) {
	epoch := int64(0)
	for i, j := range jobs {
		if i > 0 && jobs[i-1].Epoch != j.Epoch {
			epoch = 0
		}
		n := q.partitionNodes(j.Epoch, j.partition)
		epoch += n
		total, largest = max(total, epoch), max(largest, n)
	}
	return total, largest * int64(min(q.workers(), max(len(jobs), 1)))
}

// partitionNodes estimates the nodes of a partition: they are known of those in the
// cache. Of others the last segment says where it begins, and each of its nodes has two
// bytes at least.
func (q *Engine) partitionNodes(epoch, id uint32) int64 {
	if e := q.Cache.Peek(budget.Key{Epoch: epoch, Partition: id}); e != nil {
		defer q.Cache.Release(e)
		return int64(len(e.Value.(*epochs.Partition).View().Nodes))
	}
	first, bytes, err := lastSegment(q.KV.Pebble, epoch, id)
	if err != nil {
		return 0
	}
	return int64(first) + int64(bytes/2)
}

// lastSegment returns the first node of a partition's last segment, which grows with the
// partition, and the segment's length in bytes. Both are 0 if there is none.
func lastSegment(from interface {
	NewIter(*pebble.IterOptions) (*pebble.Iterator, error)
}, epoch, id uint32) (first uint32, bytes int, err error) {
	prefix := layout.SegmentPrefix(epoch, id)
	it, err := from.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: layout.After(prefix)})
	if err != nil {
		return 0, 0, err
	}
	if it.Last() && len(it.Key()) == len(prefix)+4 {
		lazy := it.LazyValue()
		first, bytes = binary.BigEndian.Uint32(it.Key()[len(prefix):]), lazy.Len()
	}
	return first, bytes, it.Close()
}

// answerNodes is how many nodes the answer of a query has, 0 for all, whether it is cut
// by functions, and whether the root counts as one of them.
type answerNodes struct {
	most            int64
	functions, root bool
}

// nodeBytes is what a node of a tree takes in an answer: the node, its level of a flame
// graph, a share of the names, and the encoding.
const nodeBytes = 40 + 64 + 40 + 40

// expectTree is the memory that flame graphs of some jobs take: the values of every
// partition, the sums of those at work, and the answer.
func (q *Engine) expectTree(jobs []*Job, sides int, answer answerNodes) int64 {
	nodes, work := q.expectNodes(jobs)
	total := calltree.SizeOf(symdb.Size{Nodes: nodes, Calls: nodes, Strings: nodes / 4}, sides)
	if answer.functions && len(jobs) > 1 {
		total *= 2 // for the sum of all partials
	}
	if answer.most > 0 {
		nodes = min(nodes, answer.most)
	}
	return total + nodes*nodeBytes + work*bytesPerSum
}

// expectPprof is the memory that an export of some jobs takes: the samples with their
// stacktraces and the file, and the sums and the partitions that are at work.
func (q *Engine) expectPprof(jobs []*Job) int64 {
	const (
		perNode = 100 // not every node is a sample's
		perWork = bytesPerSum + 12 + 20
	)
	nodes, work := q.expectNodes(jobs)
	return nodes*perNode + work*perWork
}
