package query

import (
	"context"
	"math"
	"strconv"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/calltree"
	"github.com/flameline/flameline/collector/store/internal/corruption"
)

// serviceTrie returns that of a service, with the names that are known now.
func (q *Engine) serviceTrie(service string) (budget.Ref[*calltree.ServiceTrie], error) {
	return budget.Acquire[*calltree.ServiceTrie](q.Cache, budget.Key{ServiceTrie: service + "\x00" + strconv.FormatUint(q.generation(), 36)}, func() (budget.Item, error) { return calltree.NewServiceTrie(), nil })
}

// serviceSums finds the services that have jobs in several epochs. The result is
// by job; others have none. The caller calls free.
func (q *Engine) serviceSums(ctx context.Context, jobs []*Job) (by []*calltree.ServiceSum, free func(), err error) {
	by = make([]*calltree.ServiceSum, len(jobs))
	sums := map[string]*calltree.ServiceSum{}
	free = func() {
		for _, s := range sums {
			s.Release()
		}
	}
	if len(jobs) == 0 || jobs[0].Epoch == jobs[len(jobs)-1].Epoch {
		return by, free, nil
	}
	places := map[string][]int{}
	for i, j := range jobs {
		if err := ctx.Err(); err != nil {
			return nil, free, err
		}
		service, err := q.Epochs.ServiceOf(j.Epoch, j.partition)
		if err != nil {
			return nil, free, err
		}
		places[service] = append(places[service], i)
	}
	for service, at := range places {
		if len(at) < 2 {
			continue
		}
		l, err := q.serviceTrie(service)
		if err != nil {
			return nil, free, err
		}
		sums[service] = &calltree.ServiceSum{Ref: l, Order: at[0]}
		for _, i := range at {
			by[i] = sums[service]
		}
	}
	return by, free, nil
}

// callsOf returns the calls of a service's trie that the nodes of a partition belong to,
// as of the scanner's snapshot or later, and whether the partition is whole.
func (s *JobReader) callsOf(l *calltree.ServiceTrie, id uint32) (nodes []uint32, whole bool, err error) {
	last, _, err := lastSegment(s.From, s.Epoch, id)
	if corruption.Unreadable(err) {
		last, err = math.MaxUint32, nil // the partition is read without it, and does not grow
	}
	if err != nil {
		return nil, false, err
	}
	key := budget.Key{Epoch: s.Epoch, Partition: id}
	if nodes, whole := l.Has(key, last); nodes != nil {
		return nodes, whole, nil
	}
	err = s.open(id, func(d *dictionary) error {
		nodes, whole = l.Learn(key, &d.View, last, d.whole), d.whole
		return nil
	})
	return nodes, whole, err
}
