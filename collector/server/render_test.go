package server_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	pprof "github.com/google/pprof/profile"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/server/conformance"
	"github.com/flameline/flameline/pkg/profile"
)

// cartCPU is what the corpus has of the service cart.
const cartCPU = `main.main;main.fib;main.fib;main.fib 480000000
main.main;main.handle 1760000000
main.main;main.work 320000000
main.main;main.work;main.price 800000000
main.main;main.work;main.save;syscall.write 720000000
runtime.gcBgMarkWorker 160000000
`

// corpus serves the corpus, which begins at base, in ms.
func corpus(t *testing.T) (url string, base int64) {
	t.Helper()
	url, _ = start(t, defaults)
	base = time.Now().Add(-20 * time.Minute).Truncate(time.Minute).UnixMilli()
	require.NoError(t, conformance.Push(t.Context(), url, base))
	return url, base
}

// get asks for a path with parameters that are not escaped yet, in pairs.
func get(t *testing.T, base, path string, params ...string) (*http.Response, string) {
	t.Helper()
	v := url.Values{}
	for i := 0; i < len(params); i += 2 {
		v.Add(params[i], params[i+1])
	}
	return getRaw(t, base+path+"?"+v.Encode())
}

func getRaw(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(b)
}

// ok is the body of an answer that must be there.
func ok(t *testing.T, base, path string, params ...string) string {
	t.Helper()
	resp, body := get(t, base, path, params...)
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	return body
}

// Addresses as articles, documentation and scripts have them.
func TestRenderAsWrittenElsewhere(t *testing.T) {
	base, at := corpus(t)
	const id = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
	for _, q := range []string{
		"/render?from=now-1h&until=now&query=cart.cpu&format=collapsed",
		"/render?from=now-1h&until=now&query=cart.cpu{}&max-nodes=1024&format=collapsed",
		"/render?from=now-1h&until=now&query=cart.cpu%7B%7D&refreshToken=0.8350450435879586&max-nodes=1024&format=collapsed",
		"/render?from=now-1h&until=now&name=cart.cpu{}&format=collapsed",
		"/render?format=collapsed&query=cart.itimer{namespace=shop}",
		"/render?format=collapsed&query=cart.cpu{namespace%3D%22shop%22}",
		"/render?format=collapsed&query=cart&until=",
		`/pyroscope/render?query=` + id + `{service_name="cart"}&from=now-1h&until=now&format=collapsed`,
		"/pyroscope/render?query=" + id + "%7Bservice_name%3D%22cart%22%7D&from=now-1h&until=now&format=collapsed",
		"/pyroscope/render?from=now-1h&until=now&&query=process_cpu%3Acpu%3Ananoseconds%3Acpu%3Ananoseconds%7Bservice_name%3D%22cart%22%2C%20namespace%3D%22shop%22%7D&format=collapsed",
		"/pyroscope/render?query=cpu{service_name=cart}&format=collapsed",
		fmt.Sprintf("/render?query=cart.cpu&from=%d&until=%d&format=collapsed", at/1000, at/1000+600),
		fmt.Sprintf("/render?query=cart.cpu&from=%d&until=%d&format=collapsed", at, at+600_000),
		fmt.Sprintf("/render?query=cart.cpu&from=%d000000&until=%d000000&format=collapsed", at, at+600_000),
		"/render?query=cart.cpu&format=collapsed&from=" + time.UnixMilli(at).UTC().Format(time.RFC3339),
		"/render?query=cart.cpu&format=collapsed&from=" + time.UnixMilli(at).In(time.FixedZone("", 7200)).Format(time.RFC3339),
		"/render?query=cart.cpu&format=collapsed&from=now-1d/d&until=now/d",
	} {
		req, err := http.NewRequest(http.MethodGet, base, nil)
		require.NoError(t, err)
		// As curl sends it, with braces and quotes as they are.
		path, query, _ := strings.Cut(q, "?")
		req.URL.Path, req.URL.RawQuery = path, query
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode, "%s: %s", q, b)
		require.Equal(t, cartCPU, string(b), q)
	}
	// The range counts.
	require.Equal(t, "main.main;main.fib;main.fib;main.fib 120000000\n", grep("fib", ok(t, base, "/render",
		"query", "cart.cpu", "format", "collapsed", "from", fmt.Sprint(at), "until", fmt.Sprint(at+2*conformance.Step))))
}

