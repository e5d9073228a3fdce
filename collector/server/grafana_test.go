package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/server/conformance"
	"github.com/flameline/flameline/collector/store"
)

// What Grafana's Pyroscope data source sends from its backend, with the Connect
// client and these fields (grafana/grafana, pkg/tsdb/grafana-pyroscope-datasource,
// pyroscopeClient.go and query.go). The range is the dashboard's, a step is 15 s
// at least, and a heatmap has 64 slots at most.
func TestGrafanasDataSource(t *testing.T) {
	ctx := t.Context()
	url, _ := start(t, defaults)
	base := corpusBase()
	end := base + conformance.Count*conformance.Step
	require.NoError(t, conformance.Push(ctx, url, base))
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url)
	n := func(v int64) *int64 { return &v }

	// The health check and the list of types have the dashboard's range.
	types, err := q.ProfileTypes(ctx, connect.NewRequest(&querierv1.ProfileTypesRequest{Start: base, End: end}))
	require.NoError(t, err)
	require.Len(t, types.Msg.ProfileTypes, 10)
	for _, ty := range types.Msg.ProfileTypes { // it splits the ID and joins name and sample type
		require.Len(t, strings.Split(ty.ID, ":"), 5)
		require.NotEmpty(t, ty.Name+ty.SampleType)
	}

	// Label look-ups have one matcher, which is "" before the first is chosen.
	for _, selector := range []string{"", "{}", `{service_name="cart"}`} {
		names, err := q.LabelNames(ctx, connect.NewRequest(&typesv1.LabelNamesRequest{Matchers: []string{selector}, Start: base, End: end}))
		require.NoError(t, err)
		require.Contains(t, names.Msg.Names, "pod")
		values, err := q.LabelValues(ctx, connect.NewRequest(&typesv1.LabelValuesRequest{Name: "pod", Matchers: []string{selector}, Start: base, End: end}))
		require.NoError(t, err)
		require.Equal(t, []string{"cart-0", "cart-1"}, values.Msg.Names)
	}

	for _, exemplars := range []typesv1.ExemplarType{
		typesv1.ExemplarType_EXEMPLAR_TYPE_UNSPECIFIED, typesv1.ExemplarType_EXEMPLAR_TYPE_NONE, typesv1.ExemplarType_EXEMPLAR_TYPE_INDIVIDUAL,
	} {
		series, err := q.SelectSeries(ctx, connect.NewRequest(&querierv1.SelectSeriesRequest{
			ProfileTypeID: cpu, LabelSelector: `{service_name="cart"}`, Start: base, End: end, Step: 15, GroupBy: []string{"pod"}, Limit: n(10), ExemplarType: exemplars,
		}))
		require.NoError(t, err)
		require.Len(t, series.Msg.Series, 2)
		for _, s := range series.Msg.Series {
			require.Equal(t, "pod", s.Labels[0].Name)
			require.Len(t, s.Points, conformance.Count)
			for _, p := range s.Points { // its exemplar toggle
				want := 0
				if exemplars == typesv1.ExemplarType_EXEMPLAR_TYPE_INDIVIDUAL {
					want = 1
				}
				require.Len(t, p.Exemplars, want)
			}
		}
	}
	flame, err := q.SelectMergeStacktraces(ctx, connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{
		ProfileTypeID: cpu, LabelSelector: `{service_name="cart"}`, Start: base, End: end, MaxNodes: n(16384),
	}))
	require.NoError(t, err)
	nested(t, flame.Msg.Flamegraph)
	span, err := q.SelectMergeSpanProfile(ctx, connect.NewRequest(&querierv1.SelectMergeSpanProfileRequest{
		ProfileTypeID: cpu, LabelSelector: "{}", SpanSelector: []string{"9a517183f26a089d"}, Start: base, End: end,
	}))
	require.NoError(t, err)
	require.Zero(t, span.Msg.Flamegraph.GetTotal())
	heat, err := q.SelectHeatmap(ctx, connect.NewRequest(&querierv1.SelectHeatmapRequest{
		ProfileTypeID: cpu, LabelSelector: `{service_name="ledger"}`, Start: base, End: end, Step: 56.25,
		QueryType: querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_INDIVIDUAL, ExemplarType: typesv1.ExemplarType_EXEMPLAR_TYPE_NONE,
	}))
	require.NoError(t, err)
	require.Len(t, heat.Msg.Series, 1)
	for _, slot := range heat.Msg.Series[0].Slots { // it reads as many counts as rows
		require.Len(t, slot.Counts, len(slot.YMin))
	}
}

