package render

import (
	"bufio"
	"encoding/json"
	"io"
	"strconv"

	"github.com/flameline/flameline/pkg/profile"
)

// The versions of the Firefox Profiler's formats that are written: of Gecko's, and of the
// processed format, in which samples have weights (firefox-devtools/profiler,
// docs-developer/CHANGELOG-formats.md). The profiler converts older versions when it
// opens them.
const (
	geckoVersion     = 27
	processedVersion = 48
)

// writeGecko writes one thread with a sample per stacktrace that has a self value, whose
// weight is that value: in milliseconds for times, in bytes for bytes, else a number of
// samples. Samples follow each other on the time line in the order of the tree, each as
// long as its weight for times, a millisecond otherwise.
func writeGecko(w io.Writer, d *Document) error {
	g := geckoTables{names: map[int32]int{}}
	dimension, size := profile.ParseUnit(d.Type.SampleUnit)
	weightType, divisor := "samples", 0.0 // 0: whole numbers
	switch dimension {
	case profile.Time:
		weightType, divisor = "tracing-ms", 1e6
	case profile.Bytes:
		weightType, divisor = "bytes", 1
	}
	g.walk(d.Tree)

	b := bufio.NewWriter(w)
	text := func(s string) { _, _ = b.WriteString(s) } // Flush returns errors
	start := 0.0
	if !d.Start.IsZero() {
		start = float64(d.Start.UnixNano()) / 1e6
	}
	text(`{"meta":{"interval":1,"startTime":` + number(start) +
		`,"processType":0,"product":` + quote(d.title()) +
		`,"stackwalk":1,"debug":false,"version":` + strconv.Itoa(geckoVersion) +
		`,"preprocessedProfileVersion":` + strconv.Itoa(processedVersion) +
		`,"symbolicated":true,"importedFrom":"flameline","categories":[{"name":"Other","color":"grey","subcategories":["Other"]}]` +
		`,"markerSchema":[],"physicalCPUs":0,"logicalCPUs":0,"sourceURL":"","usesOnlyOneStackType":true,"doesNotUseFrameImplementation":true,"sourceCodeIsNotOnSearchfox":true},` +
		`"libs":[],"pages":[],"counters":[],"threads":[{"processType":"default","processStartupTime":0,"processShutdownTime":null,` +
		`"registerTime":0,"unregisterTime":null,"pausedRanges":[],"isMainThread":true,"pid":"0","tid":0,"name":` + quote(d.title()) + `,"processName":` + quote(d.title()) + ",\n" +
		`"markers":{"length":0,"data":[],"name":[],"startTime":[],"endTime":[],"phase":[],"category":[]},` + "\n")

	// samples
	text(`"samples":{"length":` + strconv.Itoa(len(g.samples)) + `,"weightType":` + quote(weightType) + `,"stack":`)
	list(b, len(g.samples), func(i int) string { return orNull(g.samples[i].stack) })
	text(`,"time":`)
	at := 0.0
	list(b, len(g.samples), func(i int) string {
		t := at
		if dimension == profile.Time {
			at += float64(g.samples[i].value) * size / divisor
		} else {
			at++
		}
		return number(t)
	})
	text(`,"weight":`)
	list(b, len(g.samples), func(i int) string {
		if divisor == 0 {
			return strconv.FormatInt(g.samples[i].value, 10)
		}
		return number(float64(g.samples[i].value) * size / divisor)
	})
	zero := func(int) string { return "0" }
	null := func(int) string { return "null" }
	minus := func(int) string { return "-1" }
	no := func(int) string { return "false" }

	n := len(g.frames)
	text("},\n" + `"stackTable":{"length":` + strconv.Itoa(n) + `,"frame":`)
	list(b, n, func(i int) string { return strconv.Itoa(g.frames[i]) })
	text(`,"prefix":`)
	list(b, n, func(i int) string { return orNull(g.prefix[i]) })
	text(`,"category":`)
	list(b, n, zero)
	text(`,"subcategory":`)
	list(b, n, zero)

	// A frame and a function per name.
	n = len(g.order)
	text("},\n" + `"frameTable":{"length":` + strconv.Itoa(n))
	for _, c := range []struct {
		name string
		of   func(int) string
	}{
		{"address", minus}, {"inlineDepth", zero}, {"category", zero}, {"subcategory", zero}, {"func", strconv.Itoa},
		{"nativeSymbol", null}, {"innerWindowID", zero}, {"implementation", null}, {"line", null}, {"column", null},
	} {
		text(`,"` + c.name + `":`)
		list(b, n, c.of)
	}
	text("},\n" + `"funcTable":{"length":` + strconv.Itoa(n))
	for _, c := range []struct {
		name string
		of   func(int) string
	}{
		{"name", strconv.Itoa}, {"isJS", no}, {"relevantForJS", no}, {"resource", minus},
		{"fileName", null}, {"lineNumber", null}, {"columnNumber", null},
	} {
		text(`,"` + c.name + `":`)
		list(b, n, c.of)
	}
	text("},\n" + `"resourceTable":{"length":0,"lib":[],"name":[],"host":[],"type":[]},` +
		`"nativeSymbols":{"length":0,"libIndex":[],"address":[],"name":[],"functionSize":[]},` + "\n" + `"stringArray":`)
	list(b, n, func(i int) string { return quote(d.Tree.Names[g.order[i]]) })
	text("}]}\n")
	return b.Flush()
}

// geckoTables are the columns of a thread. A frame's number is that of its function and
// of its name.
type geckoTables struct {
	names          map[int32]int // by the tree's number of a name
	order          []int32       // of the tree's names
	frames, prefix []int         // of stacks; prefix is -1 for an outermost frame
	samples        []geckoSample
}

type geckoSample struct {
	stack int // -1 for the root
	value int64
}

func (g *geckoTables) walk(t *profile.Tree) {
	var open []int // stack by level
	t.Walk(func(level int, n *profile.Node, _ string) {
		stack := -1
		if level > 0 {
			name, ok := g.names[n.Name]
			if !ok {
				name = len(g.order)
				g.names[n.Name] = name
				g.order = append(g.order, n.Name)
			}
			stack = len(g.frames)
			g.frames = append(g.frames, name)
			g.prefix = append(g.prefix, open[level-1])
		}
		open = append(open[:level], stack)
		if n.Self != 0 {
			g.samples = append(g.samples, geckoSample{stack, n.Self})
		}
	})
}

func list(b *bufio.Writer, n int, of func(int) string) {
	_ = b.WriteByte('[') // Flush returns errors
	for i := range n {
		if i > 0 {
			_ = b.WriteByte(',')
		}
		_, _ = b.WriteString(of(i))
	}
	_ = b.WriteByte(']')
}

func orNull(i int) string {
	if i < 0 {
		return "null"
	}
	return strconv.Itoa(i)
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func quote(s string) string {
	b, _ := json.Marshal(s) // of a string: it cannot fail
	return string(b)
}