func grep(what, lines string) string {
	var out string
	for l := range strings.Lines(lines) {
		if strings.Contains(l, what) {
			out += l
		}
	}
	return out
}

// pushTypes stores a profile of each type for a service. Its one stacktrace, of
// value 7, is named after the type.
func pushTypes(t *testing.T, url, service string, ids ...string) {
	t.Helper()
	pushAt(t, url, service, time.Now().Add(-time.Minute), ids...)
}

func pushAt(t *testing.T, url, service string, at time.Time, ids ...string) {
	t.Helper()
	for _, id := range ids {
		ty, err := profile.ParseType(id)
		require.NoError(t, err)
		fn := &pprof.Function{ID: 1, Name: id}
		loc := &pprof.Location{ID: 1, Line: []pprof.Line{{Function: fn}}}
		p := &pprof.Profile{
			SampleType: []*pprof.ValueType{{Type: ty.SampleType, Unit: ty.SampleUnit}},
			TimeNanos:  at.UnixNano(),
			Function:   []*pprof.Function{fn}, Location: []*pprof.Location{loc},
			Sample: []*pprof.Sample{{Location: []*pprof.Location{loc}, Value: []int64{7}}},
		}
		if ty.PeriodType != "" {
			p.PeriodType, p.Period = &pprof.ValueType{Type: ty.PeriodType, Unit: ty.PeriodUnit}, 1
		}
		var raw bytes.Buffer
		require.NoError(t, p.Write(&raw))
		_, err = pushv1connect.NewPusherServiceClient(http.DefaultClient, url).Push(t.Context(), connect.NewRequest(&pushv1.PushRequest{
			Series: []*pushv1.RawProfileSeries{{
				Labels:  []*typesv1.LabelPair{{Name: "__name__", Value: ty.Name}, {Name: "service_name", Value: service}},
				Samples: []*pushv1.RawSample{{RawProfile: raw.Bytes()}},
			}},
		}))
		require.NoError(t, err)
	}
}

