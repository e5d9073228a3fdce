package query

import (
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/calltree"
	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/symdb"
)

// What a query is going to need is estimated from its plan, and reserved before it
// reads anything.

// partSize estimates how much a partition holds: it is known of those in the cache. Of
// others the last segment says where it begins, and each of its nodes has two bytes at
// least.
func (q *Engine) partSize(epoch, id uint32) (size symdb.Size) {
	if e := q.Cache.Peek(budget.Key{Epoch: epoch, Partition: id}); e != nil {
		defer q.Cache.Release(e)
		v := e.Value.(*epochs.Partition).View()
		return symdb.SizeOf(&v)
	}
	prefix := layout.SegmentPrefix(epoch, id)
	it, err := q.KV.Pebble.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: layout.After(prefix)})
	if err != nil {
		return size
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.Last() || len(it.Key()) != len(prefix)+4 {
		return size
	}
	size.Nodes = int64(binary.BigEndian.Uint32(it.Key()[len(prefix):]))
	if value, err := it.ValueAndErr(); err == nil {
		r := bitpack.Decoder{Data: value}
		size.Strings = int64(min(r.Uvarint("strings"), 1<<32)) + int64(len(value))/16
		size.Nodes += int64(len(value)) / 2
	}
	size.Calls = size.Nodes
	return size
}

// answerNodes is how many nodes the answer of a query has, 0 for all, and whether it
// is cut by functions.
type answerNodes struct {
	most      int64
	functions bool
}

// nodeBytes is what a node of a tree takes in an answer: the node, its level of a flame
// graph, a share of the names, and the encoding.
const nodeBytes = 40 + 64 + 40 + 40

// expectTree is the memory that flame graphs of some jobs take: the values of every
// partition, or once those of a service of several epochs.
func (q *Engine) expectTree(jobs []*Job, sums []*calltree.ServiceSum, sides int, answer answerNodes) int64 {
	total, calls, largest := int64(0), int64(0), int64(0)
	tries := map[*calltree.ServiceSum]symdb.Size{}
	for i, j := range jobs {
		size := q.partSize(j.Epoch, j.partition)
		perNode := int64(0)
		if sum := sums[i]; sum != nil {
			of := tries[sum]
			of.Calls, of.Strings = max(of.Calls, size.Calls), max(of.Strings, size.Strings)
			tries[sum] = of
			perNode = bytesPerSum
		} else {
			total += calltree.SizeOf(size, sides)
			calls += size.Calls
		}
		if len(j.senders) > 0 {
			perNode += stateBytesPerSum
		}
		largest = max(largest, size.Nodes*perNode)
	}
	for sum, size := range tries {
		// Days have much in common, and some of their own.
		size.Calls = max(size.Calls+size.Calls/2, int64(sum.Value.Calls()))
		total += calltree.SizeOf(size, sides) + size.Calls*8*int64(sides)
		calls += size.Calls
	}
	if answer.functions && len(jobs) > 1 {
		total *= 2 // for the sum of all partials
	}
	if answer.most > 0 {
		calls = min(calls, answer.most)
	}
	return total + calls*nodeBytes + largest*int64(min(q.workers(), max(len(jobs), 1)))
}

// expectPprof is the memory that an export of some jobs takes: the sums and the partitions
// that are at work, the samples with their stacktraces, and the file.
func (q *Engine) expectPprof(jobs []*Job) (total int64) {
	const (
		perNode = 80 // of the result and the file: not every node is a sample's
		perWork = bytesPerSum + stateBytesPerSum + 12 + 20
	)
	largest := int64(0)
	for _, j := range jobs {
		size := q.partSize(j.Epoch, j.partition)
		total += size.Nodes*perNode + size.Strings*40
		largest = max(largest, size.Nodes*perWork)
	}
	return total + largest*int64(min(q.workers(), max(len(jobs), 1)))
}

// expectValues is the memory that the values of some jobs take. The plan does not know
// how many profiles a stream has, but in which five minutes it has some.
func (q *Engine) expectValues(jobs []*Job, r *ValuesRequest) (total int64) {
	const perSlot = 30 // profiles of ten seconds
	lo, hi := max(r.Start, 0), r.End
	slots := int64(0)
	for _, j := range jobs {
		base := layout.EpochStart(j.Epoch)
		first, last := (max(lo-base, 0))/layout.SlotMs, (min(hi-base, layout.DayMs))/layout.SlotMs
		for i := range j.Streams {
			s := &j.Streams[i].span
			slots += max(min(int64(s.Last), last)-max(int64(s.First), first)+1, 0)
		}
	}
	return min(slots*perSlot, maxValues) * ValueBytes * 2
}

// expectPoints is the memory that points take beside their groups: what states need to
// be added up, and the answer.
func (q *Engine) expectPoints(jobs []*Job, gs *groups) (total int64) {
	if !gs.request.Type.Cumulative() {
		for _, j := range jobs {
			total += int64(len(j.Streams)) * senderBytes
		}
		total += int64(gs.steps) * (8 + statePointBytes*int64(min(q.workers(), max(len(jobs), 1))))
	}
	return total + int64(len(gs.by)*gs.lines*gs.steps)*encodedPointBytes
}
