package server_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// An ingestPush is a request to /ingest. The service of each is told apart by
// its name, which is put where SERVICE stands.
type ingestPush struct {
	name        string // and that of the service
	query       string // without from and until
	contentType string
	body        []byte
	// differs is our answer where we intend another one; why is in
	// docs/compatibility.md.
	differs []string
}

// A trie of the older SDKs: "main;" with "work" and "wait" below, which has a
// value of its own, and "main;workers" that shares a part of a name.
func sampleTrie() []byte {
	return encodeNodes(
		node{"", 0, 1},
		node{"main;w", 0, 2},
		node{"ork", 30, 1},
		node{"ers;poll", 7, 0},
		node{"ait", 5, 1},
		node{";futex", 2, 0},
	)
}

func sampleTree() []byte {
	return encodeNodes(node{"", 0, 2}, node{"main", 1, 2}, node{"a b", 30, 0}, node{"c", 5, 0}, node{"idle", 0, 1}, node{"poll", 2, 0})
}

type node struct {
	text            string
	value, children uint64
}

func encodeNodes(nodes ...node) []byte {
	var b []byte
	for _, n := range nodes {
		b = binary.AppendUvarint(b, uint64(len(n.text)))
		b = append(b, n.text...)
		b = binary.AppendUvarint(b, n.value)
		b = binary.AppendUvarint(b, n.children)
	}
	return b
}

// pprofOf makes a profile of "main" calling "work" in file work.py, with a value
// of 7 and up for each sample type, given as type:unit.
func pprofOf(t testing.TB, nanos int64, types ...string) []byte {
	t.Helper()
	p := &googlev1.Profile{
		StringTable: []string{"", "main", "work", "lib/work.py"},
		Function:    []*googlev1.Function{{Id: 1, Name: 1, Filename: 3}, {Id: 2, Name: 2, Filename: 3}},
		Mapping:     []*googlev1.Mapping{{Id: 1, HasFunctions: true}},
		Location: []*googlev1.Location{
			{Id: 1, MappingId: 1, Line: []*googlev1.Line{{FunctionId: 1, Line: 3}}},
			{Id: 2, MappingId: 1, Line: []*googlev1.Line{{FunctionId: 2, Line: 4}}},
		},
		Sample:    []*googlev1.Sample{{LocationId: []uint64{2, 1}}},
		TimeNanos: nanos,
	}
	for i, typ := range types {
		name, unit, _ := strings.Cut(typ, ":")
		n := int64(len(p.StringTable))
		p.StringTable = append(p.StringTable, name, unit)
		p.SampleType = append(p.SampleType, &googlev1.ValueType{Type: n, Unit: n + 1})
		p.Sample[0].Value = append(p.Sample[0].Value, int64(7+i))
	}
	b, err := p.MarshalVT()
	require.NoError(t, err)
	return b
}

