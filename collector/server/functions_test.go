package server_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	pprof "github.com/google/pprof/profile"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	"github.com/stretchr/testify/require"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
)

// randomFolded returns stacktraces of few functions, which call themselves and each other.
func randomFolded(r *rand.Rand, stacks int) map[string]int64 {
	out := map[string]int64{}
	for range stacks {
		var frames []string
		for range 1 + r.IntN(8) {
			frames = append(frames, fmt.Sprintf("f%d", r.IntN(12)))
		}
		out[strings.Join(frames, ";")] += int64(1 + r.IntN(50))
	}
	return out
}

// recount adds up own and total samples of functions, from stacktraces.
func recount(stacks ...map[string]int64) (own, total map[string]int64, all int64) {
	own, total = map[string]int64{}, map[string]int64{}
	for _, s := range stacks {
		for stack, n := range s {
			frames := strings.Split(stack, ";")
			own[frames[len(frames)-1]] += n
			slices.Sort(frames)
			for _, f := range slices.Compact(frames) {
				total[f] += n
			}
			all += n
		}
	}
	return own, total, all
}

// pushSampled stores stacktraces of a service for the 10 s from a time on, sampled 100
// times a second, as Go's CPU profiles have them.
func pushSampled(t testing.TB, server, service string, from time.Time, stacks map[string]int64) {
	t.Helper()
	p := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: period,
		TimeNanos: from.UnixNano(), DurationNanos: 1e10,
	}
	locations := map[string]*pprof.Location{}
	for _, stack := range slices.Sorted(maps.Keys(stacks)) {
		sample := &pprof.Sample{Value: []int64{stacks[stack], stacks[stack] * period}}
		for _, name := range strings.Split(stack, ";") {
			if locations[name] == nil {
				f := &pprof.Function{ID: uint64(len(p.Function) + 1), Name: name}
				p.Function = append(p.Function, f)
				locations[name] = &pprof.Location{ID: f.ID, Line: []pprof.Line{{Function: f}}}
				p.Location = append(p.Location, locations[name])
			}
			sample.Location = slices.Insert(sample.Location, 0, locations[name])
		}
		p.Sample = append(p.Sample, sample)
	}
	var b bytes.Buffer
	require.NoError(t, p.Write(&b))
	status, _, answer := post(t, server+"/ingest?"+url.Values{
		"name": {service}, "format": {"pprof"},
		"from": {strconv.FormatInt(from.Unix(), 10)}, "until": {strconv.FormatInt(from.Unix()+10, 10)},
	}.Encode(), b.Bytes())
	require.Equal(t, http.StatusOK, status, string(answer))
}

// period is how much CPU time a sample of pushSampled stands for, in ns.
const period = 1e7

