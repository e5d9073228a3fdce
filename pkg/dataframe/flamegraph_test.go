package dataframe_test

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/dataframe"
	"github.com/flameline/flameline/pkg/profile"
)

// checkout is main -> {parse 10+20, pay -> {parse 5}}, in no particular order.
func checkout() *profile.Tree {
	b := profile.NewBuilder(0)
	at := func(names ...string) int32 {
		n := int32(0)
		for _, name := range names {
			n = b.Child(n, b.Name(name))
		}
		return n
	}
	b.Add(at("main", "pay", "parse"), 5)
	b.Add(at("main", "pay"), 1)
	b.Add(at("main", "parse"), 30)
	b.Add(at("main"), 2)
	return b.Tree()
}

func int64s(t *testing.T, f *data.Frame, name string) []int64 {
	t.Helper()
	field, _ := f.FieldByName(name)
	require.NotNil(t, field, name)
	out := make([]int64, field.Len())
	for i := range out {
		out[i] = field.At(i).(int64)
	}
	return out
}

func text(t *testing.T, f *data.Frame) []string {
	t.Helper()
	field, _ := f.FieldByName("label")
	require.NotNil(t, field)
	require.Equal(t, data.FieldTypeEnum, field.Type())
	out := make([]string, field.Len())
	for i := range out {
		out[i] = field.Config.TypeConfig.Enum.Text[field.At(i).(data.EnumItemIndex)]
	}
	return out
}

func TestFlamegraphIsDepthFirst(t *testing.T) {
	f := dataframe.Flamegraph(checkout(), dataframe.Unit{ID: "ns", Divisor: 1})

	require.Equal(t, []int64{0, 1, 2, 2, 3}, int64s(t, f, "level"))
	require.Equal(t, []int64{38, 38, 30, 6, 5}, int64s(t, f, "value"))
	require.Equal(t, []int64{0, 2, 30, 1, 5}, int64s(t, f, "self"))
	require.Equal(t, []string{"total", "main", "parse", "pay", "parse"}, text(t, f))
	require.Equal(t, data.VisType(data.VisTypeFlameGraph), f.Meta.PreferredVisualization)

	var sum int64
	for _, v := range int64s(t, f, "self") {
		sum += v
	}
	require.Equal(t, int64s(t, f, "value")[0], sum, "the root is the sum of all own values")
}

// The frame as Grafana's frontend receives it, written by hand.
func TestFlamegraphJSON(t *testing.T) {
	raw, err := json.Marshal(dataframe.Flamegraph(checkout(), dataframe.Unit{ID: "ns", Divisor: 1}))
	require.NoError(t, err)
	require.JSONEq(t, `{
		"schema": {
			"name": "response",
			"meta": {"typeVersion": [0, 0], "preferredVisualisationType": "flamegraph"},
			"fields": [
				{"name": "level", "type": "number", "typeInfo": {"frame": "int64"}},
				{"name": "value", "type": "number", "typeInfo": {"frame": "int64"}, "config": {"unit": "ns"}},
				{"name": "self", "type": "number", "typeInfo": {"frame": "int64"}, "config": {"unit": "ns"}},
				{"name": "label", "type": "enum", "typeInfo": {"frame": "enum"},
				 "config": {"type": {"enum": {"text": ["total", "main", "parse", "pay"]}}}}
			]
		},
		"data": {"values": [[0, 1, 2, 2, 3], [38, 38, 30, 6, 5], [0, 2, 30, 1, 5], [0, 1, 2, 3, 2]]}
	}`, string(raw))
}

// A rest node is labelled as no function is, on both sides of a comparison too.
func TestFlamegraphLabelsTheRest(t *testing.T) {
	for _, name := range []string{"pay", "other", "(not shown)", "((not shown))"} {
		b := profile.NewBuilder(0)
		b.Add(b.Child(0, b.Name(name)), 500)
		b.Add(b.Child(0, b.Name("(not shown)")), 400)
		for i := range 20 {
			b.Add(b.Child(0, b.Name("f"+strconv.Itoa(i))), int64(i+1))
		}
		cut := profile.Diff(b.Tree(), &profile.Tree{}).Truncate(4)
		for _, f := range []*data.Frame{
			dataframe.Flamegraph(b.Tree().Truncate(3), dataframe.Unit{ID: "ns", Divisor: 1}),
			dataframe.FlamegraphDiff(cut, dataframe.Unit{ID: "ns", Divisor: 1}, dataframe.Unit{ID: "ns", Divisor: 1}),
		} {
			labels := text(t, f)
			rest := labels[len(labels)-1]
			require.NotContains(t, []string{name, "(not shown)"}, rest)
			require.Contains(t, rest, "(not shown)")
			require.Contains(t, labels, name)
			values := int64s(t, f, "self")
			require.Greater(t, values[len(values)-1], int64(20), "what is cut off")
		}
	}
}

