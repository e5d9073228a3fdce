package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/pkg/profile"
)

func packed(t testing.TB, b []byte) []byte {
	t.Helper()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, err := w.Write(b)
	require.NoError(t, errors.Join(err, w.Close()))
	return z.Bytes()
}

// send pushes a body, with headers given as names and values, and returns the
// answer's status and text.
func send(t testing.TB, url, query string, body []byte, headers ...string) (int, string) {
	t.Helper()
	status, _, text := post(t, url+"/ingest?"+query, body, headers...)
	return status, string(text)
}

// post sends a body with headers, and returns the answer's status, headers and
// text.
func post(t testing.TB, url string, body []byte, headers ...string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] != "" {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header, b
}

func TestIngestUnpacksEveryFormat(t *testing.T) {
	url, _ := start(t, defaults)
	base := time.Now().Add(-2 * time.Minute)
	contentType, body := form(t, "profile", packed(t, pprofOf(t, 0, "cpu:nanoseconds")))
	for _, p := range []ingestPush{
		{name: "folded", query: "name=SERVICE&sampleRate=0", body: []byte(folded)},
		{name: "lines", query: "name=SERVICE&format=lines", body: []byte("a;b\n")},
		{name: "trie", query: "name=SERVICE&format=trie", body: sampleTrie()},
		{name: "tree", query: "name=SERVICE&format=tree", body: sampleTree()},
		{name: "pprof", query: "name=SERVICE&format=pprof", body: pprofOf(t, 0, "cpu:nanoseconds")},
		{name: "form", query: "name=SERVICE", contentType: contentType, body: body},
		{name: "speedscope", query: "name=SERVICE&format=speedscope", body: speedscopeOf(`{"type":"sampled","name":"x","unit":"seconds","samples":[[0]],"weights":[1]}`)},
	} {
		status, text := p.push(t, url, base)
		require.Equal(t, http.StatusOK, status, text)
		want := stored(t, url, p.service(), base)
		require.NotEmpty(t, want)
		for _, coding := range []string{"", "gzip", "identity", "GZIP", "x-gzip"} {
			again := p
			again.name = p.name + coding + "_"
			again.body = packed(t, p.body)
			if strings.HasSuffix(strings.ToLower(coding), "gzip") && p.name == "pprof" {
				again.body = packed(t, again.body) // pprof's own, and the transport's
			}
			q := strings.ReplaceAll(again.query, "SERVICE", again.service())
			status, text := send(t, url, q, again.body, "Content-Type", p.contentType, "Content-Encoding", coding)
			require.Equal(t, http.StatusOK, status, "%s %s: %s", p.name, coding, text)
			got := stored(t, url, again.service(), time.Now())
			require.Equal(t, strings.ReplaceAll(strings.Join(want, "\n"), p.service(), again.service()), strings.Join(got, "\n"))
		}
	}
}

