package ingest

import (
	"fmt"
	"math"
	"strings"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/pkg/profile"
)

// stacks is a call tree that is built from text or a tree of stacktraces, and converted
// to a pprof profile in which stacktraces and functions are deduplicated. It is a tree
// rather than a list of stacktraces, so that common prefixes take memory once.
//
// Node 0 is the root.
type stacks struct {
	limits    Limits
	nodes     []stackNode
	children  map[uint64]uint32 // parent<<32 | function: node
	functions []function
	byName    map[string]uint32 // by raw names and by displayed names
	byFrame   map[string]uint32 // of py-spy, with file and line
	names     *names
	pySpy     bool // frames of text are py-spy's
	samples   int
	// bytes is an upper bound of the profile's size in pprof's encoding. A small tree
	// may unfold into many long stacktraces, which MaxProfileBytes bounds here.
	bytes int64
}

type stackNode struct {
	parent, function uint32
	depth            int
	value            int64
}

// A function's file is "" and its line 0 if they are unknown. systemName is its raw
// name, "" if that equals the displayed name.
type function struct {
	name, systemName, file string
	line                   int64
}

func newStacks(l Limits) *stacks {
	return &stacks{
		limits:   l,
		nodes:    make([]stackNode, 1),
		children: map[uint64]uint32{},
		byName:   map[string]uint32{},
		names:    newNames(l),
	}
}

// function returns the number of the function with a name and no file. Raw names with
// the same displayed name are one function.
func (s *stacks) function(name []byte) (uint32, error) {
	if n, ok := s.byName[string(name)]; ok {
		return n, nil
	}
	f, err := s.shown(function{name: string(name)})
	if err != nil {
		return 0, err
	}
	n, ok := s.byName[f.name]
	if !ok {
		if n, err = s.addShown(f); err != nil {
			return 0, err
		}
		s.byName[f.name] = n
	}
	if f.name != string(name) {
		s.byName[string(name)] = n
	}
	return n, nil
}

// addFunction adds a function that does not exist yet.
func (s *stacks) addFunction(f function) (uint32, error) {
	f, err := s.shown(f)
	if err != nil {
		return 0, err
	}
	return s.addShown(f)
}

// shown sets a function's displayed name, and makes its strings UTF-8.
func (s *stacks) shown(f function) (function, error) {
	for _, text := range []string{f.name, f.file} {
		if exceeds(len(text), s.limits.MaxSymbolBytes) {
			return f, fmt.Errorf("a name of %d bytes is longer than %d (limits.max_symbol_bytes)", len(text), s.limits.MaxSymbolBytes)
		}
	}
	f.name, f.file = validText(f.name, s.limits.Report), validText(f.file, s.limits.Report)
	if shown := s.names.shown(f.name); shown != f.name {
		f.name, f.systemName = shown, f.name
	}
	if strings.TrimSpace(f.name) == "" {
		f.name = frameUnknown
	}
	return f, nil
}

func (s *stacks) addShown(f function) (uint32, error) {
	if err := s.grow(int64(len(f.name) + len(f.systemName) + len(f.file))); err != nil {
		return 0, err
	}
	s.functions = append(s.functions, f)
	return uint32(len(s.functions) - 1), s.symbols()
}

// symbols checks the number of functions and nodes against MaxSymbols.
func (s *stacks) symbols() error {
	if exceeds(len(s.functions)+len(s.nodes), s.limits.MaxSymbols) {
		return fmt.Errorf("more than %d functions and nodes of the call tree (limits.max_symbols)", s.limits.MaxSymbols)
	}
	return nil
}

func (s *stacks) grow(n int64) error {
	if s.bytes += n; exceeds(s.bytes, s.limits.MaxProfileBytes) {
		return fmt.Errorf("%w: more than %d bytes as pprof (limits.max_profile_bytes)", ErrTooLarge, s.limits.MaxProfileBytes)
	}
	return nil
}

// child returns the node of a function called from another node, and adds it if needed.
func (s *stacks) child(parent, function uint32) (uint32, error) {
	key := uint64(parent)<<32 | uint64(function)
	if n, ok := s.children[key]; ok {
		return n, nil
	}
	depth := s.nodes[parent].depth + 1
	if exceeds(depth, s.limits.MaxStackDepth) {
		return 0, fmt.Errorf("a stacktrace of more than %d frames (limits.max_stack_depth)", s.limits.MaxStackDepth)
	}
	n := uint32(len(s.nodes))
	s.nodes = append(s.nodes, stackNode{parent: parent, function: function, depth: depth})
	s.children[key] = n
	return n, s.symbols()
}

// call is child for a function given by name.
func (s *stacks) call(parent uint32, name []byte) (uint32, error) {
	f, err := s.function(name)
	if err != nil {
		return 0, err
	}
	return s.child(parent, f)
}

