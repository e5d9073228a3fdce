package ingest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unsafe"

	"github.com/flameline/flameline/pkg/profile"
)

// A geckoFile is a profile of the Firefox Profiler, in Gecko's own format, whose tables
// are lists of rows with a schema, or in the processed format, whose tables are columns
// (firefox-devtools/profiler, docs-developer/gecko-profile-format.md and
// processed-profile-format.md). A process of Gecko's format may have others in it.
type geckoFile struct {
	Shared    geckoTables   `json:"shared"` // of later versions of the processed format
	Threads   []geckoThread `json:"threads"`
	Processes []geckoFile   `json:"processes"`
}

// geckoTables are what may belong to a thread or to all.
type geckoTables struct {
	StackTable  geckoTable `json:"stackTable"`
	FrameTable  geckoTable `json:"frameTable"`
	FuncTable   geckoTable `json:"funcTable"`
	StringArray []string   `json:"stringArray"`
	StringTable []string   `json:"stringTable"` // Gecko's
}

type geckoThread struct {
	geckoTables
	Name    string     `json:"name"`
	Samples geckoTable `json:"samples"`
}

// A geckoTable has the columns that are read, or rows.
type geckoTable struct {
	Schema map[string]int `json:"schema"`
	Data   [][]geckoCell  `json:"data"`

	Prefix     []geckoCell `json:"prefix"` // of stacks
	Frame      []geckoCell `json:"frame"`
	Func       []geckoCell `json:"func"` // of frames
	Name       []geckoCell `json:"name"` // of functions
	Stack      []geckoCell `json:"stack"`
	Weight     []geckoCell `json:"weight"`
	WeightType string      `json:"weightType"`
}

// A geckoCell is a number, or NaN for null and for what is no number.
type geckoCell float64

func (c *geckoCell) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseFloat(string(b), 64)
	if *c = geckoCell(v); err != nil {
		*c = geckoCell(math.NaN())
	}
	return nil
}

func (c geckoCell) null() bool { return math.IsNaN(float64(c)) }

// index returns a cell as an index into n elements.
func (c geckoCell) index(n int) (int, error) {
	if i := int(c); !c.null() && float64(c) >= 0 && float64(c) < float64(n) && geckoCell(i) == c {
		return i, nil
	}
	return 0, fmt.Errorf("%v is not an index into %d elements", float64(c), n)
}

// column returns a column, which may be one of rows.
func (t *geckoTable) column(name string, column []geckoCell) []geckoCell {
	i, ok := t.Schema[name]
	if !ok || column != nil {
		return column
	}
	out := make([]geckoCell, len(t.Data))
	for k, row := range t.Data {
		if out[k] = geckoCell(math.NaN()); i >= 0 && i < len(row) {
			out[k] = row[i]
		}
	}
	return out
}

// Gecko reads a profile of the Firefox Profiler, as Firefox, samply, `perf script report
// gecko` and simpleperf write it. The samples of all threads are added up; a sample
// counts one or its weight. Weights in milliseconds or bytes give the profile's type,
// else the application's name does, as in Folded. The body may be compressed as in Pprof.
//
// Errors name the thread, the table and the row. size is the size of the body after
// decompression, in bytes.
func Gecko(body []byte, m Push, l Limits) (ps []profile.Profile, size int, err error) {
	raw, err := decompress(body, l)
	if err == nil {
		ps, err = readGecko(raw, &m, l)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("gecko: %w", err)
	}
	return ps, len(raw), nil
}

func readGecko(raw []byte, m *Push, l Limits) ([]profile.Profile, error) {
	raw, err := plainText(raw, l)
	if err != nil {
		return nil, err
	}
	var f geckoFile
	if err := CheckJSON(raw, l, int64(unsafe.Sizeof(geckoThread{}))); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(bytes.TrimSpace(raw), &f); err != nil {
		return nil, jsonError(err)
	}
	r := geckoReader{push: *m, limits: l, by: map[string]*geckoSeries{}}
	if err := r.file(&f, "", 0); err != nil {
		return nil, err
	}
	if r.threads == 0 {
		return nil, errors.New("threads: there are none")
	}
	var out []profile.Profile
	for _, s := range r.series {
		ps, _, err := s.stacks.profiles(s.stackType, &s.push, 0)
		if err != nil {
			return nil, err
		}
		out = append(out, ps...)
	}
	return out, nil
}

// A geckoReader merges threads by what their samples count.
type geckoReader struct {
	push    Push
	limits  Limits
	threads int
	series  []*geckoSeries
	by      map[string]*geckoSeries // by weightType
}

type geckoSeries struct {
	stackType
	push   Push
	stacks *stacks
	factor float64
	shared map[*geckoTables][]uint32 // nodes of threads without tables of their own
}

// maxProcesses bounds how deep processes are in processes.
const maxProcesses = 8

