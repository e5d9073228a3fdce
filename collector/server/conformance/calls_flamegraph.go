package conformance

import (
	"fmt"

	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	q "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
)

func (c *calls) flamegraphs() {
	for _, t := range []string{cpu, samples, alloc, inuse} {
		c.flame(t, typeID(t))
	}
	c.flame(goroutine, typeID(goroutine), selector("{}"))
	c.flame("another language", selector(`{service_name="ledger"}`))
	c.flame("addresses without a function", typeID(block), selector("{}"))
	c.flame("all services", selector("{}"))
	c.flame("type that is not stored", typeID(notStored))
	c.empty()
	c.flame("service that is not stored", selector(`{service_name="none"}`))
	c.empty()
	c.flame("under main.main", func(r *mergeReq) { r.StackTraceSelector = under("main.main") })
	c.flame("under main.main, main.work", func(r *mergeReq) { r.StackTraceSelector = under("main.main", "main.work") })
	c.flame("under a recursive function", func(r *mergeReq) { r.StackTraceSelector = under("main.main", "main.fib", "main.fib") })
	c.flame("under a leaf", func(r *mergeReq) { r.StackTraceSelector = under("main.main", "main.handle") })
	c.flame("under a function that is no root", func(r *mergeReq) { r.StackTraceSelector = under("main.work") })
	c.empty()
	c.flame("under a function that is not there", func(r *mergeReq) { r.StackTraceSelector = under("main.main", "none") })
	c.empty()
	c.flame("under an empty call site", func(r *mergeReq) { r.StackTraceSelector = under() })
	c.flame("span that is not stored", func(r *mergeReq) { r.SpanSelector = []string{"9a517183f26a089d"} })
	c.empty()
	span := func(name string, edit func(*querierv1.SelectMergeSpanProfileRequest)) {
		r := &querierv1.SelectMergeSpanProfileRequest{ProfileTypeID: cpu, LabelSelector: `{service_name="cart"}`, Start: c.base, End: c.end}
		edit(r)
		c.add("span profile, "+name, q.QuerierServiceSelectMergeSpanProfileProcedure, r)
	}
	span("span that is not stored", func(r *querierv1.SelectMergeSpanProfileRequest) { r.SpanSelector = []string{"9a517183f26a089d"} })
	c.empty()
	span("several spans that are not stored", func(r *querierv1.SelectMergeSpanProfileRequest) {
		r.SpanSelector = []string{"9a517183f26a089d", "0000000000000001"}
	})
	c.empty()
	span("no span given", func(*querierv1.SelectMergeSpanProfileRequest) {})
	span("no span given, as a tree", func(r *querierv1.SelectMergeSpanProfileRequest) {
		r.Format = querierv1.ProfileFormat_PROFILE_FORMAT_TREE
	})
}

// nodeLimits cut flame graphs. The graph of cart has 10 nodes below the root.
func (c *calls) nodeLimits() {
	c.flame("no limit of nodes given as 0", nodes(0))
	for _, n := range []int64{9, 10, 11, 12, 1000, 1 << 20} {
		c.flame(fmt.Sprintf("%d nodes", n), nodes(n))
	}
	for _, n := range []int64{1, 2, 3, 5, 8} {
		c.flame(fmt.Sprintf("%d nodes", n), nodes(n))
		c.flame(fmt.Sprintf("%d nodes of all services", n), nodes(n), selector("{}"))
	}
	c.flame("1 node of one stacktrace", nodes(1), typeID(goroutine), selector("{}"))
	c.flame("2 nodes of nothing", nodes(2), selector(`{service_name="none"}`))
	c.empty()
	c.flame("5 nodes as a tree", nodes(5), func(r *mergeReq) { r.Format = querierv1.ProfileFormat_PROFILE_FORMAT_TREE })
}

