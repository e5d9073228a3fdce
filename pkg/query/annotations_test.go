package query_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/client"
)

const kills = "oom:kills:count::"

// annotated is the rows of a frame of annotations as text.
func annotated(t *testing.T, resp backend.DataResponse) []string {
	t.Helper()
	require.NoError(t, resp.Error)
	require.Len(t, resp.Frames, 1)
	f := resp.Frames[0]
	var names []string
	for _, field := range f.Fields {
		names = append(names, field.Name)
	}
	require.Equal(t, []string{"time", "timeEnd", "title", "text", "tags"}, names)
	rows := make([]string, f.Rows())
	for i := range rows {
		from, to := f.Fields[0].At(i).(time.Time), f.Fields[1].At(i).(time.Time)
		rows[i] = fmt.Sprintf("%s-%s %s (%s)", from.Format(time.TimeOnly), to.Format(time.TimeOnly), f.Fields[2].At(i), f.Fields[4].At(i))
	}
	return rows
}

func TestAnnotations(t *testing.T) {
	q := &querier{series: func(*querierv1.SelectSeriesRequest) []*typesv1.Series {
		shop := points("shop", "11:58:05", 1.0, "11:58:06", 2.0, "11:58:07", 0.0, "11:59:00", 1.0)
		shop.Labels = append(shop.Labels, &typesv1.LabelPair{Name: "pod", Value: "shop-1"}, &typesv1.LabelPair{Name: "node"})
		return []*typesv1.Series{shop, points("order", "11:58:30", 1.0)}
	}}
	resp := ask(t, runner(t, q), 5*time.Minute, map[string]any{"queryType": "annotations", "profileTypeId": kills})
	require.Equal(t, []string{
		"11:58:04-11:58:06 oom kills: 3 (pod=shop-1,service_name=shop)",
		"11:58:29-11:58:30 oom kills: 1 (service_name=order)",
		"11:58:59-11:59:00 oom kills: 1 (pod=shop-1,service_name=shop)",
	}, annotated(t, resp))
	require.Equal(t, "pod=shop-1\nservice_name=shop", resp.Frames[0].Fields[3].At(0))
	require.InDelta(t, 1, q.selects[0].Step, 1e-9)
	require.Equal(t, []string{"service_name", "pod", "container_id", "comm", "node"}, q.selects[0].GroupBy)

	ask(t, runner(t, q), 5*time.Minute, map[string]any{"queryType": "annotations", "profileTypeId": kills, "groupBy": []string{"pod"}, "step": "1m"})
	require.InDelta(t, 60, q.selects[1].Step, 1e-9)
	require.Equal(t, []string{"pod"}, q.selects[1].GroupBy)
}

func TestAnnotationsOfNothing(t *testing.T) {
	require.Empty(t, annotated(t, ask(t, runner(t, &querier{}), 5*time.Minute, map[string]any{"queryType": "annotations", "profileTypeId": kills})))
}

// Too many annotations hide the chart; the last ones are kept.
func TestManyAnnotations(t *testing.T) {
	q := &querier{series: func(*querierv1.SelectSeriesRequest) []*typesv1.Series {
		s := &typesv1.Series{}
		for i := range int64(1500) {
			s.Points = append(s.Points, &typesv1.Point{Timestamp: at("11:00:00") + 2000*i, Value: 1})
		}
		return []*typesv1.Series{s}
	}}
	resp := ask(t, runner(t, q), 2*time.Hour, map[string]any{"queryType": "annotations", "profileTypeId": kills})
	rows := annotated(t, resp)
	require.Len(t, rows, 1000)
	require.Equal(t, "11:49:57-11:49:58 oom kills: 1 ()", rows[999])
	require.Contains(t, resp.Frames[0].Meta.Notices[0].Text, "the last 1000 of 1500")
}

func TestAnnotationsAreNotForAlerts(t *testing.T) {
	resp := runner(t, &querier{}).Run(t.Context(), backend.DataQuery{
		JSON:      []byte(`{"queryType":"annotations","profileTypeId":"` + kills + `"}`),
		TimeRange: backend.TimeRange{From: now.Add(-time.Minute), To: now},
	}, true)
	var invalid *client.InvalidError
	require.ErrorAs(t, resp.Error, &invalid)
	require.Equal(t, "queryType", invalid.Field)
}
