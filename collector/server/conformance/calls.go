package conformance

import (
	"fmt"

	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	q "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"google.golang.org/protobuf/proto"
)

// Profile types of the corpus.
const (
	cpu       = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
	samples   = "process_cpu:samples:count:cpu:nanoseconds"
	alloc     = "memory:alloc_space:bytes:space:bytes"
	inuse     = "memory:inuse_objects:count:space:bytes"
	goroutine = "goroutines:goroutine:count::"
	block     = "block:delay:nanoseconds::"
)

// A Call is one question. The name says what is asked and is unique.
type Call struct {
	Name      string
	Procedure string
	Request   proto.Message
}

// Calls returns the questions about the corpus with the same base time.
func Calls(base int64) []Call {
	c := &calls{base: base, end: base + Count*Step}
	c.flamegraphs()
	c.selectors()
	c.formats()
	c.series()
	c.lookups()
	c.diffs()
	c.mistakes()
	return c.list
}

type calls struct {
	base, end int64
	list      []Call
}

func (c *calls) add(name, procedure string, req proto.Message) {
	c.list = append(c.list, Call{Name: name, Procedure: procedure, Request: req})
}

// merge returns a request for all of the corpus; the functions change it.
func (c *calls) merge(edit ...func(*querierv1.SelectMergeStacktracesRequest)) *querierv1.SelectMergeStacktracesRequest {
	r := &querierv1.SelectMergeStacktracesRequest{ProfileTypeID: cpu, LabelSelector: `{service_name="cart"}`, Start: c.base, End: c.end}
	for _, f := range edit {
		f(r)
	}
	return r
}

func (c *calls) flame(name string, edit ...func(*querierv1.SelectMergeStacktracesRequest)) {
	c.add("flame graph, "+name, q.QuerierServiceSelectMergeStacktracesProcedure, c.merge(edit...))
}

func (c *calls) points(name string, edit ...func(*querierv1.SelectSeriesRequest)) {
	r := &querierv1.SelectSeriesRequest{ProfileTypeID: cpu, LabelSelector: "{}", Start: c.base, End: c.end, Step: 15}
	for _, f := range edit {
		f(r)
	}
	c.add("series, "+name, q.QuerierServiceSelectSeriesProcedure, r)
}

type (
	mergeReq  = querierv1.SelectMergeStacktracesRequest
	seriesReq = querierv1.SelectSeriesRequest
)

func selector(s string) func(*mergeReq)   { return func(r *mergeReq) { r.LabelSelector = s } }
func typeID(s string) func(*mergeReq)     { return func(r *mergeReq) { r.ProfileTypeID = s } }
func nodes(n int64) func(*mergeReq)       { return func(r *mergeReq) { r.MaxNodes = &n } }
func by(names ...string) func(*seriesReq) { return func(r *seriesReq) { r.GroupBy = names } }

func between(start, end int64) func(*mergeReq) {
	return func(r *mergeReq) { r.Start, r.End = start, end }
}

func under(names ...string) *typesv1.StackTraceSelector {
	s := &typesv1.StackTraceSelector{}
	for _, n := range names {
		s.CallSite = append(s.CallSite, &typesv1.Location{Name: n})
	}
	return s
}

