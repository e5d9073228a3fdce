package render

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	pprof "github.com/google/pprof/profile"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/pkg/profile"
)

// document has recursion, a value of the root, and names that every format has to
// escape.
func document(unit string) *Document {
	b := profile.NewBuilder(0)
	call := func(value int64, names ...string) {
		n := int32(0)
		for _, name := range names {
			n = b.Child(n, b.Name(name))
		}
		b.Add(n, value)
	}
	call(10, "main", "work")
	call(5, "main", "work", "work")
	call(7, "main", `</script><b>"\ &`)
	call(3, "idle")
	return &Document{
		Title: "a <title>", Type: profile.Type{SampleType: "cpu", SampleUnit: unit}, Tree: b.Tree(),
		Start: time.Unix(1_700_000_000, 0), Duration: 10 * time.Second,
	}
}

const want = `idle 3
main;</script><b>"\ & 7
main;work 10
main;work;work 5
`

func write(t *testing.T, f Format, d *Document) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, Write(&b, f, d))
	return b.Bytes()
}

func TestFolded(t *testing.T) {
	require.Equal(t, want, string(write(t, Folded, document("nanoseconds"))))
}

// The library of `go tool pprof` reads the same stacktraces, types and times.
func TestPprof(t *testing.T) {
	p, err := pprof.ParseData(write(t, Pprof, document("nanoseconds")))
	require.NoError(t, err)
	require.NoError(t, p.CheckValid())
	require.Equal(t, "cpu", p.SampleType[0].Type)
	require.Equal(t, "nanoseconds", p.SampleType[0].Unit)
	require.EqualValues(t, 10*time.Second, p.DurationNanos)
	require.Equal(t, time.Unix(1_700_000_000, 0).UnixNano(), p.TimeNanos)
	got := map[string]int64{}
	for _, s := range p.Sample {
		var names []string
		for _, l := range s.Location {
			names = append([]string{l.Line[0].Function.Name}, names...)
		}
		got[strings.Join(names, ";")] = s.Value[0]
	}
	require.Equal(t, map[string]int64{"idle": 3, `main;</script><b>"\ &`: 7, "main;work": 10, "main;work;work": 5}, got)
}

// What is written as JSON is read back with the same values and units.
func TestJSON(t *testing.T) {
	push := ingest.Push{App: "x", Labels: labels.FromStrings("service_name", "x")}
	for _, unit := range []string{"nanoseconds", "milliseconds", "bytes", "count", "cycles"} {
		for f, read := range map[Format]func([]byte, ingest.Push, ingest.Limits) ([]profile.Profile, int, error){
			Speedscope: ingest.Speedscope, Gecko: ingest.Gecko,
		} {
			text := write(t, f, document(unit))
			require.True(t, json.Valid(text), "%s", f)
			ps, _, err := read(text, push, ingest.Limits{})
			require.NoError(t, err, "%s in %s", f, unit)
			require.Len(t, ps, 1)
			sum := int64(0)
			for _, s := range ps[0].Pprof.Sample {
				sum += s.Value[0]
			}
			factor := map[string]int64{"milliseconds": 1e6}[unit]
			require.Equal(t, 25*max(factor, 1), sum, "%s in %s", f, unit)
			require.Len(t, ps[0].Pprof.Sample, 4)
			wantUnit := map[string]string{"cycles": "count", "milliseconds": "nanoseconds"}[unit]
			if wantUnit == "" {
				wantUnit = unit
			}
			require.Equal(t, wantUnit, ps[0].Pprof.StringTable[ps[0].Pprof.SampleType[0].Unit], "%s in %s", f, unit)
		}
	}
}

// The Firefox Profiler's tables have one element per row in every column.
func TestGeckoColumns(t *testing.T) {
	var f struct {
		Meta    map[string]any
		Threads []map[string]any
	}
	require.NoError(t, json.Unmarshal(write(t, Gecko, document("nanoseconds")), &f))
	require.EqualValues(t, processedVersion, f.Meta["preprocessedProfileVersion"])
	tables := 0
	for name, table := range f.Threads[0] {
		columns, ok := table.(map[string]any)
		if !ok {
			continue
		}
		tables++
		for column, values := range columns {
			if list, ok := values.([]any); ok {
				require.Len(t, list, int(columns["length"].(float64)), "%s.%s", name, column)
			}
		}
	}
	require.Equal(t, 7, tables)
	samples := f.Threads[0]["samples"].(map[string]any)
	require.Equal(t, "tracing-ms", samples["weightType"])
	require.Equal(t, []any{3e-6, 7e-6, 10e-6, 5e-6}, samples["weight"])
}

