package server_test

import (
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/profile"
)

// Every type that was accepted is listed, and answers by the ID that was listed,
// whatever its sender called it.
func TestOddTypesAreListedAndAskedFor(t *testing.T) {
	url, _ := start(t, defaults)
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url)
	odd := []profile.Type{
		{Name: "net/http.open", SampleType: "net/http.open", SampleUnit: "count", PeriodType: "net/http.open", PeriodUnit: "count"},
		{Name: "native", SampleType: "Total malloc size", SampleUnit: "bytes"},
		{Name: "native", SampleType: "total malloc size", SampleUnit: "bytes"},
		{Name: "a:b", SampleType: "c", SampleUnit: "count"},
		{Name: "a", SampleType: "b", SampleUnit: ""},
		{Name: "a", SampleType: "b", SampleUnit: "%"},
		{Name: "50%3A", SampleType: "b", SampleUnit: "count"},
		{Name: "größe", SampleType: "数", SampleUnit: "µs", PeriodType: "☃"},
		{Name: `a"b`, SampleType: `'c'{d="e"}`, SampleUnit: "`f`"},
		{Name: " a ", SampleType: " b\n", SampleUnit: " "},
		{Name: `\`, SampleType: `\d+`, SampleUnit: "delta", PeriodType: "delta", PeriodUnit: "delta"},
		{Name: "a.b-c/d", SampleType: "e|f,g;h=i", SampleUnit: "j"},
	}
	for _, typ := range odd {
		pushTypes(t, url, "odd", typ.String())
	}
	end := time.Now().UnixMilli()
	begin := end - 600_000
	types, err := q.ProfileTypes(t.Context(), connect.NewRequest(&querierv1.ProfileTypesRequest{Start: begin, End: end}))
	require.NoError(t, err)
	require.Len(t, types.Msg.ProfileTypes, len(odd))
	values, err := q.LabelValues(t.Context(), connect.NewRequest(&typesv1.LabelValuesRequest{Name: "__profile_type__", Start: begin, End: end}))
	require.NoError(t, err)
	picker, err := client.New(http.DefaultClient, url).ProfileTypes(t.Context(), begin, end)
	require.NoError(t, err)
	require.ElementsMatch(t, odd, picker)
	var listed []profile.Type
	for _, typ := range types.Msg.ProfileTypes {
		id := typ.ID
		t.Run(id, func(t *testing.T) {
			listed = append(listed, profile.Type{
				Name: typ.Name, SampleType: typ.SampleType, SampleUnit: typ.SampleUnit, PeriodType: typ.PeriodType, PeriodUnit: typ.PeriodUnit,
			})
			require.Contains(t, values.Msg.Names, id)
			merge := &querierv1.SelectMergeStacktracesRequest{ProfileTypeID: id, LabelSelector: "{}", Start: begin, End: end}
			tree, err := q.SelectMergeStacktraces(t.Context(), connect.NewRequest(merge))
			require.NoError(t, err)
			require.Equal(t, int64(7), tree.Msg.Flamegraph.Total)
			series, err := q.SelectSeries(t.Context(), connect.NewRequest(&querierv1.SelectSeriesRequest{
				ProfileTypeID: id, LabelSelector: "{}", Start: begin, End: end, Step: 600,
			}))
			require.NoError(t, err)
			require.NotEmpty(t, series.Msg.Series)
			diff, err := q.Diff(t.Context(), connect.NewRequest(&querierv1.DiffRequest{Left: merge, Right: merge}))
			require.NoError(t, err)
			require.Equal(t, int64(7), diff.Msg.Flamegraph.LeftTicks)
			p, err := q.SelectMergeProfile(t.Context(), connect.NewRequest(&querierv1.SelectMergeProfileRequest{
				ProfileTypeID: id, LabelSelector: "{}", Start: begin, End: end,
			}))
			require.NoError(t, err)
			require.Len(t, p.Msg.Sample, 1)
			for _, query := range []string{id, id + "{}", id + `{service_name='odd'}`, `{__profile_type__="` + id + `"}`} {
				require.Contains(t, ok(t, url, "/render", "query", query, "format", "collapsed"), " 7\n")
			}
			require.Contains(t, ok(t, url, "/render", "query", id), `"numTicks":7`)
			require.Contains(t, ok(t, url, "/render-diff", "query", id), `"numTicks":14`)
		})
	}
	require.ElementsMatch(t, odd, listed)
}
