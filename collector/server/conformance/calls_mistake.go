package conformance

import (
	"math"

	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	q "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
)

// mistakes are calls with invalid fields.
func (c *calls) mistakes() {
	c.flame("wrong: no type", typeID(""))
	c.fault("profile_typeID")
	c.flame("wrong: type", typeID("process_cpu"))
	c.fault("profile_typeID")
	c.flame("wrong: selector", selector(`{service_name="cart"`))
	c.fault("label_selector")
	c.flame("wrong: regular expression", selector(`{service_name=~"("}`))
	c.fault("label_selector")
	c.flame("wrong: no range", between(0, 0))
	c.fault("start/end")
	c.flame("wrong: no start", between(0, c.end))
	c.fault("start/end")
	c.flame("wrong: start after end", between(c.end, c.base))
	c.fault("start/end")
	c.flame("wrong: too many nodes", nodes(1<<40))
	c.fault("max_nodes")
	c.flame("wrong: negative nodes", nodes(-1))
	c.fault("max_nodes")
	c.flame("wrong: format", func(r *mergeReq) { r.Format = 99 })
	c.fault("format")
	c.flame("wrong: span", func(r *mergeReq) { r.SpanSelector = []string{"x"} })
	c.fault("span_selector[0]")
	c.points("wrong: no step", func(r *seriesReq) { r.Step = 0 })
	c.fault("step")
	c.points("wrong: negative step", func(r *seriesReq) { r.Step = -15 })
	c.fault("step")
	c.points("wrong: negative limit", func(r *seriesReq) { n := int64(-1); r.Limit = &n })
	c.fault("limit")
	c.points("wrong: type", func(r *seriesReq) { r.ProfileTypeID = "cpu" })
	c.fault("profile_typeID")
	c.points("wrong: selector", func(r *seriesReq) { r.LabelSelector = "cart=" })
	c.fault("label_selector")
	c.points("wrong: start after end", func(r *seriesReq) { r.Start, r.End = r.End, r.Start })
	c.fault("start/end")
	c.points("wrong: aggregation", func(r *seriesReq) { a := typesv1.TimeSeriesAggregationType(9); r.Aggregation = &a })
	c.fault("aggregation")
	for name, s := range map[string]string{
		"no quotes": "{pod=cart}", "no operator": "{pod}", "no value": "{pod=}", "two operators": `{pod=="cart"}`, "no comma": `{a="b" c="d"}`,
		"a number for a name": `{1a="b"}`, "a range selector": `{pod="cart"}[5m]`, "text behind": `{pod="cart"} or {}`, "an open quote": `{pod="cart}`,
		"a repeated operator": `{pod=~"+"}`,
	} {
		c.flame("wrong: selector with "+name, selector(s))
		c.fault("label_selector")
	}
	c.flame("selector {größe=\"L\"} of UTF-8", selector(`{größe="L"}`), typeID(mutex))
	c.fault("label_selector") // such names have to be quoted
	for name, id := range map[string]string{
		"four parts": "process_cpu:cpu:nanoseconds:cpu", "seven parts": cpu + ":delta:x", "no name": ":cpu:nanoseconds:cpu:nanoseconds",
	} {
		c.flame("wrong: type of "+name, typeID(id))
		c.fault("profile_typeID")
	}
	c.flame("wrong: no end", between(c.base, 0))
	c.fault("start/end")
	c.points("wrong: regular expression", func(r *seriesReq) { r.LabelSelector = `{pod=~"["}` })
	c.fault("label_selector")
	c.points("wrong: no range", func(r *seriesReq) { r.Start, r.End = 0, 0 })
	c.fault("start/end")
	c.points("wrong: no type", func(r *seriesReq) { r.ProfileTypeID = "" })
	c.fault("profile_typeID")
	pprof := func(name, field string, edit func(*querierv1.SelectMergeProfileRequest)) {
		r := &querierv1.SelectMergeProfileRequest{ProfileTypeID: cpu, LabelSelector: "{}", Start: c.base, End: c.end}
		edit(r)
		c.add("pprof, wrong: "+name, q.QuerierServiceSelectMergeProfileProcedure, r)
		c.fault(field)
	}
	pprof("type", "profile_typeID", func(r *querierv1.SelectMergeProfileRequest) { r.ProfileTypeID = "cpu" })
	pprof("selector", "label_selector", func(r *querierv1.SelectMergeProfileRequest) { r.LabelSelector = "{" })
	pprof("no range", "start/end", func(r *querierv1.SelectMergeProfileRequest) { r.Start, r.End = 0, 0 })
	pprof("start after end", "start/end", func(r *querierv1.SelectMergeProfileRequest) { r.Start, r.End = r.End, r.Start })
	c.add("span profile, wrong: span", q.QuerierServiceSelectMergeSpanProfileProcedure, &querierv1.SelectMergeSpanProfileRequest{
		ProfileTypeID: cpu, LabelSelector: "{}", Start: c.base, End: c.end, SpanSelector: []string{"x"},
	})
	c.fault("span_selector[0]")
	c.add("label values, wrong: selector", q.QuerierServiceLabelValuesProcedure, &typesv1.LabelValuesRequest{Name: "pod", Matchers: []string{"{}", "{x"}, Start: c.base, End: c.end})
	c.fault("matchers[1]")
	c.add("label values, wrong: start after end", q.QuerierServiceLabelValuesProcedure, &typesv1.LabelValuesRequest{Name: "pod", Start: c.end, End: c.base})
	c.fault("start/end")
	c.add("label sets, wrong: selector", q.QuerierServiceSeriesProcedure, &querierv1.SeriesRequest{Matchers: []string{"x="}, Start: c.base, End: c.end})
	c.fault("matchers[0]")
	c.add("profile types, wrong: start after end", q.QuerierServiceProfileTypesProcedure, &querierv1.ProfileTypesRequest{Start: c.end, End: c.base})
	c.fault("start/end")
	c.add("diff, wrong: one side", q.QuerierServiceDiffProcedure, &querierv1.DiffRequest{Left: c.merge()})
	c.fault("right")
	c.add("diff, wrong: selector of a side", q.QuerierServiceDiffProcedure, &querierv1.DiffRequest{Left: c.merge(), Right: c.merge(selector("{"))})
	c.fault("right.label_selector")
	c.add("label values, wrong: no name", q.QuerierServiceLabelValuesProcedure, &typesv1.LabelValuesRequest{Start: c.base, End: c.end})
	c.fault("name")
	c.add("label names, wrong: selector", q.QuerierServiceLabelNamesProcedure, &typesv1.LabelNamesRequest{Matchers: []string{"{"}, Start: c.base, End: c.end})
	c.fault("matchers[0]")
	c.add("label names, no range", q.QuerierServiceLabelNamesProcedure, &typesv1.LabelNamesRequest{})
	c.add("label sets, wrong: start after end", q.QuerierServiceSeriesProcedure, &querierv1.SeriesRequest{Start: c.end, End: c.base})
	c.fault("start/end")
	c.add("diff, wrong: no side", q.QuerierServiceDiffProcedure, &querierv1.DiffRequest{})
	c.fault("left")
}

