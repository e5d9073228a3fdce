//go:build linux && (amd64 || arm64)

package sample

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unique"

	"go.opentelemetry.io/ebpf-profiler/libpf"

	"github.com/flameline/flameline/collector/symbolize"
)

// Bounds of the cache of locations. It holds two generations, so that what is
// in use survives when the older one is dropped.
const (
	generationSize = 16384
	generationAge  = 5 * time.Minute
)

// frames turns the unwinder's frames into locations. It is used by one
// goroutine.
type frames struct {
	symbolizer Symbolizer
	binaries   *binaries
	metrics    *metrics

	young, old generation
	born       time.Time

	// prepared are functions that prepare looked up.
	prepared map[codeAddress]named
}

// A named is the functions at an address, innermost first; without lines they are unknown.
type named struct {
	lines []line
	inGo  bool // from a Go program's own tables
}

// A codeAddress is an address in a binary.
type codeAddress struct {
	file libpf.FileID
	addr uint64
}

// A generation maps frames to locations, and what a location shows to the one
// instance that stands for it: a function has many addresses.
type generation struct {
	byFrame map[unique.Handle[libpf.Frame]]*location
	byKey   map[string]*location
}

func newGeneration() generation {
	return generation{
		byFrame: map[unique.Handle[libpf.Frame]]*location{},
		byKey:   map[string]*location{},
	}
}

func newFrames(s Symbolizer, b *binaries, m *metrics) *frames {
	return &frames{symbolizer: s, binaries: b, metrics: m, young: newGeneration(), old: newGeneration(), born: time.Now()}
}

// locations appends the locations of an unwound stacktrace to dst, which
// occurred n times.
func (f *frames) locations(dst []*location, fs libpf.Frames, n int64) []*location {
	for _, h := range fs {
		l := f.location(h)
		f.count(l, n)
		dst = append(dst, l)
	}
	return dst
}

func (f *frames) count(l *location, n int64) {
	f.metrics.framesByKind[l.kind].Add(float64(n))
	if l.unknown {
		f.metrics.unsymbolizedByKind[l.kind].Add(float64(n))
	}
}

// location returns what a frame shows.
func (f *frames) location(h unique.Handle[libpf.Frame]) *location {
	if l, ok := f.young.byFrame[h]; ok {
		return l
	}
	l, ok := f.old.byFrame[h]
	if !ok || l.unknown {
		// What was unknown is asked again once in a generation: its symbols may
		// have become readable.
		l = f.intern(f.convert(h.Value()))
	} else {
		l = f.intern(l)
	}
	f.young.byFrame[h] = l
	return l
}

// prepare looks up all native functions of some events that location is going to be
// asked for: those of a binary at once, as reading it takes about as long for one.
func (f *frames) prepare(ts []*tally) {
	wanted := map[libpf.FileID][]uint64{}
	f.prepared = map[codeAddress]named{}
	want := func(id libpf.FileID, addr uint64) {
		if _, ok := f.prepared[codeAddress{id, addr}]; !ok {
			f.prepared[codeAddress{id, addr}] = named{}
			wanted[id] = append(wanted[id], addr)
		}
	}
	for _, t := range ts {
		for _, e := range t.events {
			if e.labels.IsEmpty() {
				continue
			}
			if e.chain != nil {
				for _, p := range e.chain.places {
					if b, addr, ok := f.binaries.find(p); ok {
						want(b.id, addr)
					}
				}
			}
			for _, h := range e.frames {
				if f.known(h) {
					continue
				}
				fr := h.Value()
				if k := kindOf(fr.Type); k != kindNative && k != kindGo || fr.Type.IsError() || !fr.Mapping.Valid() {
					continue
				}
				want(fr.Mapping.Value().File.Value().FileID, uint64(fr.AddressOrLineno))
			}
		}
	}
	for id, addrs := range wanted {
		f.nameAll(id, addrs)
	}
}

// nameAll puts the functions at addresses of a binary into prepared.
func (f *frames) nameAll(id libpf.FileID, addrs []uint64) {
	var others []uint64
	for i, lines := range f.binaries.goLines(id, addrs...) {
		if lines == nil {
			others = append(others, addrs[i])
			continue
		}
		f.prepared[codeAddress{id, addrs[i]}] = named{lines: lines, inGo: true}
	}
	if len(others) == 0 || f.symbolizer == nil {
		return
	}
	start := time.Now()
	for i, found := range f.symbolizer.LookupAll(symbolize.FileID(id.Bytes()), others) {
		f.prepared[codeAddress{id, others[i]}] = named{lines: linesOf(found)}
	}
	f.metrics.symbolSeconds.Add(time.Since(start).Seconds())
}

// known reports whether location need not name a frame.
func (f *frames) known(h unique.Handle[libpf.Frame]) bool {
	if _, ok := f.young.byFrame[h]; ok {
		return true
	}
	l, ok := f.old.byFrame[h]
	return ok && !l.unknown
}

// intern returns the one location that shows the same.
func (f *frames) intern(l *location) *location {
	k := l.key()
	if same, ok := f.young.byKey[k]; ok {
		return same
	}
	if same, ok := f.old.byKey[k]; ok {
		l = same
	}
	f.young.byKey[k] = l
	return l
}

// age drops the older generation when the younger one is full or old.
func (f *frames) age(now time.Time) {
	if len(f.young.byFrame) < generationSize && now.Sub(f.born) < generationAge {
		return
	}
	f.old, f.young, f.born = f.young, newGeneration(), now
}