func (c *calls) flamegraphs() {
	for _, t := range []string{cpu, samples, alloc, inuse} {
		c.flame(t, typeID(t))
	}
	c.flame(goroutine, typeID(goroutine), selector("{}"))
	c.flame("another language", selector(`{service_name="ledger"}`))
	c.flame("addresses without a function", typeID(block), selector("{}"))
	c.flame("all services", selector("{}"))
	c.flame("first profile alone", between(c.base+1, c.base+1))
	c.flame("end before the second profile", between(c.base, c.base+Step))
	c.flame("end at the second profile", between(c.base, c.base+Step+1))
	c.flame("start after the first profile", between(c.base+2, c.base+Step+1))
	c.flame("nothing in the range", between(c.base-60_000, c.base-30_000))
	c.flame("type that is not stored", typeID("wall:wall:nanoseconds:wall:nanoseconds"))
	c.flame("service that is not stored", selector(`{service_name="none"}`))
	c.flame("under main.main, main.work", func(r *mergeReq) { r.StackTraceSelector = under("main.main", "main.work") })
	c.flame("under a function that is no root", func(r *mergeReq) { r.StackTraceSelector = under("main.work") })
	c.flame("under an empty call site", func(r *mergeReq) { r.StackTraceSelector = under() })
	c.flame("more nodes than there are", nodes(1000))
	c.flame("no limit of nodes given as 0", nodes(0))
	for _, n := range []int64{1, 2, 5, 8} {
		c.flame(fmt.Sprintf("%d nodes", n), nodes(n))
		c.flame(fmt.Sprintf("%d nodes of all services", n), nodes(n), selector("{}"))
	}
	c.flame("5 nodes as a tree", nodes(5), func(r *mergeReq) { r.Format = querierv1.ProfileFormat_PROFILE_FORMAT_TREE })
	c.flame("span that is not stored", func(r *mergeReq) { r.SpanSelector = []string{"9a517183f26a089d"} })
	c.add("span profile, span that is not stored", q.QuerierServiceSelectMergeSpanProfileProcedure, &querierv1.SelectMergeSpanProfileRequest{
		ProfileTypeID: cpu, LabelSelector: "{}", Start: c.base, End: c.end, SpanSelector: []string{"9a517183f26a089d"},
	})
	c.add("span profile, no span given", q.QuerierServiceSelectMergeSpanProfileProcedure, &querierv1.SelectMergeSpanProfileRequest{
		ProfileTypeID: cpu, LabelSelector: `{service_name="cart"}`, Start: c.base, End: c.end,
	})
}

func (c *calls) selectors() {
	for _, s := range []string{
		"", "{}", `{pod="cart-1"}`, `{pod!="cart-1"}`, `{pod=~"cart-.*"}`, `{pod=~"cart-(0|2)"}`, `{pod!~"cart-.*"}`,
		`{pod=""}`, `{pod!=""}`, `{pod=~""}`, `{pod=~".+"}`, `{pod=~"art-0"}`, `{namespace="shop",pod=~".*-0"}`,
		`{service_name=~"cart|ledger",zone="eu-1"}`, `{nosuchlabel="x"}`, `{nosuchlabel!="x"}`, `{endpoint="/pay"}`,
		`{endpoint=""}`, `{empty=""}`, `{service_name="cart",service_name=~"c.*"}`, `{__profile_type__="x"}`, `{__name__="process_cpu"}`,
		`{__type__="cpu"}`, `{service_name="cart",pod!~"cart-0|x"}`, `process_cpu{pod="cart-0"}`,
	} {
		c.flame("selector "+s, selector(s))
	}
}

func (c *calls) formats() {
	for n, f := range querierv1.ProfileFormat_name {
		if f == "PROFILE_FORMAT_UNSPECIFIED" || f == "PROFILE_FORMAT_FLAMEGRAPH" {
			continue
		}
		c.flame("format "+f, func(r *mergeReq) { r.Format = querierv1.ProfileFormat(n) })
		c.flame("format "+f+" of nothing", func(r *mergeReq) { r.Format = querierv1.ProfileFormat(n) }, selector(`{service_name="none"}`))
	}
	for _, t := range []string{cpu, alloc} {
		c.add("pprof, "+t, q.QuerierServiceSelectMergeProfileProcedure, &querierv1.SelectMergeProfileRequest{
			ProfileTypeID: t, LabelSelector: `{service_name="cart"}`, Start: c.base, End: c.end,
		})
	}
	c.add("pprof, addresses without a function", q.QuerierServiceSelectMergeProfileProcedure, &querierv1.SelectMergeProfileRequest{
		ProfileTypeID: block, LabelSelector: `{service_name="bare"}`, Start: c.base, End: c.end,
	})
	c.add("pprof, under main.main, main.work", q.QuerierServiceSelectMergeProfileProcedure, &querierv1.SelectMergeProfileRequest{
		ProfileTypeID: cpu, LabelSelector: `{}`, Start: c.base, End: c.end, StackTraceSelector: under("main.main", "main.work"),
	})
	c.add("pprof, nothing", q.QuerierServiceSelectMergeProfileProcedure, &querierv1.SelectMergeProfileRequest{
		ProfileTypeID: cpu, LabelSelector: `{service_name="none"}`, Start: c.base, End: c.end,
	})
}