// pushes are requests that a server refuses or corrects. They come last, so that what a
// server stores of them cannot change the answers to other calls.
func (c *calls) pushes() {
	push := func(name, fault string, raw []byte, kv ...string) {
		c.add("push, wrong: "+name, pushv1connect.PusherServicePushProcedure, &pushv1.PushRequest{
			Series: []*pushv1.RawProfileSeries{{Labels: labelPairs(kv), Samples: []*pushv1.RawSample{{RawProfile: raw}}}},
		})
		c.fault(fault)
	}
	sound := func(edit func(*builder)) []byte {
		b := newBuilder(c.base, "cpu", "nanoseconds", "cpu", "nanoseconds")
		b.sample([]string{"main.main"}, []int64{1})
		edit(b)
		return series(b).Samples[0].RawProfile
	}
	good := sound(func(*builder) {})
	name := []string{"__name__", "process_cpu", "service_name", "cart"}
	c.add("push, wrong: nothing", pushv1connect.PusherServicePushProcedure, &pushv1.PushRequest{})
	c.fault("series")
	push("no bytes", "series[0].samples[0].raw_profile", nil, name...)
	push("text", "series[0].samples[0].raw_profile", []byte("not a profile"), name...)
	push("cut", "period: unexpected EOF, at byte", good[:len(good)-1], name...)
	push("cut gzip", "gzip: unexpected EOF", []byte{0x1f, 0x8b, 8, 0}, name...)
	push("no labels", "series[0].labels", good)
	push("no name", "series[0].labels: __name__", good, "service_name", "cart")
	push("label twice", "series[0].labels[", good, append(name, "pod", "a", "pod", "b")...)
	push("no sample type", "sample_type", sound(func(b *builder) { b.p.SampleType = nil }), name...)
	push("values", "sample: none of 1 is usable", sound(func(b *builder) { b.p.Sample[0].Value = []int64{1, 2} }), name...)
	push("function ID 0", "", sound(func(b *builder) { b.p.Function[0].Id = 0 }), name...)
	push("name outside the string table", "", sound(func(b *builder) { b.p.Function[0].Name = 99 }), name...)
	push("location that is not there", "", sound(func(b *builder) { b.p.Sample[0].LocationId = []uint64{9} }), name...)
	push("function that is not there", "", sound(func(b *builder) { b.p.Location[0].Line[0].FunctionId = 9 }), name...)
	push("two locations of one ID", "", sound(func(b *builder) { b.p.Location = append(b.p.Location, b.p.Location[0]) }), name...)
	push("negative value", "sample.value[0]", sound(func(b *builder) { b.p.Sample[0].Value[0] = -1 }), name...)
	push("values of more than 64 bits together", "sample[", sound(func(b *builder) {
		b.p.Sample[0].Value[0] = math.MaxInt64
		b.p.Sample = append(b.p.Sample, b.p.Sample[0])
	}), name...)
	push("unit outside the string table", "", sound(func(b *builder) { b.p.SampleType[0].Unit = 99 }), name...)
	push("label without a name", "series[0].labels[", good, append(name, "", "c")...)
	push("from the future", "time_nanos", sound(func(b *builder) { b.p.TimeNanos += 86_400e9 }), name...)
}