func TestIngestNamesWhatIsWrong(t *testing.T) {
	l := defaults
	l.MaxRequestBytes = 1 << 16
	l.MaxSeriesPerPush = 2
	l.MaxAge = 24 * time.Hour
	l.Ingest = ingest.Limits{MaxProfileBytes: 1 << 17, MaxLabels: 5, MaxSamples: 100}
	url, _ := start(t, l)
	contentType, _ := form(t)
	zeros := packed(t, bytes.Repeat([]byte("a;b 1\n"), 1<<15))
	series := `{"type":"sampled","name":"%","unit":"seconds","samples":[[0]],"weights":[1]}`
	for name, tc := range map[string]struct {
		query   string
		body    []byte
		headers []string
		status  int
		want    string
	}{
		"no name":       {"", []byte(folded), nil, 400, "name: the application has no name"},
		"query":         {"name=%zz", nil, nil, 400, "query: "},
		"from":          {"name=a&from=junk", []byte(folded), nil, 400, `from: "junk" is not a time`},
		"until":         {"name=a&until=junk", []byte(folded), nil, 400, `until: "junk" is not a time`},
		"backwards":     {"name=a&from=now&until=now-1s", []byte(folded), nil, 400, "until: "},
		"late until":    {"name=a&from=now&until=now%2B1h", []byte(folded), nil, 400, "until: "},
		"early":         {"name=a&from=now%2B1h", []byte(folded), nil, 400, "limits.max_future"},
		"late":          {"name=a&from=now-2d", []byte(folded), nil, 400, "storage.retention"},
		"rate":          {"name=a&sampleRate=-1", []byte(folded), nil, 400, `sampleRate: "-1" is not a whole number from 0 to`},
		"format":        {"name=a&format=xml", []byte(folded), nil, 400, `format: "xml" is not one of collapsed, folded,`},
		"twice":         {"name=a&from=now-1s&from=now-2s", []byte(folded), nil, 400, `from: is "now-2s", and from is "now-1s"; give only one value`},
		"misspelt":      {"name=a&sample_rate=9", []byte(folded), nil, 400, "sample_rate: unknown parameter; did you mean sampleRate?"},
		"lower case":    {"name=a&spyname=x", []byte(folded), nil, 400, "spyname: unknown parameter; did you mean spyName?"},
		"units":         {"name=a&units=furlongs", []byte(folded), nil, 400, `units: "furlongs" is not one of bytes, `},
		"other units":   {"name=a.cpu&units=bytes", []byte(folded), nil, 400, "units: bytes does not fit the type, cpu of process_cpu"},
		"aggregation":   {"name=a&aggregationType=max", []byte(folded), nil, 400, `aggregationType: "max" is not one of sum, average`},
		"average":       {"name=a.cpu&aggregationType=average", []byte(folded), nil, 400, "aggregationType: average is not possible for"},
		"two formats":   {"name=a&format=folded", []byte(folded), []string{"Content-Type", "binary/octet-stream+trie"}, 400, "format: folded, and the Content-Type is"},
		"line":          {"name=a", []byte("a;b\n"), nil, 400, `folded: line 1: "a;b" has no space`},
		"labels":        {"name=a{b=1,c=2,d=3,e=4}", []byte(folded), nil, 400, "(limits.max_labels)"},
		"large":         {"name=a", make([]byte, 1<<16+1), nil, 413, "(limits.max_request_bytes)"},
		"large within":  {"name=a", zeros, nil, 400, "in total after decompression (limits.max_request_bytes)"},
		"large coded":   {"name=a", zeros, []string{"Content-Encoding", "gzip"}, 400, "after decompression (limits.max_request_bytes)"},
		"coding":        {"name=a", []byte(folded), []string{"Content-Encoding", "br"}, 400, `Content-Encoding: "br" is not one of gzip, zstd, deflate, identity`},
		"broken coding": {"name=a", []byte("\x1f\x8b\x00"), []string{"Content-Encoding", "gzip"}, 400, "body: gzip: "},
		"form":          {"name=a", []byte("x"), []string{"Content-Type", contentType}, 400, "form: is truncated"},
		"boundary":      {"name=a", []byte("x"), []string{"Content-Type", "multipart/form-data"}, 400, "gives no boundary"},
		"no form":       {"name=a&format=tree", []byte("--boundaryboundary--"), []string{"Content-Type", contentType}, 400, "Content-Type: this format cannot be sent as a multipart form"},
		"pprof":         {"name=a&format=pprof", []byte("junk"), nil, 400, "pprof: "},
		"series": {"name=a&format=speedscope", speedscopeOf(strings.Join([]string{
			strings.ReplaceAll(series, "%", "a"), strings.ReplaceAll(series, "%", "b"), strings.ReplaceAll(series, "%", "c")}, ",")), nil, 400, "(limits.max_series_per_push)"},
	} {
		t.Run(name, func(t *testing.T) {
			status, text := send(t, url, tc.query, tc.body, tc.headers...)
			require.Equal(t, tc.status, status, text)
			var answer struct{ Code, Message string }
			require.NoError(t, json.Unmarshal([]byte(text), &answer), text)
			require.Contains(t, answer.Message, tc.want)
			require.NotEmpty(t, answer.Code)
		})
	}
	stats, err := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url).GetProfileStats(t.Context(), connect.NewRequest(&typesv1.GetProfileStatsRequest{}))
	require.NoError(t, err)
	require.False(t, stats.Msg.DataIngested, "something of a refused push is stored")

	resp, err := http.Get(url + "/ingest?name=a")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
	require.Equal(t, "POST", resp.Header.Get("Allow"))
}