// nested checks what the data source takes for granted when it turns levels into
// nested sets: one root that begins at 0, and every bar within one of the level
// above.
func nested(t *testing.T, f *querierv1.FlameGraph) {
	t.Helper()
	type bar struct{ from, to int64 }
	above := []bar{{0, f.Total}}
	for level, l := range f.Levels {
		var bars []bar
		x := int64(0)
		for i := 0; i < len(l.Values); i += 4 {
			from := x + l.Values[i]
			x = from + l.Values[i+1]
			require.Less(t, l.Values[i+3], int64(len(f.Names)))
			inside := false
			for _, a := range above {
				inside = inside || a.from <= from && x <= a.to
			}
			require.True(t, inside, "level %d, bar %d", level, i/4)
			bars = append(bars, bar{from, x})
		}
		above = bars
	}
	require.Len(t, f.Levels[0].Values, 4)
}

// browser sends what Profiles Drilldown sends through Grafana's data source
// proxy: JSON with these headers (its HttpClient and DataSourceProxyClient), with
// Grafana's own on top.
func browser(t *testing.T, url, path, body string, header ...string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path, strings.NewReader(body))
	require.NoError(t, err)
	for k, v := range map[string]string{
		"content-type": "application/json", "accept": "application/json, text/plain, */*", "x-grafana-org-id": "1",
		"accept-encoding": "gzip, deflate, br", "user-agent": "Grafana/12.4.1", "x-forwarded-for": "127.0.0.1", "cookie": "grafana_session=x",
	} {
		req.Header.Set(k, v)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	req.Header.Del("accept-encoding") // Go's client sets it, and decompresses
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, raw
}

// Profiles Drilldown asks from the browser, in JSON (grafana/profiles-drilldown,
// src/**/infrastructure).
func TestProfilesDrilldown(t *testing.T) {
	url, _ := start(t, defaults)
	base := corpusBase()
	end := base + conformance.Count*conformance.Step
	require.NoError(t, conformance.Push(t.Context(), url, base))
	ask := func(out any, path, body string, header ...string) {
		t.Helper()
		status, raw := browser(t, url, path, body, header...)
		require.Equal(t, http.StatusOK, status, "%s", raw)
		require.NoError(t, json.Unmarshal(raw, out), "%s", raw)
	}

	var stats struct{ DataIngested bool }
	ask(&stats, "/querier.v1.QuerierService/GetProfileStats", `{}`)
	require.True(t, stats.DataIngested, "or it shows how to send a first profile")

	type series struct {
		LabelsSet []struct {
			Labels []struct{ Name, Value string }
		}
	}
	var services series
	ask(&services, "/querier.v1.QuerierService/Series",
		fmt.Sprintf(`{"start":%d,"end":%d,"labelNames":["service_name","__profile_type__"],"matchers":[]}`, base, end))
	require.Len(t, services.LabelsSet, 11)
	for _, s := range services.LabelsSet {
		require.Len(t, s.Labels, 2)
	}
	// Its first versions, and Pyroscope's own page, give no range.
	services = series{}
	ask(&services, "/querier.v1.QuerierService/Series", `{"matchers":[]}`)
	require.NotEmpty(t, services.LabelsSet)

	var names struct{ Names []string }
	in := `"matchers":["{__profile_type__=\"process_cpu:cpu:nanoseconds:cpu:nanoseconds\", service_name=\"cart\"}"]`
	ask(&names, "/querier.v1.QuerierService/LabelNames", fmt.Sprintf(`{%s,"start":%d,"end":%d}`, in, base, end),
		"accept", "application/json; allow-utf8-labelnames=true")
	require.Contains(t, names.Names, "pod")
	ask(&names, "/querier.v1.QuerierService/LabelValues", fmt.Sprintf(`{"name":"pod",%s,"start":%d,"end":%d}`, in, base, end),
		"accept", "application/json; allow-utf8-labelnames=true")
	require.Equal(t, []string{"cart-0", "cart-1"}, names.Names)

	// The details of a function are an export below it, whose request mixes both
	// spellings of protobuf's names, and may have fields of newer versions.
	var export struct {
		Sample      []struct{ Value []string }
		StringTable []string
	}
	ask(&export, "/querier.v1.QuerierService/SelectMergeProfile", fmt.Sprintf(
		`{"profile_typeID":%q,"label_selector":"{service_name=\"cart\"}","start":%d,"end":%d,"stackTraceSelector":{"call_site":[{"name":"main.main"},{"name":"main.work"}],"frameFilter":{"include":["x"]}},"maxNodes":500}`,
		cpu, base, end))
	require.Len(t, export.Sample, 3)
	require.NotContains(t, export.StringTable, "main.handle", "it is beside the function, not below")

	// An export is protobuf written by hand, of type "application/proto".
	var b []byte
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendString(b, cpu)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendString(b, `{service_name="cart"}`)
	for i, v := range []int64{base, end, 16384} {
		b = protowire.AppendTag(b, protowire.Number(3+i), protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(v))
	}
	status, raw := browser(t, url, "/querier.v1.QuerierService/SelectMergeProfile", string(b), "content-type", "application/proto")
	require.Equal(t, http.StatusOK, status, "%s", raw)
	p := &googlev1.Profile{}
	require.NoError(t, p.UnmarshalVT(raw))
	require.Len(t, p.Sample, 6)

	var flags struct {
		FeatureFlags []struct {
			Name    string
			Enabled bool
		}
	}
	ask(&flags, "/capabilities.v1.FeatureFlagsService/GetFeatureFlags", `{}`)
	enabled := map[string]bool{}
	for _, f := range flags.FeatureFlags {
		enabled[f.Name] = f.Enabled
	}
	require.Equal(t, map[string]bool{"pyroscopeRuler": false, "pyroscopeRulerFunctions": false, "utf8LabelNames": true, "v2StorageLayer": false}, enabled)

	// What is not there is told in Connect's words, which it takes for a feature
	// that is switched off.
	for _, path := range []string{
		"/vcs.v1.VCSService/GithubApp", "/settings.v1.RecordingRulesService/ListRecordingRules", "/adhocprofiles.v1.AdHocProfileService/List",
	} {
		status, raw := browser(t, url, path, `{}`)
		require.Equal(t, http.StatusNotImplemented, status, path)
		var e struct{ Code string }
		require.NoError(t, json.Unmarshal(raw, &e), "%s", raw)
		require.Equal(t, "unimplemented", e.Code)
	}
}

