package symdb

import (
	"hash/maphash"
	"unsafe"
)

// Pairs is the hash table of dictionaries. It is our own since it holds numbers alone: of
// two million keys it takes a third less memory than Go's map or Pebble's, and hits and
// growth take 30 to 70 % less time than Go's; misses are no faster, and slower in small
// tables (BenchmarkLookup, docs/benchmarks.md).

// textSeed is this process' own, so that nobody can make texts of the same hash.
var textSeed = maphash.MakeSeed()

// HashText is the hash of a text, the same in all dictionaries of this process.
// Two texts of the same hash do not occur: of a million, one pair in 10^7
// processes.
func HashText(s string) uint64 { return maphash.String(textSeed, s) }

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
	if size <= len(p.slots) {
		return
	}
	old := p.slots
	p.slots, p.used = make([]pair, size), 0
	for _, s := range old {
		if s.to != 0 {
			p.Add(s.a, s.b, s.to)
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

// Add returns the number of a pair. If it has none, it is to, which is not 0.
func (p *Pairs) Add(a, b, to uint32) uint32 {
	if p.used*3 >= len(p.slots)*2 {
		p.Grow(max(p.used*3/2, 42))
	}
	s := &p.slots[p.slot(a, b)]
	if s.to == 0 {
		*s = pair{a, b, to}
		p.used++
	}
	return s.to
}

// GetPrint is Get for a hash of 64 bits in place of a pair.
func (p *Pairs) GetPrint(print uint64) (uint32, bool) { return p.Get(uint32(print>>32), uint32(print)) }

// AddPrint is Add for a hash of 64 bits in place of a pair.
func (p *Pairs) AddPrint(print uint64, to uint32) uint32 {
	return p.Add(uint32(print>>32), uint32(print), to)
}
