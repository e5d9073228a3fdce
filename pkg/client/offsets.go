package client

import (
	"context"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
)

// An OffsetsRequest asks for values by steps of time, as SeriesRequest does, and by offset
// within the second. Start, End and the step are whole seconds.
type OffsetsRequest struct {
	Selection
	StepMs int64
	Rows   int64 // into how many rows a second is divided
}

// Offsets returns the values of samples that have times of their own. Only Flameline has
// this call.
func (c *Client) Offsets(ctx context.Context, r OffsetsRequest) (*flamelinev1.OffsetsResponse, error) {
	resp, err := c.own.Offsets(ctx, connect.NewRequest(&flamelinev1.OffsetsRequest{
		Selection: wire(r.Selection), Step: r.StepMs / 1000, Rows: r.Rows,
	}))
	switch connect.CodeOf(err) {
	case connect.CodeUnimplemented, connect.CodeNotFound:
		return nil, backend.DownstreamError(&callError{
			message: "heat map by offset: " + c.url + " has no such query; it needs a Flameline server of this version", err: err,
		})
	}
	if err != nil {
		return nil, c.wrap("heat map by offset", err)
	}
	return resp.Msg, nil
}
