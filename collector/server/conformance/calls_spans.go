package conformance

import (
	"context"
	"fmt"

	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	q "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"google.golang.org/protobuf/proto"
)

// spans are about samples of single spans and traces.
func (c *calls) spans() {
	of := func(ids ...string) func(*mergeReq) { return func(r *mergeReq) { r.SpanSelector = ids } }
	trace := func(ids ...string) func(*mergeReq) { return func(r *mergeReq) { r.TraceIdSelector = ids } }
	form := func(f querierv1.ProfileFormat) func(*mergeReq) { return func(r *mergeReq) { r.Format = f } }
	c.flame("span", of(spanFirst))
	c.flame("span of two pods", of(spanShared))
	c.flame("span of two pods, in one", of(spanShared), selector(`{pod="cart-1"}`))
	c.flame("span of another pod", of(spanSecond), selector(`{pod="cart-0"}`))
	c.empty()
	c.flame("span given as profile_id", of(spanPay))
	c.flame("span in upper case", of("1A1A1A1A1A1A1A1A"))
	c.flame("span 0", of("0000000000000000"))
	c.empty()
	c.flame("several spans", of(spanFirst, spanPay, "9a517183f26a089d", spanFirst))
	c.flame("several spans, all services", of(spanFirst, spanPay), selector("{}"))
	c.flame("span, in samples", of(spanFirst), typeID(samples))
	c.flame("span, in bytes", of(spanFirst), typeID(alloc))
	c.flame("span, where a type has no values", of(spanPay), typeID(inuse))
	c.empty()
	c.flame("span, first profiles", of(spanShared), between(c.base, c.base+Step+1))
	c.flame("span, one profile", of(spanShared), between(c.base+Step+1, c.base+Step+2))
	c.flame("span, after the last profile", of(spanShared), between(c.end, c.end+Step))
	c.empty()
	c.flame("span, under main.main, main.work", of(spanFirst, spanPay), func(r *mergeReq) { r.StackTraceSelector = under("main.main", "main.work") })
	c.flame("span, type that is not stored", of(spanFirst), typeID(notStored))
	c.empty()
	c.flame("span as a tree", of(spanFirst, spanPay), form(querierv1.ProfileFormat_PROFILE_FORMAT_TREE))
	c.flame("span as pprof", of(spanFirst, spanShared), form(querierv1.ProfileFormat_PROFILE_FORMAT_PPROF))
	c.flame("span as dot", of(spanFirst, spanShared), form(querierv1.ProfileFormat_PROFILE_FORMAT_DOT))
	c.flame("span, Go PGO", of(spanShared), form(querierv1.ProfileFormat_PROFILE_FORMAT_PPROF), func(r *mergeReq) {
		r.StackTraceSelector = &typesv1.StackTraceSelector{GoPgo: &typesv1.GoPGO{KeepLocations: 5}}
	})
	c.flame("trace", trace(tracePrice))
	c.flame("two traces", trace(tracePrice, traceSave), selector("{}"))
	c.flame("trace that is not stored", trace("5b8aa5a2d2c872e8321cf37308d69df3"))
	c.empty()
	c.flame("trace 0", trace("00000000000000000000000000000000"))
	c.empty()
	c.flame("trace as pprof", trace(traceSave), form(querierv1.ProfileFormat_PROFILE_FORMAT_PPROF))
	c.add("pprof, trace", q.QuerierServiceSelectMergeProfileProcedure, &querierv1.SelectMergeProfileRequest{
		ProfileTypeID: cpu, LabelSelector: "{}", Start: c.base, End: c.end, TraceIdSelector: []string{tracePrice},
	})
	c.flame("wrong: trace", trace(traceSave, "x"))
	c.fault("trace_id_selector[1]")
	c.flame("wrong: span and trace", of(spanFirst), trace(traceSave))
	c.fault("trace_id_selector")
	for name, f := range map[string]querierv1.ProfileFormat{"flame graph": querierv1.ProfileFormat_PROFILE_FORMAT_FLAMEGRAPH, "tree": querierv1.ProfileFormat_PROFILE_FORMAT_TREE} {
		c.add("span profile, span as a "+name, q.QuerierServiceSelectMergeSpanProfileProcedure, &querierv1.SelectMergeSpanProfileRequest{
			ProfileTypeID: cpu, LabelSelector: `{service_name="cart"}`, Start: c.base, End: c.end, SpanSelector: []string{spanSecond, spanPay}, Format: f,
		})
	}
	c.add("diff, two spans", q.QuerierServiceDiffProcedure, &querierv1.DiffRequest{Left: c.merge(of(spanFirst)), Right: c.merge(of(spanShared))})
	c.add("diff, span and everything", q.QuerierServiceDiffProcedure, &querierv1.DiffRequest{Left: c.merge(of(spanFirst)), Right: c.merge()})
	c.add("diff, wrong: span", q.QuerierServiceDiffProcedure, &querierv1.DiffRequest{Left: c.merge(of("x")), Right: c.merge()})
	c.fault("left.span_selector[0]")
}

