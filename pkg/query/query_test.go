package query_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/query"
)

func tree(self int64) *profile.Tree {
	b := profile.NewBuilder(0)
	b.Add(b.Child(0, b.Name("main")), self)
	return b.Tree()
}

func value(t *testing.T, f *data.Frame, name string, row int) any {
	t.Helper()
	field, _ := f.FieldByName(name)
	require.NotNil(t, field, name)
	return field.At(row)
}

// A panel of Grafana's Pyroscope data source, as in a dashboard's JSON.
func TestQueryOfThePyroscopeDataSource(t *testing.T) {
	q := &querier{tree: tree(7)}
	r := runner(t, q)
	resp := ask(t, r, time.Hour, map[string]any{
		"refId": "A", "datasource": map[string]any{"type": "grafana-pyroscope-datasource", "uid": "x"},
		"queryType": "profile", "profileTypeId": cpu, "labelSelector": `{service_name="order",}`,
		"groupBy": []string{}, "limit": nil, "maxNodes": 100, "spanSelector": []string{}, "annotations": true, "includeExemplars": false,
	})
	require.NoError(t, resp.Error)
	require.Len(t, resp.Frames, 1)
	require.Equal(t, int64(7), value(t, resp.Frames[0], "value", 0))
	require.Empty(t, resp.Frames[0].Meta.Notices)
	require.Len(t, q.profiles, 1)
	require.Equal(t, int64(100), q.profiles[0].GetMaxNodes())
	require.Equal(t, `{service_name="order",}`, q.profiles[0].LabelSelector)
	require.Equal(t, now.Add(-time.Hour).UnixMilli(), q.profiles[0].Start)
	require.Equal(t, now.UnixMilli(), q.profiles[0].End)
}

func TestBothGivesTheFlameGraphFirst(t *testing.T) {
	q := &querier{tree: tree(7), series: func(r *querierv1.SelectSeriesRequest) []*typesv1.Series {
		return []*typesv1.Series{{Points: []*typesv1.Point{{Timestamp: r.Start, Value: 15e9}}}}
	}}
	resp := ask(t, runner(t, q), time.Hour, map[string]any{"queryType": "both", "profileTypeId": cpu, "notice": "mind the gap"})
	require.NoError(t, resp.Error)
	require.Len(t, resp.Frames, 2)
	require.Equal(t, data.VisType(data.VisTypeFlameGraph), resp.Frames[0].Meta.PreferredVisualization)
	require.Equal(t, "mind the gap", resp.Frames[0].Meta.Notices[0].Text)
	require.Equal(t, data.VisTypeGraph, resp.Frames[1].Meta.PreferredVisualization)
	require.Equal(t, "{}", q.selects[0].LabelSelector)
}

func TestSpansAreSelected(t *testing.T) {
	q := &querier{tree: tree(7)}
	resp := ask(t, runner(t, q), time.Hour, map[string]any{"queryType": "profile", "profileTypeId": cpu, "spanSelector": []string{"9a517183f26a089d"}})
	require.NoError(t, resp.Error)
	require.Empty(t, q.profiles)
	require.Equal(t, []string{"9a517183f26a089d"}, q.spans[0].SpanSelector)
}

