package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/flameline/flameline/pkg/plugin"
)

// TestDashboardAnswers asks the plugin every query of every dashboard and every one of
// the alert rules, against a collector with profiles of CPU time, and checks that
// variables list what there is. Queries of other profile types have no profiles here,
// which is no error either.
func TestDashboardAnswers(t *testing.T) {
	_, address := startCollector(t, "--ebpf.enabled", "false")
	ds := startPlugin(t, address, "15s")
	end := time.Now().Truncate(15 * time.Second).Add(-time.Minute)
	from := end.Add(-2 * time.Minute)
	for i := range 8 {
		at := from.Add(time.Duration(i)*15*time.Second + time.Millisecond)
		pushCPU(t, address, "shop", at, pushed)
		pushCPU(t, address, "cart", at, pushed/2)
		pushCPU(t, address, "flameline", at, pushed/4)
	}
	// pushCPU's profiles have no pod or version: services stand in for versions.
	for name, given := range map[string]map[string]string{
		"all":      {"label": "service_name", "new": "shop", "old": "cart", "function": ""},
		"selected": {"label": "service_name", "new": "shop", "old": "cart", "function": "price", "service_name": "shop"},
	} {
		t.Run(name, func(t *testing.T) {
			for file, d := range dashboards(t) {
				given := given
				if file == "flameline.json" {
					given = map[string]string{"service_name": "flameline"}
				}
				for _, p := range d.all() {
					for i, target := range p.Targets {
						if referenceOf(target).Type != plugin.ID {
							continue
						}
						model := d.expand(target, given).(map[string]any)
						rows := answer(t, ds, file+": "+p.Title, panelQuery{
							refID: fmt.Sprint(i), from: from, to: end, interval: 15 * time.Second, model: model,
						})
						if rows == 0 && model["profileTypeId"] == cpuType {
							t.Errorf("%s: panel %s is empty; the query is %v", file, p.Title, model)
						}
					}
				}
				for _, v := range d.Templating.List {
					if v.Datasource == profilesRef {
						checkVariable(t, ds, file, d, v, given, from, end)
					}
				}
			}
		})
	}
	t.Run("alert rules", func(t *testing.T) {
		ds.headers = map[string]string{backend.FromAlertHeaderName: "true"}
		for _, rule := range alertRules(t) {
			for _, q := range rule.Data {
				if q.DatasourceUID == "flameline" {
					answer(t, ds, rule.Title, panelQuery{refID: q.RefID, from: from, to: end, interval: 15 * time.Second, model: q.Model})
				}
			}
		}
	})
}

// answer asks a query and returns the rows of all its frames.
func answer(t *testing.T, ds *dataSource, what string, q panelQuery) (rows int) {
	t.Helper()
	resp, err := ds.query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	a := resp.Responses[q.refID]
	if a.Error != nil {
		t.Errorf("%s: %v; the query is %v", what, a.Error, q.model)
	}
	for _, f := range a.Frames {
		rows += f.Rows()
	}
	return rows
}

// checkVariable asks for a variable's values, and checks that those of labels that
// profiles have are there.
func checkVariable(t *testing.T, ds *dataSource, file string, d *dashboard, v variable, given map[string]string, from, end time.Time) {
	t.Helper()
	model := d.expand(v.Query, given).(map[string]any)
	params := url.Values{"start": {millis(from)}, "end": {millis(end)}}
	if selector, _ := model["labelSelector"].(string); selector != "" {
		params.Set("query", selector)
	}
	kind, want := model["kind"].(string), cpuType
	switch kind {
	case "labelValues":
		label := model["label"].(string)
		params.Set("label", label)
		want = map[string]string{"service_name": "shop"}[label]
		if file == "flameline.json" {
			want = "flameline"
		}
	case "labelNames":
		want = "service_name"
	case "profileTypes":
		params.Del("query")
	default:
		t.Fatalf("%s: variable %s asks for %q", file, v.Name, kind)
	}
	resp := ds.get(t, kind, params.Encode())
	if resp.Status != http.StatusOK || !strings.Contains(string(resp.Body), want) {
		t.Errorf("%s: variable %s of %v: status %d, %s; want %q in it", file, v.Name, model, resp.Status, resp.Body, want)
	}
}

// TestDashboardMetrics checks that every metric of Flameline's own that a dashboard
// shows is among those of a running service. It samples this machine, as some metrics
// are there only then.
func TestDashboardMetrics(t *testing.T) {
	config := filepath.Join(t.TempDir(), "flameline.yaml")
	if err := os.WriteFile(config, []byte(`ebpf: {enabled: true, off_cpu: {enabled: true}, page_faults: {enabled: true}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	_, address := startCollector(t, "--config.file", config)
	ds := startPlugin(t, address, "5s")
	now := time.Now()
	ask := panelQuery{refID: "A", from: now.Add(-time.Minute), to: now, interval: 15 * time.Second, model: map[string]any{
		"queryType": "profile", "profileTypeId": cpuType, "labelSelector": "{}",
	}}
	names := map[string]bool{}
	for _, d := range dashboards(t) {
		for _, p := range d.all() {
			for _, target := range p.Targets {
				if referenceOf(target).Type != "prometheus" {
					continue
				}
				for _, name := range metricsOf(t, d.expand(target["expr"], map[string]string{"histogram": "order_duration_seconds"}).(string)) {
					if strings.HasPrefix(name, "flameline_") || strings.HasPrefix(name, "process_") {
						names[name] = true
					}
				}
			}
		}
	}
	if len(names) < 20 {
		t.Fatalf("the dashboards show only %v", names)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		answer(t, ds, "a flame graph", ask) // so that there are metrics of calls
		missing := missingMetrics(ctx, address, names)
		if missing == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(missing)
		case <-tick.C:
		}
	}
}

// missingMetrics returns an error that names what /metrics lacks.
func missingMetrics(ctx context.Context, address string, names map[string]bool) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(resp.Body)
	if err != nil {
		return err
	}
	var missing []error
	for name := range names {
		family := families[name]
		for _, part := range []string{"_bucket", "_count", "_sum"} {
			if base, ok := strings.CutSuffix(name, part); ok && families[base].GetMetric() != nil && families[base].GetMetric()[0].GetHistogram() != nil {
				family = families[base]
			}
		}
		if family == nil {
			missing = append(missing, fmt.Errorf("/metrics has no %s", name))
		}
	}
	return errors.Join(missing...)
}

// metricsOf returns the names of metrics in a PromQL expression.
func metricsOf(t *testing.T, expr string) []string {
	t.Helper()
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	var names []string
	for _, matchers := range parser.ExtractSelectors(e) {
		for _, m := range matchers {
			if m.Name == model.MetricNameLabel {
				names = append(names, m.Value)
			}
		}
	}
	return names
}
