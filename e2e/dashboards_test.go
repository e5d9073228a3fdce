package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/flameline/flameline/pkg/plugin"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/query"
)

// dashboardFolder has the dashboards that the plugin ships and the demo provisions.
const dashboardFolder = "../src/dashboards"

// dashboard is what of a dashboard's JSON is checked.
type dashboard struct {
	UID, Title   string
	GraphTooltip int
	Panels       []panel
	Links        []struct{ Type string }
	Templating   struct{ List []variable }
	Annotations  struct {
		List []struct {
			Name       string
			Datasource reference
			Target     map[string]any
		}
	}

	text string // the file
}

type variable struct {
	Name, Type, Regex, AllValue string
	Datasource                  reference
	Query                       any
	IncludeAll                  bool
	Current                     struct{ Value any }
}

type panel struct {
	ID            int
	Type, Title   string
	Interval      string
	MaxDataPoints int
	Datasource    reference
	FieldConfig   struct {
		Defaults struct {
			Unit        string
			DisplayName string
			Min         *float64
			Color       struct{ Mode string }
			Custom      struct{ AxisWidth int }
			Links       []dataLink
		}
		Overrides []struct {
			Matcher    struct{ ID, Options string }
			Properties []struct {
				ID    string
				Value json.RawMessage
			}
		}
	}
	Targets []map[string]any
	Panels  []panel // of a collapsed row
}

type reference struct{ Type, UID string }

type dataLink struct {
	Title, URL  string
	TargetBlank bool
}

// referenceOf returns the data source of a panel's query.
func referenceOf(target map[string]any) reference {
	m, _ := target["datasource"].(map[string]any)
	kind, _ := m["type"].(string)
	uid, _ := m["uid"].(string)
	return reference{kind, uid}
}

var (
	profilesRef   = reference{plugin.ID, "${profiles}"}
	prometheusRef = reference{"prometheus", "${prometheus}"}
	expressionRef = reference{"__expr__", "__expr__"}
	mixedRef      = reference{"datasource", "-- Mixed --"}
)

// dashboards are all dashboards, by file name.
func dashboards(t *testing.T) map[string]*dashboard {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dashboardFolder, "*.json"))
	if err != nil || len(files) < 2 {
		t.Fatalf("dashboards are %v: %v", files, err)
	}
	all := map[string]*dashboard{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		d := &dashboard{text: string(text)}
		if err := json.Unmarshal(text, d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all[filepath.Base(f)] = d
	}
	return all
}

// all returns the panels, those of collapsed rows included.
func (d *dashboard) all() []panel {
	var all []panel
	for _, p := range d.Panels {
		all = append(append(all, p), p.Panels...)
	}
	return all
}

func (d *dashboard) variable(name string) *variable {
	for i, v := range d.Templating.List {
		if v.Name == name {
			return &d.Templating.List[i]
		}
	}
	return nil
}

func (p *panel) idText() string { return strconv.Itoa(p.ID) }

// links returns the data links of a panel, with those of its columns.
func (p *panel) links(t *testing.T) []dataLink {
	t.Helper()
	all := slices.Clone(p.FieldConfig.Defaults.Links)
	for _, o := range p.FieldConfig.Overrides {
		for _, property := range o.Properties {
			if property.ID != "links" {
				continue
			}
			var links []dataLink
			if err := json.Unmarshal(property.Value, &links); err != nil {
				t.Fatal(err)
			}
			all = append(all, links...)
		}
	}
	return all
}

// used finds variables in a text, in the forms $name, ${name}, ${name:format} and
// ${name.field:format}. Grafana's own begin with two underscores.
var used = regexp.MustCompile(`\$(\w+)|\$\{(\w+)((?:\.[\w.]+)?)(?::(\w+))?\}`)

// expand stands in for Grafana's variables in all strings of a query. Those that are
// not given have the dashboard's first value, or all.
func (d *dashboard) expand(value any, given map[string]string) any {
	switch v := value.(type) {
	case string:
		return used.ReplaceAllStringFunc(v, func(found string) string {
			m := used.FindStringSubmatch(found)
			return d.valueOf(m[1]+m[2], given)
		})
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = d.expand(v[i], given)
		}
		return list
	case map[string]any:
		object := map[string]any{}
		for key := range v {
			object[key] = d.expand(v[key], given)
		}
		return object
	}
	return value
}

func (d *dashboard) valueOf(name string, given map[string]string) string {
	if value, ok := given[name]; ok {
		return value
	}
	switch name {
	case "__interval":
		return "15s"
	case "__rate_interval":
		return "20s"
	}
	v := d.variable(name)
	if v == nil {
		return "unknown variable " + name
	}
	if v.IncludeAll {
		return ".*"
	}
	value, _ := v.Current.Value.(string)
	return value
}