// A name means the type that its application has.
func TestRenderLegacyNames(t *testing.T) {
	url, _ := start(t, defaults)
	pushTypes(t, url, "go.app",
		"process_cpu:cpu:nanoseconds:cpu:nanoseconds", "process_cpu:samples:count:cpu:nanoseconds",
		"memory:alloc_objects:count:space:bytes", "memory:alloc_space:bytes:space:bytes",
		"memory:inuse_objects:count:space:bytes", "memory:inuse_space:bytes:space:bytes",
		"goroutines:goroutine:count:goroutine:count",
		"mutex:contentions:count:contentions:count", "mutex:delay:nanoseconds:contentions:count",
		"block:contentions:count:contentions:count", "block:delay:nanoseconds:contentions:count")
	pushTypes(t, url, "java",
		"process_cpu:cpu:nanoseconds:cpu:nanoseconds", "wall:wall:nanoseconds:wall:nanoseconds",
		"memory:alloc_in_new_tlab_bytes:bytes:space:bytes", "memory:alloc_outside_tlab_objects:count:space:bytes",
		"mutex:contentions:count:mutex:count", "mutex:delay:nanoseconds:mutex:count", "block:delay:nanoseconds:block:count")
	pushTypes(t, url, "script", "process_cpu:samples:count::", "wall:samples:count::", "exceptions:exceptions:count::", "gpu:watts:joules::")
	pushTypes(t, url, "a.cpu", "process_cpu:cpu:nanoseconds:cpu:nanoseconds")

	for query, want := range map[string]string{
		"go.app.cpu":                      "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
		"go.app":                          "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
		"go.app.samples":                  "process_cpu:samples:count:cpu:nanoseconds",
		"go.app.alloc_objects":            "memory:alloc_objects:count:space:bytes",
		"go.app.alloc_space":              "memory:alloc_space:bytes:space:bytes",
		"go.app.inuse_objects":            "memory:inuse_objects:count:space:bytes",
		"go.app.inuse_space{}":            "memory:inuse_space:bytes:space:bytes",
		"go.app.goroutines":               "goroutines:goroutine:count:goroutine:count",
		"go.app.mutex_count":              "mutex:contentions:count:contentions:count",
		"go.app.mutex_duration":           "mutex:delay:nanoseconds:contentions:count",
		"go.app.block_count":              "block:contentions:count:contentions:count",
		"go.app.block_duration":           "block:delay:nanoseconds:contentions:count",
		"java.itimer":                     "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
		"java.wall":                       "wall:wall:nanoseconds:wall:nanoseconds",
		"java.alloc_in_new_tlab_bytes":    "memory:alloc_in_new_tlab_bytes:bytes:space:bytes",
		"java.alloc_outside_tlab_objects": "memory:alloc_outside_tlab_objects:count:space:bytes",
		"java.lock_count":                 "mutex:contentions:count:mutex:count",
		"java.lock_duration":              "mutex:delay:nanoseconds:mutex:count",
		"java.block_duration":             "block:delay:nanoseconds:block:count",
		"java":                            "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
		"script.cpu":                      "process_cpu:samples:count::",
		"script.wall":                     "wall:samples:count::",
		"script.exceptions":               "exceptions:exceptions:count::",
		"script.gpu":                      "gpu:watts:joules::",
		"script.watts":                    "gpu:watts:joules::",
		"a.cpu":                           "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
		`{__profile_type__="gpu:watts:joules::"}`: "gpu:watts:joules::",
	} {
		// ":" and the other letters of an ID are none that folded stacks change.
		require.Equal(t, want+" 7\n", ok(t, url, "/render", "query", query, "format", "collapsed"), query)
	}

	// An unknown application gives an empty answer; an impossible type is an error.
	for _, q := range []string{"nobody.cpu", "nobody", "no.body", "nobody.alloc_space", "go.app.exceptions", "script.lock_count"} {
		require.Empty(t, ok(t, url, "/render", "query", q, "format", "collapsed"), q)
	}
	resp, body := get(t, url, "/render", "query", "java.coffee", "format", "collapsed")
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	require.Contains(t, body, `query: \"coffee\" is not a profile type of {service_name=\"java\"}; stored are block:delay:nanoseconds:block:count, `)
	// In a time without profiles it is the type that was stored before.
	require.Contains(t, ok(t, url, "/render", "query", "script.watts", "until", "now-1h"), `"name":"watts"`)
}