// add adds a value to the stacktrace that ends at a node.
func (s *stacks) add(n uint32, value int64) error {
	node := &s.nodes[n]
	switch {
	case value < 0:
		return fmt.Errorf("the value %d is negative", value)
	case value == 0:
		return nil
	case node.value > math.MaxInt64-value:
		return fmt.Errorf("the values of one stacktrace add up to more than %d", int64(math.MaxInt64))
	case node.value == 0:
		if s.samples++; exceeds(s.samples, s.limits.MaxSamples) {
			return fmt.Errorf("more than %d stacktraces (limits.max_samples)", s.limits.MaxSamples)
		}
		if err := s.grow(int64(node.depth)); err != nil {
			return err
		}
	}
	node.value += value
	return nil
}

// profiles returns the tree as one profile of a type, with the labels and times of the
// push. It returns none if no stacktrace has a value, or if the push is the part of one
// span, which the whole profile includes. size is the body's, in bytes.
func (s *stacks) profiles(t stackType, m *Push, size int) ([]profile.Profile, int, error) {
	if s.samples == 0 || m.Labels.Get("profile_id") != "" {
		return nil, size, nil
	}
	p, err := s.pprof(t, m)
	if err != nil {
		return nil, 0, err
	}
	ls := m.legacyLabels(t)
	if exceeds(ls.Len(), s.limits.MaxLabels) {
		return nil, 0, fmt.Errorf("labels: %d labels are more than %d (limits.max_labels)", ls.Len(), s.limits.MaxLabels)
	}
	return []profile.Profile{{Labels: ls, Pprof: p}}, size, nil
}

// pprof builds the profile, with one allocation for the parts of each kind.
func (s *stacks) pprof(t stackType, m *Push) (*googlev1.Profile, error) {
	p := &googlev1.Profile{
		StringTable:   append(make([]string, 0, len(s.functions)+5), "", t.sampleType, t.unit),
		SampleType:    []*googlev1.ValueType{{Type: 1, Unit: 2}},
		TimeNanos:     m.From.UnixNano(),
		DurationNanos: m.duration(),
	}
	if t.period > 0 {
		p.StringTable = append(p.StringTable, "cpu", "nanoseconds")
		p.PeriodType = &googlev1.ValueType{Type: 3, Unit: 4}
		p.Period = t.period
	}
	s.symbolize(p)
	scale := max(t.scale, 1)
	ids := 0
	for i := range s.nodes {
		if s.nodes[i].value > 0 {
			ids += s.nodes[i].depth
		}
	}
	samples, values, locations := make([]googlev1.Sample, s.samples), make([]int64, s.samples), make([]uint64, 0, ids)
	p.Sample = make([]*googlev1.Sample, 0, s.samples)
	for i := range s.nodes {
		if s.nodes[i].value == 0 {
			continue
		}
		k, first := len(p.Sample), len(locations)
		for n := uint32(i); n != 0; n = s.nodes[n].parent {
			locations = append(locations, uint64(s.nodes[n].function)+1)
		}
		v, ok := times(s.nodes[i].value, scale)
		if !ok {
			return nil, fmt.Errorf("the value %d, times the %d ns of a sample, is more than %d", s.nodes[i].value, scale, int64(math.MaxInt64))
		}
		values[k] = v
		samples[k].LocationId = locations[first:len(locations):len(locations)]
		samples[k].Value = values[k : k+1 : k+1]
		p.Sample = append(p.Sample, &samples[k])
	}
	return p, nil
}

// symbolize adds a function and a location per function of the tree. Their IDs are the
// tree's numbers plus one.
func (s *stacks) symbolize(p *googlev1.Profile) {
	n := len(s.functions)
	functions, locations, lines := make([]googlev1.Function, n), make([]googlev1.Location, n), make([]googlev1.Line, n)
	linePointers := make([]*googlev1.Line, n)
	p.Function, p.Location = make([]*googlev1.Function, n), make([]*googlev1.Location, n)
	files := map[string]int64{"": 0}
	for i, f := range s.functions {
		name := int64(len(p.StringTable))
		p.StringTable = append(p.StringTable, f.name)
		file, ok := files[f.file]
		if !ok {
			file = int64(len(p.StringTable))
			files[f.file] = file
			p.StringTable = append(p.StringTable, f.file)
		}
		system := name
		if f.systemName != "" {
			system = int64(len(p.StringTable))
			p.StringTable = append(p.StringTable, f.systemName)
		}
		id := uint64(i) + 1
		functions[i].Id, functions[i].Name, functions[i].SystemName, functions[i].Filename = id, name, system, file
		lines[i].FunctionId, lines[i].Line = id, f.line
		linePointers[i] = &lines[i]
		locations[i].Id, locations[i].Line = id, linePointers[i:i+1:i+1]
		p.Function[i], p.Location[i] = &functions[i], &locations[i]
	}
}
