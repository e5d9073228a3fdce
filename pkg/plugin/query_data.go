package plugin

import (
	"context"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/experimental/concurrent"
)

// parallelQueries bounds the queries of one request that run at the same time.
const parallelQueries = 10

// QueryData answers the queries of a panel, side by side. Each has its own
// frames or its own error.
func (d *Datasource) QueryData(ctx context.Context, req *backend.QueryDataRequest) (*backend.QueryDataResponse, error) {
	return concurrent.QueryData(ctx, req, func(ctx context.Context, q concurrent.Query) backend.DataResponse {
		return d.runner.Run(ctx, q.DataQuery)
	}, parallelQueries)
}