func (c *calls) series() {
	c.points("no group")
	c.points("by service_name", by("service_name"))
	c.points("by pod", by("pod"))
	c.points("by two labels", by("service_name", "pod"))
	c.points("by two labels in the other order", by("pod", "service_name"))
	c.points("by a label that none has", by("nosuchlabel"))
	c.points("by a label of samples", by("endpoint"))
	for _, step := range []float64{1, 7.5, 30, 60, 3600} {
		c.points(fmt.Sprintf("step %g", step), func(r *seriesReq) { r.Step = step })
	}
	c.points("start between profiles", func(r *seriesReq) { r.Start += 7_000 })
	c.points("start and end between profiles", func(r *seriesReq) { r.Start += 7_000; r.End -= 5_500 })
	c.points("one instant", func(r *seriesReq) { r.Start += Step; r.End = r.Start })
	c.points("nothing in the range", func(r *seriesReq) { r.Start, r.End = c.base-90_000, c.base-60_000 })
	for _, n := range []int64{0, 1, 2, 10} {
		c.points(fmt.Sprintf("limit %d", n), by("service_name", "pod"), func(r *seriesReq) { r.Limit = &n })
	}
	for _, t := range []string{samples, alloc, inuse, goroutine} {
		c.points(t, func(r *seriesReq) { r.ProfileTypeID = t })
	}
	avg := typesv1.TimeSeriesAggregationType_TIME_SERIES_AGGREGATION_TYPE_AVERAGE
	c.points("average", func(r *seriesReq) { r.Aggregation = &avg })
	c.points("average over longer steps", by("service_name"), func(r *seriesReq) { r.Aggregation = &avg; r.Step = 60 })
	c.points("under main.main, main.work", by("pod"), func(r *seriesReq) { r.StackTraceSelector = under("main.main", "main.work") })
	c.points("selector", by("pod"), func(r *seriesReq) { r.LabelSelector = `{pod=~"cart-.*",pod!="cart-0"}` })
	c.points("no exemplars", func(r *seriesReq) { r.ExemplarType = typesv1.ExemplarType_EXEMPLAR_TYPE_NONE })
}

func (c *calls) lookups() {
	for _, m := range [][]string{nil, {"{}"}, {`{service_name="ledger"}`}, {`{namespace="shop"}`, `{pod="cart-0"}`}, {`{service_name="none"}`}} {
		c.add(fmt.Sprintf("label names, %q", m), q.QuerierServiceLabelNamesProcedure, &typesv1.LabelNamesRequest{Matchers: m, Start: c.base, End: c.end})
		c.add(fmt.Sprintf("label values of pod, %q", m), q.QuerierServiceLabelValuesProcedure, &typesv1.LabelValuesRequest{Name: "pod", Matchers: m, Start: c.base, End: c.end})
		c.add(fmt.Sprintf("label sets, %q", m), q.QuerierServiceSeriesProcedure, &querierv1.SeriesRequest{Matchers: m, Start: c.base, End: c.end})
		c.add(fmt.Sprintf("label sets of two names, %q", m), q.QuerierServiceSeriesProcedure, &querierv1.SeriesRequest{Matchers: m, LabelNames: []string{"service_name", "pod"}, Start: c.base, End: c.end})
	}
	for _, n := range []string{"service_name", "__profile_type__", "__name__", "__type__", "__unit__", "__period_type__", "endpoint", "empty", "nosuchlabel"} {
		c.add("label values of "+n, q.QuerierServiceLabelValuesProcedure, &typesv1.LabelValuesRequest{Name: n, Start: c.base, End: c.end})
	}
	c.add("profile types", q.QuerierServiceProfileTypesProcedure, &querierv1.ProfileTypesRequest{Start: c.base, End: c.end})
	c.add("profile types, no range", q.QuerierServiceProfileTypesProcedure, &querierv1.ProfileTypesRequest{})
	c.add("profile stats", q.QuerierServiceGetProfileStatsProcedure, &typesv1.GetProfileStatsRequest{})
}

func (c *calls) diffs() {
	first, second := c.base+Count*Step/2, c.base+Count*Step/2+1
	diff := func(name string, left, right *mergeReq) {
		c.add("diff, "+name, q.QuerierServiceDiffProcedure, &querierv1.DiffRequest{Left: left, Right: right})
	}
	diff("first half and second half", c.merge(between(c.base, first)), c.merge(between(second, c.end)))
	diff("5 nodes", c.merge(nodes(5), between(c.base, first)), c.merge(nodes(3), between(second, c.end)))
	diff("a thing with itself", c.merge(), c.merge())
	diff("two services", c.merge(), c.merge(selector(`{service_name="ledger"}`)))
	diff("something and nothing", c.merge(), c.merge(selector(`{service_name="none"}`)))
	diff("nothing and something", c.merge(selector(`{service_name="none"}`)), c.merge())
	diff("nothing and nothing", c.merge(selector(`{service_name="none"}`)), c.merge(selector(`{service_name="none"}`)))
}

