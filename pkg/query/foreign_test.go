package query_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

const profileID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

// Fields of Grafana's Pyroscope data source that have no effect are named with the result.
func TestForeignFieldsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name  string
		model map[string]any
		want  []string // in the notices of the first frame, in order
	}{
		{"exemplars", map[string]any{"queryType": "metrics", "includeExemplars": true}, []string{"includeExemplars"}},
		{"heat map", map[string]any{"queryType": "metrics", "includeHeatmap": true, "heatmapType": "span"}, []string{"includeHeatmap"}},
		{"profiles of a flame graph", map[string]any{"queryType": "profile", "profileIdSelector": []string{profileID}}, nil},
		{"profiles of a series", map[string]any{"queryType": "metrics", "profileIdSelector": []string{profileID}}, []string{"profileIdSelector"}},
		{"profiles of both", map[string]any{"queryType": "both", "profileIdSelector": []string{profileID}}, []string{"profileIdSelector"}},
		{"profiles of a table", map[string]any{"queryType": "functions", "profileIdSelector": []string{profileID}}, []string{"profileIdSelector"}},
		{"profiles of a comparison", map[string]any{"queryType": "comparison", "profileIdSelector": []string{profileID}}, []string{"profileIdSelector"}},
		{"profiles beside spans", map[string]any{"queryType": "profile", "profileIdSelector": []string{profileID}, "spanSelector": []string{"9a517183f26a089d"}}, []string{"profileIdSelector"}},
		{"unset", map[string]any{
			"queryType": "both", "includeExemplars": false, "includeHeatmap": false, "heatmapType": "individual", "annotations": nil, "profileIdSelector": []string{""},
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.model["profileTypeId"] = cpu
			resp := ask(t, runner(t, &querier{tree: stacks(map[string]int64{"work": 3})}), time.Minute, c.model)
			require.NoError(t, resp.Error)
			var got []string
			for _, n := range resp.Frames[0].Meta.Notices {
				for _, field := range []string{"includeExemplars", "includeHeatmap", "profileIdSelector"} {
					if strings.Contains(n.Text, field) {
						got = append(got, field)
					}
				}
			}
			require.Equal(t, c.want, got)
		})
	}
}

// A flame graph of single profiles is asked for by their IDs; options are applied to it.
func TestFlameGraphOfProfiles(t *testing.T) {
	for name, view := range map[string]map[string]any{"whole": nil, "with options": {"focus": "work"}} {
		t.Run(name, func(t *testing.T) {
			q := &querier{tree: stacks(map[string]int64{"work": 3})}
			model := viewModel(view, "profileIdSelector", []string{profileID})
			require.NoError(t, ask(t, runner(t, q), time.Hour, model).Error)
			require.Len(t, q.profiles, 1)
			require.Equal(t, []string{profileID}, q.profiles[0].ProfileIdSelector)
			require.Empty(t, q.flameGraphRequests)
		})
	}
}