func TestFlamegraphInCores(t *testing.T) {
	f := dataframe.Flamegraph(checkout(), dataframe.Unit{ID: "cores", Divisor: 4})
	value, _ := f.FieldByName("value")
	require.InDelta(t, 9.5, value.At(0), 1e-9)
	require.Equal(t, "cores", value.Config.Unit)
	self, _ := f.FieldByName("self")
	require.InDelta(t, 7.5, self.At(2), 1e-9)
	require.Equal(t, "cores", self.Config.Unit)
}

// Grafana's flame graph fails on a frame without rows when it collapses items.
func TestFlamegraphWithoutSamplesHasARoot(t *testing.T) {
	for _, f := range []*data.Frame{
		dataframe.Flamegraph(&profile.Tree{}, dataframe.Unit{ID: "ns", Divisor: 1}),
		dataframe.FlamegraphDiff(&profile.DiffTree{}, dataframe.Unit{ID: "ns", Divisor: 1}, dataframe.Unit{ID: "ns", Divisor: 1}),
	} {
		require.Equal(t, []int64{0}, int64s(t, f, "level"))
		require.Equal(t, []int64{0}, int64s(t, f, "value"))
		require.Equal(t, []int64{0}, int64s(t, f, "self"))
		require.Equal(t, []string{"total"}, text(t, f))
	}
}

func TestFlamegraphWithMoreNamesThanAnEnumHolds(t *testing.T) {
	b := profile.NewBuilder(0)
	const n = 70000
	for i := range n {
		b.Add(b.Child(0, b.Name("f"+strconv.Itoa(i))), 1)
	}
	f := dataframe.Flamegraph(b.Tree(), dataframe.Unit{ID: "short", Divisor: 1})
	label, _ := f.FieldByName("label")
	require.Equal(t, data.FieldTypeString, label.Type())
	require.Equal(t, n+1, label.Len())
	seen := make(map[any]bool)
	for i := range label.Len() {
		seen[label.At(i)] = true
	}
	require.Len(t, seen, n+1)
}

func TestFlamegraphDiffHasBothSides(t *testing.T) {
	b := profile.NewBuilder(0)
	b.Add(b.Child(0, b.Name("main")), 7)
	f := dataframe.FlamegraphDiff(profile.Diff(checkout(), b.Tree()), dataframe.Unit{ID: "ns", Divisor: 1}, dataframe.Unit{ID: "ns", Divisor: 1})
	require.Equal(t, []string{"total", "main", "parse", "pay", "parse"}, text(t, f))
	require.Equal(t, []int64{38, 38, 30, 6, 5}, int64s(t, f, "value"))
	require.Equal(t, []int64{7, 7, 0, 0, 0}, int64s(t, f, "valueRight"))
	require.Equal(t, []int64{0, 7, 0, 0, 0}, int64s(t, f, "selfRight"))
}

// A side is scaled by the divisor of its unit; the other keeps its whole numbers.
func TestFlamegraphDiffOfTwoDivisors(t *testing.T) {
	f := dataframe.FlamegraphDiff(profile.Diff(checkout(), checkout()), dataframe.Unit{ID: "ns", Divisor: 4}, dataframe.Unit{ID: "ns", Divisor: 1})
	require.Equal(t, []int64{38, 38, 30, 6, 5}, int64s(t, f, "valueRight"))
	require.Equal(t, []int64{0, 2, 30, 1, 5}, int64s(t, f, "selfRight"))
	for name, want := range map[string][]float64{"value": {9.5, 9.5, 7.5, 1.5, 1.25}, "self": {0, 0.5, 7.5, 0.25, 1.25}} {
		field, _ := f.FieldByName(name)
		require.Equal(t, "ns", field.Config.Unit)
		for i, v := range want {
			require.InDelta(t, v, field.At(i), 1e-12, name)
		}
	}
}
