package ingest

import (
	"strconv"
	"strings"
)

// metadata reads which classes there are.
func (s *jfrScanner) metadata(at int) error {
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
	table := make([]string, n)
	for i := range table {
		if table[i], err = s.text(); err != nil {
			return err
		}
	}
	_, err = s.element(table, 0, nil)
	return err
}

// element reads one element of the metadata's tree and those in it: the root,
// "metadata", its classes, their fields and what is said of those.
func (s *jfrScanner) element(table []string, level int, of *jfrClass) (name string, err error) {
	index := func() (string, error) {
		i, err := s.int()
		if err == nil && int(i) >= len(table) {
			err = s.errorf("string %d of %d", i, len(table))
		}
		if err != nil {
			return "", err
		}
		return table[i], nil
	}
	if err := s.tally(1); err != nil {
		return "", err
	}
	if name, err = index(); err != nil {
		return "", err
	}
	n, err := s.count(2)
	if err != nil {
		return "", err
	}
	if n > jfrAttributes {
		return "", s.errorf("%q has %d attributes", name, n)
	}
	attributes := make(map[string]string, n)
	for range n {
		key, err := index()
		if err != nil {
			return "", err
		}
		if attributes[key], err = index(); err != nil {
			return "", err
		}
	}
	children, err := s.count(3)
	if err != nil {
		return "", err
	}
	if err := s.mayTally(children); err != nil {
		return "", err
	}
	switch {
	case level == 1 && name != "metadata" && name != "region", level == 0 && name != "root":
		return "", s.errorf("element %q is unknown", name)
	case children > 0 && (level == 4 || level == 1 && name == "region"):
		return "", s.errorf("element %q has elements in it", name)
	case level == 2:
		if of, err = s.class(attributes); err != nil {
			return "", err
		}
	case level == 3 && name == "field":
		if err := s.field(of, attributes); err != nil {
			return "", err
		}
	}
	for range children {
		if _, err := s.element(table, level+1, of); err != nil {
			return "", err
		}
	}
	return name, nil
}

func (s *jfrScanner) class(attributes map[string]string) (*jfrClass, error) {
	id, err := strconv.ParseInt(attributes["id"], 10, 64)
	if err != nil {
		return nil, s.errorf("class %q: ID: %v", attributes["name"], err)
	}
	c := &jfrClass{name: attributes["name"]}
	if _, ok := s.chunk.classes[uint64(id)]; ok || c.name == "" {
		return nil, s.errorf("class %d, %q: is there twice, or has no name", id, c.name)
	}
	// The parser finds classes by their names. A program's own events may share
	// one, which is nothing to it.
	if s.names[c.name] && (jfrRead[c.name] || !strings.Contains(c.name, ".") ||
		strings.HasPrefix(c.name, "java.lang.") || strings.Contains(c.name, ".types.")) {
		return nil, s.errorf("class %q: is there twice", c.name)
	}
	s.names[c.name] = true
	s.chunk.classes[uint64(id)] = c
	return c, nil
}

func (s *jfrScanner) field(of *jfrClass, attributes map[string]string) error {
	id, err := strconv.ParseInt(attributes["class"], 10, 64)
	if err != nil {
		return s.errorf("field %q of %s: class: %v", attributes["name"], of.name, err)
	}
	dimension := attributes["dimension"]
	if dimension != "" && dimension != "1" {
		return s.errorf("field %q of %s: dimension %q is not supported", attributes["name"], of.name, dimension)
	}
	of.fields = append(of.fields, jfrField{
		name: attributes["name"], class: uint64(id), pooled: attributes["constantPool"] == "true", array: dimension != "",
	})
	return nil
}