// What a Pyroscope server notes on profiles is shown on the chart, if the query asks for it.
func TestIngestAnnotations(t *testing.T) {
	const throttled = `{"body":{"periodType":"hour","periodLimitMb":512,"limitResetTime":1795438800,"samplingPeriodSec":60,"samplingRequests":1}}`
	note := func(key, value string) *typesv1.ProfileAnnotation {
		return &typesv1.ProfileAnnotation{Key: key, Value: value}
	}
	one := points("a", "11:55:00", 1., "11:55:15", 1., "11:59:00", 1., "11:59:15", 1.)
	one.Points[0].Annotations = []*typesv1.ProfileAnnotation{note("pyroscope.ingest.sampled", `{"body":{"source":{"usageGroup":"g","probability":0.25}}}`)}
	one.Points[1].Annotations = one.Points[0].Annotations
	one.Points[2].Annotations = []*typesv1.ProfileAnnotation{note("pyroscope.ingest.sampled", `{"body":{"source":{"probability":1}}}`), note("other", "text")}
	one.Points[3].Annotations = []*typesv1.ProfileAnnotation{note("pyroscope.ingest.throttled", "{")}
	other := points("b", "11:58:00", 1.)
	other.Points[0].Annotations = []*typesv1.ProfileAnnotation{note("pyroscope.ingest.throttled", throttled)}
	q := &querier{series: func(*querierv1.SelectSeriesRequest) []*typesv1.Series { return []*typesv1.Series{one, other} }}
	model := map[string]any{"queryType": "metrics", "profileTypeId": cpu, "groupBy": []string{"service_name"}, "annotations": true}
	resp := ask(t, runner(t, q), 10*time.Minute, model)
	require.NoError(t, resp.Error)
	require.Len(t, resp.Frames, 3)
	f := resp.Frames[2]
	require.Equal(t, data.DataTopicAnnotations, f.Meta.DataTopic)
	var got [][]any
	for i := range f.Rows() {
		got = append(got, []any{f.Fields[0].At(i).(time.Time).UnixMilli(), f.Fields[1].At(i).(time.Time).UnixMilli(), f.Fields[3].At(i)})
	}
	require.Equal(t, [][]any{
		{at("11:55:00"), at("11:55:15"), "The server keeps 25 % of the profiles."},
		{at("11:58:00"), int64(1795438800000), "The server's limit of 512 MiB per hour was reached; it keeps some profiles only."},
		{at("11:59:00"), at("11:59:00"), "other: text"},
		{at("11:59:15"), at("11:59:15"), "pyroscope.ingest.throttled: {"},
	}, got)

	model["annotations"] = false
	require.Len(t, ask(t, runner(t, q), 10*time.Minute, model).Frames, 2)

	// Grafana cannot evaluate them in a rule.
	model["annotations"] = true
	raw, err := json.Marshal(model)
	require.NoError(t, err)
	rule := backend.DataQuery{RefID: "A", JSON: raw, TimeRange: backend.TimeRange{From: now.Add(-10 * time.Minute), To: now}}
	require.Len(t, runner(t, q).Run(t.Context(), rule, true).Frames, 2)
}

// Of states a Pyroscope server adds up snapshots over time in flame graphs, and averages
// them over processes in series. Results say so, and those of Flameline do not.
func TestStatesOfOtherServers(t *testing.T) {
	const inUse = "memory:inuse_space:bytes:space:bytes"
	for queryType, want := range map[string]string{
		"profile": "adds up all snapshots", "comparison": "adds up all snapshots", "functions": "adds up all snapshots", "explain": "adds up all snapshots",
		"metrics": "averages the snapshots", "heatmap": "averages the snapshots",
	} {
		for _, other := range []bool{true, false} {
			for _, profileType := range []string{inUse, cpu} {
				q := &querier{other: other, tree: stacks(map[string]int64{"work": 3}), diff: profile.Diff(stacks(map[string]int64{"work": 2}), stacks(map[string]int64{"work": 3}))}
				q.series = func(*querierv1.SelectSeriesRequest) []*typesv1.Series {
					return []*typesv1.Series{points("a", "11:59:00", 1.)}
				}
				resp := ask(t, runner(t, q), 10*time.Minute, map[string]any{"queryType": queryType, "profileTypeId": profileType})
				require.NoError(t, resp.Error)
				said := strings.Contains(strings.Join(noticeTexts(resp.Frames[0]), " "), want)
				require.Equal(t, other && profileType == inUse, said, "%s of %s, other server %v", queryType, profileType, other)
			}
		}
	}
}

func TestInvalidSpans(t *testing.T) {
	for _, id := range []string{"xyz", "9a517183f26a08", "9a517183f26a089g"} {
		resp := ask(t, runner(t, &querier{}), time.Minute, map[string]any{"queryType": "profile", "profileTypeId": cpu, "spanSelector": []string{id}})
		require.EqualValues(t, 400, resp.Status)
		require.ErrorContains(t, resp.Error, "spanSelector: ")
	}
}
