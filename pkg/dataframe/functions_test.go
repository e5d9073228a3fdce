package dataframe_test

import (
	"math"
	"testing"

	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/dataframe"
	"github.com/flameline/flameline/pkg/profile"
)

// floats returns the numbers of a field, and its unit.
func floats(t *testing.T, f *data.Frame, name string) (out []float64, unit string) {
	t.Helper()
	field, _ := f.FieldByName(name)
	require.NotNil(t, field, name)
	for i := range field.Len() {
		v, err := field.FloatAt(i)
		require.NoError(t, err)
		out = append(out, v)
	}
	return out, field.Config.Unit
}

func TestFunctions(t *testing.T) {
	table := &profile.FunctionTable{
		Rows: []profile.FunctionRow{
			{Name: "encode", Own: profile.Sampled{Value: 3e9, Samples: 300}, Total: profile.Sampled{Value: 4e9, Samples: 400}},
			{Name: "main", Total: profile.Sampled{Value: 6e9, Samples: 600}},
		},
		Total: profile.Sampled{Value: 6e9, Samples: 600}, Count: 9, HasSamples: true,
	}
	f := dataframe.Functions(table, dataframe.Unit{ID: "cores", Divisor: 60e9}, dataframe.Unit{ID: "currency:$", Divisor: 0.01})
	require.EqualValues(t, data.VisTypeTable, f.Meta.PreferredVisualization)
	require.Equal(t, []string{"encode", "main"}, []string{f.Fields[0].At(0).(string), f.Fields[0].At(1).(string)})
	for name, want := range map[string][]float64{
		"Own": {0.05, 0}, "Own share": {0.5, 0}, "Total": {4. / 60, 0.1}, "Total share": {4. / 6, 1}, "Own samples": {300, 0}, "Cost per month": {5, 0},
	} {
		got, _ := floats(t, f, name)
		require.InDeltaSlice(t, want, got, 1e-12, name)
	}
	_, unit := floats(t, f, "Own")
	require.Equal(t, "cores", unit)
	_, unit = floats(t, f, "Total share")
	require.Equal(t, "percentunit", unit)

	table.HasSamples = false
	_, i := dataframe.Functions(table, dataframe.Unit{ID: "ns", Divisor: 1}, dataframe.Unit{}).FieldByName("Own samples")
	require.Equal(t, -1, i)
}

// A change has the error of both sides, of which the baseline is scaled.
func TestFunctionsDiff(t *testing.T) {
	table := &profile.FunctionTable{
		Rows: []profile.FunctionRow{{
			Name: "encode",
			Own:  profile.Sampled{Value: 9e9, Samples: 900}, BaselineOwn: profile.Sampled{Value: 1e9, Samples: 100},
			Total: profile.Sampled{Value: 9e9, Samples: 900}, BaselineTotal: profile.Sampled{Value: 0},
		}},
		Total: profile.Sampled{Value: 10e9, Samples: 1000}, BaselineTotal: profile.Sampled{Value: 2e9, Samples: 200}, HasSamples: true,
	}
	f := dataframe.FunctionsDiff(table, dataframe.Unit{ID: "ns", Divisor: 0.5}, dataframe.Unit{ID: "ns", Divisor: 1}, dataframe.Unit{})
	for name, want := range map[string]float64{
		"Own": 9e9, "Own in baseline": 2e9, "Own change": 7e9,
		"Own change ±": 1.96 * math.Hypot(30*1e7, 10*2e7),
		"Total":        9e9, "Total in baseline": 0, "Total change": 9e9,
		"Total change ±": 1.96 * math.Hypot(30*1e7, 1*2e7), // no samples: one is within chance
	} {
		got, unit := floats(t, f, name)
		require.InEpsilon(t, want+1, got[0]+1, 1e-9, name)
		require.Equal(t, "ns", unit)
	}
	table.HasSamples = false
	require.Len(t, dataframe.FunctionsDiff(table, dataframe.Unit{ID: "ns", Divisor: 1}, dataframe.Unit{ID: "ns", Divisor: 1}, dataframe.Unit{}).Fields, 7)
}
