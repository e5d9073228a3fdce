package plugin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/profile"
)

// resourceRange is the time range of a resource call that gives none.
const resourceRange = time.Hour

// Resources serves the requests of editors and variables, with the paths and parameters
// of Grafana's Pyroscope data source, and the drilldown:
//
//	/profileTypes?start&end
//	/labelNames?query&start&end
//	/labelValues?label&query&start&end
//	/labelValues?label&query&start&end&limit&search: an object that says how many values were left out
//	/drilldown?<labels of an alert>&startsAt&endsAt
//
// start and end are Unix milliseconds, query is a selector.
func (d *Datasource) Resources() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /profileTypes", resource(d.profileTypes))
	mux.HandleFunc("GET /labelNames", resource(d.labelNames))
	all := resource(d.labelValues)
	mux.HandleFunc("GET /labelValues", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("limit") {
			d.completeValues(w, r)
			return
		}
		all(w, r)
	})
	mux.HandleFunc("GET /drilldown", d.drilldown)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusNotFound, errorBody{"no resource " + r.Method + " " + r.URL.Path})
	})
	return mux
}

// resourceParams are the parameters that resources share.
type resourceParams struct {
	start, end int64 // Unix milliseconds
	selector   string
	label      string
}

// resource returns the handler of a resource that is a list.
func resource[T any](list func(context.Context, resourceParams) ([]T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, err := parseResourceParams(r.URL.Query(), time.Now())
		if err != nil {
			writeError(w, err)
			return
		}
		values, err := list(r.Context(), p)
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, values)
	}
}

// profileType is an entry of profileTypes.
type profileType struct {
	ID    string `json:"id"`
	Label string `json:"label"`
}

func (d *Datasource) profileTypes(ctx context.Context, p resourceParams) ([]profileType, error) {
	types, err := d.client.ProfileTypes(ctx, p.start, p.end)
	out := make([]profileType, len(types))
	for i, t := range types {
		out[i] = profileType{ID: t.String(), Label: t.Name + " - " + t.SampleType}
	}
	return out, err
}

func (d *Datasource) labelNames(ctx context.Context, p resourceParams) ([]string, error) {
	return d.client.LabelNames(ctx, p.selector, p.start, p.end)
}

func (d *Datasource) labelValues(ctx context.Context, p resourceParams) ([]string, error) {
	if p.label == "" {
		return nil, client.Invalidf("label", "is missing; it is the label whose values to list")
	}
	return d.client.LabelValues(ctx, p.label, p.selector, p.start, p.end)
}

func parseResourceParams(q url.Values, now time.Time) (p resourceParams, err error) {
	p.label = q.Get("label")
	if p.start, p.end, err = resourceTimes(q, now); err != nil {
		return p, err
	}
	p.selector, err = resourceSelector(q)
	return p, err
}

// resourceTimes reads start and end. The default is the last hour.
func resourceTimes(q url.Values, now time.Time) (start, end int64, err error) {
	start, end = now.Add(-resourceRange).UnixMilli(), now.UnixMilli()
	for _, p := range []struct {
		name string
		to   *int64
	}{{"start", &start}, {"end", &end}} {
		if s := q.Get(p.name); s != "" {
			if *p.to, err = strconv.ParseInt(s, 10, 64); err != nil {
				return 0, 0, client.Invalidf(p.name, "%q is not a time in Unix milliseconds", s)
			}
		}
	}
	if start > end {
		return 0, 0, client.Invalidf("end", "%d is before start, %d", end, start)
	}
	return start, end, nil
}

func resourceSelector(q url.Values) (string, error) {
	s := q.Get("query")
	if s == "" {
		return "{}", nil
	}
	if _, err := profile.ParseSelector(s); err != nil {
		return "", client.Invalidf("query", "%w", err)
	}
	return s, nil
}

// errorBody is an error in the form of Grafana's own API.
type errorBody struct {
	Message string `json:"message"`
}

// writeError answers with the error's status. If the server refuses the data source's
// credentials, the status is 502: Grafana's frontend would take 401 as the end of the
// user's session.
func writeError(w http.ResponseWriter, err error) {
	status := client.Status(err)
	if status == backend.StatusUnauthorized || status == backend.StatusForbidden {
		status = backend.StatusBadGateway
	}
	writeJSON(w, int(status), errorBody{err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
