package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/server/conformance"
)

func TestExportsSayTheirDuration(t *testing.T) {
	url, _ := start(t, defaults)
	base := corpusBase()
	require.NoError(t, conformance.Push(t.Context(), url, base))
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url)
	p, err := q.SelectMergeProfile(t.Context(), connect.NewRequest(&querierv1.SelectMergeProfileRequest{
		ProfileTypeID: cpu, LabelSelector: "{}", Start: base, End: base + 90_000,
	}))
	require.NoError(t, err)
	require.Equal(t, 90*time.Second, time.Duration(p.Msg.DurationNanos))
}

func TestProfileStatsSayFromWhenToWhen(t *testing.T) {
	url, _ := start(t, defaults)
	base := corpusBase()
	require.NoError(t, conformance.Push(t.Context(), url, base))
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url)
	st, err := q.GetProfileStats(t.Context(), connect.NewRequest(&typesv1.GetProfileStatsRequest{}))
	require.NoError(t, err)
	require.Equal(t, base+1, st.Msg.OldestProfileTime)
	require.Equal(t, base+(conformance.Count-1)*conformance.Step+1+5000, st.Msg.NewestProfileTime)
}

// What a cut flame graph shows has the value that it has in Pyroscope's whole
// one.
func TestCutGraphsShowWholeValues(t *testing.T) {
	p := loadPeer(t)
	bars := func(a conformance.Answer) map[string]int {
		out := map[string]int{}
		for _, l := range a.Lines[1:] {
			level, bar, _ := strings.Cut(l, " at ")
			_, bar, _ = strings.Cut(bar, ": ")
			bar, _, _ = strings.Cut(bar, " self ")
			if !strings.HasPrefix(bar, "other ") {
				out[level+" "+bar]++
			}
		}
		return out
	}
	n := 0
	for name, d := range intended {
		if !d.varies || strings.Contains(name, "tree") {
			continue
		}
		n++
		whole := "flame graph, selector {}"
		switch {
		case strings.HasPrefix(name, "diff"):
			whole = "diff, first half and second half"
		case !strings.HasSuffix(name, "of all services"):
			whole = "flame graph, no limit of nodes given as 0"
		}
		all := bars(p.v2[whole])
		for bar := range bars(conformance.Answer{Lines: d.lines}) {
			require.NotZero(t, all[bar], "%s: %s is not in %s", name, bar, whole)
		}
	}
	require.Greater(t, n, 6)
}

// A call site beside go_pgo narrows what it is made of.
func TestPGOUnderACallSite(t *testing.T) {
	url, _ := start(t, defaults)
	base := corpusBase()
	require.NoError(t, conformance.Push(t.Context(), url, base))
	q := querierv1connect.NewQuerierServiceClient(http.DefaultClient, url)
	total := func(s *typesv1.StackTraceSelector) (out int64) {
		p, err := q.SelectMergeProfile(t.Context(), connect.NewRequest(&querierv1.SelectMergeProfileRequest{
			ProfileTypeID: cpu, LabelSelector: `{service_name="cart"}`, Start: base, End: base + 600_000, StackTraceSelector: s,
		}))
		require.NoError(t, err)
		for _, s := range p.Msg.Sample {
			out += s.Value[0]
		}
		return out
	}
	site := []*typesv1.Location{{Name: "main.main"}, {Name: "main.work"}}
	under := total(&typesv1.StackTraceSelector{CallSite: site})
	require.EqualValues(t, 320_000_000+800_000_000+720_000_000, under)
	require.Equal(t, under, total(&typesv1.StackTraceSelector{CallSite: site, GoPgo: &typesv1.GoPGO{KeepLocations: 5}}))
}