func (r *geckoReader) file(f *geckoFile, path string, depth int) error {
	if depth > maxProcesses {
		return fmt.Errorf("%sprocesses: more than %d in each other", path, maxProcesses)
	}
	for i := range f.Threads {
		r.threads++
		if err := r.thread(&f.Threads[i], &f.Shared); err != nil {
			return fmt.Errorf("%sthreads[%d].%w", path, i, err)
		}
	}
	for i := range f.Processes {
		if err := r.file(&f.Processes[i], fmt.Sprintf("%sprocesses[%d].", path, i), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (r *geckoReader) seriesOf(weightType string) (*geckoSeries, error) {
	if s := r.by[weightType]; s != nil {
		return s, nil
	}
	if weightType != "samples" && weightType != "tracing-ms" && weightType != "bytes" {
		return nil, fmt.Errorf("samples.weightType: %.100q is not one of samples, tracing-ms, bytes", weightType)
	}
	s := &geckoSeries{push: r.push, stacks: newStacks(r.limits), factor: 1, shared: map[*geckoTables][]uint32{}}
	if weightType == "bytes" && !strings.Contains(s.push.App, ".") {
		s.push.App += ".bytes"
	}
	if weightType != "samples" {
		s.push.SampleRate, s.push.Units, s.push.AggregationType = 0, "", ""
	}
	var err error
	if s.stackType, err = s.push.stackType(); err != nil {
		return nil, err
	}
	if weightType == "tracing-ms" {
		s.ofTime(1, 1)
		s.factor = 1e6
	}
	s.factor *= float64(max(s.scale, 1))
	s.scale = 0
	r.by[weightType] = s
	r.series = append(r.series, s)
	return s, nil
}

func (r *geckoReader) thread(t *geckoThread, shared *geckoTables) error {
	s, err := r.seriesOf(cmp.Or(t.Samples.WeightType, "samples"))
	if err != nil {
		return err
	}
	nodes, err := s.nodes(t, shared)
	if err != nil {
		return err
	}
	weights := t.Samples.column("weight", t.Samples.Weight)
	for i, stack := range t.Samples.column("stack", t.Samples.Stack) {
		if stack.null() {
			continue // the thread had no stacktrace
		}
		k, err := stack.index(len(nodes))
		if err != nil {
			return fmt.Errorf("samples.stack[%d]: %w", i, err)
		}
		weight := 1.0
		if i < len(weights) && !weights[i].null() {
			weight = float64(weights[i])
		}
		value := math.Round(weight * s.factor)
		if value >= math.MaxInt64 {
			return fmt.Errorf("samples.weight[%d]: %v is too large", i, weight)
		}
		if err := s.stacks.add(nodes[k], int64(value)); err != nil {
			return fmt.Errorf("samples.weight[%d]: %w", i, err)
		}
	}
	return nil
}

// nodes returns the node of each of a thread's stacks. Many threads may share all tables,
// which are read once.
func (s *geckoSeries) nodes(t *geckoThread, shared *geckoTables) (nodes []uint32, err error) {
	if t.StackTable.Frame != nil || t.StackTable.Schema != nil {
		return s.readNodes(&t.geckoTables, shared)
	}
	nodes, ok := s.shared[shared]
	if !ok {
		if nodes, err = s.readNodes(&geckoTables{}, shared); err == nil {
			s.shared[shared] = nodes
		}
	}
	return nodes, err
}

func (s *geckoSeries) readNodes(t, shared *geckoTables) ([]uint32, error) {
	pick := func(own, all *geckoTable, column func(*geckoTable) []geckoCell) []geckoCell {
		if c := column(own); c != nil {
			return c
		}
		return column(all)
	}
	frames := pick(&t.StackTable, &shared.StackTable, func(x *geckoTable) []geckoCell { return x.column("frame", x.Frame) })
	prefixes := pick(&t.StackTable, &shared.StackTable, func(x *geckoTable) []geckoCell { return x.column("prefix", x.Prefix) })
	functions := pick(&t.FrameTable, &shared.FrameTable, func(x *geckoTable) []geckoCell { return x.Func })
	names := pick(&t.FuncTable, &shared.FuncTable, func(x *geckoTable) []geckoCell { return x.Name })
	locations := pick(&t.FrameTable, &shared.FrameTable, func(x *geckoTable) []geckoCell { return x.column("location", nil) })
	var texts []string
	for _, list := range [][]string{t.StringArray, t.StringTable, shared.StringArray} {
		if texts == nil {
			texts = list
		}
	}
	if len(prefixes) != len(frames) {
		return nil, fmt.Errorf("stackTable: %d prefixes for %d frames", len(prefixes), len(frames))
	}
	number := map[int]uint32{} // of functions, by text
	nodes := make([]uint32, len(frames))
	for i := range frames {
		text, err := geckoName(frames[i], functions, names, locations)
		var k int
		if err == nil {
			k, err = text.index(len(texts))
		}
		if err != nil {
			return nil, fmt.Errorf("stackTable.frame[%d]: %w", i, err)
		}
		f, ok := number[k]
		if !ok {
			if f, err = s.stacks.function([]byte(texts[k])); err != nil {
				return nil, fmt.Errorf("stackTable.frame[%d]: %w", i, err)
			}
			number[k] = f
		}
		parent := uint32(0)
		if !prefixes[i].null() {
			p, err := prefixes[i].index(i)
			if err != nil {
				return nil, fmt.Errorf("stackTable.prefix[%d]: %w before it", i, err)
			}
			parent = nodes[p]
		}
		if nodes[i], err = s.stacks.child(parent, f); err != nil {
			return nil, fmt.Errorf("stackTable.frame[%d]: %w", i, err)
		}
	}
	return nodes, nil
}

// geckoName follows a frame to the index of its name: by its function in the processed
// format, by its location in Gecko's.
func geckoName(frame geckoCell, functions, names, locations []geckoCell) (geckoCell, error) {
	if functions == nil {
		i, err := frame.index(len(locations))
		if err != nil {
			return 0, err
		}
		return locations[i], nil
	}
	i, err := frame.index(len(functions))
	if err != nil {
		return 0, err
	}
	if i, err = functions[i].index(len(names)); err != nil {
		return 0, err
	}
	return names[i], nil
}
