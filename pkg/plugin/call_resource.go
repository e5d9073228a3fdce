package plugin

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/profile"
)

// resourceRange is the time range of a resource call that names none.
const resourceRange = time.Hour

// Resources answers what editors and variables ask for, with the paths and
// parameters of Grafana's Pyroscope data source, and the drilldown:
//
//	/profileTypes?start&end
//	/labelNames?query&start&end
//	/labelValues?label&query&start&end
//	/drilldown?<labels of an alert>&startsAt&endsAt
//
// start and end are Unix milliseconds, query is a selector.
func (d *Datasource) Resources() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /profileTypes", d.profileTypes)
	mux.HandleFunc("GET /labelNames", d.labelNames)
	mux.HandleFunc("GET /labelValues", d.labelValues)
	mux.HandleFunc("GET /drilldown", d.drilldown)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusNotFound, errorBody{"no resource " + r.Method + " " + r.URL.Path})
	})
	return mux
}

// profileType is an entry of profileTypes.
type profileType struct {
	ID    string `json:"id"`
	Label string `json:"label"`
}

func (d *Datasource) profileTypes(w http.ResponseWriter, r *http.Request) {
	start, end, err := resourceTimes(r.URL.Query(), time.Now())
	if err != nil {
		writeError(w, err)
		return
	}
	types, err := d.client.ProfileTypes(r.Context(), start, end)
	if err != nil {
		writeError(w, err)
		return
	}
	out := make([]profileType, len(types))
	for i, t := range types {
		out[i] = profileType{ID: t.String(), Label: t.Name + " - " + t.SampleType}
	}
	writeJSON(w, http.StatusOK, out)
}

func (d *Datasource) labelNames(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	start, end, err := resourceTimes(q, time.Now())
	if err != nil {
		writeError(w, err)
		return
	}
	selector, err := resourceSelector(q)
	if err != nil {
		writeError(w, err)
		return
	}
	names, err := d.client.LabelNames(r.Context(), selector, start, end)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, names)
}

func (d *Datasource) labelValues(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	start, end, err := resourceTimes(q, time.Now())
	if err != nil {
		writeError(w, err)
		return
	}
	selector, err := resourceSelector(q)
	if err != nil {
		writeError(w, err)
		return
	}
	label := q.Get("label")
	if label == "" {
		writeError(w, client.Invalidf("label", "name the label whose values are wanted"))
		return
	}
	values, err := d.client.LabelValues(r.Context(), label, selector, start, end)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, values)
}

// resourceTimes reads start and end; without them, it is the last hour.
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

// errorBody is how Grafana's own API writes errors.
type errorBody struct {
	Message string `json:"message"`
}

// writeError answers with the error's status. A refusal of the data source's
// own credentials is a bad gateway: Grafana's frontend would take 401 for its
// own session.
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