// Grafana computes the table of functions from the frame: calls that a server cut off are not a function,
// and a server that does not say of which functions it is leaves a notice.
func TestRestOfAFlameGraph(t *testing.T) {
	b := profile.NewBuilder(0)
	main := b.Child(0, b.Name("main"))
	for i := range 20 {
		b.Add(b.Child(main, b.Name(string(rune('a'+i)))), int64(40-i))
	}
	b.Add(b.Child(main, b.Name("other")), 1000) // a function
	b.Add(b.Child(main, b.Name("(not shown)")), 900)
	cut := b.Tree().Truncate(5)
	require.Equal(t, "(other)", cut.RestName())
	labels := func(f *data.Frame) (out []string) {
		field, _ := f.FieldByName("label")
		for i := range field.Len() {
			out = append(out, field.Config.TypeConfig.Enum.Text[field.At(i).(data.EnumItemIndex)])
		}
		return out
	}
	for name, c := range map[string]struct {
		header http.Header
		labels []string
		notice bool
	}{
		"a server that cuts by functions": {
			http.Header{profile.HeaderRest: {"functions"}, profile.HeaderRestName: {"(other)"}},
			[]string{"total", "main", "(not shown)", "a", "b", "other", "((not shown))"}, false,
		},
		"one whose nodes were too few for it": {
			http.Header{profile.HeaderRestName: {"(other)"}},
			[]string{"total", "main", "(not shown)", "a", "b", "other", "((not shown))"}, true,
		},
		"Pyroscope, where a function may look like the rest": {
			nil, []string{"total", "main", "(not shown)", "(other)", "a", "b", "((not shown))"}, true,
		},
		"nothing cut off": {
			http.Header{profile.HeaderRest: {"functions"}},
			[]string{"total", "main", "(not shown)", "(other)", "a", "b", "other"}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, spans := range [][]string{nil, {"9a517183f26a089d"}} {
				q := &querier{tree: cut, header: c.header}
				resp := ask(t, runner(t, q), time.Hour, map[string]any{"queryType": "profile", "profileTypeId": cpu, "spanSelector": spans})
				require.NoError(t, resp.Error)
				require.Equal(t, c.labels, labels(resp.Frames[0]))
				require.Equal(t, "functions", q.asked[0].Get("Flameline-Rest"))
				notices := resp.Frames[0].Meta.Notices
				if require.Len(t, notices, map[bool]int{true: 1}[c.notice]); c.notice {
					require.Contains(t, notices[0].Text, "The table counts their time as (not shown)")
				}
			}
		})
	}
}

func TestFlameGraphInCores(t *testing.T) {
	q := &querier{tree: tree(1800e9)} // 1800 s of CPU in an hour
	r := runner(t, q)
	resp := ask(t, r, time.Hour, map[string]any{"queryType": "profile", "profileTypeId": cpu, "unit": "cores"})
	require.NoError(t, resp.Error)
	require.InDelta(t, 0.5, value(t, resp.Frames[0], "value", 0), 1e-9)
	field, _ := resp.Frames[0].FieldByName("value")
	require.Equal(t, "cores", field.Config.Unit)

	// What has not passed yet does not count.
	raw := json.RawMessage(`{"queryType":"profile","unit":"cores","profileTypeId":"` + cpu + `"}`)
	resp = r.Run(t.Context(), backend.DataQuery{JSON: raw, TimeRange: backend.TimeRange{From: now.Add(-time.Hour), To: now.Add(time.Hour)}}, false)
	require.InDelta(t, 0.5, value(t, resp.Frames[0], "value", 0), 1e-9)

	// Memory in use has no rate.
	resp = ask(t, r, time.Hour, map[string]any{"queryType": "profile", "profileTypeId": "memory:inuse_space:bytes:space:bytes", "unit": "cores"})
	require.Equal(t, int64(1800e9), value(t, resp.Frames[0], "value", 0))
	require.Contains(t, resp.Frames[0].Meta.Notices[0].Text, "inuse_space describes an instant")
}

func TestNothingFound(t *testing.T) {
	for name, q := range map[string]*querier{
		"no flame graph": {}, "an empty one": {tree: tree(0)},
	} {
		t.Run(name, func(t *testing.T) {
			resp := ask(t, runner(t, q), time.Hour, map[string]any{"profileTypeId": cpu, "labelSelector": `{pod="cart"}`})
			require.NoError(t, resp.Error)
			require.Len(t, resp.Frames, 2)
			for _, f := range resp.Frames {
				require.Contains(t, f.Meta.Notices[0].Text, `No samples of `+cpu+` for {pod="cart"} between 2026-11-23T11:00:07Z and`)
			}
			require.Equal(t, int64(0), value(t, resp.Frames[0], "value", 0))
			require.Equal(t, 0, resp.Frames[1].Rows())
			require.Len(t, resp.Frames[1].Fields, 2)
		})
	}
}

