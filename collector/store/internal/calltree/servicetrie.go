// Package calltree adds up values by call: of one partition, of several (Combine), or of a
// service over all epochs (ServiceTrie), and takes the largest calls out of them (TopN).
package calltree

import (
	"sync"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/symdb"
)

// A ServiceTrie is the function-level trie of a service over all epochs. Every epoch
// numbers the calls of its own trie; this one knows which of its own calls they
// are, so that days are added up in one array, and without their dictionaries.
// It is made as it is asked for, kept in the cache, and safe for concurrent use.
type ServiceTrie struct {
	mu         sync.Mutex
	dict       *symdb.Dictionary // strings and calls alone
	numberings map[budget.Key]*numbering
}

// A numbering says which calls of a ServiceTrie the nodes of a partition belong to.
// It only grows, so what was handed out stays right.
type numbering struct {
	last   uint32   // first node of the partition's last segment: a stamp
	whole  bool     // nothing of the partition is missing
	callTo []uint32 // call of the partition to call of the trie
	nodeTo []uint32
}

// NewServiceTrie returns a trie that has the root alone.
func NewServiceTrie() *ServiceTrie {
	return &ServiceTrie{dict: symdb.NewDictionary(), numberings: map[budget.Key]*numbering{}}
}

// Size is the trie's memory in bytes.
func (t *ServiceTrie) Size() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.dict.Bytes()
	for _, m := range t.numberings {
		n += int64(cap(m.callTo)+cap(m.nodeTo)) * 4
	}
	return n
}

// View is the view as it is, to read without a lock.
func (t *ServiceTrie) View() *symdb.View {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.dict.View
	return &v
}

// Calls is how many calls the trie has.
func (t *ServiceTrie) Calls() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.dict.Calls)
}

// Has returns the calls of a partition's nodes, if it knows all of them, and
// whether the partition is whole.
func (t *ServiceTrie) Has(key budget.Key, last uint32) (nodes []uint32, whole bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.numberings[key]; m != nil && m.last >= last {
		return m.nodeTo, m.whole
	}
	return nil, false
}

// Learn adds what a partition has beyond what is known of it.
func (t *ServiceTrie) Learn(key budget.Key, v *symdb.View, last uint32, whole bool) []uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.numberings[key]
	if m == nil {
		m = &numbering{}
		t.numberings[key] = m
	}
	for _, c := range v.Calls[min(len(m.callTo), len(v.Calls)):] {
		if len(m.callTo) == 0 { // the root
			m.callTo = append(m.callTo, 0)
			continue
		}
		m.callTo = append(m.callTo, t.dict.AddCall(m.callTo[c.Parent], t.dict.AddHashed(v.Strings[c.Name], v.Hashes[c.Name])))
	}
	for _, c := range v.CallOf[min(len(m.nodeTo), len(v.CallOf)):] {
		m.nodeTo = append(m.nodeTo, m.callTo[c])
	}
	m.last, m.whole = max(m.last, last), whole
	return m.nodeTo
}

// A ServiceSum adds up the values of a service over several epochs. It is safe
// for concurrent use.
type ServiceSum struct {
	budget.Ref[*ServiceTrie]
	Order int // of the first of its jobs

	mu   sync.Mutex
	Self [2][]int64 // by side and call of the trie; bitpack.Overflowed if too large
}

// Add adds the values of a partition's nodes.
func (s *ServiceSum) Add(h *budget.Reservation, side int, nodeTo []uint32, values []int64) error {
	calls := s.Value.Calls()
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := calls - len(s.Self[side]); n > 0 {
		if err := h.Take(int64(n) * 8); err != nil {
			return err
		}
		s.Self[side] = append(s.Self[side], make([]int64, n)...)
	}
	self := s.Self[side]
	for n, x := range values {
		if x != 0 {
			self[nodeTo[n]] = bitpack.AddTotals(self[nodeTo[n]], x)
		}
	}
	return nil
}
