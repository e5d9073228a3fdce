package calltree

import "github.com/flameline/flameline/collector/store/internal/symdb"

// A trie numbers calls of several partitions: the same caller and name are one call.
type trie struct {
	view  symdb.View // strings, hashes and calls alone
	names map[uint64]uint32
	known symdb.Pairs
}

// newTrie returns a trie that has the root alone.
func newTrie() trie {
	empty := symdb.HashText("")
	return trie{
		view:  symdb.View{Strings: []string{""}, Hashes: []uint64{empty}, Calls: make([]symdb.Call, 1)},
		names: map[uint64]uint32{empty: 0},
	}
}

// name is the number of a name, which is added if it is new.
func (t *trie) name(text string, hash uint64) uint32 {
	n, ok := t.names[hash]
	if !ok {
		n = uint32(len(t.view.Strings))
		t.names[hash] = n
		t.view.Strings, t.view.Hashes = append(t.view.Strings, text), append(t.view.Hashes, hash)
	}
	return n
}

// call is the number of a call, which is added if it is new.
func (t *trie) call(parent, name uint32) uint32 {
	n, ok := t.known.Get(parent, name)
	if !ok {
		n = uint32(len(t.view.Calls))
		t.known.Put(parent, name, n)
		t.view.Calls = append(t.view.Calls, symdb.Call{Parent: parent, Name: name})
	}
	return n
}
