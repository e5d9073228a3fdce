package e2e

import (
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v4"

	"github.com/flameline/flameline/pkg/query"
)

// alertRule is what of a rule of Grafana's is checked.
type alertRule struct {
	UID, Title, Condition string
	DashboardUID          string `yaml:"dashboardUid"`
	PanelID               int    `yaml:"panelId"`
	Annotations           map[string]string
	Data                  []struct {
		RefID             string         `yaml:"refId"`
		DatasourceUID     string         `yaml:"datasourceUid"`
		Model             map[string]any `yaml:"model"`
		RelativeTimeRange struct{ From, To int }
	}
	Record *struct{ Metric, From string }
}

// alertRules returns the rules that are provisioned in Grafana.
func alertRules(t *testing.T) []alertRule {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []alertRule }
	}
	if err := yaml.Unmarshal(readProvisioned(t, "grafana/alerting/rules.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	var all []alertRule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no rules")
	}
	return all
}

// TestAlertRules checks the queries and expressions of Grafana's rules, and that the
// panel that an alert links to is there.
func TestAlertRules(t *testing.T) {
	sources, all := dataSources(t), dashboards(t)
	for _, rule := range alertRules(t) {
		var beside []map[string]any
		for _, q := range rule.Data {
			if q.Model["refId"] != q.RefID {
				t.Errorf("%s: query %s has the name %v in its model", rule.Title, q.RefID, q.Model["refId"])
			}
			beside = append(beside, q.Model)
		}
		for _, q := range rule.Data {
			ref := referenceOf(q.Model)
			if ref.UID != q.DatasourceUID || (ref != expressionRef && sources[ref.UID] != ref.Type) {
				t.Errorf("%s: query %s asks %+v, its data source is %s", rule.Title, q.RefID, ref, q.DatasourceUID)
			}
			switch q.DatasourceUID {
			case "flameline":
				if m := parseModel(t, rule.Title, q.Model); m.QueryType != query.TypeMetrics && m.QueryType != query.TypeFunctionSeries {
					t.Errorf("%s: an alert rule asks for %s", rule.Title, m.QueryType)
				}
			case "prometheus":
				if _, err := parser.NewParser(parser.Options{}).ParseExpr(q.Model["expr"].(string)); err != nil {
					t.Errorf("%s: %v", rule.Title, err)
				}
			default:
				checkExpression(t, rule.Title, q.Model, beside)
			}
		}
		result := rule.Condition
		if rule.Record != nil {
			result = rule.Record.From
		} else {
			d := byUID(all, rule.DashboardUID)
			if d == nil || !slices.ContainsFunc(d.Panels, func(p panel) bool { return p.ID == rule.PanelID }) {
				t.Errorf("%s links to panel %d of %s, which is not there", rule.Title, rule.PanelID, rule.DashboardUID)
			}
		}
		if !slices.ContainsFunc(beside, func(m map[string]any) bool { return m["refId"] == result }) {
			t.Errorf("%s: the result %q is no query", rule.Title, result)
		}
	}
}

// TestNotificationTemplates parses the templates for notifications.
func TestNotificationTemplates(t *testing.T) {
	var file struct {
		Templates []struct{ Name, Template string }
	}
	if err := yaml.Unmarshal(readProvisioned(t, "grafana/alerting/templates.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	for _, f := range file.Templates {
		parsed, err := template.New(f.Name).Parse(f.Template)
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
		} else if parsed.Lookup("flameline.links") == nil {
			t.Errorf("%s does not define flameline.links", f.Name)
		}
	}
}

// TestCorrelations checks what links of Explore ask of the data source.
func TestCorrelations(t *testing.T) {
	var file struct {
		Datasources []struct {
			Correlations []struct {
				TargetUID   string `yaml:"targetUID"`
				Label, Type string
				Config      struct {
					Field  string
					Target map[string]any
				}
			}
		}
	}
	if err := yaml.Unmarshal(readProvisioned(t, "grafana/datasources/datasources.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, source := range file.Datasources {
		for _, c := range source.Correlations {
			found[c.Type]++
			switch c.Type {
			case "query":
				if c.TargetUID != "flameline" {
					t.Errorf("%s leads to the data source %q", c.Label, c.TargetUID)
				}
				parseModel(t, c.Label, c.Config.Target)
			case "external":
				// Grafana reads $$ in its files as $.
				link := strings.ReplaceAll(c.Config.Target["url"].(string), "$$", "$")
				link = strings.Replace(link, "/uid/flameline/", "/uid/${profiles}/", 1)
				checkLink(t, dashboards(t), c.Label, dataLink{URL: link, TargetBlank: true})
			}
		}
	}
	if found["query"] == 0 || found["external"] == 0 {
		t.Errorf("correlations are %v, want one that is a query and one that is a link", found)
	}
}
