package web

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/query"
)

// maxQueryBytes bounds the body of a query request.
const maxQueryBytes = 1 << 20

// queryRequest is the body of Grafana's /api/ds/query.
type queryRequest struct {
	Queries []json.RawMessage `json:"queries"`
	From    string            `json:"from"`
	To      string            `json:"to"`
}

// queryHead is the part of a query that Grafana itself reads.
type queryHead struct {
	RefID         string  `json:"refId"`
	QueryType     string  `json:"queryType"`
	IntervalMs    float64 `json:"intervalMs"`
	MaxDataPoints int64   `json:"maxDataPoints"`
}

// queryHandler answers as Grafana's /api/ds/query does. If single queries fail, their
// errors are in the answer and the status is 207.
func queryHandler(source backend.QueryDataHandler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, err := readQueries(http.MaxBytesReader(w, r.Body, maxQueryBytes), time.Now())
		if err != nil {
			writeJSON(w, int(client.Status(err)), map[string]string{"message": err.Error()})
			return
		}
		resp, err := source.QueryData(r.Context(), req)
		if err != nil {
			writeJSON(w, int(client.Status(err)), map[string]string{"message": err.Error()})
			return
		}
		status := http.StatusOK
		for refID, dr := range resp.Responses {
			if dr.Error != nil {
				status = http.StatusMultiStatus
			}
			for _, f := range dr.Frames {
				f.RefID = refID
			}
		}
		writeJSON(w, status, resp)
	})
}

func readQueries(body io.Reader, now time.Time) (*backend.QueryDataRequest, error) {
	var in queryRequest
	if err := json.NewDecoder(body).Decode(&in); err != nil {
		return nil, client.Invalidf("body", "%w", err)
	}
	if len(in.Queries) == 0 {
		return nil, client.Invalidf("queries", "there are none")
	}
	from, to, err := query.ParseRange(in.From, in.To, now)
	if err != nil {
		return nil, err
	}
	req := &backend.QueryDataRequest{Headers: map[string]string{}}
	seen := make(map[string]bool)
	for i, raw := range in.Queries {
		var head queryHead
		if err := json.Unmarshal(raw, &head); err != nil {
			return nil, client.Invalidf(fmt.Sprintf("queries[%d]", i), "%w", err)
		}
		if head.RefID == "" {
			head.RefID = "A"
		}
		if seen[head.RefID] {
			return nil, client.Invalidf(fmt.Sprintf("queries[%d].refId", i), "%q occurs twice", head.RefID)
		}
		seen[head.RefID] = true
		req.Queries = append(req.Queries, backend.DataQuery{
			RefID:         head.RefID,
			QueryType:     head.QueryType,
			MaxDataPoints: head.MaxDataPoints,
			Interval:      time.Duration(head.IntervalMs * float64(time.Millisecond)),
			TimeRange:     backend.TimeRange{From: from, To: to},
			JSON:          raw,
		})
	}
	return req, nil
}

// healthHandler answers as Grafana's health check of a data source does.
func healthHandler(source backend.CheckHealthHandler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		res, err := source.CheckHealth(r.Context(), &backend.CheckHealthRequest{})
		if err != nil {
			writeJSON(w, int(client.Status(err)), map[string]string{"message": err.Error()})
			return
		}
		status := http.StatusOK
		if res.Status != backend.HealthStatusOk {
			status = http.StatusBadRequest
		}
		writeJSON(w, status, map[string]any{
			"status": res.Status.String(), "message": res.Message, "details": json.RawMessage(res.JSONDetails),
		})
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "encode answer: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(raw)
}