// Profiles Drilldown reads its settings before it shows anything, and keeps them
// as one text.
func TestProfilesDrilldownKeepsItsSettings(t *testing.T) {
	dir := t.TempDir()
	var url string
	reopen := func() func() {
		db, err := store.Open(dir, store.Options{})
		require.NoError(t, err)
		srv := server.New(server.Options{Version: "test", Limits: defaults})
		srv.Open(db)
		url = serve(t, srv)
		return func() { require.NoError(t, db.Close()) }
	}
	get := func() string {
		status, raw := browser(t, url, "/settings.v1.SettingsService/Get", `{}`)
		require.Equal(t, http.StatusOK, status, "%s", raw)
		var b bytes.Buffer
		require.NoError(t, json.Compact(&b, raw))
		return b.String()
	}
	set := func(body string) (int, string) {
		status, raw := browser(t, url, "/settings.v1.SettingsService/Set", body)
		return status, string(raw)
	}
	stop := reopen()
	require.Equal(t, `{}`, get())
	before := time.Now().UnixMilli()
	status, raw := set(`{"setting":{"name":"pluginSettings","value":"{\"maxNodes\":16384}"}}`)
	require.Equal(t, http.StatusOK, status, raw)
	stop()
	defer reopen()()
	var kept struct {
		Settings []struct{ Name, Value, ModifiedAt string }
	}
	require.NoError(t, json.Unmarshal([]byte(get()), &kept))
	require.Len(t, kept.Settings, 1)
	require.Equal(t, "pluginSettings", kept.Settings[0].Name)
	require.JSONEq(t, `{"maxNodes":16384}`, kept.Settings[0].Value)
	require.GreaterOrEqual(t, kept.Settings[0].ModifiedAt, fmt.Sprint(before))

	for body, want := range map[string]string{
		`{}`:                        "setting: is missing",
		`{"setting":{"value":"x"}}`: "setting.name: is empty",
		`{"setting":{"name":"` + strings.Repeat("n", 257) + `"}}`:                  "setting.name: 257 bytes are more than 256",
		`{"setting":{"name":"n","value":"` + strings.Repeat("v", 64<<10+1) + `"}}`: "setting.value: 65537 bytes are more than 65536",
	} {
		status, raw := set(body)
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, raw, want)
	}
	status, raw = set(`{"setting":{"name":"pluginSettings","value":"old","modifiedAt":"1"}}`)
	require.Equal(t, http.StatusConflict, status, raw)
	status, body := browser(t, url, "/settings.v1.SettingsService/Delete", `{"name":"pluginSettings"}`)
	require.Equal(t, http.StatusOK, status, "%s", body)
	require.Equal(t, `{}`, get())
}