// The functions of all services of a range are those that the stacktraces give, with a
// baseline and without.
func TestFunctions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	server, _ := start(t, defaults)
	begin := time.Now().Add(-20 * time.Minute).Truncate(10 * time.Second)
	var before, after []map[string]int64
	for i := range 3 {
		before = append(before, randomFolded(r, 40))
		after = append(after, randomFolded(r, 60))
		pushSampled(t, server, fmt.Sprint("service", i), begin, before[i])
		pushSampled(t, server, fmt.Sprint("service", i), begin.Add(10*time.Minute), after[i])
	}
	q := flamelinev1connect.NewQueryServiceClient(http.DefaultClient, server)
	sel := func(selector string, from time.Time, d time.Duration) *flamelinev1.Selection {
		return &flamelinev1.Selection{ProfileTypeID: cpu, LabelSelector: selector, Start: from.UnixMilli() - 5000, End: from.Add(d).UnixMilli() + 5000}
	}
	functions := func(req *flamelinev1.FunctionsRequest) *flamelinev1.FunctionsResponse {
		resp, err := q.Functions(context.Background(), connect.NewRequest(req))
		require.NoError(t, err)
		return resp.Msg
	}
	check := func(got *flamelinev1.Value, samples int64, name string) {
		t.Helper()
		require.Equal(t, samples*period, got.GetValue(), name)
		require.Equal(t, samples, got.GetSamples(), name)
	}

	own, total, all := recount(after...)
	got := functions(&flamelinev1.FunctionsRequest{Selection: sel("{}", begin.Add(10*time.Minute), 10*time.Second)})
	require.True(t, got.HasSamples)
	check(got.Total, all, "all")
	require.Nil(t, got.BaselineTotal)
	require.EqualValues(t, len(total), got.Count)
	require.Len(t, got.Functions, len(total))
	for _, f := range got.Functions {
		check(f.Own, own[f.Name], f.Name)
		check(f.Total, total[f.Name], f.Name)
		require.Nil(t, f.BaselineOwn)
	}
	require.True(t, slices.IsSortedFunc(got.Functions, func(a, b *flamelinev1.Function) int { return int(b.Own.Samples - a.Own.Samples) }))

	one := functions(&flamelinev1.FunctionsRequest{Selection: sel(`{service_name="service1"}`, begin.Add(10*time.Minute), 10*time.Second), Limit: 3, Order: flamelinev1.Order_ORDER_TOTAL})
	_, total1, all1 := recount(after[1])
	check(one.Total, all1, "all of one service")
	require.EqualValues(t, len(total1), one.Count)
	require.Len(t, one.Functions, 3)
	largest := slices.Sorted(maps.Values(total1))
	for i, f := range one.Functions {
		require.Equal(t, largest[len(largest)-1-i], f.Total.Samples)
	}

	ownBefore, totalBefore, allBefore := recount(before...)
	both := functions(&flamelinev1.FunctionsRequest{
		Selection: sel("{}", begin.Add(10*time.Minute), 10*time.Second),
		Baseline:  &flamelinev1.Selection{LabelSelector: "{}", Start: begin.UnixMilli() - 5000, End: begin.Add(30*time.Second).UnixMilli() + 5000},
	})
	check(both.Total, all, "all")
	check(both.BaselineTotal, allBefore, "all of the baseline")
	change := func(f *flamelinev1.Function) float64 { // 20 s beside 40 s
		d := float64(f.Own.Samples) - float64(f.BaselineOwn.Samples)/2
		return max(d, -d)
	}
	for i, f := range both.Functions {
		check(f.Own, own[f.Name], f.Name)
		check(f.BaselineOwn, ownBefore[f.Name], f.Name)
		check(f.BaselineTotal, totalBefore[f.Name], f.Name)
		if i > 0 {
			require.GreaterOrEqual(t, change(both.Functions[i-1]), change(f))
		}
	}

	none := functions(&flamelinev1.FunctionsRequest{Selection: sel(`{service_name="nobody"}`, begin, time.Second)})
	require.Empty(t, none.Functions)
	require.Zero(t, none.Total.Value)
}

// The functions are those of the flame graph of the same request, of which nothing is cut.
func TestFunctionsAgreeWithFlameGraph(t *testing.T) {
	s := startRested(t)
	resp, err := querierv1connect.NewQuerierServiceClient(http.DefaultClient, s.url).SelectMergeStacktraces(context.Background(), connect.NewRequest(s.request(8)))
	require.NoError(t, err)
	q := flamelinev1connect.NewQueryServiceClient(http.DefaultClient, s.url)
	m := s.request(0)
	got, err := q.Functions(context.Background(), connect.NewRequest(&flamelinev1.FunctionsRequest{
		Selection: &flamelinev1.Selection{ProfileTypeID: m.ProfileTypeID, Start: m.Start, End: m.End}, Limit: 2,
	}))
	require.NoError(t, err)
	require.Equal(t, resp.Msg.Flamegraph.Total, got.Msg.Total.Value)
	require.EqualValues(t, 3004, got.Msg.Count)
	require.Len(t, got.Msg.Functions, 2)
	require.Equal(t, "mallocgc", got.Msg.Functions[0].Name)
	require.EqualValues(t, restedMallocs, got.Msg.Functions[0].Own.Value)
	require.EqualValues(t, restedOther, got.Msg.Functions[1].Own.Value)
	// Folded stacks have one kind of value, and the rate says what a sample counts.
	require.True(t, got.Msg.HasSamples)
	require.EqualValues(t, restedMallocs/1e7, got.Msg.Functions[0].Own.Samples)
	require.EqualValues(t, restedOther/1e7, got.Msg.Functions[1].Own.Samples)
}

