package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/pprof/profile"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flameline/flameline/e2e/proc"
)

// pushed is the CPU time of one pushed profile of the service shop, in ns.
const pushed = 7_500_000_000

// TestPlugin drives the plugin over Grafana's protocol, against a collector to
// which profiles of known values are pushed.
func TestPlugin(t *testing.T) {
	server, address := startCollector(t, "--ebpf.enabled", "false")
	ds := startPlugin(t, address, "15s")

	t.Run("health without profiles", func(t *testing.T) {
		h := ds.health(t)
		for _, want := range []string{"Connected to Flameline", "eBPF sampling is off", "there are no profiles yet"} {
			if !strings.Contains(h.Message, want) {
				t.Errorf("health is %s %q, want it to say %q", h.Status, h.Message, want)
			}
		}
	})

	// One profile in each 15 s step: half a core of shop, a quarter of cart.
	end := time.Now().Truncate(15 * time.Second).Add(-time.Minute)
	const steps = 8
	from := end.Add(-steps * 15 * time.Second)
	for i := range steps {
		at := from.Add(time.Duration(i)*15*time.Second + time.Millisecond)
		pushCPU(t, address, "shop", at, pushed)
		pushCPU(t, address, "cart", at, pushed/2)
	}
	shop := func(refID, queryType string) panelQuery {
		return panelQuery{refID: refID, from: from, to: end, interval: 5 * time.Second, model: map[string]any{
			"queryType": queryType, "profileTypeId": cpuType, "labelSelector": `{service_name="shop"}`, "groupBy": []string{"service_name"},
		}}
	}

	t.Run("flame graph", func(t *testing.T) {
		frame := onlyFrame(t, ds, shop("A", "profile"))
		if frame.Meta == nil || frame.Meta.PreferredVisualization != data.VisTypeFlameGraph {
			t.Errorf("meta is %+v, want a flame graph", frame.Meta)
		}
		value, self, label := column(t, frame, "value"), column(t, frame, "self"), column(t, frame, "label")
		if value.Config.Unit != "ns" || self.Config.Unit != "ns" {
			t.Errorf("units are %q and %q, want ns", value.Config.Unit, self.Config.Unit)
		}
		var sum int64
		for i := range self.Len() {
			sum += self.At(i).(int64)
		}
		if root := value.At(0).(int64); root != steps*pushed || sum != root {
			t.Errorf("the root is %d and the sum of own values %d, want the %d that were pushed", root, sum, int64(steps*pushed))
		}
		if label.Type() != data.FieldTypeEnum {
			t.Fatalf("labels are of type %s, want an enum", label.Type())
		}
		text := label.Config.TypeConfig.Enum.Text
		if !slices.Equal(text, []string{"total", "main", "checkout", "price"}) {
			t.Errorf("labels are %q", text)
		}
		levels := column(t, frame, "level")
		for i, want := range []int64{0, 1, 2, 3} {
			if got := levels.At(i).(int64); got != want {
				t.Errorf("level of row %d is %d, want %d", i, got, want)
			}
		}
	})

	t.Run("cores", func(t *testing.T) {
		frame := onlyFrame(t, ds, shop("A", "metrics"))
		if unit := frame.Fields[1].Config.Unit; unit != "cores" {
			t.Errorf("unit is %q, want cores", unit)
		}
		if got := frame.Fields[1].Labels["service_name"]; got != "shop" {
			t.Errorf("labels are %v", frame.Fields[1].Labels)
		}
		points := pointsOf(frame)
		for i := 1; i <= steps; i++ {
			at := from.Add(time.Duration(i) * 15 * time.Second)
			if got := points[at.Unix()]; got != 0.5 {
				t.Errorf("%s: %v cores, want 0.5; all points are %v", at, got, points)
			}
		}
	})

	t.Run("functions", func(t *testing.T) {
		frame := onlyFrame(t, ds, shop("A", "functions"))
		name, own, total := column(t, frame, "Function"), column(t, frame, "Own"), column(t, frame, "Total")
		got := map[string][2]float64{}
		for i := range name.Len() {
			got[name.At(i).(string)] = [2]float64{own.At(i).(float64), total.At(i).(float64)}
		}
		const all = steps * pushed
		want := map[string][2]float64{"price": {all * 4 / 5, all * 4 / 5}, "checkout": {all / 5, all}, "main": {0, all}}
		if !maps.Equal(got, want) {
			t.Errorf("functions are %v, want %v", got, want)
		}
		for _, n := range frame.Meta.Notices {
			t.Errorf("notice %q, though the server computes functions exactly", n.Text)
		}
	})

	t.Run("options of the flame graph", func(t *testing.T) {
		q := shop("A", "profile")
		q.model["labelSelector"], q.model["unit"] = "{}", "percent"
		q.model["view"] = map[string]any{"groupBy": []string{"service_name"}, "focus": "^price$", "hide": "checkout"}
		frame := onlyFrame(t, ds, q)
		level, value, self, label := column(t, frame, "level"), column(t, frame, "value"), column(t, frame, "self"), column(t, frame, "label")
		if unit := value.Config.Unit; unit != "percent" {
			t.Errorf("the unit is %q, want percent", unit)
		}
		var got []string
		for i := range frame.Rows() {
			got = append(got, fmt.Sprintf("%d %s %.2f %.2f", level.At(i), label.Config.TypeConfig.Enum.Text[label.At(i).(data.EnumItemIndex)], value.At(i), self.At(i)))
		}
		// Four fifths of each service are in price; shop has twice as much as cart.
		want := []string{
			"0 total 100.00 20.00",
			"1 service_name=cart 26.67 0.00", "2 main 26.67 0.00", "3 price 26.67 26.67",
			"1 service_name=shop 53.33 0.00", "2 main 53.33 0.00", "3 price 53.33 53.33",
		}
		if !slices.Equal(got, want) {
			t.Errorf("rows are %q, want %q", got, want)
		}
		if len(frame.Meta.Notices) != 1 || !strings.Contains(frame.Meta.Notices[0].Text, "Shown are 80 %") {
			t.Errorf("notices are %+v", frame.Meta.Notices)
		}
	})

	t.Run("settings", func(t *testing.T) {
		for name, c := range map[string]struct{ settings, problem string }{
			"a price":   {`{"corePrice":-1}`, "corePrice: -1 is not the price"},
			"a mapping": {`{"labelMapping":[{"metrics":"app"}]}`, "labelMapping[0].profiles: is missing"},
			"a source":  {`{"sourceTemplate":"git/{{function}}"}`, "sourceTemplate: "},
			"a type":    {`{"defaultProfileType":"cpu"}`, "defaultProfileType: "},
		} {
			if h := ds.with(c.settings).health(t); h.Status.String() != "ERROR" || !strings.Contains(h.Message, c.problem) {
				t.Errorf("health with %s that is wrong is %s %q, want it to say %q", name, h.Status, h.Message, c.problem)
			}
		}
		priced := ds.with(`{"minStep":"15s","corePrice":0.05,"currency":"€","sourceTemplate":"https://git.example.com/{{service_name}}?q={{function}}"}`)
		frame := onlyFrame(t, priced, shop("A", "functions"))
		name, cost := column(t, frame, "Function"), column(t, frame, "Cost per month")
		if got, want := cost.At(0).(float64), 0.5*4/5*0.05*730; name.At(0) != "price" || math.Abs(got-want) > 1e-6 || cost.Config.Unit != "currency:€" {
			t.Errorf("%v costs %v %s a month, want price to cost %v", name.At(0), got, cost.Config.Unit, want)
		}
		links := name.Config.Links
		if len(links) != 2 || links[0].Internal == nil || links[1].URL != "https://git.example.com/shop?q=${__value.raw:percentencode}" {
			t.Errorf("links of functions are %+v", links)
		}
	})

	t.Run("functions over time", func(t *testing.T) {
		q := shop("A", "functionSeries")
		q.model["functions"], q.model["sort"] = []string{"price"}, "own"
		points := pointsOf(onlyFrame(t, ds, q))
		for i := 1; i <= steps; i++ {
			if got := points[from.Add(time.Duration(i)*15*time.Second).Unix()]; math.Abs(got-0.4) > 1e-9 {
				t.Errorf("step %d: %v cores of price, want 0.4; all points are %v", i, got, points)
			}
		}
	})

	t.Run("heat map", func(t *testing.T) {
		q := shop("A", "heatmap")
		q.model["labelSelector"] = "{}"
		delete(q.model, "groupBy")
		frame := onlyFrame(t, ds, q)
		if frame.Meta.Type != "heatmap-rows" || frame.Meta.PreferredVisualizationPluginID != "heatmap" {
			t.Errorf("meta is %+v, want a heat map of rows", frame.Meta)
		}
		if len(frame.Fields) != 3 {
			t.Fatalf("%d fields, want the time and two services", len(frame.Fields))
		}
		for i, want := range map[int]struct {
			name  string
			cores float64
		}{1: {"cart", 0.25}, 2: {"shop", 0.5}} {
			field := frame.Fields[i]
			if field.Config.DisplayNameFromDS != want.name || field.Len() != steps {
				t.Errorf("row %d is %s with %d cells, want %s with %d", i, field.Config.DisplayNameFromDS, field.Len(), want.name, steps)
			}
			for k := range field.Len() {
				if v := field.At(k).(*float64); v == nil || *v != want.cores {
					t.Errorf("cell %d of %s is %v, want %g", k, want.name, v, want.cores)
				}
			}
		}
		link, err := url.Parse(strings.Replace(frame.Fields[2].Config.Links[0].URL, "${__value.time}", millis(end), 1))
		if err != nil {
			t.Fatal(err)
		}
		if resp := ds.get(t, "drilldown", link.RawQuery); resp.Status != http.StatusFound || !strings.Contains(resp.Headers["Location"][0], millis(end.Add(-15*time.Second))) {
			t.Errorf("the link of a cell leads to %v, status %d", resp.Headers["Location"], resp.Status)
		}

		q = shop("A", "heatmap")
		q.model["heatmap"] = "offset"
		resp, err := ds.query(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Responses["A"].Error; err == nil || !strings.Contains(err.Error(), "no times of single samples") {
			t.Errorf("error is %v, want it to say that the profiles have no times", err)
		}
	})

	t.Run("explain", func(t *testing.T) {
		q := shop("A", "explain")
		q.model["unit"], q.model["baseline"] = "cores", map[string]any{"kind": "same", "labelSelector": `{service_name="cart"}`}
		frame := onlyFrame(t, ds, q)
		custom, _ := frame.Meta.Custom.(map[string]any)
		if text, _ := custom["explanation"].(string); text != "From 0.25 cores to 0.5 cores, a rise of 0.25 cores. main → checkout → price: +0.2 cores, 80 % of the rise." {
			t.Errorf("the explanation is %q", text)
		}
		by, share, sum := column(t, frame, "By"), column(t, frame, "Share of the change"), 0.
		for i := range by.Len() {
			if by.At(i) == "function" {
				sum += share.At(i).(float64)
			}
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Errorf("the shares of functions add up to %v, want 1", sum)
		}
	})

	t.Run("queries side by side", func(t *testing.T) {
		bad := shop("B", "both")
		bad.model["labelSelector"] = "{pod=}"
		nothing := shop("C", "both")
		nothing.model["labelSelector"] = `{service_name="nobody"}`
		resp, err := ds.query(t.Context(), shop("A", "both"), bad, nothing)
		if err != nil {
			t.Fatal(err)
		}
		if a := resp.Responses["A"]; a.Error != nil || len(a.Frames) != 2 {
			t.Errorf("A has %d frames and error %v, want a flame graph and a series", len(a.Frames), a.Error)
		}
		b := resp.Responses["B"]
		if b.Error == nil || !strings.Contains(b.Error.Error(), "labelSelector") || b.Status != backend.StatusBadRequest {
			t.Errorf("B has status %d and error %v, want 400 and the name of the field", b.Status, b.Error)
		}
		if b.ErrorSource != backend.ErrorSourceDownstream {
			t.Errorf("the source of B's error is %s", b.ErrorSource)
		}
		c := resp.Responses["C"]
		if c.Error != nil || len(c.Frames) != 2 {
			t.Fatalf("C has %d frames and error %v", len(c.Frames), c.Error)
		}
		for _, f := range c.Frames {
			if len(f.Meta.Notices) != 1 || !strings.Contains(f.Meta.Notices[0].Text, "No samples of") {
				t.Errorf("notices of C are %+v", f.Meta.Notices)
			}
		}
	})

	t.Run("resources", func(t *testing.T) {
		window := url.Values{"start": {millis(from)}, "end": {millis(end)}}.Encode()
		for path, want := range map[string]string{
			"profileTypes?" + window:                   cpuType,
			"labelNames?" + window:                     "service_name",
			"labelValues?label=service_name&" + window: "shop",
			"labelValues?label=service_name&query=" + url.QueryEscape(`{region="eu"}`) + "&" + window: "shop",
		} {
			name, query, _ := strings.Cut(path, "?")
			resp := ds.get(t, name, query)
			if resp.Status != http.StatusOK || !strings.Contains(string(resp.Body), `"`+want+`"`) {
				t.Errorf("%s: status %d, %s; want %s in it", path, resp.Status, resp.Body, want)
			}
		}
	})

	t.Run("drilldown", func(t *testing.T) {
		resp := ds.get(t, "drilldown", url.Values{
			"alertname": {"HighCPU"}, "severity": {"page"}, "service_name": {"shop"}, "region": {"eu"},
			"startsAt": {from.Add(time.Minute).Format(time.RFC3339)}, "endsAt": {"0001-01-01T00:00:00Z"},
		}.Encode())
		if resp.Status != http.StatusFound {
			t.Fatalf("status %d: %s", resp.Status, resp.Body)
		}
		target, err := url.Parse(resp.Headers["Location"][0])
		if err != nil {
			t.Fatal(err)
		}
		if target.Path != "/grafana/explore" {
			t.Errorf("leads to %s, want Explore below Grafana's own path", target)
		}
		var panes map[string]struct {
			Datasource string
			Queries    []struct{ LabelSelector, ProfileTypeID, Notice string }
			Range      struct{ From, To string }
		}
		if err := json.Unmarshal([]byte(target.Query().Get("panes")), &panes); err != nil {
			t.Fatal(err)
		}
		for _, p := range panes {
			q := p.Queries[0]
			if p.Datasource != "flameline" || q.LabelSelector != `{service_name="shop",region="eu"}` || q.ProfileTypeID != cpuType {
				t.Errorf("pane is %+v", p)
			}
			if !strings.Contains(q.Notice, "severity") {
				t.Errorf("notice is %q, want it to name severity", q.Notice)
			}
			if p.Range.From != millis(from.Add(-9*time.Minute)) {
				t.Errorf("range is %+v, want it from ten minutes before the start", p.Range)
			}
		}
	})

	t.Run("health with profiles", func(t *testing.T) {
		if h := ds.health(t); h.Status.String() != "OK" || !strings.Contains(h.Message, "1 profile type: process_cpu:cpu") {
			t.Errorf("health is %s %q", h.Status, h.Message)
		}
	})

	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := ds.query(ctx, shop("A", "both")); status.Code(err) != codes.Canceled {
			t.Errorf("error is %v, want it to be canceled", err)
		}
	})

	t.Run("server gone", func(t *testing.T) {
		server.Stop(30 * time.Second)
		resp, err := ds.query(t.Context(), shop("A", "profile"))
		if err != nil {
			t.Fatal(err)
		}
		a := resp.Responses["A"]
		if a.Error == nil || a.ErrorSource != backend.ErrorSourceDownstream || a.Status != backend.StatusBadGateway {
			t.Errorf("status %d, source %s, error %v; want 502 and downstream", a.Status, a.ErrorSource, a.Error)
		}
		if h := ds.health(t); h.Status.String() != "ERROR" || !strings.Contains(h.Message, "cannot reach "+address) {
			t.Errorf("health is %s %q", h.Status, h.Message)
		}
	})
}