// ranges move both ends by single milliseconds: profiles are at 1 ms after a
// multiple of Step.
func (c *calls) ranges() {
	first, second, last := c.base+1, c.base+Step+1, c.base+(Count-1)*Step+1
	c.flame("first profile alone", between(first, first))
	c.fault("start/end")
	c.flame("first profile to one ms later", between(first, first+1))
	c.flame("one ms before the first profile to it", between(first-1, first))
	c.flame("the ms after the first profile", between(first+1, first+2))
	c.empty()
	c.flame("end before the second profile", between(c.base, second-1))
	c.flame("end at the second profile", between(c.base, second))
	c.flame("start after the first profile", between(first+1, second))
	c.flame("start at the second profile", between(second, second+Step-1))
	c.flame("start at the last profile", between(last, last+60_000))
	c.flame("start after the last profile", between(last+1, last+60_000))
	c.empty()
	c.flame("end in the future", between(c.base, c.end+86_400_000))
	c.flame("nothing in the range", between(c.base-60_000, c.base-30_000))
	c.empty()
	c.flame("the range before the base time", between(c.base-60_000, c.base))
	c.empty()
}

func (c *calls) selectors() {
	for _, s := range []string{
		"", "{}", `{pod="cart-1"}`, `{pod!="cart-1"}`, `{pod=~"cart-.*"}`, `{pod=~"cart-(0|2)"}`, `{pod!~"cart-.*"}`,
		`{pod=""}`, `{pod!=""}`, `{pod=~""}`, `{pod!~""}`, `{pod=~".*"}`, `{pod=~".+"}`, `{pod!~".+"}`, `{pod=~"cart-1|"}`, `{pod!~"cart-1|"}`,
		`{pod!="nosuchvalue"}`, `{pod!~"nosuchvalue"}`, `{pod=~"(?i)CART-0"}`, `{pod=~"^cart-0$"}`, `{pod=~"^cart-[0-9]"}`, `{pod!~"cart"}`,
		`{namespace="shop",pod=~".*-0"}`, `{service_name=~"cart|ledger",zone="eu-1"}`, `{service_name=~".*",zone=""}`, `{nosuchlabel!="x"}`,
		`{nosuchlabel=""}`, `{nosuchlabel=~"x|"}`, `{nosuchlabel!~"x"}`, `{endpoint="/pay"}`, `{endpoint=""}`, `{endpoint!="/pay"}`, `{endpoint=~"/pay|/list"}`,
		`{empty=""}`, `{service_name="cart",service_name=~"c.*"}`, `{service_name!="cart",service_name!="none"}`, `{service_name!~"cart|none"}`,
		`{__name__="process_cpu"}`, `{__name__=~"process.*"}`, `{__type__="cpu"}`, `{__unit__="nanoseconds"}`, `{__period_type__="cpu"}`,
		`{__profile_type__="` + cpu + `"}`, `{__service_name__="cart"}`, `{service_name="cart",pod!~"cart-0|x"}`, `process_cpu{pod="cart-0"}`,
		`{ pod = "cart-0" , }`, `{pod='cart-0'}`, "{pod=`cart-0`}", `{"pod"="cart-0"}`, `{namespace=~"shop|bank",pod=""}`,
	} {
		c.flame("selector "+s, selector(s))
	}
	for _, s := range []string{
		`{pod=~"art-0"}`, `{pod=~"cart"}`, `{pod=~"cart-"}`, `{pod="CART-0"}`, `{pod=~"CART-0"}`, `{pod="cart-0",pod="cart-1"}`, `{pod="cart-*"}`,
		`{pod="cart-0",pod=""}`, `{nosuchlabel="x"}`, `{nosuchlabel!=""}`, `{nosuchlabel=~".+"}`, `{__profile_type__="x"}`, `{__type__="samples"}`,
		`{__name__="memory"}`, `memory{pod="cart-0"}`, `{service_name="cart",zone="eu-1"}`, `{service_name!~".+"}`, `{service_name=""}`,
	} {
		c.flame("selector "+s, selector(s))
		c.empty()
	}
	// The labels of the service with mutex profiles are written in UTF-8.
	for _, s := range []string{
		`{city="Köln"}`, `{city=~"K.ln"}`, `{city=~"\\p{L}+"}`, `{city!="Köln"}`, `{city!~"K.+"}`, `{city=~"(?i)KÖLN"}`, `{service_name="städte"}`, `{service_name=~"st.dte"}`,
		`{path="a\"b\\c"}`, "{path=`a\"b\\c`}", `{path=~"a.b.c"}`, `{city=~"K\u00f6ln"}`, `{"city"="Köln"}`,
		`{"größe"="L"}`, `{"größe"!=""}`,
	} {
		c.flame("selector "+s+" of UTF-8", selector(s), typeID(mutex))
	}
	for _, s := range []string{`{city="Koln"}`, `{city=~"K..ln"}`, `{city=~"[a-zA-Z]+"}`, "{city=\"Ko\u0308ln\"}"} {
		c.flame("selector "+s+" of UTF-8", selector(s), typeID(mutex))
		c.empty()
	}
}