func TestRenderDownloads(t *testing.T) {
	base, at := corpus(t)
	from, until := at, at+600_000
	span := time.UnixMilli(from).UTC().Format("20060102T150405Z") + "_" + time.UnixMilli(until).UTC().Format("20060102T150405Z")
	for format, want := range map[string][2]string{
		"collapsed":  {"text/plain; charset=utf-8", "folded"},
		"pprof":      {"application/octet-stream", "pb.gz"},
		"dot":        {"text/vnd.graphviz; charset=utf-8", "dot"},
		"svg":        {"image/svg+xml", "svg"},
		"html":       {"text/html; charset=utf-8", "html"},
		"speedscope": {"application/json", "speedscope.json"},
		"json":       {"application/json", ""},
		"":           {"application/json", ""},
	} {
		for _, q := range []string{`process_cpu:cpu:nanoseconds:cpu:nanoseconds{service_name="cart"}`, "nobody.cpu"} {
			resp, body := get(t, base, "/render", "query", q, "format", format, "from", fmt.Sprint(from), "until", fmt.Sprint(until))
			require.Equal(t, http.StatusOK, resp.StatusCode, body)
			require.Equal(t, want[0], resp.Header.Get("Content-Type"), format)
			_, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition"))
			if want[1] == "" {
				require.Empty(t, resp.Header.Get("Content-Disposition"))
				continue
			}
			require.NoError(t, err)
			service := "cart"
			if q == "nobody.cpu" {
				service = "nobody"
			}
			require.Equal(t, service+"_cpu_"+span+"."+want[1], params["filename"])
		}
	}
	// Names are of letters that a shell takes.
	resp, _ := get(t, base, "/render", "query", `process_cpu:cpu:nanoseconds:cpu:nanoseconds{service_name="../grüße $(x)"}`, "format", "dot", "from", fmt.Sprint(from), "until", fmt.Sprint(until))
	require.Equal(t, "attachment; filename=gr--e---x_cpu_"+span+".dot", resp.Header.Get("Content-Disposition"))
}

// go tool pprof reads the file and finds what the folded stacks say.
func TestRenderPprof(t *testing.T) {
	base, _ := corpus(t)
	file := filepath.Join(t.TempDir(), "cart.pb.gz")
	require.NoError(t, os.WriteFile(file, []byte(ok(t, base, "/render", "query", "cart.cpu", "format", "pprof")), 0o600))
	for flag, want := range map[string][]string{
		"-top": {
			`4\.24s, 100% of 4\.24s total|4240ms, 100% of 4240ms total`, `1760ms 41\.51% +41\.51% +1760ms 41\.51% +main\.handle`,
			`320ms +7\.55% .* 1840ms 43\.40% +main\.work`, `480ms 11\.32% .* 480ms 11\.32% +main\.fib`,
		},
		"-raw":  {`cpu/nanoseconds`, `1760000000: \d+ \d+`, `main\.fib .*file\d+\.go:\d+`},
		"-tree": {`main\.save`},
	} {
		cmd := exec.Command("go", "tool", "pprof", flag, file)
		cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		for _, w := range want {
			require.Regexp(t, w, string(out), flag)
		}
	}
	// One gzip, whatever the client takes.
	req, err := http.NewRequest(http.MethodGet, base+"/render?query=cart.cpu&format=pprof", nil)
	require.NoError(t, err)
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("X-Forwarded-For", "192.0.2.1") // or it would not be compressed anyhow
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Empty(t, resp.Header.Get("Content-Encoding"))
	z, err := gzip.NewReader(resp.Body)
	require.NoError(t, err)
	raw, err := io.ReadAll(z)
	require.NoError(t, err)
	p, err := pprof.ParseUncompressed(raw)
	require.NoError(t, err)
	var sum int64
	for _, s := range p.Sample {
		sum += s.Value[0]
	}
	require.EqualValues(t, 4_240_000_000, sum)
}

func TestRenderSpeedscopeSVGDot(t *testing.T) {
	base, _ := corpus(t)
	var file struct {
		Profiles []struct {
			Unit     string
			Weights  []int64
			EndValue int64
		}
	}
	require.NoError(t, json.Unmarshal([]byte(ok(t, base, "/render", "query", "cart.cpu", "format", "speedscope")), &file))
	require.Equal(t, "nanoseconds", file.Profiles[0].Unit)
	require.ElementsMatch(t, []int64{480e6, 1760e6, 320e6, 800e6, 720e6, 160e6}, file.Profiles[0].Weights)
	require.EqualValues(t, 4_240_000_000, file.Profiles[0].EndValue)

	var picture struct {
		Title string   `xml:"title"`
		Boxes []string `xml:"g>title"`
	}
	require.NoError(t, xml.Unmarshal([]byte(ok(t, base, "/render", "query", "cart.cpu", "format", "svg")), &picture))
	require.Equal(t, "cart cpu", picture.Title)
	require.Contains(t, picture.Boxes, "main.work\n1.84 s (43.40%)\nself 320 ms (7.55%)")
	require.Len(t, picture.Boxes, 11)

	dot := ok(t, base, "/render", "query", "cart.cpu", "format", "dot")
	require.Contains(t, dot, `main.handle\n1760000000 (41.51%) of 1760000000 (41.51%)`)
	require.Equal(t, 8, strings.Count(dot, "fontsize"))
	require.Equal(t, 3, strings.Count(ok(t, base, "/render", "query", "cart.cpu", "format", "dot", "max-nodes", "3"), "fontsize"))
}

