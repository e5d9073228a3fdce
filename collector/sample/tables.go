package sample

import googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

// tables build the string, mapping, function and location tables of one pprof
// profile. IDs are indexes plus one, as pprof reserves 0 for "none"; string 0
// is the empty one.
type tables struct {
	strings   []string
	mappings  []*googlev1.Mapping
	functions []*googlev1.Function
	locations []*googlev1.Location

	stringIndex   map[string]int64
	mappingIndex  map[module]uint64
	functionIndex map[functionKey]uint64
}

type functionKey struct{ name, file string }

func newTables(locations int) *tables {
	return &tables{
		strings:       []string{""},
		locations:     make([]*googlev1.Location, 0, locations),
		stringIndex:   map[string]int64{"": 0},
		mappingIndex:  map[module]uint64{},
		functionIndex: map[functionKey]uint64{},
	}
}

// text returns the index of a string.
func (t *tables) text(s string) int64 {
	i, ok := t.stringIndex[s]
	if !ok {
		i = int64(len(t.strings))
		t.strings = append(t.strings, s)
		t.stringIndex[s] = i
	}
	return i
}

// spans returns a sample's labels.
func (t *tables) spans(ids spanIDs) (ls []*googlev1.Label) {
	if ids.span != "" {
		ls = append(ls, &googlev1.Label{Key: t.text(labelSpan), Str: t.text(ids.span)})
	}
	if ids.trace != "" {
		ls = append(ls, &googlev1.Label{Key: t.text(labelTrace), Str: t.text(ids.trace)})
	}
	return ls
}

// mapping returns the ID of a module, 0 if it is not known.
func (t *tables) mapping(m module) uint64 {
	if m == (module{}) {
		return 0
	}
	id, ok := t.mappingIndex[m]
	if !ok {
		id = uint64(len(t.mappings)) + 1
		t.mappings = append(t.mappings, &googlev1.Mapping{
			Id:           id,
			Filename:     t.text(m.name),
			BuildId:      t.text(m.buildID),
			HasFunctions: true,
		})
		t.mappingIndex[m] = id
	}
	return id
}

// function returns the ID of a function.
func (t *tables) function(l line) uint64 {
	k := functionKey{l.function, l.file}
	id, ok := t.functionIndex[k]
	if !ok {
		id = uint64(len(t.functions)) + 1
		name := t.text(l.function)
		t.functions = append(t.functions, &googlev1.Function{
			Id:         id,
			Name:       name,
			SystemName: name,
			Filename:   t.text(l.file),
		})
		t.functionIndex[k] = id
	}
	return id
}

// location appends a location; its ID is its place in the table plus one.
func (t *tables) location(l *location) {
	m := t.mapping(l.module)
	p := &googlev1.Location{
		Id:        uint64(len(t.locations)) + 1,
		MappingId: m,
		Address:   l.address,
		Line:      make([]*googlev1.Line, 0, len(l.lines)),
	}
	for _, ln := range l.lines {
		p.Line = append(p.Line, &googlev1.Line{FunctionId: t.function(ln), Line: ln.number})
		if m != 0 && ln.file != "" {
			t.mappings[m-1].HasFilenames = true
		}
		if m != 0 && ln.number != 0 {
			t.mappings[m-1].HasLineNumbers = true
		}
	}
	if m != 0 && len(l.lines) > 1 {
		t.mappings[m-1].HasInlineFrames = true
	}
	t.locations = append(t.locations, p)
}