// exemplars name profiles and spans. Where a point or a slot has several of the same
// value, each server may choose another one, so the questions are about one pod.
func (c *calls) exemplars() {
	individual, span := typesv1.ExemplarType_EXEMPLAR_TYPE_INDIVIDUAL, typesv1.ExemplarType_EXEMPLAR_TYPE_SPAN
	shown := func(r *seriesReq) { r.ExemplarType = individual }
	of := func(selector string) func(*seriesReq) { return func(r *seriesReq) { r.LabelSelector = selector } }
	c.points("exemplars by pod", shown, by("pod"))
	c.points("exemplars of one pod", shown, of(`{pod="cart-0"}`))
	c.points("exemplars by a label of samples", shown, of(`{pod="cart-0"}`), by("endpoint"))
	c.points("exemplars of a label of samples", shown, of(`{pod="cart-0",endpoint!=""}`))
	c.points("exemplars by two labels", shown, by("pod", "service_name"))
	c.points("exemplars by two labels in the other order", shown, by("service_name", "pod"))
	c.points("exemplars by a label that none has", shown, of(`{zone="eu-1"}`), by("nosuchlabel"))
	c.points("exemplars by the type", shown, of(`{zone="eu-1"}`), by("__profile_type__"))
	c.points("exemplars of longer steps", shown, of(`{pod="cart-0"}`), func(r *seriesReq) { r.Step = 60 })
	c.points("exemplars of shorter steps", shown, of(`{pod="cart-0"}`), func(r *seriesReq) { r.Step = 4 })
	c.points("exemplars, start between profiles", shown, by("pod"), func(r *seriesReq) { r.Start += 7_000 })
	c.points("exemplars under main.main, main.work", shown, of(`{pod="cart-0"}`), func(r *seriesReq) { r.StackTraceSelector = under("main.main", "main.work") })
	one := int64(1)
	c.points("exemplars, limit 1", shown, by("service_name"), of(`{pod!="cart-1"}`), func(r *seriesReq) { r.Limit = &one })
	c.points("exemplars, bytes", shown, func(r *seriesReq) { r.ProfileTypeID = alloc })
	c.points("exemplars of nothing", shown, of(`{service_name="none"}`))
	c.empty()
	c.points("exemplars, wrong: type", func(r *seriesReq) { r.ExemplarType = 9 })
	c.fault("exemplar_type")
	c.points("exemplars of spans", of(`{pod="cart-0"}`), func(r *seriesReq) { r.ExemplarType = span })

	named := func(name, procedure string, req proto.Message, edit ...func(*seriesReq)) {
		r := &seriesReq{ProfileTypeID: cpu, LabelSelector: `{pod="cart-0"}`, Start: c.base, End: c.end, Step: 15, ExemplarType: individual}
		for _, f := range edit {
			f(r)
		}
		c.add("profiles by ID, "+name, procedure, req)
		c.list[len(c.list)-1].Exemplars = r
	}
	const merge = q.QuerierServiceSelectMergeStacktracesProcedure
	second := func(r *seriesReq) { r.Start, r.End = c.base+Step+1, c.base+Step+2 }
	named("all", merge, c.merge())
	named("one", merge, c.merge(), second)
	named("one, all services", merge, c.merge(selector("{}")), second)
	named("one, in samples", merge, c.merge(typeID(samples)), second)
	named("one, out of range", merge, c.merge(between(c.base, c.base+Step)), second)
	c.empty()
	named("of another pod", merge, c.merge(selector(`{pod="cart-1"}`)))
	c.empty()
	named("of another type", merge, c.merge(typeID(alloc)))
	c.empty()
	named("one, a part by its label", merge, c.merge(selector(`{endpoint="/pay"}`)), second)
	named("one, under main.main, main.work", merge, c.merge(func(r *mergeReq) { r.StackTraceSelector = under("main.main", "main.work") }), second)
	named("one, a span", merge, c.merge(func(r *mergeReq) { r.SpanSelector = []string{spanShared} }), second)
	named("one, a trace", merge, c.merge(func(r *mergeReq) { r.TraceIdSelector = []string{tracePrice} }), second)
	named("one as a tree", merge, c.merge(func(r *mergeReq) { r.Format = querierv1.ProfileFormat_PROFILE_FORMAT_TREE }), second)
	named("one as pprof", merge, c.merge(func(r *mergeReq) { r.Format = querierv1.ProfileFormat_PROFILE_FORMAT_PPROF }), second)
	named("one as dot", merge, c.merge(func(r *mergeReq) { r.Format = querierv1.ProfileFormat_PROFILE_FORMAT_DOT }), second)
	named("one, exported", q.QuerierServiceSelectMergeProfileProcedure, &querierv1.SelectMergeProfileRequest{
		ProfileTypeID: cpu, LabelSelector: "{}", Start: c.base, End: c.end,
	}, second)
	c.flame("profile that is not stored", func(r *mergeReq) { r.ProfileIdSelector = []string{"7c9e6679-7425-40de-944b-e07fc1f90ae7"} })
	c.empty()
	c.flame("profile of no UUID", func(r *mergeReq) { r.ProfileIdSelector = []string{"x"} })
	c.empty()

	type heatReq = querierv1.SelectHeatmapRequest
	heatmap := func(name string, edit ...func(*heatReq)) {
		r := &heatReq{
			ProfileTypeID: cpu, LabelSelector: `{pod="cart-0"}`, Start: c.base, End: c.end, Step: 15,
			QueryType: querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_INDIVIDUAL, ExemplarType: individual,
		}
		for _, f := range edit {
			f(r)
		}
		c.add("heatmap, "+name, q.QuerierServiceSelectHeatmapProcedure, r)
	}
	spans := func(r *heatReq) { r.QueryType, r.ExemplarType = querierv1.HeatmapQueryType_HEATMAP_QUERY_TYPE_SPAN, 0 }
	shownSpans := func(r *heatReq) { spans(r); r.ExemplarType = span }
	heatmap("exemplars")
	heatmap("exemplars by endpoint", func(r *heatReq) { r.GroupBy = []string{"endpoint"} })
	heatmap("exemplars by service", func(r *heatReq) { r.LabelSelector, r.GroupBy = `{pod!="cart-1"}`, []string{"service_name"} })
	heatmap("exemplars of longer steps", func(r *heatReq) { r.Step = 60 })
	heatmap("exemplars of ledger", func(r *heatReq) { r.LabelSelector, r.Step = `{zone="eu-1"}`, 20 })
	heatmap("exemplars of nothing", func(r *heatReq) { r.LabelSelector = `{service_name="none"}` })
	c.empty()
	heatmap("spans of cart", spans)
	heatmap("spans of both pods", spans, func(r *heatReq) { r.LabelSelector = "{}" })
	heatmap("spans by pod", spans, func(r *heatReq) { r.LabelSelector, r.GroupBy = "{}", []string{"pod"} })
	heatmap("spans by endpoint", spans, func(r *heatReq) { r.LabelSelector, r.GroupBy = "{}", []string{"endpoint"} })
	heatmap("spans in bytes", spans, func(r *heatReq) { r.LabelSelector, r.ProfileTypeID = "{}", alloc })
	heatmap("spans where a type has few values", spans, func(r *heatReq) { r.LabelSelector, r.ProfileTypeID = "{}", inuse })
	heatmap("spans with exemplars", shownSpans)
	heatmap("spans with exemplars by endpoint", shownSpans, func(r *heatReq) { r.GroupBy = []string{"endpoint"} })
	heatmap("spans with exemplars of longer steps", shownSpans, func(r *heatReq) { r.Step = 60 })
	heatmap("spans with exemplars of both pods", shownSpans, func(r *heatReq) { r.LabelSelector = `{service_name="cart"}` })
	heatmap("wrong: exemplars of profiles for spans", spans, func(r *heatReq) { r.ExemplarType = individual })
	c.fault("exemplar_type")
	heatmap("wrong: exemplars of spans for profiles", func(r *heatReq) { r.ExemplarType = span })
	c.fault("exemplar_type")
	heatmap("wrong: exemplar type", func(r *heatReq) { r.ExemplarType = 9 })
	c.fault("exemplar_type")
}

// ofExemplars returns the request of a call with the IDs of the profiles that a
// server gives as exemplars, nil if it gives none.
func ofExemplars(ctx context.Context, url string, c Call) (proto.Message, error) {
	r, err := Fetch(ctx, url, Call{Name: "exemplars", Procedure: q.QuerierServiceSelectSeriesProcedure, Request: c.Exemplars})
	if err != nil {
		return nil, err
	}
	var ids []string
	if m, ok := r.Msg.(*querierv1.SelectSeriesResponse); ok {
		for _, s := range m.Series {
			for _, p := range s.Points {
				for _, e := range p.Exemplars {
					ids = append(ids, e.ProfileId)
				}
			}
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	switch m := proto.Clone(c.Request).(type) {
	case *querierv1.SelectMergeStacktracesRequest:
		m.ProfileIdSelector = ids
		return m, nil
	case *querierv1.SelectMergeProfileRequest:
		m.ProfileIdSelector = ids
		return m, nil
	}
	return nil, fmt.Errorf("%T has no IDs of profiles", c.Request)
}