// max-nodes cuts what is shown, and exports only if it is there.
func TestRenderMaxNodes(t *testing.T) {
	base, _ := corpus(t)
	const cut = "main.main;main.handle 1760000000\nmain.main;main.work 320000000\nmain.main;main.work;other 1520000000\nmain.main;other 480000000\nother 160000000\n"
	for _, name := range []string{"max-nodes", "maxNodes"} {
		require.Equal(t, cut, ok(t, base, "/render", "query", "cart.cpu", "format", "collapsed", name, "3"))
	}
	require.NotContains(t, ok(t, base, "/render", "query", "cart.cpu", "max-nodes", "3"), "main.fib")
	require.Contains(t, ok(t, base, "/render", "query", "cart.cpu"), "main.fib")
}

// A profile's time is its begin, so it counts in the step that it begins.
func TestRenderTimelineAtStep(t *testing.T) {
	url, _ := start(t, defaults)
	at := time.Now().Add(-10 * time.Minute).Truncate(time.Minute)
	for _, ms := range []int64{0, 14_999, 15_000, 30_000} {
		pushAt(t, url, "app", at.Add(time.Duration(ms)*time.Millisecond), "process_cpu:cpu:nanoseconds:cpu:nanoseconds")
	}
	var f flamebearer
	require.NoError(t, json.Unmarshal([]byte(ok(t, url, "/render", "query", "app.cpu",
		"from", fmt.Sprint(at.UnixMilli()), "until", fmt.Sprint(at.UnixMilli()+30_000))), &f))
	require.Equal(t, at.Unix(), f.Timeline.StartTime)
	require.Equal(t, []int64{14, 7}, f.Timeline.Samples)
}

// A timeline's points are added up as floating-point numbers, which exceed an int64
// before it does.
func TestRenderTimelineOfLargeValues(t *testing.T) {
	url, _ := start(t, defaults)
	from := time.Now().Add(-10*time.Minute).Truncate(time.Minute).Unix() + 1 // in one step
	resp, err := http.Post(fmt.Sprintf("%s/ingest?name=app.alloc_objects&units=objects&from=%d&until=%d", url, from, from+10), "text/plain",
		strings.NewReader("main;large 9223372036854775806\nmain;small 1\n"))
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, errors.Join(err, resp.Body.Close()))
	require.Equal(t, http.StatusOK, resp.StatusCode, string(body))
	var f flamebearer
	require.NoError(t, json.Unmarshal([]byte(ok(t, url, "/render", "query", "app.alloc_objects",
		"from", fmt.Sprint(from-60), "until", fmt.Sprint(from+60), "groupBy", "service_name")), &f))
	require.EqualValues(t, math.MaxInt64, f.Flamebearer.NumTicks)
	require.Contains(t, f.Timeline.Samples, int64(math.MaxInt64))
	require.EqualValues(t, math.MaxInt64, f.Timeline.sum())
	require.EqualValues(t, math.MaxInt64, f.Groups["app"].sum())
}

// A flamebearer is what Pyroscope's viewers read.
type flamebearer struct {
	Version     int
	Flamebearer struct {
		Names             []string
		Levels            [][]int64
		NumTicks, MaxSelf int64
	}
	Metadata struct {
		Format, SpyName, Units, Name string
		SampleRate                   int
	}
	Timeline              *timeline
	Groups                map[string]timeline
	LeftTicks, RightTicks int64
}