// TestShippedDashboards checks that the plugin names every dashboard under its title,
// and that the demo reads them from the plugin's folder.
func TestShippedDashboards(t *testing.T) {
	var manifest struct {
		ID       string
		Includes []struct{ Type, Name, Path string }
	}
	text, err := os.ReadFile("../src/plugin.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	all, names := dashboards(t), map[string]string{}
	for _, include := range manifest.Includes {
		if include.Type == "dashboard" {
			names[strings.TrimPrefix(include.Path, "dashboards/")] = include.Name
		}
	}
	uids := map[string]bool{}
	for file, d := range all {
		if names[file] != d.Title {
			t.Errorf("%s has the title %q, plugin.json names it %q", file, d.Title, names[file])
		}
		if d.UID == "" || uids[d.UID] {
			t.Errorf("%s: the UID is %q", file, d.UID)
		}
		uids[d.UID] = true
		ids := map[int]bool{}
		for _, p := range d.all() {
			if p.ID == 0 || ids[p.ID] {
				t.Errorf("%s: panel %s has the ID %d", file, p.Title, p.ID)
			}
			ids[p.ID] = true
		}
		if d.GraphTooltip != 1 {
			t.Errorf("%s: graphTooltip is %d, want 1: a cursor shared by all panels", file, d.GraphTooltip)
		}
	}
	if len(names) != len(all) {
		t.Errorf("plugin.json names %v, the dashboards are %d", names, len(all))
	}
	if provider := string(readProvisioned(t, "grafana/dashboards/dashboards.yaml")); !strings.Contains(provider, manifest.ID+"/dashboards") {
		t.Errorf("the demo's dashboards are not those of the plugin: %s", provider)
	}
}

// TestDashboardSources checks that all that asks for data asks the two data sources
// that are chosen above the dashboard, so that a dashboard works under any UID.
func TestDashboardSources(t *testing.T) {
	for file, d := range dashboards(t) {
		allow := func(what string, r reference, allowed ...reference) {
			if !slices.Contains(allowed, r) {
				t.Errorf("%s: %s asks data source %+v", file, what, r)
			}
		}
		for name, kind := range map[string]string{"profiles": plugin.ID, "prometheus": "prometheus"} {
			if v := d.variable(name); v == nil || v.Type != "datasource" || v.Query != kind {
				t.Errorf("%s: the variable %s is %+v, want data sources of type %s", file, name, v, kind)
			}
		}
		for _, p := range d.all() {
			if p.Type == "row" {
				continue
			}
			allow("panel "+p.Title, p.Datasource, profilesRef, prometheusRef, mixedRef)
			for _, target := range p.Targets {
				allow("a query of panel "+p.Title, referenceOf(target), profilesRef, prometheusRef, expressionRef)
				if r := referenceOf(target); p.Datasource != mixedRef && r != p.Datasource {
					t.Errorf("%s: panel %s is of %+v and asks %+v", file, p.Title, p.Datasource, r)
				}
			}
		}
		for _, v := range d.Templating.List {
			if v.Type == "query" {
				allow("variable "+v.Name, v.Datasource, profilesRef, prometheusRef)
			}
		}
		for _, a := range d.Annotations.List {
			allow("annotation "+a.Name, a.Datasource, profilesRef)
		}
	}
}

// TestDashboardPanels checks that charts of CPU can be compared by eye: unit, axis, step
// and colours are the same.
func TestDashboardPanels(t *testing.T) {
	for file, d := range dashboards(t) {
		for _, p := range d.all() {
			if p.Type != "timeseries" {
				continue
			}
			f := p.FieldConfig.Defaults
			if f.Color.Mode != "palette-classic-by-name" {
				t.Errorf("%s: the colours of %s are %q: a service has not the same in all panels", file, p.Title, f.Color.Mode)
			}
			if f.Custom.AxisWidth != 90 {
				t.Errorf("%s: the axis of %s is %d wide: the charts' times are not below each other", file, p.Title, f.Custom.AxisWidth)
			}
			if p.Interval != "$step" || p.MaxDataPoints != 600 {
				t.Errorf("%s: %s has points every %s, %d at most, which is not the step of the other charts", file, p.Title, p.Interval, p.MaxDataPoints)
			}
			if f.Min == nil || *f.Min != 0 {
				t.Errorf("%s: the axis of %s does not begin at 0", file, p.Title)
			}
		}
	}
	cpu := dashboards(t)["cpu.json"].Panels
	for _, p := range cpu[:2] {
		if p.FieldConfig.Defaults.Unit != "cores" || p.FieldConfig.Defaults.DisplayName != cpu[0].FieldConfig.Defaults.DisplayName {
			t.Errorf("%s has the unit %q and the names %q", p.Title, p.FieldConfig.Defaults.Unit, p.FieldConfig.Defaults.DisplayName)
		}
	}
}

// TestDashboardVariables checks that every variable that a dashboard uses is there, that
// all can be chosen also where profiles lack the label, and that panels obey the choice.
func TestDashboardVariables(t *testing.T) {
	for file, d := range dashboards(t) {
		for _, m := range used.FindAllStringSubmatch(d.text, -1) {
			// $A is the query A in an expression.
			if name := m[1] + m[2]; len(name) > 1 && !strings.HasPrefix(name, "__") && d.variable(name) == nil {
				t.Errorf("%s uses the variable %s, which is not there", file, name)
			}
		}
		for _, v := range d.Templating.List {
			if v.IncludeAll && v.Datasource == profilesRef && v.AllValue != ".*" {
				t.Errorf("%s: all of %s is %q, want .*, which also matches where there is no such label", file, v.Name, v.AllValue)
			}
			if current, ok := v.Current.Value.(string); ok && v.Name == "profile_type" {
				// Grafana takes the first group as the value.
				if re := regexp.MustCompile(strings.Trim(v.Regex, "/")); !re.MatchString(current) || re.NumSubexp() > 0 {
					t.Errorf("%s: the regular expression of variable %s leaves out its own value %s, or has a group", file, v.Name, current)
				}
			}
		}
		for _, name := range []string{"cluster", "namespace", "pod", "container", "service_name"} {
			if d.variable(name) == nil {
				continue
			}
			for _, p := range d.all() {
				for _, target := range p.Targets {
					if selector, ok := target["labelSelector"].(string); ok && !strings.Contains(selector, "$"+name) {
						t.Errorf("%s: panel %s shows all, whatever is chosen as %s", file, p.Title, name)
					}
				}
			}
		}
	}
}

// TestDashboardQueries parses every query with the parser that answers it.
func TestDashboardQueries(t *testing.T) {
	draws := map[string][]string{
		"timeseries": {query.TypeMetrics, query.TypeFunctionSeries},
		"flamegraph": {query.TypeProfile, query.TypeComparison},
		"table":      {query.TypeFunctions, query.TypeExplain},
	}
	given := map[string]string{"histogram": "order_duration_seconds", "new": "2.1", "old": "2.0"}
	for file, d := range dashboards(t) {
		for _, p := range d.all() {
			for _, target := range p.Targets {
				if referenceOf(target) == expressionRef {
					checkExpression(t, file+": panel "+p.Title, target, p.Targets)
					continue
				}
				target := d.expand(target, given).(map[string]any)
				switch referenceOf(target).Type {
				case "prometheus":
					if _, err := parser.NewParser(parser.Options{}).ParseExpr(target["expr"].(string)); err != nil {
						t.Errorf("%s: panel %s: %v", file, p.Title, err)
					}
				case plugin.ID:
					m := parseModel(t, file+": panel "+p.Title, target)
					if !slices.Contains(draws[p.Type], m.QueryType) {
						t.Errorf("%s: panel %s is a %s and asks for %s", file, p.Title, p.Type, m.QueryType)
					}
				}
			}
		}
		for _, a := range d.Annotations.List {
			target := d.expand(a.Target, given).(map[string]any)
			if m := parseModel(t, file+": annotation "+a.Name, target); m.QueryType != query.TypeAnnotations {
				t.Errorf("%s: annotation %s asks for %s", file, a.Name, m.QueryType)
			}
		}
	}
}

// parseModel reads a query as the plugin does.
func parseModel(t *testing.T, what string, target map[string]any) *query.Model {
	t.Helper()
	text, err := json.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	m, err := query.ParseModel(text)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return &query.Model{}
	}
	if _, err := profile.ParseSelector(m.LabelSelector); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	return m
}

// checkExpression checks that a Grafana expression uses queries that are beside it.
func checkExpression(t *testing.T, what string, target map[string]any, beside []map[string]any) {
	t.Helper()
	text, _ := target["expression"].(string)
	if target["type"] != "math" {
		text = "$" + text
	}
	uses := regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(text, -1)
	if len(uses) == 0 {
		t.Errorf("%s: the expression %v uses no query", what, target)
	}
	for _, m := range uses {
		if !slices.ContainsFunc(beside, func(other map[string]any) bool { return other["refId"] == m[1] }) {
			t.Errorf("%s: the expression %v uses the query %s, which is not there", what, target, m[1])
		}
	}
}