// A chart of functions has what the stacktraces of each step give.
func TestFunctionSeries(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	server, _ := start(t, defaults)
	begin := time.Now().Add(-20 * time.Minute).Truncate(time.Minute)
	const steps = 6
	var pushed [steps][2]map[string]int64
	for i := range steps {
		for pod := range 2 {
			pushed[i][pod] = randomFolded(r, 30)
			pushSampled(t, server, fmt.Sprint("service", pod), begin.Add(time.Duration(i)*10*time.Second), pushed[i][pod])
		}
	}
	q := flamelinev1connect.NewQueryServiceClient(http.DefaultClient, server)
	ask := func(req *flamelinev1.FunctionSeriesRequest) []*flamelinev1.Series {
		req.Selection = &flamelinev1.Selection{ProfileTypeID: cpu, LabelSelector: "{}", Start: begin.UnixMilli() + 10_000, End: begin.UnixMilli() + steps*10_000}
		req.Step = 10
		resp, err := q.FunctionSeries(context.Background(), connect.NewRequest(req))
		require.NoError(t, err)
		return resp.Msg.Series
	}
	check := func(s *flamelinev1.Series, own bool, pods ...int) {
		t.Helper()
		require.Len(t, s.Points, steps)
		for i, p := range s.Points {
			var stacks []map[string]int64
			for _, pod := range pods {
				stacks = append(stacks, pushed[i][pod])
			}
			ofOwn, ofTotal, _ := recount(stacks...)
			want := ofTotal[s.Function]
			if own {
				want = ofOwn[s.Function]
			}
			require.Equal(t, begin.UnixMilli()+int64(i+1)*10_000, p.Time)
			require.InDelta(t, float64(want*period), p.Value, 10, "%s at step %d", s.Function, i)
		}
	}

	for _, own := range []bool{false, true} {
		got := ask(&flamelinev1.FunctionSeriesRequest{Functions: []string{"f3", "f0", "nobody", "f3"}, Own: own})
		require.Len(t, got, 3, "a function that nobody has has no series")
		for i, name := range []string{"f3", "f0", "f3"} {
			require.Equal(t, name, got[i].Function)
			check(got[i], own, 0, 1)
		}
		by := ask(&flamelinev1.FunctionSeriesRequest{Functions: []string{"f5"}, Own: own, GroupBy: []string{"service_name"}})
		require.Len(t, by, 2)
		for _, s := range by {
			check(s, own, int(s.Labels[0].Value[len("service")]-'0'))
		}
		require.Len(t, ask(&flamelinev1.FunctionSeriesRequest{Functions: []string{"f5"}, Own: own, GroupBy: []string{"service_name"}, Limit: 1}), 1)
	}

	// The largest functions are chosen, and are in the order of their size.
	top := ask(&flamelinev1.FunctionSeriesRequest{Top: 4})
	require.Len(t, top, 4)
	sum := func(s *flamelinev1.Series) (sum float64) {
		for _, p := range s.Points {
			sum += p.Value
		}
		return sum
	}
	for i, s := range top {
		check(s, false, 0, 1)
		if i > 0 {
			require.GreaterOrEqual(t, sum(top[i-1]), sum(s))
		}
	}
	require.Len(t, ask(&flamelinev1.FunctionSeriesRequest{}), 10)
}