type timeline struct {
	StartTime, DurationDelta int64
	Samples                  []int64
}

func (l timeline) sum() (out int64) {
	for _, v := range l.Samples {
		out += v
	}
	return out
}

func TestRenderJSON(t *testing.T) {
	base, at := corpus(t)
	var f flamebearer
	body := ok(t, base, "/pyroscope/render", "query", `process_cpu:cpu:nanoseconds:cpu:nanoseconds{service_name="cart"}`,
		"from", fmt.Sprint(at-7000), "until", fmt.Sprint(at+10*60_000), "groupBy", "pod")
	require.NoError(t, json.Unmarshal([]byte(body), &f))
	require.Equal(t, 1, f.Version)
	tree, err := profile.ParseFlamegraph(profile.Flamegraph{
		Names: f.Flamebearer.Names, Levels: f.Flamebearer.Levels, Total: f.Flamebearer.NumTicks, MaxSelf: f.Flamebearer.MaxSelf,
	})
	require.NoError(t, err)
	var folded bytes.Buffer
	require.NoError(t, tree.WriteFolded(&folded))
	require.Equal(t, cartCPU, folded.String())
	require.EqualValues(t, 4_240_000_000, f.Flamebearer.NumTicks)
	require.EqualValues(t, 1_760_000_000, f.Flamebearer.MaxSelf)
	require.Equal(t, []any{"single", "", "samples", "cpu", 1_000_000_000},
		[]any{f.Metadata.Format, f.Metadata.SpyName, f.Metadata.Units, f.Metadata.Name, f.Metadata.SampleRate})

	// 15 s steps on multiples of 15 s; the first has only what was before at.
	require.Equal(t, at/1000-15, f.Timeline.StartTime)
	require.EqualValues(t, 15, f.Timeline.DurationDelta)
	require.Len(t, f.Timeline.Samples, 41)
	require.Equal(t, []int64{0, 460e6, 480e6, 500e6, 520e6, 540e6, 560e6, 580e6, 600e6, 0}, f.Timeline.Samples[:10])
	require.Equal(t, f.Flamebearer.NumTicks, f.Timeline.sum())
	require.Len(t, f.Groups, 2)
	require.Equal(t, f.Timeline.sum(), f.Groups["cart-0"].sum()+f.Groups["cart-1"].sum())
	require.Equal(t, []int64{0, 230e6, 240e6}, f.Groups["cart-1"].Samples[:3])

	// What the flame graph has is in the timeline.
	var one flamebearer
	for _, tc := range []struct{ from, until int64 }{{at + 1, at + 30_000}, {at - 30_000, at + 1}, {at, at + 15_001}} {
		require.NoError(t, json.Unmarshal([]byte(ok(t, base, "/render", "query", "cart.cpu", "from", fmt.Sprint(tc.from), "until", fmt.Sprint(tc.until))), &one))
		require.Equal(t, one.Flamebearer.NumTicks, one.Timeline.sum(), "%+v", tc)
	}

	// Without the group's label.
	require.NoError(t, json.Unmarshal([]byte(ok(t, base, "/render", "query", "ledger.cpu", "groupBy", "pod")), &f))
	require.Contains(t, f.Groups, "*")
	// The mean of two pods.
	require.NoError(t, json.Unmarshal([]byte(ok(t, base, "/render", "query", "cart.cpu", "aggregation", "avg", "from", fmt.Sprint(at), "until", fmt.Sprint(at+60_000))), &f))
	require.Positive(t, f.Timeline.sum())
	require.Less(t, f.Timeline.sum(), int64(4_240_000_000/2))
	// Units are those of Pyroscope's viewers.
	for query, want := range map[string]string{"cart.alloc_objects": "objects", "cart.alloc_space": "bytes", "unknown_service.goroutines": "objects", "bare.block_duration": "lock_nanoseconds"} {
		require.NoError(t, json.Unmarshal([]byte(ok(t, base, "/render", "query", query)), &f))
		require.Equal(t, want, f.Metadata.Units, query)
	}
	// An application that is not there.
	body = ok(t, base, "/render", "query", "nobody.cpu", "from", "now-1m")
	require.Regexp(t, `^\{"version":1,"flamebearer":\{"names":\["total"\],"levels":\[\[0,0,0,0\]\],"numTicks":0,"maxSelf":0\},"metadata":\{"format":"single","spyName":"","sampleRate":1000000000,"units":"samples","name":"cpu"\},"timeline":\{"startTime":\d+,"samples":\[0,0,0,0(,0)?\],"durationDelta":15,"watermarks":null\},"groups":null,"heatmap":null\}`+"\n$", body)
}

