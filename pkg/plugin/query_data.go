package plugin

import (
	"context"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"golang.org/x/sync/errgroup"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/query"
)

// parallelQueries bounds the queries of one request that run concurrently.
const parallelQueries = 10

// QueryData answers the queries of a panel, concurrently. Each has its own frames or its
// own error. Queries that are alike, in the request or in others at the same time, are
// asked once.
func (d *Datasource) QueryData(ctx context.Context, req *backend.QueryDataRequest) (*backend.QueryDataResponse, error) {
	forAlert := req.Headers[backend.FromAlertHeaderName] != ""
	headers := req.GetHTTPHeaders()
	answers := make([]backend.DataResponse, len(req.Queries))
	firsts := make([]int, len(req.Queries)) // the first query that is like each
	known := make(map[queryKey]int)
	var g errgroup.Group
	g.SetLimit(parallelQueries)
	for i, q := range req.Queries {
		key := keyOf(q, headers, forAlert)
		first, found := known[key]
		if firsts[i] = first; found {
			continue
		}
		known[key], firsts[i] = i, i
		g.Go(func() error {
			answer, err := d.shared.do(ctx, key, func(ctx context.Context) backend.DataResponse {
				return d.query(ctx, q, forAlert)
			})
			if err != nil {
				answer = client.Response(err)
			}
			answers[i] = answer
			return nil
		})
	}
	_ = g.Wait() // no query returns an error: each has its own in its answer
	resp := backend.NewQueryDataResponse()
	for i, q := range req.Queries {
		resp.Responses[q.RefID] = copyOf(answers[firsts[i]])
	}
	keepFrames(ctx, req.Format, resp)
	return resp, nil
}

// query answers one query. A panic becomes an error of that query, so that it does not
// end the process, which other data sources share.
func (d *Datasource) query(ctx context.Context, q backend.DataQuery, forAlert bool) (answer backend.DataResponse) {
	var panicked error
	defer func() {
		if panicked != nil {
			answer = client.Response(panicked)
		}
	}()
	defer query.Recovered(&panicked)
	if err := ctx.Err(); err != nil {
		return client.Response(err)
	}
	return d.runner.Run(ctx, q, forAlert)
}
