package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"math"
	"net/http"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/store"
)

// ranged is a valid range of a query.
const (
	from = int64(1_700_000_000_000)
	to   = from + 3_600_000
)

func TestQueriesNameTheFieldAtFault(t *testing.T) {
	ctx := t.Context()
	l := defaults
	l.MaxQueryRange = 2 * time.Hour
	url, _ := start(t, l)
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url)
	type mergeReq = querierv1.SelectMergeStacktracesRequest
	type seriesReq = querierv1.SelectSeriesRequest
	merge := func(edit func(*mergeReq)) func() error {
		r := &mergeReq{ProfileTypeID: cpu, LabelSelector: "{}", Start: from, End: to}
		edit(r)
		return func() error { _, err := q.SelectMergeStacktraces(ctx, connect.NewRequest(r)); return err }
	}
	series := func(edit func(*seriesReq)) func() error {
		r := &seriesReq{ProfileTypeID: cpu, LabelSelector: "{}", Start: from, End: to, Step: 15}
		edit(r)
		return func() error { _, err := q.SelectSeries(ctx, connect.NewRequest(r)); return err }
	}
	n := func(v int64) *int64 { return &v }
	for name, tc := range map[string]struct {
		call func() error
		code connect.Code
		want string
	}{
		"type":              {merge(func(r *mergeReq) { r.ProfileTypeID = "cpu" }), connect.CodeInvalidArgument, `profile_typeID: profile type "cpu": want name:`},
		"unknown type":      {merge(func(r *mergeReq) { r.ProfileTypeID = "process_cpu:cup:nanoseconds:cpu:nanoseconds" }), connect.CodeInvalidArgument, `profile_typeID: unknown profile type "process_cpu:cup:nanoseconds:cpu:nanoseconds"`},
		"series of unknown": {series(func(r *seriesReq) { r.ProfileTypeID = "no:such:type:at:all" }), connect.CodeInvalidArgument, `profile_typeID: unknown profile type "no:such:type:at:all"`},
		"empty range":       {merge(func(r *mergeReq) { r.End = r.Start }), connect.CodeInvalidArgument, "start/end: the time range is empty"},
		"heatmap's type": {func() error {
			_, err := q.SelectHeatmap(ctx, connect.NewRequest(&querierv1.SelectHeatmapRequest{ProfileTypeID: cpu, Start: from, End: to, Step: 15}))
			return err
		}, connect.CodeInvalidArgument, "query_type: "},
		"selector":           {merge(func(r *mergeReq) { r.LabelSelector = "{a=b}" }), connect.CodeInvalidArgument, `label_selector: selector "{a=b}": 1:4: `},
		"regular expression": {merge(func(r *mergeReq) { r.LabelSelector = `{a=~"("}` }), connect.CodeInvalidArgument, "label_selector: "},
		"no range":           {merge(func(r *mergeReq) { r.Start, r.End = 0, 0 }), connect.CodeInvalidArgument, "start/end: the time range is missing"},
		"no end":             {merge(func(r *mergeReq) { r.End = 0 }), connect.CodeInvalidArgument, "start/end: the time range is missing"},
		"inverted range":     {merge(func(r *mergeReq) { r.Start, r.End = to, from }), connect.CodeInvalidArgument, "start/end: start is after end"},
		"before 1970":        {merge(func(r *mergeReq) { r.Start = -1 << 63 }), connect.CodeInvalidArgument, "(limits.max_query_range)"},
		"long range":         {merge(func(r *mergeReq) { r.Start = 1 }), connect.CodeInvalidArgument, "more than 2h0m0s (limits.max_query_range)"},
		"endless range":      {merge(func(r *mergeReq) { r.End = 1<<63 - 1 }), connect.CodeInvalidArgument, "(limits.max_query_range)"},
		"nodes":              {merge(func(r *mergeReq) { r.MaxNodes = n(1<<20 + 1) }), connect.CodeInvalidArgument, "max_nodes: 1048577 is more than 1048576 (limits.max_nodes)"},
		"negative nodes":     {merge(func(r *mergeReq) { r.MaxNodes = n(-1) }), connect.CodeInvalidArgument, "max_nodes: -1 is negative"},
		"format":             {merge(func(r *mergeReq) { r.Format = 77 }), connect.CodeInvalidArgument, "format: 77 is not one of PROFILE_FORMAT_UNSPECIFIED"},
		"span":               {merge(func(r *mergeReq) { r.SpanSelector = []string{"9a517183f26a089d", "zz"} }), connect.CodeInvalidArgument, `span_selector[1]: "zz"`},
		"profile IDs":        {merge(func(r *mergeReq) { r.ProfileIdSelector = []string{"x", ""} }), connect.CodeInvalidArgument, "profile_id_selector[1]: is empty"},
		"trace IDs":          {merge(func(r *mergeReq) { r.TraceIdSelector = []string{"x"} }), connect.CodeInvalidArgument, `trace_id_selector[0]: "x" is not 32 hexadecimal digits`},
		"Go PGO":             {merge(func(r *mergeReq) { r.StackTraceSelector = &typesv1.StackTraceSelector{GoPgo: &typesv1.GoPGO{}} }), connect.CodeInvalidArgument, "stack_trace_selector.go_pgo: "},
		"async": {merge(func(r *mergeReq) {
			r.Async = &querierv1.AsyncQueryRequest{Type: querierv1.AsyncQueryType_ASYNC_QUERY_TYPE_FORCE}
		}), connect.CodeUnimplemented, "async: "},
		"no step":         {series(func(r *seriesReq) { r.Step = 0 }), connect.CodeInvalidArgument, "step: 0 s is less than a millisecond"},
		"step of nothing": {series(func(r *seriesReq) { r.Step = math.NaN() }), connect.CodeInvalidArgument, "step: NaN is not a number of seconds"},
		"endless step":    {series(func(r *seriesReq) { r.Step = math.Inf(1) }), connect.CodeInvalidArgument, "step: +Inf is not a number of seconds"},
		"tiny step":       {series(func(r *seriesReq) { r.Step = 1e-9 }), connect.CodeInvalidArgument, "step: 1e-09 s is less than a millisecond"},
		"ages ago":        {merge(func(r *mergeReq) { r.Start, r.End = -20, -10 }), connect.CodeInvalidArgument, "start/end: the time range is before 1970"},
		"spans as dot": {func() error {
			_, err := q.SelectMergeSpanProfile(ctx, connect.NewRequest(&querierv1.SelectMergeSpanProfileRequest{
				ProfileTypeID: cpu, Start: from, End: to, Format: querierv1.ProfileFormat_PROFILE_FORMAT_DOT,
			}))
			return err
		}, connect.CodeInvalidArgument, "format: SelectMergeSpanProfile does not support PROFILE_FORMAT_DOT"},
		"a format of a side": {func() error {
			_, err := q.Diff(ctx, connect.NewRequest(&querierv1.DiffRequest{
				Left:  &mergeReq{ProfileTypeID: cpu, Start: from, End: to},
				Right: &mergeReq{ProfileTypeID: cpu, Start: from, End: to, Format: querierv1.ProfileFormat_PROFILE_FORMAT_TREE},
			}))
			return err
		}, connect.CodeInvalidArgument, "right.format: PROFILE_FORMAT_TREE"},
		"many points":  {series(func(r *seriesReq) { r.Step = 0.1 }), connect.CodeInvalidArgument, "step: 0.1 s gives 36001 points a series, more than 11000 (limits.max_points)"},
		"limit":        {series(func(r *seriesReq) { r.Limit = n(-1) }), connect.CodeInvalidArgument, "limit: -1 is negative"},
		"series' type": {series(func(r *seriesReq) { r.ProfileTypeID = "" }), connect.CodeInvalidArgument, "profile_typeID: "},
		"exemplars":    {series(func(r *seriesReq) { r.ExemplarType = 9 }), connect.CodeInvalidArgument, "exemplar_type: 9 is not one of EXEMPLAR_TYPE_UNSPECIFIED"},
		"label name": {func() error {
			_, err := q.LabelValues(ctx, connect.NewRequest(&typesv1.LabelValuesRequest{}))
			return err
		}, connect.CodeInvalidArgument, "name: is empty"},
		"matchers": {func() error {
			_, err := q.LabelNames(ctx, connect.NewRequest(&typesv1.LabelNamesRequest{Matchers: []string{"{}", "{x"}}))
			return err
		}, connect.CodeInvalidArgument, "matchers[1]: "},
		"half a range": {func() error {
			_, err := q.ProfileTypes(ctx, connect.NewRequest(&querierv1.ProfileTypesRequest{Start: from}))
			return err
		}, connect.CodeInvalidArgument, "start/end: "},
		"query": {func() error {
			_, err := q.AnalyzeQuery(ctx, connect.NewRequest(&querierv1.AnalyzeQueryRequest{Query: "{"}))
			return err
		}, connect.CodeInvalidArgument, "query: "},
		"a side": {func() error {
			_, err := q.Diff(ctx, connect.NewRequest(&querierv1.DiffRequest{Left: &mergeReq{ProfileTypeID: cpu, Start: from, End: to}}))
			return err
		}, connect.CodeInvalidArgument, "right: is missing"},
		"a field of a side": {func() error {
			_, err := q.Diff(ctx, connect.NewRequest(&querierv1.DiffRequest{Left: &mergeReq{ProfileTypeID: cpu, Start: from, End: to}, Right: &mergeReq{ProfileTypeID: cpu}}))
			return err
		}, connect.CodeInvalidArgument, "right.start/end: "},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.call()
			require.Equal(t, tc.code, connect.CodeOf(err), "%v", err)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

// raw is a real profile of this process, gzipped as the runtime writes it.
func raw(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&b, 0))
	return b.Bytes()
}

