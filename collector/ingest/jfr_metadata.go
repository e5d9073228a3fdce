package ingest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/grafana/jfr-parser/parser"
	"github.com/grafana/jfr-parser/parser/types/def"
)

// metadata finds out which classes there are. The parser reads them, from a chunk
// that has nothing else, once its counts are checked.
func (s *jfrScanner) metadata(at int) error {
	if err := s.checkMetadata(at); err != nil {
		return err
	}
	alone := slices.Concat(s.b[:jfrHeaderSize], jfrNoPools, s.b[at:s.at])
	for field, v := range map[int]int{8: jfrHeaderSize, 16: jfrHeaderSize, 24: jfrHeaderSize + len(jfrNoPools)} {
		binary.BigEndian.PutUint64(alone[field:], uint64(v))
	}
	types, err := readClasses(alone)
	if err != nil {
		return err
	}
	s.types = types
	for id, class := range types.IDMap {
		// The parser finds classes by their names and by their IDs, which have to be of
		// the same. A program's own events may share a name, which is nothing to it.
		if same := types.NameMap[class.Name]; same != class && (jfrRead[class.Name] || !strings.Contains(class.Name, ".") ||
			strings.HasPrefix(class.Name, "java.lang.") || strings.Contains(class.Name, ".types.")) {
			return fmt.Errorf("class %q is there twice", class.Name)
		}
		s.chunk.classes[uint64(id)] = &jfrClass{Class: class}
	}
	for name, class := range types.NameMap {
		if types.IDMap[class.ID] != class {
			return fmt.Errorf("class %d, %q, is there twice", class.ID, name)
		}
	}
	return nil
}

// jfrNoPools is an event of type 1 that holds no constant pools: its size and type,
// start, duration, distance to the pools before, flags, and their number.
var jfrNoPools = []byte{7, 1, 0, 0, 0, 0, 0}

// readClasses returns the classes of a chunk whose size says that it has no events.
func readClasses(chunk []byte) (types *def.TypeMap, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the parser panicked: %v", p)
		}
	}()
	p := parser.NewParser(chunk, parser.Options{})
	// It reads the metadata, begins its lists of constants, and finds no event.
	if _, err := p.ParseEvent(); p.Strings.IDMap == nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	return &p.TypeMap, nil
}

// checkMetadata goes through the strings and elements of the metadata. The elements
// are a tree, in which each says how many follow it that are its children; what
// they mean does not matter to what the parser allocates.
func (s *jfrScanner) checkMetadata(at int) error {
	class, err := s.event(at)
	if err != nil {
		return err
	}
	if class != 0 {
		return s.errorf("event type %d where 0 is due", class)
	}
	for range 3 { // start, duration, ID
		if _, err := s.long(); err != nil {
			return err
		}
	}
	n, err := s.count(1)
	if err != nil {
		return err
	}
	if err := s.tally(n); err != nil {
		return err
	}
	for range n {
		if err := s.text(); err != nil {
			return err
		}
	}
	for due := 1; due > 0; due-- {
		children, err := s.element()
		if err != nil {
			return err
		}
		due += children
	}
	return nil
}

// element goes through one element of the metadata and returns how many are its
// children.
func (s *jfrScanner) element() (children int, err error) {
	if err := s.tally(1); err != nil {
		return 0, err
	}
	if _, err := s.int(); err != nil { // its name
		return 0, err
	}
	n, err := s.count(2)
	if err != nil {
		return 0, err
	}
	if n > jfrAttributes {
		return 0, s.errorf("an element has %d attributes", n)
	}
	for range 2 * n {
		if _, err := s.int(); err != nil {
			return 0, err
		}
	}
	if children, err = s.count(3); err != nil {
		return 0, err
	}
	return children, s.mayTally(children)
}
