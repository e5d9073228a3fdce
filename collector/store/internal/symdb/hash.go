package symdb

import (
	"hash/maphash"
	"unsafe"
)

// Hash tables of a dictionary: numbers finds a text, function or location in it,
// Pairs a call by caller and function. They are our own since they hold numbers
// alone and compare with the dictionary: of two million keys they take a third
// less memory than Go's map or Pebble's, and hits and growth take 30 to 70 % less
// time than Go's; misses are no faster, and slower in small tables (BenchmarkLookup,
// docs/benchmarks.md).

// textSeed is this process' own, so that nobody can make texts of the same hash.
var textSeed = maphash.MakeSeed()

// HashText is the hash of a text, the same in all dictionaries of this process.
// Two texts of the same hash do not occur: of a million, one pair in 10^7
// processes.
func HashText(s string) uint64 { return maphash.String(textSeed, s) }

// mix is a multiplicative hash of two words.
func mix(a, b uint64) uint64 {
	h := (a ^ b*0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9
	return h ^ h>>32
}

func (f *Function) hash() uint64 {
	return mix(mix(uint64(f.Name)<<32|uint64(f.SystemName), uint64(f.File)), uint64(f.StartLine))
}

func (l *Location) hash(lines []Line) uint64 {
	h := mix(uint64(l.Mapping)<<1, l.Address)
	if l.Folded {
		h++
	}
	for _, ln := range lines {
		h = mix(h, uint64(ln.Function)<<32^uint64(ln.Line))
	}
	return h
}

// numbers is an open-addressing hash table of numbers by hash. Who looks a
// number up compares what it stands for.
type numbers struct {
	slots []numberSlot
	used  int
}

// A numberSlot is free if to is 0; it holds a number plus one.
type numberSlot struct{ hash, to uint32 }

// noNumber is what at returns for a slot of another hash.
const noNumber = ^uint32(0)

func (t *numbers) grow(n int) {
	size := 64
	for size*2 < n*3 {
		size *= 2
	}
	old := t.slots
	t.slots, t.used = make([]numberSlot, size), 0
	for _, s := range old {
		if s.to != 0 {
			t.insert(s)
		}
	}
}

// first is the slot at which to look for a hash, next the one to go on with.
func (t *numbers) first(hash uint64) uint32 { return uint32(hash) & uint32(len(t.slots)-1) }

func (t *numbers) next(slot uint32) uint32 { return (slot + 1) & uint32(len(t.slots)-1) }

// at returns the number in a slot, or noNumber if it has another hash. It
// reports false at a free slot: the number is not there.
func (t *numbers) at(slot uint32, hash uint64) (uint32, bool) {
	if len(t.slots) == 0 {
		return noNumber, false
	}
	s := t.slots[slot]
	if s.to == 0 {
		return noNumber, false
	}
	if s.hash != uint32(hash) {
		return noNumber, true
	}
	return s.to - 1, true
}

// put adds a number that is not there.
func (t *numbers) put(hash uint64, number uint32) {
	if t.used*3 >= len(t.slots)*2 {
		t.grow(max(t.used*3/2, 42))
	}
	t.insert(numberSlot{uint32(hash), number + 1})
}

func (t *numbers) insert(s numberSlot) {
	at := t.first(uint64(s.hash))
	for t.slots[at].to != 0 {
		at = t.next(at)
	}
	t.slots[at] = s
	t.used++
}

// Pairs is an open-addressing hash table from two numbers to a third, which is
// never 0.
type Pairs struct {
	slots []pair
	used  int
}

type pair struct{ a, b, to uint32 }

// Grow makes room for n entries.
func (p *Pairs) Grow(n int) {
	size := 64
	for size*2 < n*3 {
		size *= 2
	}
	old := p.slots
	p.slots, p.used = make([]pair, size), 0
	for _, s := range old {
		if s.to != 0 {
			p.Put(s.a, s.b, s.to)
		}
	}
}

// Bytes is the table's memory.
func (p *Pairs) Bytes() int64 { return int64(len(p.slots)) * int64(unsafe.Sizeof(pair{})) }

// Reset takes all out and keeps the memory.
func (p *Pairs) Reset() {
	clear(p.slots)
	p.used = 0
}

func (p *Pairs) slot(a, b uint32) int {
	h := (uint64(a)<<32 | uint64(b)) * 0x9E3779B97F4A7C15
	h ^= h >> 32
	mask := uint64(len(p.slots) - 1)
	i := h & mask
	for {
		s := &p.slots[i]
		if s.to == 0 || s.a == a && s.b == b {
			return int(i)
		}
		i = (i + 1) & mask
	}
}

// Get returns the number that belongs to a pair.
func (p *Pairs) Get(a, b uint32) (uint32, bool) {
	if len(p.slots) == 0 {
		return 0, false
	}
	to := p.slots[p.slot(a, b)].to
	return to, to != 0
}

// Put sets the number of a pair, which is not 0.
func (p *Pairs) Put(a, b, to uint32) {
	if p.used*3 >= len(p.slots)*2 {
		p.Grow(max(p.used*3/2, 42))
	}
	s := &p.slots[p.slot(a, b)]
	if s.to == 0 {
		p.used++
	}
	*s = pair{a, b, to}
}

// GetPrint is Get for a hash of 64 bits in place of a pair.
func (p *Pairs) GetPrint(print uint64) (uint32, bool) { return p.Get(uint32(print>>32), uint32(print)) }

// PutPrint is Put for a hash of 64 bits in place of a pair.
func (p *Pairs) PutPrint(print uint64, to uint32) { p.Put(uint32(print>>32), uint32(print), to) }