func pairs(kv ...string) []*typesv1.LabelPair {
	var out []*typesv1.LabelPair
	for i := 0; i < len(kv); i += 2 {
		out = append(out, &typesv1.LabelPair{Name: kv[i], Value: kv[i+1]})
	}
	return out
}

// A push is all or nothing: the good profile beside a bad one is not stored.
func TestPushesNameTheSeriesAndTheField(t *testing.T) {
	l := defaults
	l.MaxSeriesPerPush = 3
	l.MaxAge, l.MaxAgeKey = 24*time.Hour, "storage.retention"
	l.MaxRequestBytes = 1 << 20
	l.Ingest = ingest.Limits{MaxProfileBytes: 600 << 10, MaxLabels: 4, MaxLabelNameBytes: 20, MaxLabelValueBytes: 20, MaxSamples: 500}
	url, _ := start(t, l)
	client := pushv1connect.NewPusherServiceClient(http.DefaultClient, url)
	name := pairs("__name__", "goroutines", "service_name", "me")
	one := func(b []byte, ls []*typesv1.LabelPair) *pushv1.RawProfileSeries {
		return &pushv1.RawProfileSeries{Labels: ls, Samples: []*pushv1.RawSample{{RawProfile: b}}}
	}
	zeros := func(n int) []byte { // a valid profile of n bytes that packs well
		p := &googlev1.Profile{StringTable: []string{"", "x", "y", strings.Repeat("s", n)}, SampleType: []*googlev1.ValueType{{Type: 1, Unit: 2}}}
		b, err := p.MarshalVT()
		require.NoError(t, err)
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, err = w.Write(b)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return z.Bytes()
	}
	future := &googlev1.Profile{StringTable: []string{"", "x"}, SampleType: []*googlev1.ValueType{{Type: 1}}, TimeNanos: time.Now().Add(time.Hour).UnixNano()}
	early, err := future.MarshalVT()
	require.NoError(t, err)
	future.TimeNanos = time.Now().Add(-25 * time.Hour).UnixNano()
	late, err := future.MarshalVT()
	require.NoError(t, err)
	for what, tc := range map[string]struct {
		bad  *pushv1.RawProfileSeries
		want string
	}{
		"bytes":           {one([]byte("junk"), name), `series[1].samples[0].raw_profile of {__name__="goroutines", service_name="me"}: pprof: `},
		"cut":             {one(raw(t)[:40], name), "gzip: unexpected EOF, at byte 40 of 40"},
		"label name":      {one(raw(t), pairs("__name__", "x", strings.Repeat("n", 21), "v")), "series[1].labels[1].name: 21 bytes are more than 20 (limits.max_label_name_bytes)"},
		"label value":     {one(raw(t), pairs("__name__", strings.Repeat("v", 21))), "(limits.max_label_value_bytes)"},
		"labels":          {one(raw(t), pairs("__name__", "x", "a", "1", "b", "2", "c", "3", "d", "4")), "series[1].labels: 5 labels are more than 4 (limits.max_labels)"},
		"no name":         {one(raw(t), pairs("service_name", "x")), "series[1].labels: __name__ is missing"},
		"large":           {one(zeros(601<<10), name), "(limits.max_profile_bytes)"},
		"large together":  {&pushv1.RawProfileSeries{Labels: name, Samples: []*pushv1.RawSample{{RawProfile: zeros(590 << 10)}, {RawProfile: zeros(590 << 10)}}}, "in total after decompression (limits.max_request_bytes)"},
		"from the future": {one(early, name), "ahead of this machine's clock (limits.max_future)"},
		"from long ago":   {one(late, name), "is more than 24h0m0s ago (storage.retention)"},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := client.Push(t.Context(), connect.NewRequest(&pushv1.PushRequest{Series: []*pushv1.RawProfileSeries{one(raw(t), name), tc.bad}}))
			require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), "%v", err)
			require.ErrorContains(t, err, tc.want)
		})
	}
	_, err = client.Push(t.Context(), connect.NewRequest(&pushv1.PushRequest{Series: make([]*pushv1.RawProfileSeries, 4)}))
	require.ErrorContains(t, err, "series: 4 series are more than 3 (limits.max_series_per_push)")
	_, err = client.Push(t.Context(), connect.NewRequest(&pushv1.PushRequest{Series: []*pushv1.RawProfileSeries{one(make([]byte, 2<<20), name)}}))
	require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err))
	require.ErrorContains(t, err, "limits.max_request_bytes")

	stats, err := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url).GetProfileStats(t.Context(), connect.NewRequest(&typesv1.GetProfileStatsRequest{}))
	require.NoError(t, err)
	require.False(t, stats.Msg.DataIngested, "something of a refused push is stored")
}