func (c *calls) formats() {
	for n, f := range querierv1.ProfileFormat_name {
		if f == "PROFILE_FORMAT_UNSPECIFIED" || f == "PROFILE_FORMAT_FLAMEGRAPH" {
			continue
		}
		c.flame("format "+f, func(r *mergeReq) { r.Format = querierv1.ProfileFormat(n) })
		c.flame("format "+f+" of all services", func(r *mergeReq) { r.Format = querierv1.ProfileFormat(n) }, selector("{}"))
		c.flame("format "+f+" of nothing", func(r *mergeReq) { r.Format = querierv1.ProfileFormat(n) }, selector(`{service_name="none"}`))
		c.empty()
	}
	for _, t := range []string{cpu, samples, alloc, inuse} {
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
	for _, keep := range []uint32{0, 1, 2, 5} {
		for _, aggregate := range []bool{false, true} {
			c.add(fmt.Sprintf("pprof, Go PGO of %d locations, aggregated: %v", keep, aggregate), q.QuerierServiceSelectMergeProfileProcedure, &querierv1.SelectMergeProfileRequest{
				ProfileTypeID: cpu, LabelSelector: `{service_name="cart"}`, Start: c.base, End: c.end,
				StackTraceSelector: &typesv1.StackTraceSelector{GoPgo: &typesv1.GoPGO{KeepLocations: keep, AggregateCallees: aggregate}},
			})
		}
	}
	c.flame("Go PGO, as profilecli asks for it", func(r *mergeReq) {
		r.Format = querierv1.ProfileFormat_PROFILE_FORMAT_PPROF
		r.StackTraceSelector = &typesv1.StackTraceSelector{GoPgo: &typesv1.GoPGO{KeepLocations: 5, AggregateCallees: true}}
	})
	c.add("pprof, the first two profiles", q.QuerierServiceSelectMergeProfileProcedure, &querierv1.SelectMergeProfileRequest{
		ProfileTypeID: cpu, LabelSelector: `{pod="cart-0"}`, Start: c.base, End: c.base + Step + 1,
	})
	c.add("pprof, one service of UTF-8", q.QuerierServiceSelectMergeProfileProcedure, &querierv1.SelectMergeProfileRequest{
		ProfileTypeID: mutex, LabelSelector: `{city="Köln"}`, Start: c.base, End: c.end,
	})
	c.add("pprof, nothing", q.QuerierServiceSelectMergeProfileProcedure, &querierv1.SelectMergeProfileRequest{
		ProfileTypeID: cpu, LabelSelector: `{service_name="none"}`, Start: c.base, End: c.end,
	})
	c.empty()
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
	c.empty()
	diff("two types", c.merge(typeID(alloc)), c.merge(typeID(inuse)))
	diff("two pods", c.merge(selector(`{pod="cart-0"}`)), c.merge(selector(`{pod="cart-1"}`)))
	diff("the first profile and the second", c.merge(between(c.base, c.base+1)), c.merge(between(c.base+2, c.base+Step+1)))
	diff("1000 nodes", c.merge(nodes(1000)), c.merge(nodes(1000), selector("{}")))
}
