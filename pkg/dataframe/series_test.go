package dataframe_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/dataframe"
	"github.com/flameline/flameline/pkg/profile"
)

func TestTimeSeriesJSON(t *testing.T) {
	frames := dataframe.TimeSeries([]dataframe.Series{{
		Labels: data.Labels{"service_name": "order"},
		Name:   "cpu",
		Points: []dataframe.Point{{Time: 15000, Value: 0.25}, {Time: 45000, Value: 1}},
	}}, dataframe.Unit{ID: "cores", Divisor: 1e9}, 15*time.Second)
	require.Len(t, frames, 1)
	raw, err := json.Marshal(frames[0])
	require.NoError(t, err)
	require.JSONEq(t, `{
		"schema": {
			"meta": {"type": "timeseries-multi", "typeVersion": [0, 1], "preferredVisualisationType": "graph"},
			"fields": [
				{"name": "time", "type": "time", "typeInfo": {"frame": "time.Time"}, "config": {"interval": 15000}},
				{"name": "cpu", "type": "number", "typeInfo": {"frame": "float64"}, "labels": {"service_name": "order"},
				 "config": {"displayNameFromDS": "order", "unit": "cores"}}
			]
		},
		"data": {"values": [[15000, 45000], [0.25, 1]]}
	}`, string(raw))
}

func TestLegend(t *testing.T) {
	for want, labels := range map[string]data.Labels{
		"cpu":                    nil,
		"order":                  {"service_name": "order"},
		`{pod=""}`:               {"pod": ""},
		`{node="a", pod="cart"}`: {"pod": "cart", "node": "a"},
	} {
		f := dataframe.TimeSeries([]dataframe.Series{{Labels: labels, Name: "cpu"}}, dataframe.Unit{ID: "cores"}, time.Second)
		require.Equal(t, want, f[0].Fields[1].Config.DisplayNameFromDS)
	}
}

func TestUnits(t *testing.T) {
	for id, want := range map[string]struct{ total, rate dataframe.Unit }{
		"process_cpu:cpu:nanoseconds:cpu:nanoseconds":     {dataframe.Unit{ID: "ns", Divisor: 1}, dataframe.Unit{ID: "cores", Divisor: 1e9}},
		"process_cpu:samples:count:cpu:nanoseconds":       {dataframe.Unit{ID: "short", Divisor: 1}, dataframe.Unit{ID: "ops", Divisor: 1}},
		"memory:alloc_space:bytes:space:bytes":            {dataframe.Unit{ID: "bytes", Divisor: 1}, dataframe.Unit{ID: "binBps", Divisor: 1}},
		"memory:alloc_objects:count:space:bytes":          {dataframe.Unit{ID: "short", Divisor: 1}, dataframe.Unit{ID: "ops", Divisor: 1}},
		"block:delay:nanoseconds:contentions:count":       {dataframe.Unit{ID: "ns", Divisor: 1}, dataframe.Unit{ID: "s/s", Divisor: 1e9}},
		"off_cpu:off_cpu:nanoseconds:off_cpu:nanoseconds": {dataframe.Unit{ID: "ns", Divisor: 1}, dataframe.Unit{ID: "s/s", Divisor: 1e9}},
		"wall:wall:microseconds:wall:microseconds":        {dataframe.Unit{ID: "µs", Divisor: 1}, dataframe.Unit{ID: "s/s", Divisor: 1e6}},
		"custom:pages:pages:pages:pages":                  {dataframe.Unit{ID: "pages", Divisor: 1}, dataframe.Unit{ID: "pages/s", Divisor: 1}},
		"process_cpu:cpu:milliseconds:cpu:milliseconds":   {dataframe.Unit{ID: "ms", Divisor: 1}, dataframe.Unit{ID: "cores", Divisor: 1e3}},
		"profile:cpu-time:nanoseconds::":                  {dataframe.Unit{ID: "ns", Divisor: 1}, dataframe.Unit{ID: "cores", Divisor: 1e9}},
		"wall:wall:ns:wall:ns":                            {dataframe.Unit{ID: "ns", Divisor: 1}, dataframe.Unit{ID: "s/s", Divisor: 1e9}},
		"process_cpu:cpu:Minutes:cpu:ns":                  {dataframe.Unit{ID: "s", Divisor: 1. / 60}, dataframe.Unit{ID: "cores", Divisor: 1. / 60}},
		"process_cpu:cpu:count:cpu:nanoseconds":           {dataframe.Unit{ID: "short", Divisor: 1}, dataframe.Unit{ID: "ops", Divisor: 1}},
		"memory:alloc_space:KiB:space:bytes":              {dataframe.Unit{ID: "bytes", Divisor: 1. / 1024}, dataframe.Unit{ID: "binBps", Divisor: 1. / 1024}},
		"memory:inuse_objects:objects:space:bytes":        {dataframe.Unit{ID: "short", Divisor: 1}, dataframe.Unit{ID: "ops", Divisor: 1}},
	} {
		typ, err := profile.ParseType(id)
		require.NoError(t, err)
		require.Equal(t, want.total, dataframe.Total(typ), id)
		require.Equal(t, want.rate, dataframe.Rate(typ), id)
	}
}
