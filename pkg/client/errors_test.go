package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/profile"
)

// refusing is a server that answers every flame graph with one error or graph.
type refusing struct {
	querierv1connect.UnimplementedQuerierServiceHandler
	err   error
	graph *querierv1.FlameGraph
	diff  *querierv1.FlameGraphDiff
}

func (r refusing) SelectMergeStacktraces(context.Context, *connect.Request[querierv1.SelectMergeStacktracesRequest]) (*connect.Response[querierv1.SelectMergeStacktracesResponse], error) {
	if r.err != nil {
		return nil, r.err
	}
	return connect.NewResponse(&querierv1.SelectMergeStacktracesResponse{Flamegraph: r.graph}), nil
}

func (r refusing) Diff(context.Context, *connect.Request[querierv1.DiffRequest]) (*connect.Response[querierv1.DiffResponse], error) {
	if r.err != nil {
		return nil, r.err
	}
	return connect.NewResponse(&querierv1.DiffResponse{Flamegraph: r.diff}), nil
}

func serve(t *testing.T, h querierv1connect.QuerierServiceHandler) *client.Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(querierv1connect.NewQuerierServiceHandler(h))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return client.New(srv.Client(), srv.URL+"/")
}

var selection = client.Selection{
	Type: profile.Type{Name: "process_cpu", SampleType: "cpu", SampleUnit: "nanoseconds"}, Selector: "{}", Start: 0, End: 1,
}

func TestErrorsOfTheServerAreDownstream(t *testing.T) {
	for code, want := range map[connect.Code]backend.Status{
		connect.CodeInvalidArgument:   backend.StatusBadRequest,
		connect.CodeOutOfRange:        backend.StatusBadRequest,
		connect.CodeUnauthenticated:   backend.StatusUnauthorized,
		connect.CodePermissionDenied:  backend.StatusForbidden,
		connect.CodeNotFound:          backend.StatusNotFound,
		connect.CodeResourceExhausted: backend.StatusTooManyRequests,
		connect.CodeUnimplemented:     backend.StatusNotImplemented,
		connect.CodeDeadlineExceeded:  backend.StatusTimeout,
		connect.CodeUnavailable:       backend.StatusBadGateway,
		connect.CodeInternal:          backend.StatusBadGateway,
		connect.CodeUnknown:           backend.StatusBadGateway,
		connect.CodeCanceled:          client.StatusCanceled,
	} {
		t.Run(code.String(), func(t *testing.T) {
			c := serve(t, refusing{err: connect.NewError(code, errors.New("label_selector: unexpected end"))})
			_, err := c.Tree(t.Context(), selection, nil, client.Only{})
			dr := client.Response(err)
			require.Error(t, dr.Error)
			require.Equal(t, want, dr.Status)
			require.Equal(t, backend.ErrorSourceDownstream, dr.ErrorSource)
			require.Contains(t, dr.Error.Error(), "flame graph: ")
			if code == connect.CodeInvalidArgument {
				require.Equal(t, "flame graph: label_selector: unexpected end", dr.Error.Error())
			}
		})
	}
}

func TestUnreachableServer(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	_, err := client.New(http.DefaultClient, srv.URL).Tree(t.Context(), selection, nil, client.Only{})
	dr := client.Response(err)
	require.Equal(t, backend.StatusBadGateway, dr.Status)
	require.Equal(t, backend.ErrorSourceDownstream, dr.ErrorSource)
	require.ErrorContains(t, dr.Error, "cannot reach "+srv.URL)
	require.ErrorContains(t, dr.Error, "refused")
}

func TestSomeOtherServer(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	_, err := client.New(srv.Client(), srv.URL).Tree(t.Context(), selection, nil, client.Only{})
	require.ErrorContains(t, err, "is it the address of a Flameline or Pyroscope server?")
	require.Equal(t, backend.ErrorSourceDownstream, client.Response(err).ErrorSource)
}

