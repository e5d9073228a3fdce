//go:build linux && (amd64 || arm64)

package sample

import (
	"fmt"
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
	metrics    *metrics

	young, old generation
	born       time.Time
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

func newFrames(s Symbolizer, m *metrics) *frames {
	return &frames{symbolizer: s, metrics: m, young: newGeneration(), old: newGeneration(), born: time.Now()}
}

// locations appends the locations of an unwound stacktrace to dst.
func (f *frames) locations(dst []*location, fs libpf.Frames) []*location {
	for _, h := range fs {
		l := f.location(h)
		f.count(l)
		dst = append(dst, l)
	}
	return dst
}

func (f *frames) count(l *location) {
	f.metrics.framesByKind[l.kind].Inc()
	if l.unknown {
		f.metrics.unsymbolizedByKind[l.kind].Inc()
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
	case l.kind == kindNative:
		if fr.Mapping.Valid() && f.symbolizer != nil {
			l.lines = f.lookup(m.FileID, uint64(fr.AddressOrLineno))
		}
		if l.lines == nil {
			l.unknown = true
			l.address = uint64(fr.AddressOrLineno)
			l.lines = []line{{function: unknownName(l.module.name, l.address)}}
		}
		return l
	case l.kind == kindGo && f.symbolizer != nil:
		// The unwinder names the function that the code was compiled into; a
		// symbolizer that sees more than that knows what was inlined.
		if lines := f.lookup(m.FileID, uint64(fr.AddressOrLineno)); len(lines) > 1 {
			l.lines = lines
			return l
		}
	}
	name, file := fr.FunctionName.String(), fr.SourceFile.String()
	if name == "" {
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
	l.lines = []line{{
		function: cleanName(l.kind, name),
		file:     file,
		number:   int64(fr.SourceLine),
	}}
	return l
}

// lookup asks the symbolizer; nil means that it does not know.
func (f *frames) lookup(id libpf.FileID, addr uint64) []line {
	start := time.Now()
	found, ok := f.symbolizer.Lookup(symbolize.FileID(id.Bytes()), addr)
	f.metrics.symbolSeconds.Add(time.Since(start).Seconds())
	if !ok || len(found) == 0 {
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

// cleanName writes a function's name as the users of its language know it.
func cleanName(k kind, name string) string {
	switch k {
	case kindJVM:
		return javaName(name)
	case kindNode:
		if name == "" || name == "<anonymous>" {
			return "(anonymous)"
		}
	}
	return name
}

// javaName turns "void org.example.Foo.bar(int, java.lang.String)" into
// "org.example.Foo.bar"; anything else stays as it is.
func javaName(name string) string {
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