// Samples of several lengths cannot be counted by their values.
func TestFunctionsOfSeveralFrequencies(t *testing.T) {
	server, _ := start(t, defaults)
	begin := time.Now().Add(-10 * time.Minute).Truncate(time.Second)
	for rate, service := range map[string]string{"100": "a", "99": "b"} {
		status, _, answer := post(t, server+"/ingest?"+url.Values{
			"name": {service}, "format": {"folded"}, "sampleRate": {rate},
			"from": {strconv.FormatInt(begin.Unix(), 10)}, "until": {strconv.FormatInt(begin.Unix()+10, 10)},
		}.Encode(), []byte("main;work 7\nmain;rest 5\n"))
		require.Equal(t, http.StatusOK, status, string(answer))
	}
	q := flamelinev1connect.NewQueryServiceClient(http.DefaultClient, server)
	for selector, counted := range map[string]bool{`{service_name="a"}`: true, `{service_name="b"}`: true, `{}`: false} {
		got, err := q.Functions(context.Background(), connect.NewRequest(&flamelinev1.FunctionsRequest{
			Selection: &flamelinev1.Selection{ProfileTypeID: cpu, LabelSelector: selector, Start: begin.UnixMilli() - 1000, End: begin.UnixMilli() + 20_000},
		}))
		require.NoError(t, err)
		require.Equal(t, counted, got.Msg.HasSamples, selector)
		if counted {
			require.EqualValues(t, 12, got.Msg.Total.Samples)
			require.EqualValues(t, 7, got.Msg.Functions[0].Own.Samples)
		}
	}
}

func TestFunctionSeriesRefused(t *testing.T) {
	server, _ := start(t, defaults)
	q := flamelinev1connect.NewQueryServiceClient(http.DefaultClient, server)
	now := time.Now().UnixMilli()
	for _, c := range []struct {
		name   string
		change func(*flamelinev1.FunctionSeriesRequest)
	}{
		{"selection: is missing", func(r *flamelinev1.FunctionSeriesRequest) { r.Selection = nil }},
		{"step", func(r *flamelinev1.FunctionSeriesRequest) { r.Step = -1 }},
		{"limit", func(r *flamelinev1.FunctionSeriesRequest) { r.Limit = -1 }},
		{"top", func(r *flamelinev1.FunctionSeriesRequest) { r.Top = 65 }},
		{"functions: 65", func(r *flamelinev1.FunctionSeriesRequest) { r.Functions = make([]string, 65) }},
		{"functions: a name is empty", func(r *flamelinev1.FunctionSeriesRequest) { r.Functions = []string{"a", ""} }},
	} {
		r := &flamelinev1.FunctionSeriesRequest{Step: 10, Selection: &flamelinev1.Selection{ProfileTypeID: cpu, LabelSelector: "{}", Start: now - 60_000, End: now}}
		c.change(r)
		_, err := q.FunctionSeries(context.Background(), connect.NewRequest(r))
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), c.name)
		require.ErrorContains(t, err, c.name)
	}
}

func TestFunctionsRefused(t *testing.T) {
	server, _ := start(t, defaults)
	q := flamelinev1connect.NewQueryServiceClient(http.DefaultClient, server)
	now := time.Now().UnixMilli()
	good := func() *flamelinev1.Selection {
		return &flamelinev1.Selection{ProfileTypeID: cpu, LabelSelector: "{}", Start: now - 60_000, End: now}
	}
	for _, c := range []struct {
		name string
		req  *flamelinev1.FunctionsRequest
	}{
		{"selection: is missing", &flamelinev1.FunctionsRequest{}},
		{"selection.profile_typeID", &flamelinev1.FunctionsRequest{Selection: &flamelinev1.Selection{Start: 1, End: now}}},
		{"selection.label_selector", &flamelinev1.FunctionsRequest{Selection: &flamelinev1.Selection{ProfileTypeID: cpu, LabelSelector: "{a=", Start: 1, End: now}}},
		{"selection.start/end", &flamelinev1.FunctionsRequest{Selection: &flamelinev1.Selection{ProfileTypeID: cpu}}},
		{"baseline.start/end", &flamelinev1.FunctionsRequest{Selection: good(), Baseline: &flamelinev1.Selection{}}},
		{"limit: -1", &flamelinev1.FunctionsRequest{Selection: good(), Limit: -1}},
		{"order: 9", &flamelinev1.FunctionsRequest{Selection: good(), Order: 9}},
	} {
		_, err := q.Functions(context.Background(), connect.NewRequest(c.req))
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), c.name)
		require.ErrorContains(t, err, c.name)
	}
}

