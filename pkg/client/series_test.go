package client_test

import (
	"context"
	"errors"
	"testing"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/client"
)

// pyroscope answers series as a Pyroscope server does: profiles of one value at the times.
type pyroscope struct {
	querierv1connect.UnimplementedQuerierServiceHandler
	times []int64
}

func (p *pyroscope) SelectSeries(_ context.Context, r *connect.Request[querierv1.SelectSeriesRequest]) (*connect.Response[querierv1.SelectSeriesResponse], error) {
	start, step := max(r.Msg.Start, p.times[0]), int64(r.Msg.Step*1000)
	s := &typesv1.Series{Labels: []*typesv1.LabelPair{{Name: "pod", Value: "a"}}}
	for first, t := true, start; t <= r.Msg.End; first, t = false, t+step {
		var n float64
		for _, at := range p.times {
			if at <= t && (at > t-step || first && at == t-step) {
				n++
			}
		}
		if n > 0 {
			s.Points = append(s.Points, &typesv1.Point{Timestamp: t, Value: n})
		}
	}
	return connect.NewResponse(&querierv1.SelectSeriesResponse{Series: []*typesv1.Series{s}}), nil
}

func (p *pyroscope) SelectMergeStacktraces(_ context.Context, r *connect.Request[querierv1.SelectMergeStacktracesRequest]) (*connect.Response[querierv1.SelectMergeStacktracesResponse], error) {
	return nil, connect.NewError(connect.CodeUnknown, errors.New("rpc error: code = Unknown desc = invalid UUID length: 2"))
}

// every returns times in milliseconds, 10 s apart.
func every(from, to int64) (times []int64) {
	for t := from; t <= to; t += 10_000 {
		times = append(times, t)
	}
	return times
}

func TestSeriesOfPyroscope(t *testing.T) {
	for _, c := range []struct {
		name  string
		times []int64
		step  int64
		want  map[int64]float64
	}{
		{"profiles at whole steps", every(0, 200_000), 10_000, map[int64]float64{100_000: 1, 110_000: 1, 120_000: 1, 130_000: 1, 140_000: 1}},
		{"several in a step", every(0, 200_000), 20_000, map[int64]float64{100_000: 2, 120_000: 2, 140_000: 2}},
		{"the oldest after the start", every(103_000, 200_000), 20_000, map[int64]float64{120_000: 2, 140_000: 2}},
		{"the oldest just before the start", every(93_000, 200_000), 20_000, map[int64]float64{100_000: 1, 120_000: 2, 140_000: 2}},
		{"the oldest in the last step", every(139_000, 200_000), 20_000, map[int64]float64{140_000: 1}},
		{"the oldest after the last step", every(145_000, 200_000), 20_000, map[int64]float64{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sel := client.Selection{Type: selection.Type, Selector: "{}", Start: 100_000, End: 140_000}
			found, err := serve(t, &pyroscope{times: c.times}).Series(t.Context(), client.SeriesRequest{Selection: sel, StepMs: c.step})
			require.NoError(t, err)
			got := map[int64]float64{}
			for _, s := range found {
				for _, p := range s.Points {
					got[p.Timestamp] = p.Value
				}
			}
			require.Equal(t, c.want, got)
		})
	}
}

func TestTotalsOfPyroscope(t *testing.T) {
	for name, c := range map[string]struct {
		times []int64
		want  float64
	}{
		"profiles before the start": {every(3_000, 200_000), 4},
		"the oldest after it":       {every(123_000, 200_000), 2},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := serve(t, &pyroscope{times: c.times}).Totals(t.Context(), client.SeriesRequest{
				Selection: client.Selection{Type: selection.Type, Selector: "{}", Start: 100_000, End: 140_000}, GroupBy: []string{"pod"},
			})
			require.NoError(t, err)
			require.Len(t, got, 1)
			require.Equal(t, "a", got[0].Labels[0].Value)
			require.InDelta(t, c.want, got[0].Value, 0)
		})
	}
}

func TestInvalidProfileIDs(t *testing.T) {
	c := serve(t, &pyroscope{})
	_, err := c.Tree(t.Context(), selection, nil, client.Only{Profiles: []string{"7c"}})
	require.ErrorContains(t, err, "profileIdSelector: ")
	require.Equal(t, backend.StatusBadRequest, client.Status(err))
	_, err = c.Tree(t.Context(), selection, nil, client.Only{})
	require.Equal(t, backend.StatusBadGateway, client.Status(err))
}
