package plugin

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/query"
)

// A SourceTemplate is the URL of a function's source with placeholders in two pairs of
// braces: function, and names of labels that a query's selector sets to one value. The
// zero value has no links.
type SourceTemplate struct{ url string }

// functionPlaceholder is the placeholder of a function's name.
const functionPlaceholder = "function"

var placeholder = regexp.MustCompile(`\{\{\s*([^{}]*?)\s*\}\}`)

// ParseSourceTemplate reads and checks a template. Errors name sourceTemplate.
func ParseSourceTemplate(s string) (SourceTemplate, error) {
	const field = "sourceTemplate"
	s = strings.TrimSpace(s)
	if s == "" {
		return SourceTemplate{}, nil
	}
	if len(s) > maxTemplate {
		return SourceTemplate{}, client.Invalidf(field, "it has %d bytes, more than %d", len(s), maxTemplate)
	}
	for _, m := range placeholder.FindAllStringSubmatch(s, -1) {
		switch name := m[1]; name {
		case "":
			return SourceTemplate{}, client.Invalidf(field, "a placeholder is empty; write {{function}} or the name of a label")
		case "file", "line":
			return SourceTemplate{}, client.Invalidf(field, "{{%s}} is not known: tables have functions by their names; write {{function}}, which most code hosts can search for", name)
		}
	}
	plain := placeholder.ReplaceAllString(s, "x")
	u, err := url.Parse(plain)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.ContainsAny(plain, "{}$") {
		return SourceTemplate{}, client.Invalidf(field, "%q is not a URL such as https://git.example.com/search?q={{function}}", s)
	}
	return SourceTemplate{s}, nil
}

// link returns the data link of a query's functions. ok is false if there is no template,
// or if the selector does not set one of its labels.
func (t SourceTemplate) link(selector string) (link data.DataLink, ok bool) {
	if t.url == "" {
		return link, false
	}
	matchers, _ := profile.ParseSelector(selector) // it was read when the query came
	ok = true
	link = data.DataLink{Title: "Source of the function", TargetBlank: true}
	link.URL = placeholder.ReplaceAllStringFunc(t.url, func(p string) string {
		name := placeholder.FindStringSubmatch(p)[1]
		if name == functionPlaceholder {
			return "${__value.raw:percentencode}"
		}
		for _, m := range matchers {
			if m.Name == name && m.Type == labels.MatchEqual && m.Value != "" {
				return strings.ReplaceAll(url.PathEscape(m.Value), "$", "%24") // Grafana reads $ as a variable
			}
		}
		ok = false
		return ""
	})
	return link, ok
}

// links returns the data links of results that the settings ask for.
func (o *Options) links() query.Links {
	var l query.Links
	if o.UID != "" {
		l.Function = o.functionLinks
	}
	if o.Settings.PrometheusUID != "" {
		l.Series = o.seriesLinks
	}
	return l
}

// functionLinks lead from a function's name to its series over time, and to its source.
func (o *Options) functionLinks(m *query.Model) []data.DataLink {
	out := []data.DataLink{{
		Title: "The function over time",
		Internal: &data.InternalDataLink{
			DatasourceUID: o.UID, DatasourceName: "Flameline",
			Query: exploreQuery{
				RefID: "A", Datasource: datasourceRef{Type: ID, UID: o.UID},
				Model: query.Model{
					Version: query.Version, QueryType: query.TypeFunctionSeries,
					ProfileTypeID: m.ProfileTypeID, LabelSelector: m.LabelSelector, GroupBy: []string{},
					Functions: []string{"${__value.raw}"}, Sort: m.Sort,
				},
			},
		},
	}}
	if source, ok := o.Settings.Source.link(m.LabelSelector); ok {
		out = append(out, source)
	}
	return out
}

// promQuery is a query of Grafana's Prometheus data source.
type promQuery struct {
	RefID      string        `json:"refId"`
	Datasource datasourceRef `json:"datasource"`
	Expr       string        `json:"expr"`
	Range      bool          `json:"range"`
	EditorMode string        `json:"editorMode"`
}

// seriesLinks lead from a series of CPU time to the same in Prometheus: that of the
// containers if a label names a pod, container or namespace, else that of the processes.
func (o *Options) seriesLinks(m *query.Model, series data.Labels) []data.DataLink {
	matchers, _ := profile.ParseSelector(m.LabelSelector) // it was read when the query came
	for _, name := range slices.Sorted(maps.Keys(series)) {
		if one, err := labels.NewMatcher(labels.MatchEqual, name, series[name]); err == nil && series[name] != "" {
			matchers = append(matchers, one)
		}
	}
	metric := "process_cpu_seconds_total"
	var kept []*labels.Matcher
	seen := make(map[string]bool)
	for _, one := range matchers {
		name := o.metricsLabel(one.Name)
		if name == "" {
			continue
		}
		switch name {
		case "namespace", "pod", "container":
			metric = "container_cpu_usage_seconds_total"
		}
		if renamed, err := labels.NewMatcher(one.Type, name, one.Value); err == nil && !seen[renamed.String()] {
			seen[renamed.String()] = true
			kept = append(kept, renamed)
		}
	}
	return []data.DataLink{{
		Title: "CPU in Prometheus",
		Internal: &data.InternalDataLink{
			DatasourceUID: o.Settings.PrometheusUID, DatasourceName: "Prometheus",
			Query: promQuery{
				RefID: "A", Datasource: datasourceRef{Type: "prometheus", UID: o.Settings.PrometheusUID},
				Expr:  "sum(rate(" + metric + profile.FormatSelector(kept) + "[$__rate_interval]))",
				Range: true, EditorMode: "code",
			},
		},
	}}
}

// metricsLabels are the labels of profiles that metrics have too, by their names there.
var metricsLabels = map[string]string{
	"service_name": "job", "job": "job", "instance": "instance", "cluster": "cluster", "node": "node",
	"namespace": "namespace", "pod": "pod", "container": "container",
}

// metricsLabel returns the name that a label of profiles has in metrics, "" if none.
func (o *Options) metricsLabel(name string) string {
	for _, m := range o.Settings.LabelMapping {
		if m.Profiles == name {
			return m.Metrics
		}
	}
	return metricsLabels[name]
}
