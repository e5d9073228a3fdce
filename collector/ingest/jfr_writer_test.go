package ingest

import (
	"encoding/binary"
	"strconv"
	"testing"
	"time"
)

// A jfrWriter writes recordings of one chunk, for what no recorder here does: rare
// events, other clocks. Stacktraces are lists of frames, leaf first.
type jfrWriter struct {
	begin    time.Time
	duration time.Duration
	ticks    uint64 // per second
	settings map[jfrSetting]string
	events   []jfrWritten
}

// A jfrWritten is an event. Without a stacktrace, stack is nil.
type jfrWritten struct {
	event  string
	at     time.Duration // since the chunk's begin
	stack  []string
	fields map[string]uint64
}

func (w *jfrWriter) add(event string, at time.Duration, stack []string, fields map[string]uint64) {
	w.events = append(w.events, jfrWritten{event, at, stack, fields})
}

// inTicks is a duration in the recording's unit.
func (w *jfrWriter) inTicks(d time.Duration) uint64 {
	return uint64(d.Seconds() * float64(w.ticks))
}

// jfrWrittenField is a field: its name and class, and whether it is a reference.
type jfrWrittenField struct {
	name, class string
	pooled      bool
}

var (
	jfrStack = jfrWrittenField{"stackTrace", "jdk.types.StackTrace", true}
	jfrStart = jfrWrittenField{"startTime", "long", false}
	// jfrWrittenClasses are in the order of their IDs, from 10.
	jfrWrittenClasses = []struct {
		name   string
		fields []jfrWrittenField
	}{
		{"boolean", nil}, {"byte", nil}, {"short", nil}, {"int", nil}, {"long", nil}, {"float", nil}, {"double", nil}, {"char", nil},
		{"java.lang.String", nil}, {"java.lang.Thread", nil}, {"jdk.types.ClassLoader", nil}, {"jdk.types.Package", nil},
		{"jdk.types.FrameType", nil}, {"jdk.types.ThreadState", nil},
		{"jdk.types.Symbol", []jfrWrittenField{{"string", "java.lang.String", false}}},
		{"java.lang.Class", []jfrWrittenField{{"name", "jdk.types.Symbol", true}}},
		{"jdk.types.Method", []jfrWrittenField{{"type", "java.lang.Class", true}, {"name", "jdk.types.Symbol", true}}},
		{"jdk.types.StackFrame", []jfrWrittenField{{"method", "jdk.types.Method", true}, {"lineNumber", "int", false}}},
		{"jdk.types.StackTrace", []jfrWrittenField{{"truncated", "boolean", false}, {"frames", "jdk.types.StackFrame", false}}},
		{"jdk.ActiveSetting", []jfrWrittenField{jfrStart, {"id", "long", false}, {"name", "java.lang.String", false}, {"value", "java.lang.String", false}}},
		{jfrExecutionSample, []jfrWrittenField{jfrStart, jfrStack}},
		{jfrCPUTimeSample, []jfrWrittenField{jfrStart, jfrStack, {"failed", "boolean", false}, {"samplingPeriod", "long", false}}},
		{jfrCPUTimeSamplesLost, []jfrWrittenField{jfrStart, {"lostSamples", "int", false}}},
		{"jdk.ThreadPark", []jfrWrittenField{jfrStart, {"duration", "long", false}, jfrStack}},
		{jfrWallClockSample, []jfrWrittenField{jfrStart, jfrStack, {"samples", "int", false}, {"timeSpan", "long", false}}},
		{"profiler.LiveObject", []jfrWrittenField{jfrStart, jfrStack}},
		{"jdk.OldObjectSample", []jfrWrittenField{jfrStart, {"weight", "float", false}, jfrStack, {"objectAge", "long", false}}},
		{"jdk.SocketRead", []jfrWrittenField{jfrStart, {"duration", "long", false}, jfrStack}},
		{"jdk.CPULoad", []jfrWrittenField{jfrStart, {"jvmUser", "float", false}}},
	}
)

func jfrClassID(name string) int {
	for i, c := range jfrWrittenClasses {
		if c.name == name {
			return i + 10
		}
	}
	panic("no class " + name)
}