func TestBadQueriesNameTheField(t *testing.T) {
	for field, model := range map[string]string{
		"query":         `{"queryType"`,
		"queryType":     `{"queryType":"top","profileTypeId":"` + cpu + `"}`,
		"profileTypeId": `{"queryType":"profile"}`,
		"labelSelector": `{"profileTypeId":"` + cpu + `","labelSelector":"{pod=cart}"}`,
		"limit":         `{"profileTypeId":"` + cpu + `","limit":"ten"}`,
		"maxNodes":      `{"profileTypeId":"` + cpu + `","maxNodes":-1}`,
		"unit":          `{"profileTypeId":"` + cpu + `","unit":"parsecs"}`,
		"step":          `{"profileTypeId":"` + cpu + `","step":"often"}`,
		"step: -5 sec":  `{"profileTypeId":"` + cpu + `","step":-5}`,
		"step: 1e+300":  `{"profileTypeId":"` + cpu + `","step":1e300}`,
		"version":       `{"profileTypeId":"` + cpu + `","version":99}`,
	} {
		t.Run(field, func(t *testing.T) {
			q := &querier{}
			resp := runner(t, q).Run(t.Context(), backend.DataQuery{
				JSON: json.RawMessage(model), TimeRange: backend.TimeRange{From: now.Add(-time.Hour), To: now},
			}, false)
			require.Error(t, resp.Error)
			require.True(t, strings.HasPrefix(resp.Error.Error(), field), "%q names %s", resp.Error, field)
			require.Equal(t, backend.StatusBadRequest, resp.Status)
			require.Empty(t, q.profiles, "the server is not asked")
		})
	}
	_, err := query.ParseModel(json.RawMessage(`{"profileTypeId":"` + cpu + `","labelSelector":"{pod=cart}"}`))
	require.ErrorContains(t, err, "1:6", "the position within the selector")
}

func TestStepIsTextOrSeconds(t *testing.T) {
	for raw, want := range map[string]time.Duration{`"1m"`: time.Minute, `90`: 90 * time.Second, `""`: 0, `null`: 0} {
		m, err := query.ParseModel(json.RawMessage(`{"profileTypeId":"` + cpu + `","step":` + raw + `}`))
		require.NoError(t, err)
		require.Equal(t, want, time.Duration(m.Step), raw)
	}
}

func TestBackwardRange(t *testing.T) {
	resp := runner(t, &querier{}).Run(t.Context(), backend.DataQuery{
		JSON: json.RawMessage(`{"profileTypeId":"` + cpu + `"}`), TimeRange: backend.TimeRange{From: now, To: now},
	}, false)
	require.ErrorContains(t, resp.Error, "time range: it ends")
}

func TestRefusalOfTheServer(t *testing.T) {
	q := &querier{err: connect.NewError(connect.CodeResourceExhausted, errors.New("the query range exceeds max_query_range"))}
	resp := ask(t, runner(t, q), time.Hour, map[string]any{"profileTypeId": cpu})
	require.ErrorContains(t, resp.Error, "max_query_range")
	require.Equal(t, backend.StatusTooManyRequests, resp.Status)
	require.Equal(t, backend.ErrorSourceDownstream, resp.ErrorSource)
	require.Empty(t, resp.Frames)
}

func TestAlertRulesGetSeries(t *testing.T) {
	q := &querier{tree: tree(7)}
	r := runner(t, q)
	for queryType, failure := range map[string]string{"both": "", "metrics": "", "profile": "queryType: an alert rule needs metrics", "comparison": "queryType: an alert rule needs metrics"} {
		resp := r.Run(t.Context(), backend.DataQuery{
			JSON:      json.RawMessage(`{"queryType":"` + queryType + `","profileTypeId":"` + cpu + `"}`),
			TimeRange: backend.TimeRange{From: now.Add(-time.Hour), To: now},
		}, true)
		require.Empty(t, q.profiles)
		require.Empty(t, q.diffs)
		if failure != "" {
			require.ErrorContains(t, resp.Error, failure)
			continue
		}
		require.NoError(t, resp.Error)
		require.Len(t, resp.Frames, 1)
		require.Equal(t, data.FrameTypeTimeSeriesMulti, resp.Frames[0].Meta.Type)
	}
}

