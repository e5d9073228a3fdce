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
// own error.
func (d *Datasource) QueryData(ctx context.Context, req *backend.QueryDataRequest) (*backend.QueryDataResponse, error) {
	forAlert := req.Headers[backend.FromAlertHeaderName] != ""
	answers := make([]backend.DataResponse, len(req.Queries))
	var g errgroup.Group
	g.SetLimit(parallelQueries)
	for i, q := range req.Queries {
		g.Go(func() error {
			answers[i] = d.query(ctx, q, forAlert)
			return nil
		})
	}
	_ = g.Wait() // no query returns an error: each has its own in its answer
	resp := backend.NewQueryDataResponse()
	for i, q := range req.Queries {
		resp.Responses[q.RefID] = answers[i]
	}
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
