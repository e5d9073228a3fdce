package e2e

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// drilldownParameters are those of docs/datasource.md, and the labels that dashboards
// hand over.
var drilldownParameters = []string{
	"around", "startsAt", "endsAt", "from", "to", "pad", "profileTypeId",
	"service_name", "namespace", "pod", "container", "node", "instance", "job",
}

// TestDashboardLinks checks that every link leads to something that is there, with
// parameters that it knows.
func TestDashboardLinks(t *testing.T) {
	all := dashboards(t)
	for file, d := range all {
		if len(d.Links) == 0 || d.Links[0].Type != "dashboards" {
			t.Errorf("%s does not link to the other dashboards", file)
		}
		for _, p := range d.all() {
			links := p.links(t)
			for _, l := range links {
				checkLink(t, all, file+": "+l.Title+" of "+p.Title, l)
			}
			// A click on a point of a chart of CPU leads to the flame graph.
			if p.Type == "timeseries" && p.FieldConfig.Defaults.Unit == "cores" && strings.HasPrefix(p.Title, "CPU") &&
				!slices.ContainsFunc(links, func(l dataLink) bool { return strings.Contains(l.URL, "/drilldown?around=${__value.time}") }) {
				t.Errorf("%s: %s has no link to the flame graph at a point", file, p.Title)
			}
		}
	}
}

// checkLink checks a data link of a dashboard.
func checkLink(t *testing.T, all map[string]*dashboard, what string, l dataLink) {
	t.Helper()
	path, query, _ := strings.Cut(l.URL, "?")
	known := func(name string) bool { return slices.Contains(drilldownParameters, name) }
	var d *dashboard
	switch uid, isDashboard := strings.CutPrefix(path, "/d/"); {
	case path == "/api/datasources/uid/${profiles}/resources/drilldown":
		if !l.TargetBlank {
			t.Errorf("%s opens in place: Grafana takes it for a page of its own", what)
		}
	case isDashboard:
		if d = byUID(all, uid); d == nil {
			t.Errorf("%s leads to the dashboard %s, which is not there", what, uid)
			return
		}
		known = d.takes
	default:
		t.Errorf("%s leads to %s", what, path)
		return
	}
	for parameter := range strings.SplitSeq(query, "&") {
		name, value, given := strings.Cut(parameter, "=")
		if m := regexp.MustCompile(`^\$\{(\w+):queryparam\}$`).FindStringSubmatch(parameter); m != nil {
			name, given = "var-"+m[1], true
		}
		switch {
		case parameter == "${__url_time_range}" && d != nil:
		case !given || !known(name):
			t.Errorf("%s has the parameter %q, which is not known there", what, parameter)
		case name == "viewPanel" && !slices.ContainsFunc(d.all(), func(p panel) bool { return p.idText() == value && p.Type == "flamegraph" }):
			t.Errorf("%s leads to panel %s, which is no flame graph", what, value)
		}
	}
}

func byUID(all map[string]*dashboard, uid string) *dashboard {
	for d := range maps.Values(all) {
		if d.UID == uid {
			return d
		}
	}
	return nil
}

// takes reports whether a dashboard's URL has a parameter.
func (d *dashboard) takes(parameter string) bool {
	if name, ok := strings.CutPrefix(parameter, "var-"); ok {
		return d.variable(name) != nil
	}
	return slices.Contains([]string{"from", "to", "time", "time.window", "viewPanel"}, parameter)
}

// TestAlertLinks checks the links of Prometheus' alert to a dashboard and to the flame
// graph.
func TestAlertLinks(t *testing.T) {
	text := string(readProvisioned(t, "prometheus/rules_test.yaml")) // what the rule gives
	all, found := dashboards(t), 0
	for _, m := range regexp.MustCompile(`(?m)http://\S+$`).FindAllString(text, -1) {
		u, err := url.Parse(m)
		if err != nil {
			t.Fatal(err)
		}
		known := func(name string) bool { return slices.Contains(drilldownParameters, name) }
		if uid, ok := strings.CutPrefix(u.Path, "/d/"); ok {
			d := byUID(all, uid)
			if d == nil {
				t.Fatalf("%s leads to a dashboard that is not there", u)
			}
			known = d.takes
		}
		for name := range u.Query() {
			if !known(name) {
				t.Errorf("%s has the parameter %s, which is not known there", u, name)
			}
		}
		found++
	}
	if found != 3 {
		t.Errorf("the alert has %d links, want 3", found)
	}
}