// form makes a multipart body of parts, given as name and content.
func form(t testing.TB, parts ...any) (contentType string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	require.NoError(t, w.SetBoundary("boundaryboundary"))
	for i := 0; i < len(parts); i += 2 {
		part, err := w.CreateFormFile(parts[i].(string), parts[i].(string))
		require.NoError(t, err)
		switch content := parts[i+1].(type) {
		case string:
			_, err = io.WriteString(part, content)
		case []byte:
			_, err = part.Write(content)
		}
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return w.FormDataContentType(), b.Bytes()
}

const folded = "main;work 30\nmain;operator new(unsigned long) 5\nmain;work 1\n\nidle 2\n"

func speedscopeOf(profiles string) []byte {
	return []byte(`{"$schema":"https://www.speedscope.app/file-format-schema.json",
		"shared":{"frames":[{"name":"main"},{"name":"work","file":"work.js","line":7},{"name":"wait"}]},
		"profiles":[` + profiles + `]}`)
}

func ingestPushes(t testing.TB) []ingestPush {
	multi := func(name, query string, parts ...any) ingestPush {
		contentType, body := form(t, parts...)
		return ingestPush{name: name, query: query, contentType: contentType, body: body}
	}
	const (
		sampled = `{"type":"sampled","name":"one","unit":%q,"startValue":0,"endValue":6,"samples":[[0,1],[0],[0,1]],"weights":[2,3,1]}`
		evented = `{"type":"evented","name":"two","unit":%q,"startValue":10,"endValue":20,"events":[
			{"type":"O","at":10,"frame":0},{"type":"O","at":10,"frame":1},{"type":"C","at":14,"frame":1},{"type":"C","at":14,"frame":0}]}`
	)
	pushes := []ingestPush{
		{name: "folded", query: "name=SERVICE", body: []byte(folded)},
		{name: "groups", query: "name=SERVICE&format=groups", body: []byte(folded)},
		{name: "labels", query: "name=SERVICE{region=eu west,pod.name = a-1 ,empty=,__private__=x,__session_id__=abc}&spyName=myspy", body: []byte(folded), differs: []string{
			"process_cpu:cpu:nanoseconds:cpu:nanoseconds idle 20000000",
			"process_cpu:cpu:nanoseconds:cpu:nanoseconds main;operator new(unsigned long) 50000000",
			"process_cpu:cpu:nanoseconds:cpu:nanoseconds main;work 310000000",
			`series pod.name="a-1" process_cpu:cpu:nanoseconds:cpu:nanoseconds pyroscope_spy="myspy" region="eu west" service_name="s-labels"`,
		}},
		{name: "same label twice", query: "name=SERVICE{a=1,a=2}", body: []byte(folded)},
		{name: "service label", query: "name=shop.cpu{service_name=SERVICE}", body: []byte(folded)},
		{name: "app label", query: "name=shop.cpu{service_name=SERVICE,app_name=mine}", body: []byte(folded)},
		{name: "rate", query: "name=SERVICE.cpu&sampleRate=250&units=samples&aggregationType=sum", body: []byte(folded)},
		{name: "no rate", query: "name=SERVICE.cpu&sampleRate=0", body: []byte(folded)},
		{name: "lines", query: "name=SERVICE&format=lines", body: []byte("main;work\nmain;work\n\nidle\nmain;a b\n")},
		{name: "trie", query: "name=SERVICE&format=trie", body: sampleTrie()},
		{name: "trie by type", query: "name=SERVICE", contentType: "binary/octet-stream+trie", body: sampleTrie()},
		{name: "tree", query: "name=SERVICE&format=tree", body: sampleTree()},
		{name: "tree by type", query: "name=SERVICE", contentType: "binary/octet-stream+tree", body: sampleTree()},
		{name: "span profile", query: "name=SERVICE{profile_id=1}", body: []byte(folded)},
		{name: "nothing", query: "name=SERVICE", body: nil},

		{name: "raw pprof", query: "name=SERVICE&format=pprof&spyName=nodespy", body: pprofOf(t, 0, "samples:count", "cpu:nanoseconds")},
		{name: "pprof with an ending", query: "name=SERVICE.cpu&format=pprof", body: pprofOf(t, 0, "cpu:nanoseconds")},
		{name: "pprof of wall", query: "name=SERVICE&format=pprof", body: pprofOf(t, 0, "sample:count", "wall:nanoseconds")},
		{name: "pprof of Node's heap", query: "name=SERVICE&format=pprof", body: pprofOf(t, 0, "objects:count", "space:bytes")},
		{name: "pprof of Go's heap", query: "name=SERVICE&format=pprof", body: pprofOf(t, 0, "alloc_objects:count", "alloc_space:bytes", "inuse_objects:count", "inuse_space:bytes")},
		{name: "pprof of goroutines", query: "name=SERVICE&format=pprof", body: pprofOf(t, 0, "goroutine:count")},
		{name: "pprof of contention", query: "name=SERVICE&format=pprof", body: pprofOf(t, 0, "contentions:count", "delay:nanoseconds")},
		{name: "pprof of something else", query: "name=SERVICE&format=pprof", body: pprofOf(t, 0, "handles:count")},
		{name: "pprof of Python", query: "name=SERVICE&format=pprof&spyName=pyspy", body: pprofOf(t, 0, "cpu:nanoseconds")},
		{name: "pprof with a time in microseconds", query: "name=SERVICE&format=pprof", body: pprofOf(t, time.Now().UnixMicro(), "cpu:nanoseconds")},
		{name: "pprof of .NET", query: "name=SERVICE&format=pprof&spyName=dotnetspy", body: pprofOf(t, 0, "inuse-space:bytes")},
		multi("form", "name=SERVICE&spyName=gospy", "profile", pprofOf(t, 0, "samples:count", "cpu:nanoseconds")),
		multi("form of blocking", "name=SERVICE&spyName=gospy&sampleRate=0&units=&aggregationType=",
			"profile", pprofOf(t, 0, "contentions:count", "delay:nanoseconds"),
			"sample_type_config", `{"contentions":{"units":"lock_samples","display-name":"block_count"},"delay":{"units":"lock_nanoseconds","display-name":"block_duration"}}`),
		multi("form of mutexes", "name=SERVICE",
			"profile", pprofOf(t, 0, "contentions:count", "delay:nanoseconds"),
			"sample_type_config", `{"contentions":{"display-name":"mutex_count","cumulative":true},"delay":{"display-name":"mutex_duration"}}`),
		multi("form of goroutines", "name=SERVICE",
			"profile", pprofOf(t, 0, "goroutine:count"),
			"sample_type_config", `{"goroutine":{"units":"goroutines","display-name":"goroutines","aggregation":"average"}}`),
		multi("form of an own type", "name=SERVICE",
			"profile", pprofOf(t, 0, "requests:count"),
			"sample_type_config", `{"requests":{"units":"samples","display-name":"handled","sampled":true}}`),

		{name: "speedscope", query: "name=SERVICE&format=speedscope", body: speedscopeOf(fmt.Sprintf(sampled, "seconds"))},
		{name: "speedscope of milliseconds", query: "name=SERVICE.wall&format=speedscope", body: speedscopeOf(fmt.Sprintf(sampled, "milliseconds"))},
		{name: "speedscope of samples", query: "name=SERVICE&format=speedscope", body: speedscopeOf(fmt.Sprintf(sampled, "none"))},
		{name: "speedscope of memory", query: "name=SERVICE.alloc_space&format=speedscope", body: speedscopeOf(fmt.Sprintf(sampled, "bytes"))},
		{name: "speedscope, two profiles", query: "name=SERVICE&format=speedscope", body: speedscopeOf(fmt.Sprintf(sampled+","+evented, "bytes", "microseconds"))},
		{name: "speedscope of nanoseconds", query: "name=SERVICE&format=speedscope", body: speedscopeOf(fmt.Sprintf(sampled, "nanoseconds")), differs: []string{
			"process_cpu:cpu:nanoseconds:cpu:nanoseconds main 3",
			"process_cpu:cpu:nanoseconds:cpu:nanoseconds main;work 3",
			`series process_cpu:cpu:nanoseconds:cpu:nanoseconds profile_name="one" pyroscope_spy="unknown" service_name="s-speedscope-of-nanoseconds"`,
		}},
		{name: "speedscope of bytes", query: "name=SERVICE&format=speedscope", body: speedscopeOf(fmt.Sprintf(sampled, "bytes")), differs: []string{
			"memory:samples:bytes:: main 3",
			"memory:samples:bytes:: main;work 3",
			`series memory:samples:bytes:: profile_name="one" pyroscope_spy="unknown" service_name="s-speedscope-of-bytes"`,
		}},
	}
	for ending := range strings.FieldsSeq(`cpu wall inuse_objects inuse_space alloc_objects alloc_space goroutines mutex_count mutex_duration
		block_count block_duration itimer alloc_in_new_tlab_objects alloc_in_new_tlab_bytes alloc_outside_tlab_objects
		alloc_outside_tlab_bytes lock_count lock_duration live exceptions seconds nanoseconds microseconds milliseconds bytes`) {
		pushes = append(pushes, ingestPush{name: "ending " + ending, query: "name=SERVICE." + ending, body: []byte(folded)})
	}
	return pushes
}

// push sends it, for a minute that ends now, and returns the status and text of
// the answer.
func (p ingestPush) push(t testing.TB, address string, base time.Time) (int, string) {
	t.Helper()
	service := p.service()
	q := strings.ReplaceAll(p.query, "SERVICE", service)
	values := url.Values{}
	for pair := range strings.SplitSeq(q, "&") {
		name, value, _ := strings.Cut(pair, "=")
		values.Set(name, value)
	}
	if !values.Has("from") {
		values.Set("from", strconv.FormatInt(base.Unix(), 10))
		values.Set("until", strconv.FormatInt(base.Unix()+10, 10))
	}
	return send(t, address, values.Encode(), p.body, "Content-Type", p.contentType)
}

// service is a name that also Pyroscope takes for one.
func (p ingestPush) service() string {
	return "s-" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_' {
			return r
		}
		return '-'
	}, p.name)
}