func varints(b []byte, vs ...uint64) []byte {
	for _, v := range vs {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func jfrText(b []byte, s string) []byte {
	return append(varints(append(b, 3), uint64(len(s))), s...)
}

// event puts the size before an event's type and the rest.
func jfrEvent(b, content []byte) []byte {
	for n := 1; ; n++ { // a size counts itself
		size := varints(nil, uint64(len(content)+n))
		if len(size) == n {
			return append(append(b, size...), content...)
		}
	}
}

const jfrStartTicks = 1 << 50

func (w *jfrWriter) bytes(t testing.TB) []byte {
	t.Helper()
	if w.ticks == 0 {
		w.ticks = 1e9
	}
	b := make([]byte, jfrHeaderSize)
	for s, value := range w.settings {
		e := varints(nil, uint64(jfrClassID("jdk.ActiveSetting")), jfrStartTicks, uint64(jfrClassID(s.event)))
		b = jfrEvent(b, jfrText(jfrText(e, s.name), value))
	}
	methods, stacks := map[string]uint64{}, [][]string{}
	for _, e := range w.events {
		content := varints(nil, uint64(jfrClassID(e.event)))
		for _, f := range jfrWrittenClasses[jfrClassID(e.event)-10].fields {
			switch {
			case f.name == "startTime":
				ticks := int64(jfrStartTicks) + int64(e.at.Seconds()*float64(w.ticks))
				content = varints(content, uint64(ticks))
			case f.name == "stackTrace" && e.stack == nil:
				content = append(content, 0)
			case f.name == "stackTrace":
				stacks = append(stacks, e.stack)
				content = varints(content, uint64(len(stacks)))
				for _, name := range e.stack {
					if methods[name] == 0 {
						methods[name] = uint64(len(methods)) + 1
					}
				}
			case f.class == "float":
				content = append(content, 0, 0, 0, 0)
			case f.class == "boolean":
				content = append(content, byte(e.fields[f.name]))
			default:
				content = varints(content, e.fields[f.name])
			}
		}
		b = jfrEvent(b, content)
	}
	pools := len(b)
	b = jfrEvent(b, jfrPools(methods, stacks))
	metadata := len(b)
	b = jfrEvent(b, jfrMetadata())
	for at, v := range map[int]uint64{
		8: uint64(len(b)), 16: uint64(pools), 24: uint64(metadata), 32: uint64(w.begin.UnixNano()),
		40: uint64(w.duration), 48: jfrStartTicks, 56: w.ticks,
	} {
		binary.BigEndian.PutUint64(b[at:], v)
	}
	copy(b, "FLR\x00\x00\x02\x00\x00")
	b[67] = 1
	return b
}

func jfrPools(methods map[string]uint64, stacks [][]string) []byte {
	b := varints(nil, 1, 0, 0, 0, 1, 4)
	b = varints(b, uint64(jfrClassID("jdk.types.Symbol")), uint64(len(methods))+1)
	b = jfrText(varints(b, 1), "Main")
	for name, id := range methods {
		b = jfrText(varints(b, id+1), name)
	}
	b = varints(b, uint64(jfrClassID("java.lang.Class")), 1, 1, 1)
	b = varints(b, uint64(jfrClassID("jdk.types.Method")), uint64(len(methods)))
	for _, id := range methods {
		b = varints(b, id, 1, id+1)
	}
	b = varints(b, uint64(jfrClassID("jdk.types.StackTrace")), uint64(len(stacks)))
	for i, stack := range stacks {
		b = varints(b, uint64(i)+1, 0, uint64(len(stack)))
		for _, name := range stack {
			b = varints(b, methods[name], 7)
		}
	}
	return b
}

func jfrMetadata() []byte {
	var table []string
	known := map[string]uint64{}
	text := func(s string) uint64 {
		i, ok := known[s]
		if !ok {
			i = uint64(len(table))
			known[s] = i
			table = append(table, s)
		}
		return i
	}
	element := func(b []byte, name string, children int, attributes ...string) []byte {
		b = varints(b, text(name), uint64(len(attributes)/2))
		for _, a := range attributes {
			b = varints(b, text(a))
		}
		return varints(b, uint64(children))
	}
	tree := element(nil, "root", 2)
	tree = element(tree, "metadata", len(jfrWrittenClasses))
	for i, c := range jfrWrittenClasses {
		tree = element(tree, "class", len(c.fields), "name", c.name, "id", strconv.Itoa(i+10))
		for _, f := range c.fields {
			attributes := []string{"name", f.name, "class", strconv.Itoa(jfrClassID(f.class))}
			if f.pooled {
				attributes = append(attributes, "constantPool", "true")
			}
			if f.name == "frames" {
				attributes = append(attributes, "dimension", "1")
			}
			tree = element(tree, "field", 0, attributes...)
		}
	}
	tree = element(tree, "region", 0)
	b := varints(nil, 0, 0, 0, 0, uint64(len(table)))
	for _, s := range table {
		b = jfrText(b, s)
	}
	return append(b, tree...)
}