func TestCanceledRequestIsNoFaultOfThePlugin(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range []error{
		func() error { _, err := serve(t, refusing{}).Tree(ctx, selection, nil, client.Only{}); return err }(),
		ctx.Err(),
	} {
		dr := client.Response(err)
		require.Equal(t, client.StatusCanceled, dr.Status)
		require.Equal(t, backend.ErrorSourceDownstream, dr.ErrorSource)
	}
}

func TestTimeout(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err := serve(t, refusing{}).Tree(ctx, selection, nil, client.Only{})
	require.Equal(t, backend.StatusTimeout, client.Status(err))
	require.ErrorContains(t, err, "shorter range")
}

func TestMalformedAnswerIsDownstream(t *testing.T) {
	c := serve(t, refusing{graph: &querierv1.FlameGraph{
		Names: []string{"total"}, Total: 10, Levels: []*querierv1.Level{{Values: []int64{0, 10, 0, 7}}},
	}})
	_, err := c.Tree(t.Context(), selection, nil, client.Only{})
	dr := client.Response(err)
	require.Equal(t, backend.ErrorSourceDownstream, dr.ErrorSource)
	require.ErrorContains(t, err, "answer of the server: flame graph")
}

func TestErrorsOfComparisons(t *testing.T) {
	_, err := serve(t, refusing{err: connect.NewError(connect.CodeInvalidArgument, errors.New("left.label_selector: unexpected end"))}).
		Diff(t.Context(), selection, selection, nil)
	dr := client.Response(err)
	require.EqualError(t, dr.Error, "comparison: left.label_selector: unexpected end")
	require.Equal(t, backend.StatusBadRequest, dr.Status)
	require.Equal(t, backend.ErrorSourceDownstream, dr.ErrorSource)

	_, err = serve(t, refusing{diff: &querierv1.FlameGraphDiff{
		Names: []string{"total"}, LeftTicks: 10, Levels: []*querierv1.Level{{Values: []int64{0, 10, 0, 0, 0, 0, 7}}},
	}}).Diff(t.Context(), selection, selection, nil)
	require.Equal(t, backend.ErrorSourceDownstream, client.Response(err).ErrorSource)
	require.ErrorContains(t, err, "answer of the server: flame graph")

	empty, err := serve(t, refusing{}).Diff(t.Context(), selection, selection, nil)
	require.NoError(t, err)
	require.Empty(t, empty.Nodes)
}

func TestOwnErrors(t *testing.T) {
	dr := client.Response(errors.New("index out of range"))
	require.Equal(t, backend.ErrorSourcePlugin, dr.ErrorSource)
	require.Equal(t, backend.StatusInternal, dr.Status)

	dr = client.Response(client.Invalidf("groupBy", "no %s", "label"))
	require.Equal(t, backend.ErrorSourceDownstream, dr.ErrorSource)
	require.Equal(t, backend.StatusBadRequest, dr.Status)
	require.EqualError(t, dr.Error, "groupBy: no label")
}

func TestStatusTellsServersApart(t *testing.T) {
	answer := func(path, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != path {
				w.Header().Set("Content-Type", "text/html") // a page for every path, as Pyroscope's UI does
				_, _ = w.Write([]byte("<html>"))
				return
			}
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    client.ServerStatus
	}{
		"flameline": {
			answer("/api/v1/status", "application/json", `{"service":"flameline","version":"1.2","ready":true,"ebpf":{"state":"off","reason":"not root"}}`),
			client.ServerStatus{Flameline: true, Version: "1.2", EBPF: client.EBPFStatus{State: "off", Reason: "not root"}},
		},
		"pyroscope": {
			answer("/api/v1/status/buildinfo", "application/json; charset=utf-8", `{"status":"success","data":{"version":"1.14.0"}}`),
			client.ServerStatus{Version: "1.14.0"},
		},
		"broken": {answer("/api/v1/status", "application/json", `{"service":`), client.ServerStatus{}},
		"other":  {answer("", "", ""), client.ServerStatus{}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(c.handler)
			defer srv.Close()
			got, err := client.New(srv.Client(), srv.URL).Status(t.Context())
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}
