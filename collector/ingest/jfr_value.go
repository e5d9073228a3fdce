package ingest

import (
	"fmt"
	"unicode/utf8"
)

// jfrValues are the fields of an event that a scan keeps. Times are in ticks.
type jfrValues struct {
	stacktrace, id      uint64
	start, period, span uint64
	lost                uint64 // samples
	name, value         string
}

// value walks one value of a class, and keeps in got, if there is one, what its
// fields say.
func (s *jfrScanner) value(id uint64, level int, got *jfrValues) error {
	class := s.chunk.classes[id]
	switch {
	case class == nil:
		return s.errorf("class %d is unknown", id)
	case class.name == "java.lang.String":
		_, err := s.text()
		return err
	case class.name == "boolean":
		return s.skip(1)
	case class.name == "short", class.name == "int", class.name == "long":
		_, err := s.long()
		return err
	case len(class.fields) == 0 && level > 0:
		return s.errorf("values of class %q are not supported", class.name)
	case level > jfrDepth:
		return s.errorf("objects within objects are more than %d deep", jfrDepth)
	}
	for i := range class.fields {
		if err := s.fieldValue(&class.fields[i], level, got); err != nil {
			return err
		}
	}
	return nil
}

func (s *jfrScanner) fieldValue(f *jfrField, level int, got *jfrValues) error {
	n := 1
	if f.array {
		var err error
		if n, err = s.count(1); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	for range n {
		start := s.at
		var err error
		if f.pooled {
			_, err = s.long()
		} else {
			err = s.value(f.class, level+1, nil)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if got != nil {
			got.keep(s, f, start)
		}
	}
	return nil
}

// number is where to keep a field that is a number or a reference, nil if nowhere.
func (v *jfrValues) number(field string) *uint64 {
	switch field {
	case "stackTrace":
		return &v.stacktrace
	case "id":
		return &v.id
	case "startTime":
		return &v.start
	case "samplingPeriod":
		return &v.period
	case "timeSpan":
		return &v.span
	case "lostSamples":
		return &v.lost
	}
	return nil
}

// keep reads the field that was walked from start on once more, if it is one to
// keep.
func (v *jfrValues) keep(s *jfrScanner, f *jfrField, start int) {
	again := *s
	again.at = start
	number := v.number(f.name)
	switch {
	case number != nil:
		if class := s.chunk.classes[f.class]; f.pooled || class.name == "long" || class.name == "int" {
			*number, _ = again.long() // it was walked
		}
	case f.name == "name", f.name == "value":
		text, err := again.text()
		if err != nil || !utf8.ValidString(text) {
			return // a field of this name that is no text
		}
		if f.name == "name" {
			v.name = text
		} else {
			v.value = text
		}
	}
}

// hasStacktrace reports whether an event that is not read has a stacktrace. One
// whose fields are of unusual types counts as if it had one.
func (s *jfrScanner) hasStacktrace(class *jfrClass) bool {
	at := s.at
	defer func() { s.at = at }()
	may := false
	for i := range class.fields {
		f := &class.fields[i]
		if may = f.name == "stackTrace" && f.pooled; may {
			break
		}
	}
	if !may {
		return false
	}
	for i := range class.fields {
		f := &class.fields[i]
		if f.name == "stackTrace" {
			ref, err := s.long()
			return err != nil || ref != 0
		}
		if f.array || s.skipField(f) != nil {
			return true
		}
	}
	return true
}

// skipField walks a field of an event that is not read.
func (s *jfrScanner) skipField(f *jfrField) error {
	class := s.chunk.classes[f.class]
	switch {
	case f.pooled:
		_, err := s.long()
		return err
	case class == nil:
		return s.errorf("class %d is unknown", f.class)
	case class.name == "byte":
		return s.skip(1)
	case class.name == "char":
		_, err := s.long()
		return err
	case class.name == "float":
		return s.skip(4)
	case class.name == "double":
		return s.skip(8)
	}
	return s.value(f.class, 1, nil)
}
