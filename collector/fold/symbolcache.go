package fold

import (
	"bytes"
	"hash/maphash"
)

// A symbolCache remembers the functions of symbols, since most symbols of a file are
// there many times, at different addresses. It has a fixed number of slots, each for the
// last symbol with its hash.
type symbolCache struct {
	seed  maphash.Seed
	slots []cachedSymbol
}

type cachedSymbol struct {
	hash   uint64 // 0 means that the slot is free
	module int32
	one    int32 // the only function; -1 if there are others
	symbol []byte
	names  []int32
}

const (
	cacheSlots  = 1 << 16
	cacheSymbol = 512 // longer symbols are not kept
	cacheFrames = 16  // nor those of more functions
)

func newSymbolCache() *symbolCache {
	return &symbolCache{seed: maphash.MakeSeed(), slots: make([]cachedSymbol, cacheSlots)}
}

// find returns the slot for a symbol of a module, and whether it has it. Names of Java
// differ.
func (c *symbolCache) find(symbol []byte, module int32, java bool) (s *cachedSymbol, hash uint64, found bool) {
	h := maphash.Bytes(c.seed, symbol)
	h = (h^uint64(uint32(module)))*0x9E3779B97F4A7C15 | 2
	if h &^= 1; java {
		h |= 1
	}
	s = &c.slots[h>>48&(cacheSlots-1)]
	return s, h, s.hash == h && s.module == module && bytes.Equal(s.symbol, symbol)
}

// put fills a slot that find has returned with the hash.
func (s *cachedSymbol) put(hash uint64, symbol []byte, module int32, names []int32) {
	if len(symbol) > cacheSymbol || len(names) > cacheFrames {
		return
	}
	s.hash, s.module, s.one = hash, module, -1
	s.symbol = append(s.symbol[:0], symbol...)
	if s.names = append(s.names[:0], names...); len(names) == 1 {
		s.one = names[0]
	}
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
