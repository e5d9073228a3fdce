package plugin_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/plugin"
)

// slowQuerier answers with an empty flame graph when it is released.
type slowQuerier struct {
	querierv1connect.UnimplementedQuerierServiceHandler
	calls   atomic.Int64
	asked   chan struct{} // one for each call
	ended   chan error    // how calls ended
	release chan struct{} // closed to let calls go
}

func (q *slowQuerier) SelectMergeStacktraces(ctx context.Context, _ *connect.Request[querierv1.SelectMergeStacktracesRequest]) (*connect.Response[querierv1.SelectMergeStacktracesResponse], error) {
	q.calls.Add(1)
	q.asked <- struct{}{}
	select {
	case <-q.release:
	case <-ctx.Done():
	}
	q.ended <- ctx.Err()
	return connect.NewResponse(&querierv1.SelectMergeStacktracesResponse{}), nil
}

func startSlow(t *testing.T) (*slowQuerier, *plugin.Datasource) {
	t.Helper()
	q := &slowQuerier{asked: make(chan struct{}, 100), ended: make(chan error, 100), release: make(chan struct{})}
	mux := http.NewServeMux()
	mux.Handle(querierv1connect.NewQuerierServiceHandler(q))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return q, instance(t, backend.DataSourceInstanceSettings{UID: "flame", URL: srv.URL})
}

var hour = backend.TimeRange{From: time.Unix(1_700_000_000, 0), To: time.Unix(1_700_003_600, 0)}

func panelQuery(refID, selector string) backend.DataQuery {
	model, _ := json.Marshal(map[string]string{"refId": refID, "queryType": "profile", "profileTypeId": cpu, "labelSelector": selector})
	return backend.DataQuery{RefID: refID, TimeRange: hour, JSON: model}
}

func panel(headers map[string]string, queries ...backend.DataQuery) *backend.QueryDataRequest {
	return &backend.QueryDataRequest{Headers: headers, Queries: queries}
}

// Queries that are alike are one call, in a panel and across panels, and each has frames
// of its own.
func TestSameQueriesAreAskedOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		panels []*backend.QueryDataRequest
		calls  int
	}{
		{"in a panel", []*backend.QueryDataRequest{panel(nil, panelQuery("A", "{}"), panelQuery("B", "{}"), panelQuery("C", `{a="b"}`))}, 2},
		{"across panels", []*backend.QueryDataRequest{
			panel(map[string]string{"http_X-Panel-Id": "1", "Authorization": "Bearer ada"}, panelQuery("A", "{}")),
			panel(map[string]string{"http_X-Panel-Id": "2", "Authorization": "Bearer ada"}, panelQuery("B", "{}")),
		}, 1},
		{"of other users", []*backend.QueryDataRequest{
			panel(map[string]string{"Authorization": "Bearer ada"}, panelQuery("A", "{}")),
			panel(map[string]string{"Authorization": "Bearer bob"}, panelQuery("A", "{}")),
			panel(map[string]string{"Cookie": "session=1"}, panelQuery("A", "{}")),
			panel(map[string]string{"http_X-Grafana-User": "eve"}, panelQuery("A", "{}")),
		}, 4},
		{"of other times", []*backend.QueryDataRequest{
			panel(nil, panelQuery("A", "{}")),
			panel(nil, backend.DataQuery{RefID: "A", JSON: panelQuery("A", "{}").JSON, TimeRange: backend.TimeRange{From: hour.From, To: hour.To.Add(time.Second)}}),
		}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, ds := startSlow(t)
			answers := make([]*backend.QueryDataResponse, len(c.panels))
			var wg sync.WaitGroup
			for i, p := range c.panels {
				wg.Go(func() { answers[i], _ = ds.QueryData(t.Context(), p) })
			}
			require.Eventually(t, func() bool { return ds.Waiting() == distinct(c.panels) }, 30*time.Second, time.Millisecond)
			for range c.calls {
				<-q.asked
			}
			close(q.release)
			wg.Wait()
			require.EqualValues(t, c.calls, q.calls.Load())
			seen := map[any]bool{}
			for i, p := range c.panels {
				for _, query := range p.Queries {
					a := answers[i].Responses[query.RefID]
					require.NoError(t, a.Error)
					require.Len(t, a.Frames, 1)
					require.False(t, seen[a.Frames[0]], "a frame is in two answers")
					seen[a.Frames[0]] = true
				}
			}
		})
	}
}

// distinct is how many callers wait: one for each query of a panel that is not like another of it.
func distinct(panels []*backend.QueryDataRequest) (n int) {
	for _, p := range panels {
		seen := map[string]bool{}
		for _, q := range p.Queries {
			var m map[string]string
			_ = json.Unmarshal(q.JSON, &m)
			seen[m["labelSelector"]] = true
		}
		n += len(seen)
	}
	return n
}

// A panel that goes away does not end the query of another, and the last one does.
func TestSharedQueryEndsWithItsLastCaller(t *testing.T) {
	q, ds := startSlow(t)
	var cancels []context.CancelFunc
	answers := make(chan *backend.QueryDataResponse, 2)
	for i := range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		cancels = append(cancels, cancel)
		go func() {
			resp, _ := ds.QueryData(ctx, panel(nil, panelQuery(strconv.Itoa(i), "{}")))
			answers <- resp
		}()
		require.Eventually(t, func() bool { return ds.Waiting() == i+1 }, 30*time.Second, time.Millisecond)
	}
	<-q.asked
	cancels[0]()
	require.ErrorIs(t, (<-answers).Responses["0"].Error, context.Canceled)
	require.Empty(t, q.ended, "the second panel still waits")
	cancels[1]()
	require.ErrorIs(t, (<-answers).Responses["1"].Error, context.Canceled)
	require.ErrorIs(t, <-q.ended, context.Canceled)
	require.EqualValues(t, 1, q.calls.Load())
}
