package query_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/query"
)

// comparison is the JSON of a query with a baseline.
func comparison(selector, baseline string) json.RawMessage {
	text, _ := json.Marshal(selector)
	return json.RawMessage(`{"queryType":"comparison","profileTypeId":"` + cpu + `","labelSelector":` + string(text) + `,"baseline":` + baseline + `}`)
}

func TestBaselineWindows(t *testing.T) {
	const panel = `{service_name="order"}`
	tr := backend.TimeRange{From: now.Add(-time.Hour), To: now} // 11:00:07 to 12:00:07
	for baseline, want := range map[string][3]string{
		`{"kind":"previous"}`: {"2026-11-23T10:00:07Z", "2026-11-23T11:00:07Z", panel},
		`null`:                {"2026-11-23T10:00:07Z", "2026-11-23T11:00:07Z", panel},
		`{}`:                  {"2026-11-23T10:00:07Z", "2026-11-23T11:00:07Z", panel},

		`{"kind":"offset","offset":"1d"}`:                                {"2026-11-22T11:00:07Z", "2026-11-22T12:00:07Z", panel},
		`{"kind":"offset","offset":" 1w "}`:                              {"2026-11-16T11:00:07Z", "2026-11-16T12:00:07Z", panel},
		`{"kind":"offset","offset":"2h30m","labelSelector":"{a=\"b\"}"}`: {"2026-11-23T08:30:07Z", "2026-11-23T09:30:07Z", `{a="b"}`},

		`{"kind":"range","from":1763899200000,"to":1763902800000}`:                             {"2025-11-23T12:00:00Z", "2025-11-23T13:00:00Z", panel},
		`{"kind":"range","from":"1763899200000","to":"1763902800"}`:                            {"2025-11-23T12:00:00Z", "2025-11-23T13:00:00Z", panel},
		`{"kind":"range","from":"2026-11-20T08:00:00+01:00","to":"2026-11-20T09:00:00+01:00"}`: {"2026-11-20T07:00:00Z", "2026-11-20T08:00:00Z", panel},
		`{"kind":"range","from":"now-1d/d","to":"now-1d/d","labelSelector":"{}"}`:              {"2026-11-22T00:00:00Z", "2026-11-22T23:59:59.999Z", `{}`},

		`{"kind":"same","labelSelector":"{service_name=\"order\",pod=\"b\"}"}`: {"2026-11-23T11:00:07Z", "2026-11-23T12:00:07Z", `{service_name="order",pod="b"}`},
	} {
		t.Run(baseline, func(t *testing.T) {
			m, err := query.ParseModel(comparison(panel, baseline))
			require.NoError(t, err)
			got, err := m.Baseline.Window(tr, now)
			require.NoError(t, err)
			require.Equal(t, want, [3]string{
				got.From.UTC().Format(time.RFC3339Nano), got.To.UTC().Format(time.RFC3339Nano), m.Baseline.LabelSelector,
			})
		})
	}
}

func TestBadBaselinesNameTheField(t *testing.T) {
	for baseline, want := range map[string]string{
		`"yesterday"`:                                                     `baseline: want an object, not a string`,
		`{"kind":"next"}`:                                                 `baseline.kind: "next" is not one of previous, offset, range and same`,
		`{"kind":3}`:                                                      `baseline.kind: want string, not a number`,
		`{"kind":"offset"}`:                                               `baseline.offset: "" is not a duration`,
		`{"kind":"offset","offset":"soon"}`:                               `baseline.offset: "soon" is not a duration such as 1h, 1d or 2h30m`,
		`{"kind":"offset","offset":"-1d"}`:                                `baseline.offset: "-1d"`,
		`{"kind":"offset","offset":"0s"}`:                                 `baseline.offset: "0s"`,
		`{"kind":"offset","offset":"999y"}`:                               `baseline.offset: "999y"`,
		`{"kind":"offset","offset":"99y"}`:                                `baseline.offset: the baseline begins before 1970`,
		`{"kind":"offset","offset":86400}`:                                `baseline.offset: want string, not a number`,
		`{"kind":"range"}`:                                                `baseline.from: the baseline's range needs a start`,
		`{"kind":"range","from":"now-2d"}`:                                `baseline.to: the baseline's range needs an end`,
		`{"kind":"range","from":"x","to":"now-1d"}`:                       `baseline.from: "x" is not a time`,
		`{"kind":"range","from":"now-1d","to":"Tuesday"}`:                 `baseline.to: "Tuesday" is not a time`,
		`{"kind":"range","from":true,"to":"now"}`:                         `baseline.from: want a time, not a bool`,
		`{"kind":"range","from":"now-1d","to":{}}`:                        `baseline.to: want a time, not a object`,
		`{"kind":"range","from":1.7e12,"to":"now"}`:                       `baseline.from: "1.7e12" is not a time`,
		`{"kind":"range","from":"now-1d","to":"now-2d"}`:                  `baseline.to: the baseline ends (2026-11-21T12:00:07Z) before it begins (2026-11-22T12:00:07Z)`,
		`{"kind":"range","from":"1960-01-01","to":"now"}`:                 `baseline.from: the baseline begins before 1970`,
		`{"kind":"previous","labelSelector":"{pod=cart}"}`:                `baseline.labelSelector: `,
		`{"kind":"previous","labelSelector":["pod"]}`:                     `baseline.labelSelector: want string, not a array`,
		`{"kind":"same"}`:                                                 `baseline.labelSelector: the baseline has the time and the labels of the query itself`,
		`{"kind":"same","labelSelector":" {pod=\"cart\", node=\"n\",} "}`: `baseline.labelSelector: the baseline has the time and the labels`, // the query's, written otherwise
		`{"kind":"range","from":"now-1h","to":"now"}`:                     `baseline.from: the baseline has the time and the labels of the query itself`,
	} {
		t.Run(baseline, func(t *testing.T) {
			q := &querier{}
			resp := runner(t, q).Run(t.Context(), backend.DataQuery{
				JSON: comparison(`{node="n",pod="cart"}`, baseline), TimeRange: backend.TimeRange{From: now.Add(-time.Hour), To: now},
			}, false)
			require.Error(t, resp.Error)
			require.True(t, strings.HasPrefix(resp.Error.Error(), want), "%q begins with %q", resp.Error, want)
			require.Equal(t, backend.StatusBadRequest, resp.Status)
			require.Empty(t, q.diffs, "the server is not asked")
		})
	}
}

// Other query types do not read the baseline, which the editor keeps when the type changes.
func TestBaselineOfOtherQueryTypes(t *testing.T) {
	_, err := query.ParseModel(json.RawMessage(`{"queryType":"profile","profileTypeId":"` + cpu + `","baseline":{"kind":"offset"}}`))
	require.NoError(t, err)
}