// stored tells what a server has of a service: its series, and the stacktraces
// of each profile type.
func stored(t testing.TB, address, service string, base time.Time) []string {
	t.Helper()
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, address)
	var out []string
	start, end := base.Add(-time.Minute).UnixMilli(), base.Add(time.Minute).UnixMilli()
	for _, svc := range []string{service, service + ".cpu"} {
		selector := fmt.Sprintf("{service_name=%q}", svc)
		series, err := q.Series(t.Context(), connect.NewRequest(&querierv1.SeriesRequest{Matchers: []string{selector}, Start: start, End: end}))
		require.NoError(t, err)
		var types []string
		for _, s := range series.Msg.LabelsSet {
			var text []string
			for _, l := range s.Labels {
				switch l.Name {
				case "__profile_type__":
					if !slices.Contains(types, l.Value) {
						types = append(types, l.Value)
					}
					fallthrough
				case "__name__", "__delta__", "__type__", "__unit__", "__period_type__", "__period_unit__", "__service_name__", "__order__", "__session_id__":
				default:
					text = append(text, fmt.Sprintf("%s=%q", l.Name, l.Value))
				}
				if l.Name == "__profile_type__" {
					text = append(text, l.Value)
				}
			}
			slices.Sort(text)
			out = append(out, "series "+strings.Join(text, " "))
		}
		for _, typ := range types {
			out = append(out, stacktraces(t, q, typ, selector, start, end)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func stacktraces(t testing.TB, q querierv1connect.QuerierServiceClient, typ, selector string, start, end int64) (out []string) {
	t.Helper()
	resp, err := q.SelectMergeStacktraces(t.Context(), connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{
		ProfileTypeID: typ, LabelSelector: selector, Start: start, End: end,
	}))
	require.NoError(t, err)
	f := profile.Flamegraph{Names: resp.Msg.Flamegraph.Names, Total: resp.Msg.Flamegraph.Total, MaxSelf: resp.Msg.Flamegraph.MaxSelf}
	for _, level := range resp.Msg.Flamegraph.Levels {
		f.Levels = append(f.Levels, level.Values)
	}
	tree, err := profile.ParseFlamegraph(f)
	require.NoError(t, err)
	for i, n := range tree.Nodes {
		if n.Self == 0 {
			continue
		}
		var path []string
		for j := int32(i); j > 0; j = tree.Nodes[j].Parent {
			path = append(path, tree.Names[tree.Nodes[j].Name])
		}
		slices.Reverse(path)
		out = append(out, fmt.Sprintf("%s %s %d", typ, strings.Join(path, ";"), n.Self))
	}
	return out
}

// TestIngestConformance pushes to /ingest in every format and compares what is
// stored with what a Pyroscope server had stored of the same pushes, or does now
// if FLAMELINE_PYROSCOPE_URL is the address of one.
func TestIngestConformance(t *testing.T) {
	base := time.Now().Add(-2 * time.Minute).Truncate(time.Second)
	pushes := ingestPushes(t)
	recorded := map[string][]string{}
	if live := os.Getenv("FLAMELINE_PYROSCOPE_URL"); live != "" {
		for _, p := range pushes {
			if status, text := p.push(t, live, base); status != http.StatusOK {
				recorded[p.name] = []string{strconv.Itoa(status)}
				t.Logf("Pyroscope to %s: %d %s", p.name, status, text)
			}
		}
		time.Sleep(10 * time.Second) // until its segments are flushed
		for _, p := range pushes {
			if recorded[p.name] == nil {
				recorded[p.name] = append([]string{}, stored(t, live, p.service(), base)...)
			}
		}
		b, err := json.MarshalIndent(recorded, "", "\t")
		require.NoError(t, err)
		t.Logf("Pyroscope's answers:\n%s", b)
	} else {
		b, err := os.ReadFile("testdata/ingest_pyroscope.json")
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(b, &recorded))
	}
	address, _ := start(t, defaults)
	for _, p := range pushes {
		t.Run(p.name, func(t *testing.T) {
			want, ok := recorded[p.name]
			require.True(t, ok, "no answer is recorded")
			status, text := p.push(t, address, base)
			require.Equal(t, http.StatusOK, status, text)
			require.Empty(t, text)
			got := append([]string{}, stored(t, address, p.service(), base)...)
			if p.differs != nil {
				require.NotEqual(t, want, p.differs, "there is no difference to intend")
				want = p.differs
			}
			require.Equal(t, want, got)
		})
	}
}