func TestRenderDiff(t *testing.T) {
	base, at := corpus(t)
	half := at + 4*conformance.Step
	sides := []string{
		"leftFrom", fmt.Sprint(at), "leftUntil", fmt.Sprint(half),
		"rightFrom", fmt.Sprint(half), "rightUntil", fmt.Sprint(at + 8*conformance.Step),
	}
	each := append([]string{"leftQuery", "cart.cpu", "rightQuery", `process_cpu:cpu:nanoseconds:cpu:nanoseconds{service_name="cart"}`}, sides...)
	const folded = `main.main;main.fib;main.fib;main.fib 240000000 240000000
main.main;main.handle 880000000 880000000
main.main;main.work 160000000 160000000
main.main;main.work;main.price 400000000 400000000
main.main;main.work;main.save;syscall.write 200000000 520000000
runtime.gcBgMarkWorker 80000000 80000000
`
	resp, body := get(t, base, "/render-diff", append(each, "format", "collapsed")...)
	require.Equal(t, folded, body)
	require.Regexp(t, `^attachment; filename=cart_cpu_\d{8}T\d{6}Z_\d{8}T\d{6}Z\.diff\.folded$`, resp.Header.Get("Content-Disposition"))
	// As the tests of Pyroscope's former page have it: one query for both.
	require.Equal(t, folded, ok(t, base, "/render-diff", append(sides, "format", "collapsed", "query", "cart.cpu{}", "from", "now-5m", "until", "now", "max-nodes", "1024")...))

	var f flamebearer
	require.NoError(t, json.Unmarshal([]byte(ok(t, base, "/pyroscope/render-diff", each...)), &f))
	require.Equal(t, "double", f.Metadata.Format)
	require.Nil(t, f.Timeline)
	require.Equal(t, []int64{1_960_000_000, 2_280_000_000, 4_240_000_000}, []int64{f.LeftTicks, f.RightTicks, f.Flamebearer.NumTicks})
	d, err := profile.ParseFlamegraphDiff(profile.FlamegraphDiff{Names: f.Flamebearer.Names, Levels: f.Flamebearer.Levels})
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, d.WriteFolded(&out))
	require.Equal(t, folded, out.String())

	svg := ok(t, base, "/render-diff", append(each, "format", "svg")...)
	require.Contains(t, svg, "main.save&#xA;left 200 ms (10.20%)&#xA;right 520 ms (22.81%)")
	require.NoError(t, xml.Unmarshal([]byte(svg), new(struct{})))

	html := ok(t, base, "/render-diff", append(each, "format", "html")...)
	require.Contains(t, html, "main.save")
	require.Contains(t, html, ",1960000000,", "the total of the left side")
	require.Contains(t, html, ",2280000000,", "the total of the right side")
}

