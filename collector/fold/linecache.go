package fold

import (
	"bytes"
	"hash/maphash"
)

// A lineCache remembers the functions of lines, since most frames of a file are there
// many times. It has a fixed number of slots, each for the last line with its hash.
type lineCache struct {
	seed  maphash.Seed
	slots []cachedLine
}

type cachedLine struct {
	hash  uint64 // 0 means that the slot is free
	line  []byte
	names []int32
}

const (
	cacheSlots  = 1 << 15
	cacheLine   = 512 // longer lines are not kept
	cacheFrames = 16  // nor those of more functions
)

func newLineCache() *lineCache {
	return &lineCache{seed: maphash.MakeSeed(), slots: make([]cachedLine, cacheSlots)}
}

// get returns the functions of a line. Names of Java differ.
func (c *lineCache) get(line []byte, java bool) ([]int32, bool) {
	h := c.hash(line, java)
	s := &c.slots[h%cacheSlots]
	if s.hash != h || !bytes.Equal(s.line, line) {
		return nil, false
	}
	return s.names, true
}

func (c *lineCache) put(line []byte, java bool, names []int32) {
	if len(line) > cacheLine || len(names) > cacheFrames {
		return
	}
	h := c.hash(line, java)
	s := &c.slots[h%cacheSlots]
	s.hash = h
	s.line = append(s.line[:0], line...)
	s.names = append(s.names[:0], names...)
}

func (c *lineCache) hash(line []byte, java bool) uint64 {
	h := maphash.Bytes(c.seed, line) | 2
	if java {
		return h | 1
	}
	return h &^ 1
}
