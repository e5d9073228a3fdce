package server_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/store"
)

// What of a push was left out or corrected is said in the answer, once in the
// log, and counted each time, by every way in.
func TestPushesSayWhatWasLeftOut(t *testing.T) {
	db, err := store.Open(t.TempDir(), store.Options{})
	require.NoError(t, err)
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	srv := server.New(server.Options{Limits: defaults, Registerer: reg, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	srv.Open(db)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	url := serve(t, srv)

	since := pprofOf(t, int64(time.Hour), "cpu:nanoseconds") // an hour after the machine booted
	const note = "corrected time of the profile, which is before 1990 (1)"
	client := pushv1connect.NewPusherServiceClient(http.DefaultClient, url)
	for range 3 {
		resp, err := client.Push(t.Context(), connect.NewRequest(&pushv1.PushRequest{Series: []*pushv1.RawProfileSeries{{
			Labels:  pairs("__name__", "process_cpu", "service_name", "pushed"),
			Samples: []*pushv1.RawSample{{RawProfile: since}},
		}}}))
		require.NoError(t, err)
		require.Equal(t, note, resp.Header().Get("Flameline-Notes"))
	}
	status, header, _ := post(t, url+"/ingest?name=ingested&format=pprof", since)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, note, header.Get("Flameline-Notes"))
	require.Equal(t, int64(7), cpuOfAll(t, url, "ingested"), "the profile is one of now")

	body, err := export(t, "exported", time.Unix(3600, 0)).MarshalProto()
	require.NoError(t, err)
	status, header, answer := post(t, url+otlpURL, body, "Content-Type", "application/x-protobuf")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, note, header.Get("Flameline-Notes"))
	partial, n := protowire.ConsumeBytes(answer[1:])
	require.Equal(t, len(answer), n+1)
	require.Equal(t, protowire.AppendString([]byte{2<<3 | 2}, note), partial, "partial_success.error_message")
	body, err = export(t, "exported", time.Unix(3600, 0)).MarshalJSON()
	require.NoError(t, err)
	_, _, answer = post(t, url+otlpURL, body, "Content-Type", "application/json")
	require.JSONEq(t, fmt.Sprintf(`{"partialSuccess":{"errorMessage":%q}}`, note), string(answer))

	require.Equal(t, 1, strings.Count(log.String(), "service=pushed"), log.String())
	require.Equal(t, 1, strings.Count(log.String(), "service=exported"), log.String())
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP flameline_server_push_notes_total Parts of accepted pushes that were left out (skipped) or changed (corrected), by kind.
# TYPE flameline_server_push_notes_total counter
flameline_server_push_notes_total{action="corrected",kind="time"} 6
`), "flameline_server_push_notes_total"))

	status, header, _ = post(t, url+"/ingest?name=sound", []byte("a;b 1\n"))
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, header.Values("Flameline-Notes"))
}

// cpuOfAll is the CPU time that is stored of a service, whatever its functions.
func cpuOfAll(t testing.TB, url, service string) (sum int64) {
	t.Helper()
	for _, line := range stored(t, url, service, time.Now()) {
		if rest, ok := strings.CutPrefix(line, "process_cpu:cpu:nanoseconds:: "); ok {
			var v int64
			_, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' '):], &v)
			require.NoError(t, err)
			sum += v
		}
	}
	return sum
}

// The header and the message stay short, whatever a sender writes.
func TestNotesAreBounded(t *testing.T) {
	url, _ := start(t, defaults)
	var body bytes.Buffer
	for i := range 500 {
		fmt.Fprintf(&body, "a%d\xff 1\n", i)
	}
	status, header, _ := post(t, url+"/ingest?name=a{x=%ff}", body.Bytes())
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "corrected string that was not UTF-8 (501)", header.Get("Flameline-Notes"))
}

// Times that a push and its profile give: the profile's own is stronger.
func TestIngestTakesTheProfilesOwnTime(t *testing.T) {
	db := &notingStore{}
	srv := server.New(server.Options{Limits: defaults})
	srv.Open(db)
	url := serve(t, srv)
	now := time.Now().Truncate(time.Second)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	unix := func(at time.Time) string { return fmt.Sprint(at.Unix()) }
	for name, tc := range map[string]struct {
		own   int64
		query string
		want  time.Time // of all that is between from and until, if the time lies there
		note  string
	}{
		"own":                {ago(time.Hour).UnixNano(), "", ago(time.Hour), ""},
		"own, and from":      {ago(time.Minute).UnixNano(), "&from=" + unix(ago(2*time.Minute)) + "&until=" + unix(now), ago(2 * time.Minute), ""},
		"own contradicts":    {ago(time.Hour).UnixNano(), "&from=" + unix(ago(9*time.Hour)) + "&until=" + unix(ago(8*time.Hour)), ago(time.Hour), "skipped parameter from and until, which contradict the profile's own time (1)"},
		"none":               {0, "&from=" + unix(ago(time.Hour)) + "&until=" + unix(ago(50*time.Minute)), ago(time.Hour), ""},
		"none, until alone":  {0, "&until=" + unix(ago(time.Hour)), ago(time.Hour), ""},
		"since boot":         {5e12, "&from=" + unix(ago(time.Hour)), ago(time.Hour), "corrected time of the profile, which is before 1990 (1)"},
		"negative":           {-5, "&from=" + unix(ago(time.Hour)), ago(time.Hour), "corrected time of the profile, which is before 1990 (1)"},
		"in microseconds":    {ago(time.Minute).UnixMicro(), "&from=" + unix(ago(2*time.Minute)), ago(2 * time.Minute), "corrected time of the profile, which is not in nanoseconds (1)"},
		"in ms, long ago":    {ago(30 * time.Hour).UnixMilli(), "&from=" + unix(ago(31*time.Hour)) + "&until=" + unix(ago(29*time.Hour)), ago(31 * time.Hour), "corrected time of the profile, which is not in nanoseconds (1)"},
		"units of its own":   {ago(time.Hour).UnixNano(), "&units=bytes", ago(time.Hour), "skipped parameter units or aggregationType, as the body gives those of its values (1)"},
		"units SDKs send":    {ago(time.Hour).UnixNano(), "&units=samples&aggregationType=sum", ago(time.Hour), ""},
		"from, no own, text": {-1, "", time.Time{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			db.appended = nil
			format, body := "pprof", pprofOf(t, tc.own, "cpu:nanoseconds")
			if strings.HasSuffix(name, "text") {
				format, body, tc.want = "folded", []byte("a 1\n"), ago(time.Hour)
				tc.query = "&from=" + unix(tc.want)
			}
			status, header, text := post(t, url+"/ingest?name=a&format="+format+tc.query, body)
			require.Equal(t, http.StatusOK, status, string(text))
			require.Len(t, db.appended, 1)
			require.Equal(t, tc.want.UTC(), time.Unix(0, db.appended[0].Pprof.TimeNanos).UTC().Truncate(time.Second))
			require.Equal(t, tc.note, header.Get("Flameline-Notes"))
		})
	}
}

// A label that is there twice on a sample is found by each of its values, and no
// value counts twice.
func TestLabelTwiceOnASample(t *testing.T) {
	url, _ := start(t, defaults)
	body := pprofOf(t, 0, "cpu:nanoseconds") // 7 ns
	status, header, text := post(t, url+"/ingest?name=twice&format=pprof", withLabels(t, body, "tenant", "a", "tenant", "b"))
	require.Equal(t, http.StatusOK, status, string(text))
	require.Equal(t, "corrected label tenant, of which a sample had several values: the sample was divided among them (1)", header.Get("Flameline-Notes"))
	require.Equal(t, int64(7), cpuOfAll(t, url, "twice"))
	for value, want := range map[string]string{"a": "4", "b": "3"} {
		got := storedBy(t, url, fmt.Sprintf(`{service_name="twice",tenant=%q}`, value))
		require.Equal(t, []string{"process_cpu:cpu:nanoseconds:: main;work " + want}, got)
	}
}

// withLabels gives the samples of a profile labels, given as names and values.
func withLabels(t testing.TB, b []byte, kv ...string) []byte {
	t.Helper()
	p := &googlev1.Profile{}
	require.NoError(t, p.UnmarshalVT(b))
	for i := 0; i < len(kv); i += 2 {
		n := int64(len(p.StringTable))
		p.StringTable = append(p.StringTable, kv[i], kv[i+1])
		for _, s := range p.Sample {
			s.Label = append(s.Label, &googlev1.Label{Key: n, Str: n + 1})
		}
	}
	b, err := p.MarshalVT()
	require.NoError(t, err)
	return b
}

// storedBy are the CPU stacktraces that a selector finds.
func storedBy(t testing.TB, url, selector string) []string {
	t.Helper()
	now := time.Now()
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url)
	return stacktraces(t, q, "process_cpu:cpu:nanoseconds::", selector, now.Add(-time.Minute).UnixMilli(), now.Add(time.Minute).UnixMilli())
}
