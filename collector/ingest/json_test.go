package ingest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"
)

// TestJSONIsBounded has documents at the limits and beyond, of all readers of JSON.
func TestJSONIsBounded(t *testing.T) {
	list := func(n int, element string) string {
		return strings.TrimSuffix(strings.Repeat(element+",", n), ",")
	}
	reserved := int64(0)
	l := Limits{MaxSymbols: 100, MaxSeries: 10, Reserve: func(n int64) error {
		reserved += n
		return nil
	}}
	for name, tc := range map[string]struct{ in, want string }{
		"objects":      {"[" + list(100, "{}") + "]", ""},
		"more objects": {"[" + list(101, "{}") + "]", "101 objects are more than 100 (limits.max_symbols)"},
		"arrays":       {"[" + list(399, "[]") + "]", ""},
		"more arrays":  {"[" + list(400, "[]") + "]", "401 arrays are more than 400 (4 times limits.max_symbols)"},
		"strings":      {"[" + list(800, `""`) + "]", ""},
		"more strings": {"[" + list(801, `"a"`) + "]", "801 strings are more than 800 (8 times limits.max_symbols)"},
		"in a string":  {`["` + strings.Repeat(`{\"[\\`, 1000) + `", "{"]`, ""},
		"numbers":      {"[" + list(5000, "0") + "]", ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckJSON([]byte(tc.in), l, 8)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
		})
	}
	require.NoError(t, CheckJSON([]byte("["+list(5000, "{}")+"]"), Limits{}, 8), "without limits")
	reserved = 0
	require.NoError(t, CheckJSON([]byte("["+list(100, "{}")+"]"), l, 1000))
	require.EqualValues(t, 100*2*1000+jsonArrayCost-301*CostPerByte, reserved)

	many := list(101, "{}")
	_, _, err := Speedscope([]byte(`{"profiles":[`+many+`]}`), filePush, l)
	require.ErrorContains(t, err, "speedscope: 102 objects are more than 100")
	_, _, err = Gecko([]byte(`{"threads":[`+many+`]}`), filePush, l)
	require.ErrorContains(t, err, "gecko: 102 objects are more than 100")
	_, err = OTLP([]byte(`{"resourceProfiles":[`+many+`]}`), true, time.Now(), l)
	require.ErrorContains(t, err, "102 objects are more than 100")
	types := map[string][]byte{"profile": []byte("x"), "sample_type_config": []byte("[" + many + "]")}
	_, _, err = PprofForm(types, filePush, l)
	require.ErrorContains(t, err, "sample_type_config: 101 objects are more than 100")
	reserved = 0
	_, err = OTLP([]byte(strings.Repeat("\x0a\x00", 100)), false, time.Now(), l)
	require.NoError(t, err)
	require.EqualValues(t, 100*otlpPartCost-200*CostPerByte, reserved)

	var names strings.Builder
	for i := range 11 {
		fmt.Fprintf(&names, `{"name":"%d","type":"sampled"},`, i)
	}
	_, _, err = Speedscope([]byte(`{"shared":{"frames":[{}]},"profiles":[`+strings.TrimSuffix(names.String(), ",")+`]}`), filePush, l)
	require.ErrorContains(t, err, "speedscope: profiles[10]: more than 10 names and units of profiles (limits.max_series_per_push)")
}

// TestSampleTypesAreBounded has a profile with as many sample types as there may be, and one
// more.
func TestSampleTypesAreBounded(t *testing.T) {
	for n, want := range map[int]string{maxSampleTypes: "", maxSampleTypes + 1: "pprof: sample_type: 257 types are more than 256"} {
		p := sound()
		p.SampleType = nil
		for i := range n {
			p.SampleType = append(p.SampleType, &googlev1.ValueType{Type: int64(len(p.StringTable))})
			p.StringTable = append(p.StringTable, fmt.Sprint("type", i))
		}
		for _, s := range p.Sample {
			s.Value = make([]int64, n)
		}
		raw, err := p.MarshalVT()
		require.NoError(t, err)
		_, _, err = Pprof(raw, Limits{})
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.EqualError(t, err, want)
	}
}

// TestGeckoReadsSharedTablesOnce has many threads that refer to a large shared table.
func TestGeckoReadsSharedTablesOnce(t *testing.T) {
	const n = 20_000
	numbers := strings.TrimSuffix(strings.Repeat("0,", n), ",")
	nulls := strings.TrimSuffix(strings.Repeat("null,", n), ",")
	thread := `{"samples":{"stack":[1],"weight":[2]}},`
	file := `{"shared":{"stringArray":["f"],"stackTable":{"frame":[` + numbers + `],"prefix":[` + nulls + `]},"frameTable":{"func":[0]},"funcTable":{"name":[0]}},"threads":[` +
		strings.TrimSuffix(strings.Repeat(thread, n), ",") + `]}`
	ps, _, err := Gecko([]byte(file), filePush, Limits{})
	require.NoError(t, err)
	require.Len(t, ps, 1)
	require.EqualValues(t, []int64{2 * n}, ps[0].Pprof.Sample[0].Value)
	_, _, err = Gecko([]byte(`{"threads":[{"samples":{"weightType":"x"}}]}`), filePush, Limits{})
	require.ErrorContains(t, err, `gecko: threads[0].samples.weightType: "x" is not one of samples, tracing-ms, bytes`)
}
