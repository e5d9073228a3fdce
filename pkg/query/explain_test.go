package query_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/profile"
)

// order is the demo's order service before and after a release: 0.6 cores and 1.
func order(spike int64) *profile.Tree {
	b := profile.NewBuilder(0)
	main := b.Child(0, b.Name("main.main"))
	handle := b.Child(main, b.Name("handleOrder"))
	b.Add(b.Child(handle, b.Name("encode")), 1800e9)
	validate := b.Child(handle, b.Name("validateOrder"))
	b.Add(validate, 360e9)
	compile := b.Child(validate, b.Name("regexp.Compile"))
	b.Add(b.Child(compile, b.Name("parse")), spike/2)
	b.Add(b.Child(compile, b.Name("onepass")), spike-spike/2)
	return b.Tree()
}

// functionsOf is the answer of a server about the functions of two trees.
func functionsOf(base, now *profile.Tree) *flamelinev1.FunctionsResponse {
	const period = 1e7
	d := profile.Diff(base, now)
	left, right := d.Totals()
	out := &flamelinev1.FunctionsResponse{Total: sampled(right, right/period), BaselineTotal: sampled(left, left/period), HasSamples: true}
	for _, s := range d.FunctionSums() {
		out.Functions = append(out.Functions, &flamelinev1.Function{
			Name: s.Name, Own: sampled(s.Own[1], s.Own[1]/period), BaselineOwn: sampled(s.Own[0], s.Own[0]/period),
			Total: sampled(s.Total[1], s.Total[1]/period), BaselineTotal: sampled(s.Total[0], s.Total[0]/period),
		})
	}
	out.Count = int64(len(out.Functions))
	return out
}

// byLabel answers series by a label: the values of the baseline, which ends an hour
// earlier, and those of now.
func byLabel(values map[string]map[string][2]float64) func(*querierv1.SelectSeriesRequest) []*typesv1.Series {
	return func(r *querierv1.SelectSeriesRequest) (out []*typesv1.Series) {
		side := 0
		if r.End == now.UnixMilli() {
			side = 1
		}
		for value, v := range values[r.GroupBy[0]] {
			if v[side] != 0 {
				out = append(out, &typesv1.Series{
					Labels: []*typesv1.LabelPair{{Name: r.GroupBy[0], Value: value}}, Points: []*typesv1.Point{{Timestamp: r.End, Value: v[side]}},
				})
			}
		}
		return out
	}
}

func explained(t *testing.T, base, after *profile.Tree, values map[string]map[string][2]float64) (text string, shares map[string]float64, names []string) {
	t.Helper()
	q := &querier{functions: functionsOf(base, after), diff: profile.Diff(base, after), header: http.Header{profile.HeaderRest: {"functions"}}, series: byLabel(values)}
	for name := range values {
		q.rows = append(q.rows, labels.FromStrings(name, "x"))
	}
	resp := ask(t, runner(t, q), time.Hour, map[string]any{
		"queryType": "explain", "profileTypeId": cpu, "labelSelector": `{service_name="order"}`, "unit": "cores", "limit": 3,
	})
	require.NoError(t, resp.Error)
	f := resp.Frames[0]
	shares = map[string]float64{}
	share := column(t, f, "Share of the change")
	value, _ := f.FieldByName("Value")
	require.Equal(t, "Value", value.Config.DisplayNameFromDS, "Grafana shows the frame's name otherwise")
	for i := range share {
		shares[f.Fields[0].At(i).(string)] += share[i]
		names = append(names, fmt.Sprint(f.Fields[0].At(i), " ", f.Fields[1].At(i)))
	}
	text = f.Meta.Custom.(map[string]any)["explanation"].(string)
	require.Contains(t, noticeTexts(f), text)
	return text, shares, names
}

func TestExplain(t *testing.T) {
	text, shares, names := explained(t, order(0), order(1440e9), map[string]map[string][2]float64{
		"version": {"v1": {2160e9, 2160e9}, "v2": {0, 1440e9}},
		"pod":     {"a": {1000e9, 1700e9}, "b": {1160e9, 1900e9}},
		"node":    {"one": {2160e9, 3600e9}},
	})
	require.Equal(t, "From 0.6 cores to 1 cores, a rise of 0.4 cores. main.main → handleOrder → validateOrder → regexp.Compile: +0.4 cores, 100 % of the rise, only version=v2.", text)
	require.InDeltaMapValues(t, map[string]float64{"function": 1, "version": 1, "pod": 1}, shares, 1e-9)
	require.Contains(t, names, "function parse")
	require.Contains(t, names, "version v2")
	require.NotContains(t, names, "node one", "a label of one value explains nothing")

	text, _, _ = explained(t, order(1440e9), order(0), nil)
	require.Contains(t, text, "a fall of 0.4 cores")
	require.Contains(t, text, "regexp.Compile: -0.4 cores, 100 % of the fall")

	text, _, _ = explained(t, order(0), order(1e9), nil)
	require.Contains(t, text, "within what chance explains")

	text, _, _ = explained(t, &profile.Tree{}, &profile.Tree{}, nil)
	require.Contains(t, text, "No samples")
}

// Whatever changes, the shares of functions add up to the change.
func TestExplainAddsUp(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	random := func() *profile.Tree {
		b := profile.NewBuilder(0)
		at := []int32{0}
		for range 1 + r.IntN(60) {
			node := b.Child(at[r.IntN(len(at))], b.Name(fmt.Sprintf("f%d", r.IntN(20))))
			b.Add(node, int64(r.IntN(1000))*1e9)
			at = append(at, node)
		}
		return b.Tree()
	}
	for range 20 {
		base, after := random(), random()
		l, rt := profile.Diff(base, after).Totals()
		if l == rt {
			continue
		}
		_, shares, _ := explained(t, base, after, nil)
		require.InDelta(t, 1, shares["function"], 1e-6)
	}
}
