package ingest

import (
	"fmt"
	"slices"

	"github.com/grafana/jfr-parser/parser/types"
	"github.com/grafana/jfr-parser/parser/types/def"
)

// value goes through one value of a class: a constant or an event at level 0, and
// what is in it at the levels below. What the parser would read differently is
// refused.
func (s *jfrScanner) value(id uint64, level int) error {
	class := s.chunk.classes[id]
	switch {
	case class == nil:
		return s.errorf("class %d is unknown", id)
	case class.Name == "java.lang.String":
		return s.text()
	case class.Name == "boolean":
		return s.skip(1)
	case class.Name == "short", class.Name == "int", class.Name == "long":
		_, err := s.long()
		return err
	case level > 0 && (len(class.Fields) == 0 || class.Name == "float"):
		return s.errorf("values of class %q are not supported", class.Name)
	case level > jfrDepth:
		return s.errorf("objects within objects are more than %d deep", jfrDepth)
	}
	for i := range class.Fields {
		f := &class.Fields[i]
		// Where the parser expects nothing of that kind, it takes the count of an array
		// for its first value, and that of an array of objects to be there twice.
		if f.Array && (level > 0 || !f.ConstantPool && !s.arrays(class, f)) {
			return s.errorf("%s: an array in %s is not supported", f.Name, class.Name)
		}
		if err := s.fieldValue(f, level); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}

// arrays reports whether the parser reads arrays of a field's class.
func (s *jfrScanner) arrays(of *jfrClass, f *def.Field) bool {
	switch class := s.chunk.classes[uint64(f.Type)]; {
	case class == nil:
		return true // refused with its number
	case class.Name == "jdk.types.StackFrame":
		return of.Name == "jdk.types.StackTrace"
	default:
		return len(class.Fields) == 0 || class.Name == "java.lang.String"
	}
}

func (s *jfrScanner) fieldValue(f *def.Field, level int) error {
	n := 1
	if f.Array {
		var err error
		if n, err = s.count(1); err != nil {
			return err
		}
	}
	for range n {
		var err error
		if f.ConstantPool {
			_, err = s.long()
		} else {
			err = s.value(uint64(f.Type), level+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// jfrWeights are the fields, beside the time and the stacktrace, of events for which
// the parser has no struct, or none with this field.
var jfrWeights = map[string]string{
	jfrCPUTimeSample: "samplingPeriod", jfrCPUTimeSamplesLost: "lostSamples", jfrWallClockSample: "timeSpan",
}

// sample reads an event as if it were a jdk.ObjectAllocationSample, which has a start
// time, a stacktrace and a number, its weight.
func (s *jfrScanner) sample(class *jfrClass, b []byte) (e types.ObjectAllocationSample, err error) {
	if class.sample == nil {
		as := *class.Class
		as.Fields = slices.Clone(as.Fields)
		for i := range as.Fields {
			switch f := &as.Fields[i]; f.Name {
			case jfrWeights[class.Name]:
				f.Name = "weight"
				if f.Type == s.types.T_INT {
					f.Type = s.types.T_LONG // encoded alike
				}
			case "weight":
				f.Name = "other"
			}
		}
		class.sample = types.NewBindObjectAllocationSample(&as, s.types)
	}
	class.sample.Temp = types.ObjectAllocationSample{}
	_, err = e.Parse(b, class.sample, s.types)
	return e, err
}

// setting reads a jdk.ActiveSetting.
func (s *jfrScanner) setting(class *jfrClass, b []byte) (e types.ActiveSetting, err error) {
	_, err = e.Parse(b, types.NewBindActiveSetting(class.Class, s.types), s.types)
	return e, err
}

// hasStacktrace reports whether an event that is not read has a stacktrace. One
// whose fields are of unusual types counts as if it had one.
func (s *jfrScanner) hasStacktrace(class *jfrClass) bool {
	stacktrace := class.Field("stackTrace")
	if stacktrace == nil || !stacktrace.ConstantPool {
		return false
	}
	defer func(at int) { s.at = at }(s.at)
	for i := range class.Fields {
		f := &class.Fields[i]
		if f == stacktrace {
			break
		}
		if f.Array || s.skipField(f) != nil {
			return true
		}
	}
	ref, err := s.long()
	return err != nil || ref != 0
}

// jfrSizes are the bytes that values have of classes that the parser does not read,
// or, as float, not as the JDK writes them.
var jfrSizes = map[string]int{"byte": 1, "float": 4, "double": 8}

// skipField goes through a field of an event that is not read.
func (s *jfrScanner) skipField(f *def.Field) error {
	class := s.chunk.classes[uint64(f.Type)]
	if f.ConstantPool || class != nil && class.Name == "char" {
		_, err := s.long()
		return err
	}
	if class != nil && jfrSizes[class.Name] > 0 {
		return s.skip(jfrSizes[class.Name])
	}
	return s.value(uint64(f.Type), 1)
}
