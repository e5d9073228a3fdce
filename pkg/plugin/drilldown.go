package plugin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/config"

	"github.com/flameline/flameline/pkg/query"
)

// leftOutHeader is the header with the alert's labels that the link leaves out. Users
// see them as a notice at the flame graph.
const leftOutHeader = "X-Flameline-Left-Out"

// drilldown redirects from an alert's link to the flame graph of the alert's time.
func (d *Datasource) drilldown(w http.ResponseWriter, r *http.Request) {
	found, err := d.runner.Drilldown(r.Context(), r.URL.Query())
	if err != nil {
		writeError(w, err)
		return
	}
	if len(found.LeftOut) > 0 {
		w.Header().Set(leftOutHeader, strings.Join(found.LeftOut, ", "))
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", d.link(r.Context(), found))
	w.WriteHeader(http.StatusFound)
}

// drilldownURL is the address of a data source's drilldown in Grafana.
func drilldownURL(uid string) string {
	return "/api/datasources/uid/" + url.PathEscape(uid) + "/resources/drilldown"
}

// An explorePane is one pane of Explore in its URL.
type explorePane struct {
	Datasource string         `json:"datasource"`
	Queries    []exploreQuery `json:"queries"`
	Range      exploreRange   `json:"range"`
}

type exploreRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type exploreQuery struct {
	RefID      string        `json:"refId"`
	Datasource datasourceRef `json:"datasource"`
	query.Model
}

type datasourceRef struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// exploreLink returns the address of Explore with a drilldown's query. It has no host,
// so that the browser keeps the one under which it reaches Grafana, and begins with the
// path below which Grafana is served.
func exploreLink(ctx context.Context, d query.Drilldown) string {
	pc := backend.PluginConfigFromContext(ctx)
	var uid string
	if pc.DataSourceInstanceSettings != nil {
		uid = pc.DataSourceInstanceSettings.UID
	}
	panes, _ := json.Marshal(map[string]explorePane{"flameline": { // plain strings: cannot fail
		Datasource: uid,
		Queries: []exploreQuery{{
			RefID:      "A",
			Datasource: datasourceRef{Type: ID, UID: uid},
			Model: query.Model{
				Version: query.Version, QueryType: query.TypeBoth,
				ProfileTypeID: d.ProfileTypeID, LabelSelector: d.LabelSelector,
				GroupBy: []string{}, Notice: d.Notice,
			},
		}},
		Range: exploreRange{From: d.From, To: d.To},
	}})
	values := url.Values{"schemaVersion": {"1"}, "panes": {string(panes)}}
	if pc.OrgID > 0 { //nolint:staticcheck // Explore's URL has no namespace in its place
		values.Set("orgId", strconv.FormatInt(pc.OrgID, 10)) //nolint:staticcheck // as above
	}
	return grafanaPath(ctx) + "/explore?" + values.Encode()
}

// grafanaPath returns the path below which Grafana is served, that of its root_url,
// without a trailing slash.
func grafanaPath(ctx context.Context) string {
	appURL, err := config.GrafanaConfigFromContext(ctx).AppURL()
	if err != nil {
		return ""
	}
	u, err := url.Parse(appURL)
	if err != nil {
		return ""
	}
	return strings.TrimRight(u.Path, "/")
}
