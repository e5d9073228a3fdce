package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v4"

	"github.com/flameline/flameline/e2e/load"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/query"
)

const provisioning = "../provisioning"

// dashboard is what of a dashboard's JSON is checked.
type dashboard struct {
	UID          string
	GraphTooltip int
	Panels       []panel
	Templating   struct {
		List []struct {
			Name, Type string
			Datasource reference
			Query      json.RawMessage
			Regex      string
		}
	}
}

type panel struct {
	ID          int
	Type, Title string
	Interval    string
	Datasource  reference
	FieldConfig struct {
		Defaults struct {
			Unit   string
			Min    *float64
			Custom struct{ AxisWidth int }
		}
	}
	Targets []json.RawMessage
}

type reference struct{ Type, UID string }

// interpolate stands in for Grafana's variables.
func interpolate(s string) string {
	return strings.NewReplacer(
		"$__interval", "15s", "$__rate_interval", "20s",
		"$service", "order|invoice", "$profile_type", cpuType, "$earlier", "1d",
	).Replace(s)
}

func readProvisioned(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(provisioning, path))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func readDashboard(t *testing.T, name string) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal(readProvisioned(t, "grafana/dashboards/"+name), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// dashboards are all provisioned dashboards, by file name.
func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(provisioning, "grafana/dashboards/*.json"))
	if err != nil || len(files) < 2 {
		t.Fatalf("dashboards are %v: %v", files, err)
	}
	all := map[string]dashboard{}
	for _, f := range files {
		all[filepath.Base(f)] = readDashboard(t, filepath.Base(f))
	}
	return all
}

