package query

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/symdb"
)

// Names are functions of binaries that were not known when profiles were stored. It is
// safe for concurrent use.
type Names interface {
	// Generation is another number after each change of what is known; 0 while nothing is.
	Generation() uint64
	// Known reports whether functions of the binary with a build ID are known.
	Known(buildID string) bool
	// Function returns the function at an address, "" if it is not known: an ELF virtual
	// address, or an offset in the file.
	Function(buildID string, address uint64, inFile bool) string
}

// generation is that of the names, 0 if there are none.
func (q *Engine) generation() uint64 {
	if q.Names == nil {
		return 0
	}
	return q.Names.Generation()
}

// named returns a view with the names that are known now of functions that were stored as
// module+0xaddress, and whether there are any. Several strings may be one name then. A
// name that stands for code of several builds of a module stays as it is. Strings
// that are copied count in h.
func (q *Engine) named(h *budget.Reservation, v symdb.View) (symdb.View, bool, error) {
	if q.generation() == 0 {
		return v, false, nil
	}
	known := make([]bool, len(v.Mappings))
	any := false
	for i := range v.Mappings {
		if id := v.Strings[v.Mappings[i].BuildID]; id != "" {
			known[i] = q.Names.Known(id)
			any = any || known[i]
		}
	}
	if !any {
		return v, false, nil
	}
	names := map[uint32]string{} // by string; "" where locations differ
	for i := range v.Locations {
		l := &v.Locations[i]
		if !known[l.Mapping] {
			continue
		}
		s, address, ok := unknownAt(&v, l)
		if !ok {
			continue
		}
		name := q.Names.Function(v.Strings[v.Mappings[l.Mapping].BuildID], address, l.First == l.End)
		if other, seen := names[s]; seen && other != name {
			name = ""
		}
		names[s] = name
	}
	for i := range v.Locations {
		if l := &v.Locations[i]; !known[l.Mapping] {
			if s, _, ok := unknownAt(&v, l); ok {
				delete(names, s)
			}
		}
	}
	maps.DeleteFunc(names, func(_ uint32, name string) bool { return name == "" })
	if len(names) == 0 {
		return v, false, nil
	}
	const perString = 16 + 8
	if err := h.Take(int64(len(v.Strings)) * perString); err != nil {
		return v, false, err
	}
	v.Strings, v.Hashes = slices.Clone(v.Strings), slices.Clone(v.Hashes)
	for s, name := range names {
		v.Strings[s], v.Hashes[s] = name, symdb.HashText(name)
	}
	return v, true, nil
}

// unknownAt returns the string that a location without a known function is shown as, and
// the address in it.
func unknownAt(v *symdb.View, l *symdb.Location) (text uint32, address uint64, ok bool) {
	switch l.End - l.First {
	case 0:
		text = l.Name
	case 1:
		text = v.Functions[v.Lines[l.First].Function].Name
	default:
		return 0, 0, false
	}
	file := v.Strings[v.Mappings[l.Mapping].File]
	digits, ok := strings.CutPrefix(v.Strings[text], file[strings.LastIndexByte(file, '/')+1:]+"+0x")
	if !ok || file == "" {
		return 0, 0, false
	}
	address, err := strconv.ParseUint(digits, 16, 64)
	return text, address, err == nil
}
