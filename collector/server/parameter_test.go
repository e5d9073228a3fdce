package server_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A parameter is honoured or refused by name.
func TestRenderParametersAreHonouredOrRefused(t *testing.T) {
	base, _ := corpus(t)
	for name, c := range map[string]struct {
		path   string
		params []string
		want   string
	}{
		"unknown":            {"/render", []string{"query", "cart.cpu", "maxnodes", "7"}, "maxnodes: unknown parameter; known are query, name, from, until, format, max-nodes, maxNodes, groupBy, aggregation"},
		"of a diff":          {"/render", []string{"query", "cart.cpu", "leftFrom", "now-1h"}, "leftFrom: unknown parameter"},
		"of another":         {"/render-diff", []string{"query", "cart.cpu", "groupBy", "pod"}, "groupBy: unknown parameter; known are query, from, until, format, max-nodes, maxNodes, leftQuery"},
		"twice":              {"/render", []string{"query", "cart.cpu", "from", "now-1h", "from", "now-2h"}, `from: is "now-2h", and from is "now-1h"; give only one value`},
		"two queries":        {"/render", []string{"query", "cart.cpu", "query", "ledger.cpu"}, "query: is "},
		"by two names":       {"/render", []string{"query", "cart.cpu", "name", "ledger.cpu"}, `name: is "ledger.cpu", and query is "cart.cpu"`},
		"nodes by two names": {"/render", []string{"query", "cart.cpu", "max-nodes", "7", "maxNodes", "8"}, `maxNodes: is "8", and max-nodes is "7"`},
		"two groups":         {"/render", []string{"query", "cart.cpu", "groupBy", "pod", "groupBy", "node"}, "groupBy: is "},
		"two sides":          {"/render-diff", []string{"query", "cart.cpu", "leftFrom", "now-1h", "leftFrom", "now-2h"}, "leftFrom: is "},
		"a group of stacks":  {"/render", []string{"query", "cart.cpu", "groupBy", "pod", "format", "collapsed"}, "groupBy: applies to the timeline of the format json; the format is collapsed"},
		"an average of dot":  {"/render", []string{"query", "cart.cpu", "aggregation", "avg", "format", "dot"}, "aggregation: applies to the timeline"},
		"nodes of pprof":     {"/render", []string{"query", "cart.cpu", "max-nodes", "7", "format", "pprof"}, "max-nodes: cannot be combined with the format pprof, which is never cut"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := get(t, base, c.path, c.params...)
			require.Equal(t, http.StatusBadRequest, resp.StatusCode, body)
			require.Contains(t, body, "invalid_argument")
			require.Contains(t, bodyText(t, body), c.want)
		})
	}
	whole := ok(t, base, "/render", "query", "cart.cpu", "format", "collapsed")
	require.Equal(t, cartCPU, whole)
	for _, same := range [][]string{
		{"query", "cart.cpu", "query", "cart.cpu"},
		{"query", "cart.cpu", "name", "cart.cpu", "name", ""},
		{"query", "cart.cpu", "refreshToken", "0.83", "groupBy", "", "max-nodes", ""},
	} {
		require.Equal(t, whole, ok(t, base, "/render", append(same, "format", "collapsed")...))
	}
}

// Labels in any usual quoting mean the same.
func TestQuotesOfLabels(t *testing.T) {
	address, _ := start(t, defaults)
	for _, name := range []string{
		`a{region=eu west,k8s.pod.name=p-1}`, `b{region="eu west","k8s.pod.name"='p-1'}`, "c{ region = `eu west` , k8s.pod.name = \"p-1\" , }",
	} {
		status, body := send(t, address, params("name", name), []byte("main;work 30\n"))
		require.Equal(t, http.StatusOK, status, body)
	}
	const id = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
	for _, service := range []string{"a", "b", "c"} {
		for _, selector := range []string{
			`{region="eu west"}`, `{region='eu west'}`, "{region=`eu west`}", `{ region = "eu west" , }`, `{region="eu\u0020west"}`, `{region="eu\x20west"}`,
			`{"region"="eu west"}`, `{region=eu west}`, `{region=~"eu.*"}`, `{region=~'EU.*|eu west'}`, `{region!~"eu"}`, `{nope="",region!=""}`,
			`{"k8s.pod.name"="p-1"}`, `{'k8s.pod.name'='p-1'}`, `{k8s.pod.name="p-1"}`, `{k8s.pod.name=p-1}`,
		} {
			for _, query := range []string{service + ".cpu" + selector, id + selector[:len(selector)-1] + `,service_name="` + service + `"}`} {
				if selector == `{ region = "eu west" , }` && query[0] != service[0] {
					continue // two commas
				}
				require.Equal(t, "main;work 300000000\n", ok(t, address, "/render", "query", query, "format", "collapsed"), query)
			}
		}
	}
	for _, selector := range []string{`{region=~"eu"}`, `{region=~"west"}`, `{k8s.pod.name!="p-1"}`, `{region=""}`, `{region="EU west"}`} {
		require.Empty(t, ok(t, address, "/render", "query", "a.cpu"+selector, "format", "collapsed"), selector)
	}
}

