package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
)

// foldedGraph are the own values of an answer by stacktrace; "" is the root's.
func foldedGraph(m *flamelinev1.FlameGraphResponse, own []int64) map[string]int64 {
	out, paths := map[string]int64{}, make([]string, len(m.Parents))
	for i, up := range m.Parents {
		if i > 0 {
			paths[i] = strings.TrimPrefix(paths[up]+";"+m.Names[m.Functions[i]], ";")
		}
		if own[i] != 0 {
			out[paths[i]] += own[i]
		}
	}
	return out
}

// A view is of all stacktraces of all services, in values or in samples, with a baseline
// and without. Its options have their tests in pkg/profile/view.
func TestFlameGraph(t *testing.T) {
	r := rand.New(rand.NewPCG(41, 42))
	server, _ := start(t, defaults)
	begin := time.Now().Add(-20 * time.Minute).Truncate(10 * time.Second)
	var all [2]map[string]int64 // by stacktrace that begins with the service
	for side := range all {
		all[side] = map[string]int64{}
		for service := range 3 {
			stacks := randomFolded(r, 60)
			pushSampled(t, server, fmt.Sprint("service", service), begin.Add(time.Duration(side)*10*time.Minute), stacks)
			for stack, n := range stacks {
				all[side][fmt.Sprintf("service_name=service%d;%s", service, stack)] += n
			}
		}
	}
	sel := func(side int) *flamelinev1.Selection {
		at := begin.Add(time.Duration(side) * 10 * time.Minute)
		return &flamelinev1.Selection{ProfileTypeID: cpu, LabelSelector: "{}", Start: at.UnixMilli() - 5000, End: at.Add(15 * time.Second).UnixMilli()}
	}
	want := func(side int, each int64, show func(frames []string) []string) map[string]int64 {
		out := map[string]int64{}
		for stack, n := range all[side] {
			out[strings.Join(show(strings.Split(stack, ";")), ";")] += n * each
		}
		return out
	}
	focused := func(f []string) []string {
		if !slices.Contains(f, "f3") {
			return nil
		}
		return f
	}
	q := flamelinev1connect.NewQueryServiceClient(http.DefaultClient, server)
	ask := func(req *flamelinev1.FlameGraphRequest) *flamelinev1.FlameGraphResponse {
		t.Helper()
		resp, err := q.FlameGraph(context.Background(), connect.NewRequest(req))
		require.NoError(t, err)
		return resp.Msg
	}

	m := ask(&flamelinev1.FlameGraphRequest{
		Selection: sel(1), Baseline: sel(0), View: &flamelinev1.View{Focus: "^f3$", GroupBy: []string{"service_name"}},
	})
	require.Equal(t, want(1, period, focused), foldedGraph(m, m.Own))
	require.Equal(t, want(0, period, focused), foldedGraph(m, m.BaselineOwn))
	require.True(t, m.ExactFunctions)
	require.False(t, m.HasSamples)

	m = ask(&flamelinev1.FlameGraphRequest{Selection: sel(1), View: &flamelinev1.View{Reverse: true, Samples: true}})
	require.Equal(t, want(1, 1, func(f []string) []string {
		f = slices.Clone(f[1:])
		slices.Reverse(f)
		return f
	}), foldedGraph(m, m.Own))
	require.True(t, m.HasSamples)
	require.Empty(t, m.BaselineOwn)

	m = ask(&flamelinev1.FlameGraphRequest{Selection: sel(1), View: &flamelinev1.View{Function: "f3"}, MaxNodes: 10})
	require.LessOrEqual(t, len(m.Parents), 1+10+8)
	require.NotZero(t, m.Rest)
	sum := int64(0)
	for _, own := range m.Own {
		sum += own
	}
	_, _, total := recount(all[1])
	require.Equal(t, total*period, sum, "the root is the selection")

	for want, req := range map[string]*flamelinev1.FlameGraphRequest{
		"view.focus: error parsing":                      {Selection: sel(1), View: &flamelinev1.View{Focus: "("}},
		"view.show_from: the regular expression has":     {Selection: sel(1), View: &flamelinev1.View{ShowFrom: strings.Repeat("a", 2000)}},
		"view.fold: \"x\" is not":                        {Selection: sel(1), View: &flamelinev1.View{Fold: []string{"x"}}},
		"view.group_by: 5 labels are more":               {Selection: sel(1), View: &flamelinev1.View{GroupBy: strings.Split("a,b,c,d,e", ",")}},
		"view.group_by: \"\" is not":                     {Selection: sel(1), View: &flamelinev1.View{GroupBy: []string{""}}},
		"view.max_depth: -1 is below":                    {Selection: sel(1), View: &flamelinev1.View{MaxDepth: -1}},
		"max_nodes: -1 is negative":                      {Selection: sel(1), MaxNodes: -1},
		"selection: is missing":                          {},
		"span_selector: is only for one":                 {Selection: sel(1), Baseline: sel(0), SpanSelector: []string{"0123456789abcdef"}},
		"selection.profile_typeID":                       {Selection: &flamelinev1.Selection{ProfileTypeID: "cpu", Start: 1, End: 2}},
		"selection.profile_typeID: unknown profile type": {Selection: &flamelinev1.Selection{ProfileTypeID: "none:cpu:nanoseconds:cpu:nanoseconds", Start: sel(1).Start, End: sel(1).End}},
	} {
		_, err := q.FlameGraph(context.Background(), connect.NewRequest(req))
		require.ErrorContains(t, err, want)
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), want)
	}
}