// Whatever a dashboard holds, reading it does not panic, and what is accepted
// can be asked.
func FuzzParseModel(f *testing.F) {
	f.Add([]byte(`{"queryType":"both","profileTypeId":"` + cpu + `","labelSelector":"{a=\"b\"}","groupBy":["a"],"limit":3,"step":"15s"}`))
	f.Add([]byte(`{"profileTypeId":":::::","step":1e300}`))
	f.Add([]byte(`[]`))
	for _, baseline := range []string{
		`{"kind":"previous"}`, `{"kind":"offset","offset":"1w2d"}`, `{"kind":"offset","offset":"290y"}`, `{"kind":"same","labelSelector":"{a=\"b\"}"}`,
		`{"kind":"range","from":1763899200000,"to":"now-1d/d"}`, `{"kind":"range","from":"2026-11-22","to":"2026-11-23T10:00:00Z"}`, `{"kind":"range","from":[{}]}`, `null`,
	} {
		f.Add([]byte(`{"queryType":"comparison","profileTypeId":"` + cpu + `","labelSelector":"{}","baseline":` + baseline + `}`))
	}
	for _, more := range []string{
		`"queryType":"heatmap","heatmap":"offset","rows":25`, `"queryType":"heatmap","groupBy":["a",""," "],"limit":0`, `"queryType":"heatmap","heatmap":"offset","rows":-1`,
		`"queryType":"profile","view":{"focus":"file:a|b","hide":"(x{999}){2}","fold":["go-runtime","go-runtime"],"maxDepth":-1,"groupBy":["a","a","b","c","d"]}`,
		`"queryType":"comparison","view":{"function":"f","reverse":true,"maxDepth":9223372036854775807}`, `"view":[]`,
		`"queryType":"functions","baseline":{"kind":"offset","offset":"1d"},"limit":-1`, `"queryType":"functionSeries","functions":["f",""],"limit":1000`,
		`"queryType":"explain","baseline":{"kind":"previous"}`,
	} {
		f.Add([]byte(`{"profileTypeId":"` + cpu + `","labelSelector":"{}",` + more + `}`))
	}
	answers := runner(f, &querier{
		functions: &flamelinev1.FunctionsResponse{}, functionSeries: &flamelinev1.FunctionSeriesResponse{}, offsets: &flamelinev1.OffsetsResponse{},
		flameGraph: &flamelinev1.FlameGraphResponse{Parents: []int32{-1}, Functions: []int32{0}, Own: []int64{0}, BaselineOwn: []int64{0}, Names: []string{"total"}},
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := query.ParseModel(raw)
		if err != nil {
			return
		}
		// The server answers everything with nothing, so a query that fails was refused.
		if resp := answers.Run(t.Context(), backend.DataQuery{
			JSON: raw, TimeRange: backend.TimeRange{From: now.Add(-time.Hour), To: now}, Interval: time.Minute, MaxDataPoints: 100,
		}, false); resp.Error != nil && resp.Status >= 500 {
			t.Errorf("%s: %v", raw, resp.Error)
		}
		if m.QueryType == query.TypeHeatmap && m.Heatmap == query.HeatmapOffset && (m.Rows < 1 || 50%m.Rows != 0) {
			t.Errorf("%d rows of a second", m.Rows)
		}
		if _, err := profile.ParseType(m.ProfileTypeID); err != nil {
			t.Error(err)
		}
		if _, err := profile.ParseSelector(m.LabelSelector); err != nil {
			t.Error(err)
		}
		if m.Step < 0 {
			t.Errorf("step %d", m.Step)
		}
		if m.QueryType != query.TypeComparison {
			return
		}
		if _, err := profile.ParseSelector(m.Baseline.LabelSelector); err != nil {
			t.Error(err)
		}
		tr := backend.TimeRange{From: now.Add(-time.Hour), To: now}
		base, err := m.Baseline.Window(tr, now)
		switch {
		case err != nil:
			if !strings.HasPrefix(err.Error(), "baseline.") {
				t.Errorf("%v does not name the field", err)
			}
		case !base.From.Before(base.To) || base.From.UnixMilli() < 0:
			t.Errorf("baseline from %s to %s", base.From, base.To)
		case m.Baseline.Kind != query.BaselineSame && m.Baseline.Kind != query.BaselineRange && !base.From.Before(tr.From):
			t.Errorf("a baseline of kind %s from %s", m.Baseline.Kind, base.From)
		}
	})
}