// A function has the file and the line that the selected services give it, if they agree on
// the file.
func TestFunctionSources(t *testing.T) {
	server, _ := start(t, defaults)
	begin := time.Now().Add(-20 * time.Minute).Truncate(10 * time.Second)
	push := func(service string, at time.Time, functions ...*pprof.Function) {
		p := &pprof.Profile{
			SampleType: []*pprof.ValueType{{Type: "cpu", Unit: "nanoseconds"}},
			PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: period,
			TimeNanos: at.UnixNano(), DurationNanos: 1e10, Function: functions,
		}
		for i, f := range functions {
			f.ID = uint64(i + 1)
			for _, line := range []int64{57, 55} {
				l := &pprof.Location{ID: uint64(len(p.Location) + 1), Line: []pprof.Line{{Function: f, Line: line}}}
				p.Location = append(p.Location, l)
				p.Sample = append(p.Sample, &pprof.Sample{Value: []int64{period}, Location: []*pprof.Location{l}})
			}
		}
		var b bytes.Buffer
		require.NoError(t, p.Write(&b))
		status, _, answer := post(t, server+"/ingest?"+url.Values{
			"name": {service}, "format": {"pprof"},
			"from": {strconv.FormatInt(at.Unix(), 10)}, "until": {strconv.FormatInt(at.Unix()+10, 10)},
		}.Encode(), b.Bytes())
		require.Equal(t, http.StatusOK, status, string(answer))
	}
	push("order", begin, &pprof.Function{Name: "main", Filename: "order.go", StartLine: 20},
		&pprof.Function{Name: "moved", Filename: "lib.go", StartLine: 7}, &pprof.Function{Name: "read", Filename: "read.py"}, &pprof.Function{Name: "memcpy"})
	push("order", begin.Add(time.Minute), &pprof.Function{Name: "moved", Filename: "lib.go", StartLine: 9})
	push("cart", begin, &pprof.Function{Name: "main", Filename: "cart.go", StartLine: 30}, &pprof.Function{Name: "read", Filename: "read.py"})

	q := flamelinev1connect.NewQueryServiceClient(http.DefaultClient, server)
	for selector, want := range map[string]map[string]string{
		`{service_name="order"}`: {"main": "order.go:20", "moved": "lib.go:9", "read": "read.py:55", "memcpy": ":0"},
		`{service_name="cart"}`:  {"main": "cart.go:30", "read": "read.py:55"},
		"{}":                     {"main": ":0", "moved": "lib.go:9", "read": "read.py:55", "memcpy": ":0"},
	} {
		resp, err := q.Functions(t.Context(), connect.NewRequest(&flamelinev1.FunctionsRequest{
			Selection: &flamelinev1.Selection{ProfileTypeID: cpu, LabelSelector: selector, Start: begin.UnixMilli() - 5000, End: begin.Add(5 * time.Minute).UnixMilli()},
		}))
		require.NoError(t, err)
		got := map[string]string{}
		for _, f := range resp.Msg.Functions {
			got[f.Name] = fmt.Sprint(f.File, ":", f.Line)
		}
		require.Equal(t, want, got, selector)
	}
}