// dataSources returns the provisioned data sources' types by UID.
func dataSources(t *testing.T) map[string]string {
	t.Helper()
	var file struct {
		Datasources []struct{ UID, Type string }
	}
	if err := yaml.Unmarshal(readProvisioned(t, "grafana/datasources/datasources.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	types := map[string]string{}
	for _, s := range file.Datasources {
		types[s.UID] = s.Type
	}
	return types
}

// TestDataSources checks that the plugin has the ID that is provisioned and
// that everything in the dashboard asks a data source that exists.
func TestDataSources(t *testing.T) {
	types := dataSources(t)
	var manifest struct{ ID string }
	text, err := os.ReadFile("../src/plugin.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	if types["flameline"] != manifest.ID {
		t.Errorf("data source flameline has the type %q, the plugin's ID is %q", types["flameline"], manifest.ID)
	}

	check := func(what string, r reference) {
		if r.UID == "" || types[r.UID] != r.Type {
			t.Errorf("%s asks data source %+v, which is not provisioned", what, r)
		}
	}
	uids := map[string]bool{}
	for name, d := range dashboards(t) {
		if d.UID == "" || uids[d.UID] {
			t.Errorf("%s: the UID is %q", name, d.UID)
		}
		uids[d.UID] = true
		for _, p := range d.Panels {
			check("panel "+p.Title, p.Datasource)
			for _, target := range p.Targets {
				var q struct{ Datasource reference }
				if err := json.Unmarshal(target, &q); err != nil {
					t.Fatal(err)
				}
				check("a query of panel "+p.Title, q.Datasource)
			}
		}
		for _, v := range d.Templating.List {
			if v.Type == "query" {
				check("variable "+v.Name, v.Datasource)
			}
		}
	}
}

// TestDashboardPanels checks that the two CPU panels can be compared by eye:
// unit, axis, step and cursor are the same.
func TestDashboardPanels(t *testing.T) {
	d := readDashboard(t, "cpu.json")
	if d.GraphTooltip != 1 {
		t.Errorf("graphTooltip is %d, want 1: a cursor shared by all panels", d.GraphTooltip)
	}
	var charts []panel
	flameGraphs := 0
	for _, p := range d.Panels {
		switch p.Type {
		case "timeseries":
			charts = append(charts, p)
		case "flamegraph":
			flameGraphs++
		}
	}
	if len(charts) != 2 || flameGraphs != 1 {
		t.Fatalf("%d charts and %d flame graphs, want 2 and 1", len(charts), flameGraphs)
	}
	metrics, profiles := charts[0], charts[1]
	if metrics.FieldConfig.Defaults.Unit != "cores" || profiles.FieldConfig.Defaults.Unit != "cores" {
		t.Errorf("units are %q and %q, want cores", metrics.FieldConfig.Defaults.Unit, profiles.FieldConfig.Defaults.Unit)
	}
	if metrics.Interval == "" || metrics.Interval != profiles.Interval {
		t.Errorf("steps are %q and %q", metrics.Interval, profiles.Interval)
	}
	for _, p := range charts {
		if p.FieldConfig.Defaults.Min == nil || *p.FieldConfig.Defaults.Min != 0 {
			t.Errorf("the axis of %s does not begin at 0", p.Title)
		}
		if w := p.FieldConfig.Defaults.Custom.AxisWidth; w == 0 || w != charts[0].FieldConfig.Defaults.Custom.AxisWidth {
			t.Errorf("the axis of %s is %d wide: the charts' times are not below each other", p.Title, w)
		}
	}
}

// TestDashboardVariables checks that variables are there, and that every panel obeys them.
func TestDashboardVariables(t *testing.T) {
	for _, d := range dashboards(t) {
		checkVariables(t, d)
	}
}

func checkVariables(t *testing.T, d dashboard) {
	t.Helper()
	names := map[string]bool{}
	for _, v := range d.Templating.List {
		names[v.Name] = true
		if v.Regex != "" && !regexp.MustCompile(strings.Trim(v.Regex, "/")).MatchString(cpuType) {
			t.Errorf("variable %s leaves out %s", v.Name, cpuType)
		}
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			for _, m := range regexp.MustCompile(`\$\{?([a-z]\w*)`).FindAllStringSubmatch(string(target), -1) {
				if !names[m[1]] {
					t.Errorf("panel %s uses a variable %s, which is not there", p.Title, m[1])
				}
			}
			if !strings.Contains(string(target), "$service") {
				t.Errorf("panel %s shows all services, whatever is chosen", p.Title)
			}
			if p.Datasource.UID == "flameline" && !strings.Contains(string(target), "$profile_type") {
				t.Errorf("panel %s shows one profile type, whatever is chosen", p.Title)
			}
		}
	}
}

// TestDashboardQueries parses every query with the parser that answers it.
func TestDashboardQueries(t *testing.T) {
	var panels []panel
	for _, d := range dashboards(t) {
		panels = append(panels, d.Panels...)
	}
	for _, p := range panels {
		for _, target := range p.Targets {
			text := interpolate(string(target))
			if p.Datasource.UID == "prometheus" {
				var q struct{ Expr string }
				if err := json.Unmarshal([]byte(text), &q); err != nil {
					t.Fatal(err)
				}
				if _, err := parser.NewParser(parser.Options{}).ParseExpr(q.Expr); err != nil {
					t.Errorf("panel %s: %v", p.Title, err)
				}
				continue
			}
			m, err := query.ParseModel([]byte(text))
			if err != nil {
				t.Errorf("panel %s: %v", p.Title, err)
				continue
			}
			matchers, err := profile.ParseSelector(m.LabelSelector)
			if err != nil {
				t.Errorf("panel %s: %v", p.Title, err)
				continue
			}
			if len(matchers) != 1 || matchers[0].Type != labels.MatchRegexp || !matchers[0].Matches("order") {
				t.Errorf("panel %s selects %s", p.Title, m.LabelSelector)
			}
			draws := map[string][]string{
				"timeseries": {query.TypeMetrics, query.TypeFunctionSeries}, "flamegraph": {query.TypeProfile, query.TypeComparison},
				"table": {query.TypeFunctions, query.TypeExplain},
			}
			if !slices.Contains(draws[p.Type], m.QueryType) {
				t.Errorf("panel %s is a %s and asks for %s", p.Title, p.Type, m.QueryType)
			}
		}
	}
}

// TestRules lets Prometheus check the configuration, the rules and what they
// do, the alert's link included.
func TestRules(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is not on PATH; it comes with Prometheus")
	}
	for _, args := range [][]string{
		{"check", "config", filepath.Join(provisioning, "prometheus", "prometheus.yaml")},
		{"test", "rules", filepath.Join(provisioning, "prometheus", "rules_test.yaml")},
	} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestScrapeConfig checks that Prometheus scrapes each load program where it
// listens, often enough for the dashboard's step, under the name by which its
// profiles go.
func TestScrapeConfig(t *testing.T) {
	var file struct {
		Global struct {
			ScrapeInterval string `yaml:"scrape_interval"`
		}
		ScrapeConfigs []struct {
			StaticConfigs []struct {
				Targets []string
				Labels  map[string]string
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(readProvisioned(t, "prometheus/prometheus.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	services := map[string]string{}
	for _, s := range file.ScrapeConfigs {
		for _, c := range s.StaticConfigs {
			services[c.Labels["service_name"]] = c.Targets[0]
		}
	}
	for _, p := range load.Programs() {
		if services[p.Service] != p.Address {
			t.Errorf("Prometheus scrapes %s at %q, it listens on %s", p.Service, services[p.Service], p.Address)
		}
	}
	scrape, err := time.ParseDuration(file.Global.ScrapeInterval)
	if err != nil {
		t.Fatal(err)
	}
	step, err := time.ParseDuration(readDashboard(t, "cpu.json").Panels[0].Interval)
	if err != nil {
		t.Fatal(err)
	}
	if step < 2*scrape {
		t.Errorf("a step of %s holds less than two scrapes, one every %s", step, scrape)
	}
}