// Pyroscope's viewers divide samples by their rate to have seconds; what they do not know
// they take for samples.
func TestRenderUnits(t *testing.T) {
	address, _ := start(t, defaults)
	for id, want := range map[string]struct {
		units string
		rate  int
	}{
		"process_cpu:cpu:nanoseconds:cpu:nanoseconds":        {"samples", 1e9},
		"process_cpu:samples:count:cpu:nanoseconds":          {"objects", 100},
		"profile:cpu-time:microseconds::":                    {"samples", 1e6},
		"wall:wall:ns:wall:ns":                               {"samples", 1e9},
		"off_cpu:off_cpu:milliseconds::":                     {"samples", 1e3},
		"mutex:delay:nanoseconds:contentions:count":          {"lock_nanoseconds", 100},
		"mutex:delay:seconds:contentions:count":              {"samples", 1},
		"block:contentions:count:contentions:count":          {"lock_samples", 100},
		"memory:inuse_space:bytes:space:bytes":               {"bytes", 100},
		"memory:alloc_space:B:space:bytes":                   {"bytes", 100},
		"memory:alloc_space:KiB:space:bytes":                 {"bytes", 100},
		"memory:alloc_space:kilobytes:space:bytes":           {"bytes", 100},
		"off_cpu:off_cpu:minutes::":                          {"samples", 1},
		"memory:inuse_objects:count:space:bytes":             {"objects", 100},
		"memory:live:count:objects:count":                    {"objects", 100},
		"goroutine:goroutine:count:goroutine:count":          {"objects", 100},
		"exceptions:exceptions:count:exceptions:count":       {"exceptions", 100},
		"perf:cycles:cycles::":                               {"objects", 100},
		"threadcreate:threadcreate:count:threadcreate:count": {"objects", 100},
	} {
		pushTypes(t, address, "units", id)
		var f struct {
			Metadata struct {
				Units, Name string
				SampleRate  int
			}
		}
		require.NoError(t, json.Unmarshal([]byte(ok(t, address, "/render", "query", id)), &f))
		require.Equal(t, want.units, f.Metadata.Units, id)
		require.Equal(t, want.rate, f.Metadata.SampleRate, id)
	}

	// Values are multiplied where viewers do not know the unit. A profile has 7.
	for id, want := range map[string]int64{
		"memory:alloc_space:KiB:space:bytes": 7 << 10, "memory:alloc_space:kilobytes:space:bytes": 7 << 10, "off_cpu:off_cpu:minutes::": 7 * 60,
	} {
		var f struct {
			Flamebearer struct{ NumTicks, MaxSelf int64 }
			Timeline    *struct{ Samples []int64 }
			LeftTicks   int64
		}
		require.NoError(t, json.Unmarshal([]byte(ok(t, address, "/render", "query", id)), &f))
		require.Equal(t, want, f.Flamebearer.NumTicks, id)
		require.Equal(t, want, f.Flamebearer.MaxSelf, id)
		sum := int64(0)
		for _, v := range f.Timeline.Samples {
			sum += v
		}
		require.Equal(t, want, sum, id)
		require.NoError(t, json.Unmarshal([]byte(ok(t, address, "/render-diff", "leftQuery", id, "rightQuery", id)), &f))
		require.Equal(t, want, f.LeftTicks, id)
	}
}

// bodyText is the message of an error.
func bodyText(t *testing.T, body string) string {
	t.Helper()
	var e struct{ Message string }
	require.NoError(t, json.Unmarshal([]byte(body), &e))
	return e.Message
}

// params encodes parameters given in pairs.
func params(kv ...string) string {
	v := url.Values{}
	for i := 0; i < len(kv); i += 2 {
		v.Add(kv[i], kv[i+1])
	}
	return v.Encode()
}

// A name of a value that there is not is refused in JSON too, as a number is.
func TestNamesOfValuesInJSON(t *testing.T) {
	base, _ := corpus(t)
	const question = `{"profileTypeID":"process_cpu:cpu:nanoseconds:cpu:nanoseconds","labelSelector":"{}","start":1,"end":2,"step":15`
	for more, want := range map[string]string{
		``: "",
		`,"aggregation":"TIME_SERIES_AGGREGATION_TYPE_AVERAGE","exemplarType":null,"newer":{"a":[1]}`: "",
		`,"aggregation":"MEDIAN"`:  `aggregation: \"MEDIAN\" is not one of TIME_SERIES_AGGREGATION_TYPE_SUM, TIME_SERIES_AGGREGATION_TYPE_AVERAGE`,
		`,"exemplar_type":"spans"`: `exemplar_type: \"spans\" is not one of EXEMPLAR_TYPE_UNSPECIFIED, EXEMPLAR_TYPE_NONE`,
	} {
		for _, contentType := range []string{"application/json", "application/json; charset=utf-8"} {
			resp, err := http.Post(base+"/querier.v1.QuerierService/SelectSeries", contentType, strings.NewReader(question+more+"}"))
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			if want == "" {
				require.Equal(t, http.StatusOK, resp.StatusCode, string(body))
				continue
			}
			require.Equal(t, http.StatusBadRequest, resp.StatusCode, string(body))
			require.Contains(t, string(body), "invalid_argument")
			require.Contains(t, string(body), want)
		}
	}
}