// mistakes are what a client may get wrong.
func (c *calls) mistakes() {
	c.flame("wrong: no type", typeID(""))
	c.flame("wrong: type", typeID("process_cpu"))
	c.flame("wrong: selector", selector(`{service_name="cart"`))
	c.flame("wrong: regular expression", selector(`{service_name=~"("}`))
	c.flame("wrong: no range", between(0, 0))
	c.flame("wrong: no start", between(0, c.end))
	c.flame("wrong: start after end", between(c.end, c.base))
	c.flame("wrong: too many nodes", nodes(1<<40))
	c.flame("wrong: negative nodes", nodes(-1))
	c.flame("wrong: format", func(r *mergeReq) { r.Format = 99 })
	c.flame("wrong: span", func(r *mergeReq) { r.SpanSelector = []string{"x"} })
	c.points("wrong: no step", func(r *seriesReq) { r.Step = 0 })
	c.points("wrong: negative step", func(r *seriesReq) { r.Step = -15 })
	c.points("wrong: negative limit", func(r *seriesReq) { n := int64(-1); r.Limit = &n })
	c.points("wrong: type", func(r *seriesReq) { r.ProfileTypeID = "cpu" })
	c.points("wrong: selector", func(r *seriesReq) { r.LabelSelector = "cart=" })
	c.points("wrong: start after end", func(r *seriesReq) { r.Start, r.End = r.End, r.Start })
	c.points("wrong: aggregation", func(r *seriesReq) { a := typesv1.TimeSeriesAggregationType(9); r.Aggregation = &a })
	c.points("exemplars", func(r *seriesReq) { r.ExemplarType = typesv1.ExemplarType_EXEMPLAR_TYPE_SPAN })
	c.add("label values, wrong: no name", q.QuerierServiceLabelValuesProcedure, &typesv1.LabelValuesRequest{Start: c.base, End: c.end})
	c.add("label names, wrong: selector", q.QuerierServiceLabelNamesProcedure, &typesv1.LabelNamesRequest{Matchers: []string{"{"}, Start: c.base, End: c.end})
	c.add("label names, no range", q.QuerierServiceLabelNamesProcedure, &typesv1.LabelNamesRequest{})
	c.add("label sets, wrong: start after end", q.QuerierServiceSeriesProcedure, &querierv1.SeriesRequest{Start: c.end, End: c.base})
	c.add("diff, wrong: no side", q.QuerierServiceDiffProcedure, &querierv1.DiffRequest{})
	c.add("heatmap", q.QuerierServiceSelectHeatmapProcedure, &querierv1.SelectHeatmapRequest{ProfileTypeID: cpu, LabelSelector: "{}", Start: c.base, End: c.end, Step: 15, QueryType: querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_INDIVIDUAL})
	c.pushes()
}

// pushes are refused by either server, so that they leave the corpus as it is.
func (c *calls) pushes() {
	push := func(name string, raw []byte, kv ...string) {
		c.add("push, wrong: "+name, pushv1connect.PusherServicePushProcedure, &pushv1.PushRequest{
			Series: []*pushv1.RawProfileSeries{{Labels: labelPairs(kv), Samples: []*pushv1.RawSample{{RawProfile: raw}}}},
		})
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
	push("no bytes", nil, name...)
	push("text", []byte("not a profile"), name...)
	push("cut", good[:len(good)-1], name...)
	push("cut gzip", []byte{0x1f, 0x8b, 8, 0}, name...)
	push("no labels", good)
	push("no name", good, "service_name", "cart")
	push("label twice", good, append(name, "pod", "a", "pod", "b")...)
	push("no sample type", sound(func(b *builder) { b.p.SampleType = nil }), name...)
	push("values", sound(func(b *builder) { b.p.Sample[0].Value = []int64{1, 2} }), name...)
	push("function ID 0", sound(func(b *builder) { b.p.Function[0].Id = 0 }), name...)
	push("name outside the string table", sound(func(b *builder) { b.p.Function[0].Name = 99 }), name...)
	push("from the future", sound(func(b *builder) { b.p.TimeNanos += 86_400e9 }), name...)
}