func TestRenderMistakes(t *testing.T) {
	limits := defaults
	limits.MaxQueryRange = 48 * time.Hour
	url, _ := start(t, limits)
	pushTypes(t, url, "app", "process_cpu:cpu:nanoseconds:cpu:nanoseconds")
	for name, tc := range map[string]struct {
		path string
		want string
	}{
		"no query":            {"/render?from=now-1h", "query: is missing; want "},
		"no type":             {"/render?query={}", "query: no profile type: want "},
		"half a type":         {"/render?query=process_cpu:cpu{}", `query: profile type "process_cpu:cpu": want `},
		"a type of nobody":    {"/render?query=a:b:c:d:e", `query: unknown profile type "a:b:c:d:e"; stored are process_cpu:cpu`},
		"the same, as pprof":  {"/render?format=pprof&query=a:b:c:d:e", `query: unknown profile type "a:b:c:d:e"`},
		"labels":              {"/render?query=app.cpu{a}", `query: selector "{a}": 1:3: `},
		"curl without -g":     {"/render?query=app.cpua=b", "--globoff (-g)"},
		"from":                {"/render?query=app.cpu&from=yesterday", `from: "yesterday" is not a time: `},
		"until":               {"/render?query=app.cpu&until=now-1x", `until: "now-1x" is not a time: "x" is not a unit`},
		"empty range":         {"/render?query=app.cpu&from=now&until=now", "from/until: the time range is empty: "},
		"inverted range":      {"/render?query=app.cpu&from=now&until=now-1h", "from/until: the time range is empty: "},
		"long range":          {"/render?query=app.cpu&from=now-3d", "from/until: the range of 259200 s is more than 48h0m0s (limits.max_query_range)"},
		"format":              {"/render?query=app.cpu&format=png", `format: "png" is not one of json, collapsed, pprof, dot, svg, html, speedscope`},
		"no number":           {"/render?query=app.cpu&max-nodes=1024}", `max-nodes: "1024}" is not a number of nodes`},
		"negative nodes":      {"/render?query=app.cpu&maxNodes=-1", "maxNodes: -1 is negative"},
		"many nodes":          {"/render?query=app.cpu&max-nodes=2000000", "max-nodes: 2000000 is more than 1048576 (limits.max_nodes)"},
		"aggregation":         {"/render?query=app.cpu&aggregation=max", `aggregation: "max" is not one of sum, avg`},
		"escapes":             {"/render?query=app.cpu%zz", "the URL's parameters: invalid URL escape"},
		"semicolon":           {"/render?query=app.cpu;x", "the URL's parameters: invalid semicolon"},
		"left query":          {"/render-diff?rightQuery=app.cpu", "leftQuery: is missing; want "},
		"right query":         {"/render-diff?leftQuery=app.cpu", "rightQuery: is missing; want "},
		"right time":          {"/render-diff?query=app.cpu&rightFrom=x", `rightFrom: "x" is not a time`},
		"right range":         {"/render-diff?query=app.cpu&rightFrom=now", "rightFrom/rightUntil: the time range is empty"},
		"types":               {"/render-diff?leftQuery=app.cpu&rightQuery=app.alloc_space", `rightQuery: the profile type is "memory:alloc_space:bytes:space:bytes", but that of leftQuery is "process_cpu:cpu:nanoseconds:cpu:nanoseconds"`},
		"format of a diff":    {"/render-diff?query=app.cpu&format=pprof", `format: "pprof" is not one of json, collapsed, svg`},
		"both types unknown":  {"/render-diff?query=a:b:c:d:e", `leftQuery: unknown profile type "a:b:c:d:e"`},
		"under another name":  {"/pyroscope/render?name=app.nothing", `name: "nothing" is not a profile type of `},
		"diff under a prefix": {"/pyroscope/render-diff", "leftQuery: is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodGet, url, nil)
			require.NoError(t, err)
			req.URL.Path, req.URL.RawQuery, _ = strings.Cut(tc.path, "?")
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			var body struct{ Code, Message string }
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&body))
			require.Equal(t, http.StatusBadRequest, resp.StatusCode)
			require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			require.Equal(t, "invalid_argument", body.Code)
			require.Contains(t, body.Message, tc.want)
		})
	}
	resp, err := http.Post(url+"/render?query=app.cpu", "", nil)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
}