// An interactive picture is XML that needs nothing from elsewhere, with a box per call.
func TestSVG(t *testing.T) {
	text := write(t, SVG, document("nanoseconds"))
	boxes, scripts := 0, 0
	d := xml.NewDecoder(bytes.NewReader(text))
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		switch start.Name.Local {
		case "g":
			for _, a := range start.Attr {
				if a.Name.Local == "data-b" {
					require.Regexp(t, `^\d+,[\d.e-]+,[\d.e-]+$`, a.Value)
					boxes++
				}
			}
		case "script":
			scripts++
		}
		for _, a := range start.Attr {
			require.NotContains(t, []string{"href", "src"}, a.Name.Local)
		}
	}
	require.Equal(t, 6, boxes)
	require.Equal(t, 1, scripts)
}

// A page has its data as JSON that no name can end, and loads nothing.
func TestHTML(t *testing.T) {
	d := document("nanoseconds")
	text := string(write(t, HTML, d))
	require.Contains(t, text, "<title>a &lt;title&gt;</title>")
	require.Equal(t, 2, strings.Count(text, "</script>"))
	require.NotRegexp(t, `(src|href)=`, text)
	data := regexp.MustCompile(`(?s)<script type="application/json" id="data">(.*?)</script>`).FindStringSubmatch(text)
	require.NotNil(t, data)
	var p pageData
	require.NoError(t, json.Unmarshal([]byte(data[1]), &p))
	require.Equal(t, "time", p.Dimension)
	require.Len(t, p.Nodes, 6*4)
	require.Equal(t, []int64{0, 0, 0, 25, 1}, p.Nodes[:5])
	require.Contains(t, p.Names, `</script><b>"\ &`)

	var b bytes.Buffer
	require.NoError(t, WriteDiff(&b, HTML, &Comparison{Title: "x", Type: d.Type, Tree: profile.Diff(d.Tree, profile.NewBuilder(0).Tree())}))
	data = regexp.MustCompile(`(?s)<script type="application/json" id="data">(.*?)</script>`).FindStringSubmatch(b.String())
	require.NoError(t, json.Unmarshal([]byte(data[1]), &p))
	require.True(t, p.Diff)
	require.Equal(t, []int64{0, 0, 0, 25, 0, 0}, p.Nodes[:6])
}

func TestDiff(t *testing.T) {
	d := document("count")
	c := &Comparison{Type: d.Type, Tree: profile.Diff(d.Tree, d.Tree)}
	var b bytes.Buffer
	require.NoError(t, WriteDiff(&b, Folded, c))
	require.Contains(t, b.String(), "main;work;work 5 5\n")
	require.ErrorContains(t, WriteDiff(&b, Pprof, c), "a comparison cannot be written as pprof, only as folded, svg, html")
}

func TestByExtension(t *testing.T) {
	for name, want := range map[string]Format{
		"a.folded": Folded, "A.SVG": SVG, "x/y.z.pb.gz": Pprof, "a.speedscope.json": Speedscope, "a.gecko.json": Gecko, "a.json": Gecko, "a.htm": HTML, "a.txt": Folded,
	} {
		f, err := ByExtension(name)
		require.NoError(t, err)
		require.Equal(t, want, f, name)
	}
	for _, name := range []string{"a", "svg", "a.gz", "a.svg/b"} {
		_, err := ByExtension(name)
		require.ErrorContains(t, err, name+": the extension names no format", name)
	}
	_, err := ParseFormat("png")
	require.EqualError(t, err, `format "png" is not one of folded, pprof, speedscope, gecko, svg, html`)
}

// A failing writer is an error in every format.
func TestWriteErrors(t *testing.T) {
	for _, f := range Formats {
		require.Error(t, Write(full{}, Format(f), document("bytes")), f)
	}
	require.Error(t, Write(io.Discard, "x", document("bytes")))
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, fmt.Errorf("no space") }