// A noting store notes what is appended, or refuses it.
type notingStore struct {
	*store.DB
	appended []profile.Profile
	fail     error
}

func (s *notingStore) Append(_ context.Context, ps []profile.Profile) error {
	if s.fail == nil {
		s.appended = append(s.appended, ps...)
	}
	return s.fail
}

func TestIngestAnswersWhatTheStoreSays(t *testing.T) {
	reg := prometheus.NewRegistry()
	srv := server.New(server.Options{Registerer: reg, Limits: defaults})
	url := serve(t, srv)
	status, text := send(t, url, "name=a", []byte(folded))
	require.Equal(t, http.StatusServiceUnavailable, status, "before the store is open")
	require.Contains(t, text, "the store is not open yet")

	db := &notingStore{}
	srv.Open(db)
	status, text = send(t, url, "name=a", []byte(folded))
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, text)
	require.Len(t, db.appended, 1)
	for err, want := range map[error]int{
		store.ErrInvalid: http.StatusBadRequest, store.ErrLimit: http.StatusTooManyRequests, errors.New("disk full"): http.StatusInternalServerError,
	} {
		db.fail = err
		status, text = send(t, url, "name=a", []byte(folded))
		require.Equal(t, want, status)
		require.Contains(t, text, err.Error())
	}
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP flameline_server_pushed_bytes_total Size of the acknowledged profiles after decompression.
# TYPE flameline_server_pushed_bytes_total counter
flameline_server_pushed_bytes_total 68
# HELP flameline_server_pushed_profiles_total Profiles pushed and acknowledged.
# TYPE flameline_server_pushed_profiles_total counter
flameline_server_pushed_profiles_total 1
# HELP flameline_server_refused_pushes_total Pushes that were refused or failed.
# TYPE flameline_server_refused_pushes_total counter
flameline_server_refused_pushes_total 3
`), "flameline_server_pushed_bytes_total", "flameline_server_pushed_profiles_total", "flameline_server_refused_pushes_total"))
}

// A panic is an answer, not the end of the connection.
type panicking struct{ *store.DB }

func (panicking) Append(context.Context, []profile.Profile) error { panic("bug") }

func TestIngestSurvivesPanics(t *testing.T) {
	srv := server.New(server.Options{Limits: defaults})
	srv.Open(panicking{})
	status, text := send(t, serve(t, srv), "name=a", []byte(folded))
	require.Equal(t, http.StatusInternalServerError, status)
	require.Contains(t, text, "internal error; the server's log has it")
}

// What a tree says of its root is time that passed outside of all functions.
func TestIngestKeepsTheRootsValue(t *testing.T) {
	url, _ := start(t, defaults)
	base := time.Now().Add(-time.Minute)
	p := ingestPush{name: "root", query: "name=SERVICE&format=tree&sampleRate=0", body: encodeNodes(node{"", 3, 1}, node{"main", 2, 0})}
	status, text := p.push(t, url, base)
	require.Equal(t, http.StatusOK, status, text)
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url)
	resp, err := q.SelectMergeStacktraces(t.Context(), connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{
		ProfileTypeID: "process_cpu:samples:count::", LabelSelector: "{}", Start: base.Add(-time.Second).UnixMilli(), End: time.Now().UnixMilli(),
	}))
	require.NoError(t, err)
	require.Equal(t, int64(5), resp.Msg.Flamegraph.Total)
	require.Equal(t, []string{"total", "main"}, resp.Msg.Flamegraph.Names)
}