// A blocking store lets a test hold queries open, and know when one has reached it.
type blocking struct {
	*store.DB
	entered chan struct{}
}

func (b blocking) LabelNames(ctx context.Context, _ []*labels.Matcher, _, _ int64) ([]string, error) {
	select {
	case b.entered <- struct{}{}:
		<-ctx.Done()
	case <-ctx.Done():
	}
	return nil, fmt.Errorf("read labels: %w", ctx.Err())
}

func TestQueriesEndWithTheirContext(t *testing.T) {
	url, srv := start(t, server.Limits{MaxConcurrentQueries: 1})
	db := blocking{entered: make(chan struct{})}
	srv.Open(db)
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url)
	call := func(ctx context.Context) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := q.LabelNames(ctx, connect.NewRequest(&typesv1.LabelNamesRequest{}))
			done <- err
		}()
		return done
	}

	// The deadline is the client's; the server sees it and gives its own code. On a
	// busy machine a short one is over before the query has reached the store.
	for timeout, reached := 50*time.Millisecond, false; !reached; timeout *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		done := call(ctx)
		var err error
		select {
		case <-db.entered:
			reached = true
			err = <-done
			require.Equal(t, connect.CodeDeadlineExceeded, connect.CodeOf(err))
		case err = <-done:
			require.Error(t, err)
		}
		cancel()
	}

	// While one query holds the only place, another waits, and is told so before its
	// deadline.
	first, cancelFirst := context.WithCancel(t.Context())
	done := call(first)
	<-db.entered
	for timeout, refused := 100*time.Millisecond, false; !refused; timeout *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		second := call(ctx)
		select {
		case <-db.entered:
			require.Fail(t, "the second query did not wait")
		case err := <-second:
			if refused = connect.CodeOf(err) == connect.CodeResourceExhausted; refused {
				require.ErrorContains(t, err, "limits.max_concurrent_queries")
				require.ErrorContains(t, err, "the deadline of the request is at ")
			} else {
				require.Equal(t, connect.CodeDeadlineExceeded, connect.CodeOf(err))
			}
		}
		cancel()
	}
	// A query leaves the queue when its client does.
	gone, leave := context.WithCancel(t.Context())
	waiting := call(gone)
	leave()
	require.Equal(t, connect.CodeCanceled, connect.CodeOf(<-waiting))
	cancelFirst()
	require.Equal(t, connect.CodeCanceled, connect.CodeOf(<-done))
}

func TestBeforeTheStoreIsOpen(t *testing.T) {
	srv := server.New(server.Options{Version: "1.2.3"})
	ok, reason := srv.Ready()
	require.False(t, ok)
	require.Equal(t, "the store is not open yet", reason)
	url := serve(t, srv)
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url)
	_, err := q.ProfileTypes(t.Context(), connect.NewRequest(&querierv1.ProfileTypesRequest{}))
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err))
	require.ErrorContains(t, err, "the store is not open yet")

	db, err := store.Open(t.TempDir(), store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	srv.Open(db)
	require.Equal(t, &server.StoreStatus{Writable: true}, srv.Status().Store)
	_, reason = srv.Ready()
	require.Equal(t, "sampling has not begun yet", reason)
	srv.SetSampling(server.EBPFStatus{State: server.SamplingOff, Reason: "no rights"})
	ok, _ = srv.Ready()
	require.True(t, ok)
	st := srv.Status()
	require.Equal(t, "1.2.3", st.Version)
	require.Equal(t, "no rights", st.EBPF.Reason)
	srv.SetStopping()
	_, reason = srv.Ready()
	require.Equal(t, "the service is stopping", reason)
}
