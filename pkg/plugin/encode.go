package plugin

import (
	"context"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/grafana/grafana-plugin-sdk-go/genproto/pluginv2"
	"google.golang.org/grpc"

	"github.com/flameline/flameline/pkg/dataframe"
	"github.com/flameline/flameline/pkg/query"
)

// EncodeFrames makes the plugin's gRPC service encode data frames by dataframe.Marshal
// instead of the SDK, which has no option for it. It wraps the method QueryData in the
// description of the service that the SDK registers, so all that the SDK does for a query
// stays. It must be called once, before the plugin is served.
func EncodeFrames() {
	for i := range pluginv2.Data_ServiceDesc.Methods {
		if m := &pluginv2.Data_ServiceDesc.Methods[i]; m.MethodName == "QueryData" {
			m.Handler = encodeFrames(m.Handler)
		}
	}
}

// encodeFrames wraps a handler of QueryData: the data source keeps its frames in the
// context, and the answer, which the SDK has made without them, gets their bytes.
func encodeFrames(next grpc.MethodHandler) grpc.MethodHandler {
	return func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (answer any, err error) {
		kept := keptFrames{}
		answer, err = next(srv, context.WithValue(ctx, keptFramesKey{}, kept), dec, interceptor)
		resp, ok := answer.(*pluginv2.QueryDataResponse)
		if err != nil || !ok {
			return answer, err
		}
		defer query.Recovered(&err)
		for refID, frames := range kept {
			if one := resp.Responses[refID]; one != nil {
				if one.Frames, err = marshal(refID, frames); err != nil {
					return nil, err
				}
			}
		}
		return resp, nil
	}
}

// marshal encodes the frames of a query. Like the SDK, it names the query in them.
func marshal(refID string, frames data.Frames) ([][]byte, error) {
	out := make([][]byte, len(frames))
	for i, f := range frames {
		if f.RefID == "" {
			f.RefID = refID
		}
		var err error
		if out[i], err = dataframe.Marshal(f); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// keptFrames are the frames of a request by the query's refId. Only the goroutine that
// answers the request uses them.
type keptFrames map[string]data.Frames

type keptFramesKey struct{}

// keepFrames moves the frames of an answer out of it if the caller encodes them.
func keepFrames(ctx context.Context, format backend.DataFrameFormat, resp *backend.QueryDataResponse) {
	kept, ok := ctx.Value(keptFramesKey{}).(keptFrames)
	if !ok || format != backend.DataFrameFormat_ARROW {
		return
	}
	for refID, one := range resp.Responses {
		kept[refID], one.Frames = one.Frames, nil
		resp.Responses[refID] = one
	}
}
