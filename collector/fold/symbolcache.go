package fold

import (
	"bytes"
	"hash/maphash"
)

// A symbolCache remembers the functions of symbols, since most symbols of a file are
// there many times, at different addresses. It has a fixed number of slots, each for the
// last symbol that belongs there. Symbols are known by hashes of 128 bits, with seeds of
// the process' own, rather than by their bytes, which would be further away in memory.
type symbolCache struct {
	seeds [2]maphash.Seed
	slots []cachedSymbol
	lists [][]int32 // by slot: functions, where there is not just one; nil until there are
}

type cachedSymbol struct {
	hash symbolHash
	one  int32 // the only function; -1 if lists has them
}

// A symbolHash is zero for no symbol.
type symbolHash [2]uint64

const (
	cacheSlots  = 1 << 16
	cacheFrames = 16 // symbols of more functions are not kept
)

func newSymbolCache() *symbolCache {
	return &symbolCache{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, slots: make([]cachedSymbol, cacheSlots)}
}

// hash returns the hash of a symbol of a module. Names of Java differ.
func (c *symbolCache) hash(symbol []byte, module int32, java bool) symbolHash {
	m := uint64(uint32(module))<<2 | 2
	if java {
		m |= 1
	}
	m *= 0x9E3779B97F4A7C15 // odd: different modules give different numbers
	return symbolHash{maphash.Bytes(c.seeds[0], symbol) ^ m, maphash.Bytes(c.seeds[1], symbol) + m}
}

func (h symbolHash) slot() uint64 { return h[0] & (cacheSlots - 1) }

// put fills the slot of a symbol.
func (c *symbolCache) put(h symbolHash, names []int32) {
	i := h.slot()
	s := &c.slots[i]
	switch {
	case len(names) == 1:
		s.one = names[0]
	case len(names) > cacheFrames:
		return
	default:
		if c.lists == nil {
			c.lists = make([][]int32, cacheSlots)
		}
		s.one, c.lists[i] = -1, append(c.lists[i][:0], names...)
	}
	s.hash = h
}

// A module is a file that symbols belong to, with what follows from its name.
type module struct {
	name            string
	base            string // without the path
	unknown         bool   // [unknown]
	kernel, perfMap bool
}

// moduleOf returns the number of a module. Frames next to each other often share theirs.
func (p *perfReader) moduleOf(name []byte) (int32, error) {
	if len(p.modules) > 0 && p.modules[p.lastModule].name == string(name) {
		return p.lastModule, nil
	}
	id, ok := p.moduleIDs[string(name)]
	if !ok {
		if err := p.grow(len(name)); err != nil {
			return 0, err
		}
		m := module{name: string(name), unknown: bytes.Equal(name, unknown), kernel: isKernel(name), perfMap: isPerfMap(name)}
		m.base = m.name[bytes.LastIndexByte(name, '/')+1:]
		id = int32(len(p.modules))
		p.modules = append(p.modules, m)
		p.moduleIDs[m.name] = id
	}
	p.lastModule = id
	return id, nil
}