// convert names a frame.
func (f *frames) convert(fr libpf.Frame) *location {
	var m libpf.FrameMappingFileData
	if fr.Mapping.Valid() {
		m = fr.Mapping.Value().File.Value()
	}
	l := &location{
		module: module{name: m.FileName.String(), buildID: m.GnuBuildID},
		kind:   kindOf(fr.Type),
	}
	switch {
	case fr.Type.IsError():
		l.kind = kindError
		l.module = module{}
		l.lines = []line{{function: errorName(fr)}}
		return l
	case l.kind == kindNative || l.kind == kindGo:
		if fr.Mapping.Valid() {
			f.native(l, m.FileID, uint64(fr.AddressOrLineno))
		} else if isJIT(fr) {
			l.unknown = true
			l.lines = []line{{function: jitName}}
		}
		if l.lines == nil && fr.FunctionName == libpf.NullString {
			l.unknown = true
			l.address = uint64(fr.AddressOrLineno)
			l.lines = []line{{function: unknownName(l.module.name, l.address)}}
		}
		if l.lines != nil {
			return l
		}
	}
	name, file := fr.FunctionName.String(), fr.SourceFile.String()
	switch {
	case name != "":
	case l.kind == kindNode && file != "" && file != "<unknown>":
		name = "(anonymous)"
	default:
		l.unknown = true
		l.address = uint64(fr.AddressOrLineno)
		if l.kind == kindKernel {
			name = unknownName(l.module.name, l.address)
		} else {
			name = fmt.Sprintf("[unknown %s function]", fr.Type)
		}
	}
	if l.kind == kindKernel {
		file = l.module.name
	}
	l.lines = []line{{function: name, file: file, number: int64(fr.SourceLine)}}
	clean(l.kind, l.lines)
	return l
}

// native names code of a binary: from the tables that every Go program has, which
// know inlined calls, or by the symbolizer. It leaves no lines if neither knows.
func (f *frames) native(l *location, id libpf.FileID, addr uint64) {
	if n, ok := f.prepared[codeAddress{id, addr}]; ok {
		l.lines = slices.Clone(n.lines)
		if n.inGo {
			l.kind = kindGo
		}
	} else if l.lines = f.binaries.goLines(id, addr)[0]; l.lines != nil {
		l.kind = kindGo
	} else if f.symbolizer != nil {
		l.lines = f.lookup(id, addr)
	}
	clean(l.kind, l.lines)
}

// jitName stands for functions of JIT compilers that the unwinder does not know.
const jitName = "[JIT code]"

// lookup asks the symbolizer; nil means that it does not know.
func (f *frames) lookup(id libpf.FileID, addr uint64) []line {
	start := time.Now()
	found, ok := f.symbolizer.Lookup(symbolize.FileID(id.Bytes()), addr)
	f.metrics.symbolSeconds.Add(time.Since(start).Seconds())
	if !ok {
		return nil
	}
	return linesOf(found)
}

// linesOf returns what the symbolizer found, nil if it found nothing.
func linesOf(found []symbolize.Line) []line {
	if len(found) == 0 {
		return nil
	}
	lines := make([]line, len(found))
	for i, ln := range found {
		lines[i] = line{function: ln.Function, file: ln.File, number: ln.Line}
	}
	return lines
}

func kindOf(t libpf.FrameType) kind {
	switch t.Interpreter() {
	case libpf.Native:
		return kindNative
	case libpf.Kernel:
		return kindKernel
	case libpf.Go:
		return kindGo
	case libpf.HotSpot:
		return kindJVM
	case libpf.Python:
		return kindPython
	case libpf.V8:
		return kindNode
	default:
		return kindOther
	}
}

// unknownName stands for a function without symbols.
func unknownName(module string, addr uint64) string {
	if module == "" {
		return fmt.Sprintf("[unknown]+0x%x", addr)
	}
	return fmt.Sprintf("%s+0x%x", module, addr)
}

// clean writes functions and files as the users of their language know them.
func clean(k kind, lines []line) {
	for i := range lines {
		ln := &lines[i]
		if ln.file == "<unknown>" {
			ln.file = ""
		}
		switch k {
		case kindNative:
			ln.function = strings.TrimSuffix(ln.function, ".abi0") // Go's assembly
		case kindGo:
			ln.function = goName(ln.function)
		case kindJVM:
			ln.function = javaName(ln.function)
		case kindNode:
			if ln.function == "<anonymous>" {
				ln.function = "(anonymous)"
			}
		}
	}
}

// goName leaves out type arguments as Go's own profiles do, "f[...]", and the
// suffix of functions in assembly.
func goName(name string) string {
	name = strings.TrimSuffix(name, ".abi0")
	i, j := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']')
	if i < 0 || j < i {
		return name
	}
	return name[:i] + "[...]" + name[j+1:]
}

// javaName turns "void org.example.Foo.bar(int, java.lang.String)" into
// "org.example.Foo.bar"; anything else stays as it is.
func javaName(name string) string {
	name = strings.Replace(name, "+<hidden>", "", 1) // of a lambda's class
	i := strings.IndexByte(name, '(')
	if i < 0 || !strings.HasSuffix(name, ")") {
		return name
	}
	head := name[:i]
	if j := strings.LastIndexByte(head, ' '); j >= 0 {
		head = head[j+1:]
	}
	if head == "" {
		return name
	}
	return head
}
