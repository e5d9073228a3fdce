package dataframe_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/dataframe"
)

func TestHeatmapJSON(t *testing.T) {
	half := 0.5
	frame := dataframe.Heatmap([]int64{15000, 30000}, []dataframe.HeatmapRow{
		{Name: "0.02 s", Cells: []*float64{&half, nil}},
		{Name: "cpu", Labels: data.Labels{"service_name": "order"}, Cells: []*float64{nil, &half}, Link: "/drilldown?around=${__value.time}"},
	}, dataframe.Unit{ID: "cores", Divisor: 1e9}, 15*time.Second)
	raw, err := json.Marshal(frame)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"schema": {
			"name": "heat map",
			"meta": {"type": "heatmap-rows", "typeVersion": [0, 0], "preferredVisualisationPluginId": "heatmap"},
			"fields": [
				{"name": "time", "type": "time", "typeInfo": {"frame": "time.Time"}, "config": {"interval": 15000}},
				{"name": "0.02 s", "type": "number", "typeInfo": {"frame": "float64", "nullable": true},
				 "config": {"displayNameFromDS": "0.02 s", "unit": "cores"}},
				{"name": "cpu", "type": "number", "typeInfo": {"frame": "float64", "nullable": true}, "labels": {"service_name": "order"},
				 "config": {"displayNameFromDS": "order", "unit": "cores",
				            "links": [{"title": "Flame graph of this step", "targetBlank": true, "url": "/drilldown?around=${__value.time}"}]}}
			]
		},
		"data": {"values": [[15000, 30000], [0.5, null], [null, 0.5]]}
	}`, string(raw))
}