// TestPluginForwardsTheUser checks that the token which Grafana sends for the
// signed-in user reaches the server.
func TestPluginForwardsTheUser(t *testing.T) {
	tokens := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens <- r.Header.Get("Authorization")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	ds := startPlugin(t, server.URL, "15s")
	ds.headers = map[string]string{"Authorization": "Bearer of-the-user"}
	resp, err := ds.query(t.Context(), panelQuery{refID: "A", from: time.Now().Add(-time.Hour), to: time.Now(), model: map[string]any{
		"queryType": "profile", "profileTypeId": cpuType,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := <-tokens; got != "Bearer of-the-user" {
		t.Errorf("the server sees the token %q", got)
	}
	if a := resp.Responses["A"]; a.Status != backend.StatusUnauthorized || a.ErrorSource != backend.ErrorSourceDownstream {
		t.Errorf("status %d, source %s, error %v; want 401 and downstream", a.Status, a.ErrorSource, a.Error)
	}
}

// startCollector starts `flameline serve` with a store of its own and returns
// its address, such as http://127.0.0.1:4040.
func startCollector(t testing.TB, flags ...string) (server *proc.Process, address string) {
	t.Helper()
	listen, err := proc.FreeAddress("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	args := append([]string{
		demoCollector(t), "serve", "--web.listen-address", listen, "--storage.path", filepath.Join(dir, "store"),
	}, flags...)
	address = "http://" + listen
	return startProgram(t, proc.Spec{Name: "flameline", Args: args, Log: filepath.Join(dir, "flameline.log")}, address+"/ready"), address
}

// pushCPU pushes one CPU profile of main -> checkout -> price.
func pushCPU(t *testing.T, address, service string, at time.Time, ns int64) {
	t.Helper()
	p := &profile.Profile{
		SampleType:    []*profile.ValueType{{Type: "cpu", Unit: "nanoseconds"}},
		PeriodType:    &profile.ValueType{Type: "cpu", Unit: "nanoseconds"},
		Period:        1e7,
		TimeNanos:     at.UnixNano(),
		DurationNanos: int64(15 * time.Second),
	}
	var stack []*profile.Location // leaf first
	for i, name := range []string{"price", "checkout", "main"} {
		f := &profile.Function{ID: uint64(i + 1), Name: name, SystemName: name, Filename: "shop.go"}
		l := &profile.Location{ID: uint64(i + 1), Line: []profile.Line{{Function: f, Line: int64(i + 10)}}}
		p.Function, p.Location = append(p.Function, f), append(p.Location, l)
		stack = append(stack, l)
	}
	p.Sample = []*profile.Sample{{Location: stack, Value: []int64{ns - ns/5}}, {Location: stack[1:], Value: []int64{ns / 5}}}
	var raw bytes.Buffer
	if err := p.Write(&raw); err != nil {
		t.Fatal(err)
	}
	client := pushv1connect.NewPusherServiceClient(http.DefaultClient, address)
	_, err := client.Push(t.Context(), connect.NewRequest(&pushv1.PushRequest{Series: []*pushv1.RawProfileSeries{{
		Labels: []*typesv1.LabelPair{
			{Name: "__name__", Value: "process_cpu"}, {Name: "region", Value: "eu"}, {Name: "service_name", Value: service},
		},
		Samples: []*pushv1.RawSample{{RawProfile: raw.Bytes()}},
	}}}))
	if err != nil {
		t.Fatal(err)
	}
}

// onlyFrame asks one query and returns its one frame.
func onlyFrame(t *testing.T, ds *dataSource, q panelQuery) *data.Frame {
	t.Helper()
	resp, err := ds.query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	dr := resp.Responses[q.refID]
	if dr.Error != nil || len(dr.Frames) != 1 {
		t.Fatalf("%d frames and error %v, want one frame", len(dr.Frames), dr.Error)
	}
	return dr.Frames[0]
}

func column(t *testing.T, f *data.Frame, name string) *data.Field {
	t.Helper()
	field, _ := f.FieldByName(name)
	if field == nil {
		t.Fatalf("the frame has no field %s", name)
	}
	return field
}

// pointsOf are the values of a series by Unix time in seconds.
func pointsOf(f *data.Frame) map[int64]float64 {
	points := make(map[int64]float64, f.Rows())
	for i := range f.Rows() {
		points[f.Fields[0].At(i).(time.Time).Unix()] = f.Fields[1].At(i).(float64)
	}
	return points
}

// millis is a time in Unix milliseconds, as in Grafana's URLs.
func millis(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
