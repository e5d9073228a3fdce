package conformance

import (
	"fmt"

	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	q "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
)

func (c *calls) series() {
	c.points("no group")
	c.points("by service_name", by("service_name"))
	c.points("by pod", by("pod"))
	c.points("by two labels", by("service_name", "pod"))
	c.points("by two labels in the other order", by("pod", "service_name"))
	c.points("by a label that none has", by("nosuchlabel"))
	c.points("by a label of samples", by("endpoint"))
	c.points("by a label twice", by("pod", "pod"))
	c.points("by an empty name", by(""))
	c.points("by a label that some have", by("zone"))
	c.points("by a label that one and a label that none has", by("nosuchlabel", "zone"))
	c.points("by a name between underscores", by("__profile_type__"))
	c.points("by a name of UTF-8", by("größe"), func(r *seriesReq) { r.ProfileTypeID = mutex })
	c.points("by a city", by("city"), func(r *seriesReq) { r.ProfileTypeID = mutex })
	for _, step := range []float64{0.1, 1, 7.5, 14.999, 15.001, 30, 45, 60, 120, 121, 3600} {
		c.points(fmt.Sprintf("step %g", step), func(r *seriesReq) { r.Step = step })
		if step > 120 {
			c.empty() // the first point would lie behind the end
		}
	}
	c.points("start between profiles", func(r *seriesReq) { r.Start += 7_000 })
	c.points("start and end between profiles", func(r *seriesReq) { r.Start += 7_000; r.End -= 5_500 })
	c.points("one instant", func(r *seriesReq) { r.Start += Step; r.End = r.Start })
	c.fault("start/end")
	c.points("start at a profile", func(r *seriesReq) { r.Start += Step + 1 })
	c.points("start one ms after a profile", func(r *seriesReq) { r.Start += Step + 2 })
	c.points("end at a profile", func(r *seriesReq) { r.End = c.base + 2*Step + 1 })
	c.points("end one ms before a profile", func(r *seriesReq) { r.End = c.base + 2*Step })
	c.points("the last step only", func(r *seriesReq) { r.Start = c.end - Step })
	c.points("after the last profile", func(r *seriesReq) { r.Start, r.End = c.end+Step, c.end+4*Step })
	c.empty()
	c.points("type that is not stored", func(r *seriesReq) { r.ProfileTypeID = notStored })
	c.empty()
	c.points("service that is not stored", by("pod"), func(r *seriesReq) { r.LabelSelector = `{service_name="none"}` })
	c.empty()
	c.points("nothing in the range", func(r *seriesReq) { r.Start, r.End = c.base-90_000, c.base-60_000 })
	c.empty()
	for _, n := range []int64{0, 1, 2, 3, 10} {
		c.points(fmt.Sprintf("limit %d", n), by("service_name", "pod"), func(r *seriesReq) { r.Limit = &n })
	}
	one := int64(1)
	c.points("limit 1 of no group", func(r *seriesReq) { r.Limit = &one })
	c.points("limit 1 of longer steps", by("service_name"), func(r *seriesReq) { r.Limit, r.Step = &one, 60 })
	for _, t := range []string{samples, alloc, inuse, goroutine, mutex, block} {
		c.points(t, func(r *seriesReq) { r.ProfileTypeID = t })
	}
	avg := typesv1.TimeSeriesAggregationType_TIME_SERIES_AGGREGATION_TYPE_AVERAGE
	sum := typesv1.TimeSeriesAggregationType_TIME_SERIES_AGGREGATION_TYPE_SUM
	c.points("sum", func(r *seriesReq) { r.Aggregation = &sum })
	c.points("average", func(r *seriesReq) { r.Aggregation = &avg })
	c.points("average over longer steps", by("service_name"), func(r *seriesReq) { r.Aggregation = &avg; r.Step = 60 })
	c.points("under main.main, main.work", by("pod"), func(r *seriesReq) { r.StackTraceSelector = under("main.main", "main.work") })
	c.points("selector", by("pod"), func(r *seriesReq) { r.LabelSelector = `{pod=~"cart-.*",pod!="cart-0"}` })
	c.points("no exemplars", func(r *seriesReq) { r.ExemplarType = typesv1.ExemplarType_EXEMPLAR_TYPE_NONE })
}

// heatmaps count profiles. Those of ledger and of memory have no labels on
// samples, on which servers differ.
func (c *calls) heatmaps() {
	heatmap := func(name string, edit ...func(*querierv1.SelectHeatmapRequest)) {
		r := &querierv1.SelectHeatmapRequest{
			ProfileTypeID: cpu, LabelSelector: `{service_name="ledger"}`, Start: c.base, End: c.end, Step: 15,
			QueryType: querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_INDIVIDUAL,
		}
		for _, f := range edit {
			f(r)
		}
		c.add("heatmap, "+name, q.QuerierServiceSelectHeatmapProcedure, r)
	}
	type req = querierv1.SelectHeatmapRequest
	heatmap("no labels on samples")
	heatmap("labels on samples", func(r *req) { r.LabelSelector = "{}" })
	heatmap("by zone", func(r *req) { r.GroupBy = []string{"zone"} })
	heatmap("by a label that none has", func(r *req) { r.GroupBy = []string{"nosuchlabel"} })
	heatmap("longer steps", func(r *req) { r.Step = 60 })
	heatmap("shorter steps", func(r *req) { r.Step = 5 })
	heatmap("start between profiles", func(r *req) { r.Start += 7_000 })
	heatmap("start at a profile", func(r *req) { r.Start += 2_001 + Step })
	heatmap("end at a profile", func(r *req) { r.End = c.base + 2_001 + 3*Step })
	heatmap("end one ms before a profile", func(r *req) { r.End = c.base + 2_000 + 3*Step })
	heatmap("memory", func(r *req) { r.ProfileTypeID, r.LabelSelector = alloc, "{}" })
	heatmap("mutex by city", func(r *req) { r.ProfileTypeID, r.LabelSelector, r.GroupBy = mutex, "{}", []string{"city"} })
	one := int64(1)
	heatmap("limit 1", func(r *req) {
		r.ProfileTypeID, r.LabelSelector, r.GroupBy, r.Limit = mutex, "{}", []string{"city"}, &one
	})
	heatmap("type that is not stored", func(r *req) { r.ProfileTypeID = notStored })
	c.empty()
	heatmap("service that is not stored", func(r *req) { r.LabelSelector = `{service_name="none"}` })
	c.empty()
	heatmap("nothing in the range", func(r *req) { r.Start, r.End = c.base-90_000, c.base-60_000 })
	c.empty()
	heatmap("spans", func(r *req) { r.QueryType = querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_SPAN })
	c.empty()
	heatmap("wrong: no query type", func(r *req) { r.QueryType = 0 })
	c.fault("query_type")
	heatmap("wrong: no step", func(r *req) { r.Step = 0 })
	c.fault("step")
	heatmap("wrong: type", func(r *req) { r.ProfileTypeID = "cpu" })
	c.fault("profile_typeID")
	heatmap("wrong: selector", func(r *req) { r.LabelSelector = "{zone" })
	c.fault("label_selector")
	heatmap("wrong: no range", func(r *req) { r.Start, r.End = 0, 0 })
	c.fault("start/end")
	heatmap("wrong: start after end", func(r *req) { r.Start, r.End = r.End, r.Start })
	c.fault("start/end")
}
