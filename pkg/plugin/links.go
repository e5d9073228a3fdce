package plugin

import (
	"maps"
	"slices"

	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/query"
)

// links returns the data links of results that the settings ask for.
func (o *Options) links() query.Links {
	var l query.Links
	if o.UID != "" {
		l.Function = o.functionLinks
	}
	if o.Settings.Source.ofFiles() {
		l.Source = func(m *query.Model, f query.Source) string { return o.Settings.Source.fileURL(m.LabelSelector, f) }
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
