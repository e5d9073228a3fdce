package conformance

import (
	"fmt"

	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	q "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"google.golang.org/protobuf/proto"
)

// lookups ask for labels and types. Their time ranges cover either the whole corpus or
// none of it, since servers know the times of labels by block rather than by profile.
func (c *calls) lookups() {
	for _, m := range [][]string{
		nil, {"{}"}, {`{service_name="ledger"}`}, {`{namespace="shop"}`, `{pod="cart-0"}`}, {`{service_name="none"}`},
		{`{pod=~"cart.*"}`}, {`{pod!~"cart.*"}`}, {`{pod!=""}`}, {`{pod=""}`}, {`{city="Köln"}`}, {`{__profile_type__="` + alloc + `"}`}, {`{__name__="mutex"}`},
		{`{service_name="cart",endpoint="/pay"}`},
	} {
		nothing := len(m) == 1 && m[0] == `{service_name="none"}`
		without := nothing || len(m) == 1 && (m[0] == `{service_name="ledger"}` || m[0] == `{pod!~"cart.*"}` || m[0] == `{pod=""}` || m[0] == `{city="Köln"}` || m[0] == `{__name__="mutex"}`)
		c.lookup(fmt.Sprintf("label names, %q", m), q.QuerierServiceLabelNamesProcedure, &typesv1.LabelNamesRequest{Matchers: m, Start: c.base, End: c.end}, nothing)
		c.lookup(fmt.Sprintf("label values of pod, %q", m), q.QuerierServiceLabelValuesProcedure, &typesv1.LabelValuesRequest{Name: "pod", Matchers: m, Start: c.base, End: c.end}, without)
		c.lookup(fmt.Sprintf("label sets, %q", m), q.QuerierServiceSeriesProcedure, &querierv1.SeriesRequest{Matchers: m, Start: c.base, End: c.end}, nothing)
		c.lookup(fmt.Sprintf("label sets of two names, %q", m), q.QuerierServiceSeriesProcedure, &querierv1.SeriesRequest{Matchers: m, LabelNames: []string{"service_name", "pod"}, Start: c.base, End: c.end}, nothing)
	}
	for _, n := range []string{
		"service_name", "namespace", "pod", "zone", "city", "path", "größe", "endpoint", "__profile_type__", "__name__", "__type__", "__unit__",
		"__period_type__", "__period_unit__", "__service_name__", "empty", "nosuchlabel",
	} {
		c.lookup("label values of "+n, q.QuerierServiceLabelValuesProcedure, &typesv1.LabelValuesRequest{Name: n, Start: c.base, End: c.end}, n == "empty" || n == "nosuchlabel")
	}
	sets := func(name string, nothing bool, names ...string) {
		c.lookup("label sets of "+name, q.QuerierServiceSeriesProcedure, &querierv1.SeriesRequest{LabelNames: names, Start: c.base, End: c.end}, nothing)
	}
	sets("what Grafana's data source asks", false, "service_name", "__profile_type__")
	sets("a label of samples", false, "endpoint")
	sets("a label that none has", true, "nosuchlabel")
	sets("a label twice", false, "pod", "pod")
	sets("a name of UTF-8", false, "größe", "city")
	sets("a city", false, "city", "path")
	before, early := c.base-7_200_000, c.base-7_000_000
	c.lookup("label names, nothing in the range", q.QuerierServiceLabelNamesProcedure, &typesv1.LabelNamesRequest{Start: before, End: early}, true)
	c.lookup("label values, nothing in the range", q.QuerierServiceLabelValuesProcedure, &typesv1.LabelValuesRequest{Name: "pod", Start: before, End: early}, true)
	c.lookup("label sets, nothing in the range", q.QuerierServiceSeriesProcedure, &querierv1.SeriesRequest{Start: before, End: early}, true)
	c.lookup("profile types, nothing in the range", q.QuerierServiceProfileTypesProcedure, &querierv1.ProfileTypesRequest{Start: before, End: early}, true)
	c.lookup("profile types", q.QuerierServiceProfileTypesProcedure, &querierv1.ProfileTypesRequest{Start: c.base, End: c.end}, false)
	c.lookup("profile types, no range", q.QuerierServiceProfileTypesProcedure, &querierv1.ProfileTypesRequest{}, false)
	c.lookup("profile stats", q.QuerierServiceGetProfileStatsProcedure, &typesv1.GetProfileStatsRequest{}, false)
	c.lookup("query analysis", q.QuerierServiceAnalyzeQueryProcedure, &querierv1.AnalyzeQueryRequest{Start: c.base, End: c.end, Query: `{service_name="ledger"}`}, false)
}

func (c *calls) lookup(name, procedure string, req proto.Message, nothing bool) {
	c.add(name, procedure, req)
	if nothing {
		c.empty()
	}
}
