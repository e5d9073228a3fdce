package dataframe_test

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/dataframe"
	"github.com/flameline/flameline/pkg/profile"
)

// What Arrow's reader makes of a frame is what it makes of the SDK's encoding.
func TestMarshal(t *testing.T) {
	ns, cores := dataframe.Unit{ID: "ns", Divisor: 1}, dataframe.Unit{ID: "cores", Divisor: 3e9}
	large, err := profile.ParseFlamegraph(answer(t))
	require.NoError(t, err)
	annotated := dataframe.Flamegraph(checkout(), cores)
	annotated.RefID = "A"
	annotated.Meta.Custom = map[string]any{"profileTypeId": "<é>\x00\"\u2028"}
	annotated.AppendNotices(data.Notice{Severity: data.NoticeSeverityWarning, Text: "half of it"})
	annotated.Fields[1].Labels = data.Labels{"service_name": "order"}
	names := profile.NewBuilder(0)
	names.Add(names.Child(0, names.Name("Vec<T>::push \"é\" \xff\n")), math.MaxInt64)
	for name, f := range map[string]*data.Frame{
		"tree":        dataframe.Flamegraph(checkout(), ns),
		"no samples":  dataframe.Flamegraph(&profile.Tree{}, ns),
		"annotated":   annotated,
		"odd names":   dataframe.Flamegraph(names.Tree(), ns),
		"20000 nodes": dataframe.Flamegraph(large, ns),
		"comparison":  dataframe.FlamegraphDiff(profile.Diff(checkout(), large), ns, cores),
		"no columns":  data.NewFrame("empty"),
		"no rows":     data.NewFrame("", data.NewField("a", nil, []int64{}), data.NewField("b", nil, []float64{})),
		"extremes": data.NewFrame("x", data.NewField("", nil, []float64{math.Inf(-1), math.SmallestNonzeroFloat64, math.MaxFloat64}),
			data.NewField("é", data.Labels{}, []int64{math.MinInt64, -1, math.MaxInt64}), data.NewField("e", nil, []data.EnumItemIndex{0, 1, math.MaxUint16})),
		"other types": data.NewFrame("table", data.NewField("s", nil, []string{"a", "b"}), data.NewField("n", nil, []*int64{nil, nil})),
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := dataframe.Marshal(f)
			require.NoError(t, err)
			got, err := data.UnmarshalArrowFrame(raw)
			require.NoError(t, err)
			wantRaw, err := f.MarshalArrow()
			require.NoError(t, err)
			want, err := data.UnmarshalArrowFrame(wantRaw)
			require.NoError(t, err)
			require.Equal(t, want, got)
			gotJSON, err := json.Marshal(got)
			require.NoError(t, err)
			wantJSON, err := json.Marshal(f)
			require.NoError(t, err)
			require.JSONEq(t, string(wantJSON), string(gotJSON), "what the browser is sent")
		})
	}
	_, err = dataframe.Marshal(data.NewFrame("", data.NewField("a", nil, []int64{1}), data.NewField("b", nil, []int64{})))
	require.ErrorContains(t, err, "length")
}

// A reader of the file's messages in sequence, as of a stream, finds the same.
func TestMarshalAsStream(t *testing.T) {
	raw, err := dataframe.Marshal(dataframe.Flamegraph(checkout(), dataframe.Unit{ID: "ns", Divisor: 1}))
	require.NoError(t, err)
	const magic = 8
	r, err := ipc.NewReader(bytes.NewReader(raw[magic:]))
	require.NoError(t, err)
	defer r.Release()
	require.True(t, r.Next(), r.Err())
	frame, err := data.FromArrowRecord(r.RecordBatch())
	require.NoError(t, err)
	require.Equal(t, []int64{38, 38, 30, 6, 5}, int64s(t, frame, "value"))
	require.Equal(t, []string{"total", "main", "parse", "pay", "parse"}, text(t, frame))
	require.False(t, r.Next())
	require.NoError(t, r.Err())
}
