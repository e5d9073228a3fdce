package query_test

import (
	"encoding/json"
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/query"
)

// roundTrip is a transport that does what a test wants.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A panic of a goroutine that works for a query is that query's error, and says nothing
// of what panicked.
func TestPanicsAreErrorsOfTheirQuery(t *testing.T) {
	waits := roundTrip(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	r := &query.Runner{
		Client: client.New(&http.Client{Transport: waits}, "http://localhost:1"),
		Now:    func() time.Time { panic("secret of a customer") }, // asked for by series
	}
	for _, queryType := range []string{query.TypeMetrics, query.TypeBoth} {
		raw, err := json.Marshal(map[string]string{"queryType": queryType, "profileTypeId": cpu})
		require.NoError(t, err)
		got := r.Run(t.Context(), backend.DataQuery{JSON: raw, TimeRange: backend.TimeRange{From: now.Add(-time.Hour), To: now}}, false)
		require.ErrorContains(t, got.Error, "internal error")
		require.NotContains(t, got.Error.Error(), "secret")
		require.Equal(t, backend.StatusInternal, got.Status)
		require.Equal(t, backend.ErrorSourcePlugin, got.ErrorSource)
	}
}

// Steps and ranges at the ends of what fits into their numbers give a question that a
// server can answer or refuse.
func TestHostileSteps(t *testing.T) {
	asked := 0
	r := &query.Runner{
		Client: client.New(&http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			asked++
			return nil, http.ErrServerClosed
		})}, "http://localhost:1"),
		MinStep: 15 * time.Second,
		Now:     func() time.Time { return now },
	}
	raw, err := json.Marshal(map[string]string{"queryType": query.TypeMetrics, "profileTypeId": cpu, "step": "290y"})
	require.NoError(t, err)
	for _, interval := range []time.Duration{math.MinInt64, -1, 0, 1, math.MaxInt64 - 1, math.MaxInt64} {
		for _, from := range []time.Time{{}, time.Unix(0, 0), now.Add(-time.Hour)} {
			for _, to := range []time.Time{now, time.Unix(1<<40, 0)} {
				got := r.Run(t.Context(), backend.DataQuery{JSON: raw, Interval: interval, TimeRange: backend.TimeRange{From: from, To: to}}, false)
				if got.Error != nil {
					require.NotContains(t, got.Error.Error(), "internal error")
				}
			}
		}
	}
}
