package server_test

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/flameline/flameline/collector/server"
	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
)

type queryMethod struct {
	path       string
	in, answer proto.Message
}

// queryMethods are the calls of flameline.v1.QueryService with an empty request and answer
// of each.
var queryMethods = []queryMethod{
	{flamelinev1connect.QueryServiceFunctionsProcedure, &flamelinev1.FunctionsRequest{}, &flamelinev1.FunctionsResponse{}},
	{flamelinev1connect.QueryServiceFunctionSeriesProcedure, &flamelinev1.FunctionSeriesRequest{}, &flamelinev1.FunctionSeriesResponse{}},
	{flamelinev1connect.QueryServiceOffsetsProcedure, &flamelinev1.OffsetsRequest{}, &flamelinev1.OffsetsResponse{}},
	{flamelinev1connect.QueryServiceFlameGraphProcedure, &flamelinev1.FlameGraphRequest{}, &flamelinev1.FlameGraphResponse{}},
}

// queryRefusal is the message of a refusal: it begins with a field, or says why the body is
// no request.
var queryRefusal = regexp.MustCompile(`^(((selection|baseline)(\.[a-z_A-Z/]+)?|limit|order|functions|top|group_by|step|rows|max_nodes|view\.[a-z_]+|span_selector)(\[\d+\])?: |unmarshal message: )`)

// querySelection is of the profile that querySetup stores.
func querySelection() *flamelinev1.Selection {
	return &flamelinev1.Selection{ProfileTypeID: cpu, LabelSelector: "{}", Start: time.Now().Add(-20 * time.Minute).UnixMilli(), End: time.Now().UnixMilli()}
}

// queryLimits are small, so that what does not heed them is found.
func queryLimits() server.Limits {
	l := defaults
	l.MaxNodes, l.DefaultNodes, l.MaxPoints, l.MaxRequestBytes = 64, 32, 200, 1<<16
	return l
}

// callQuery sends a body to a method, checks the answer, and returns the message of a
// refusal, "" for none.
func callQuery(t *testing.T, h http.Handler, method int, asJSON bool, body []byte) string {
	t.Helper()
	m := queryMethods[method]
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, m.path, bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/proto")
	if asJSON {
		req.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	if w.Code != http.StatusOK {
		var refusal struct{ Code, Message string }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &refusal), "%s", w.Body)
		require.Equal(t, "invalid_argument", refusal.Code, "%s: %s", m.path, refusal.Message)
		require.Regexp(t, queryRefusal, refusal.Message, m.path)
		return refusal.Message
	}
	in, out := proto.Clone(m.in), proto.Clone(m.answer)
	if asJSON {
		require.NoError(t, protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(body, in))
		require.NoError(t, protojson.Unmarshal(w.Body.Bytes(), out))
	} else {
		require.NoError(t, proto.Unmarshal(body, in))
		require.NoError(t, proto.Unmarshal(w.Body.Bytes(), out))
	}
	checkQueryAnswer(t, in, out)
	return ""
}

func checkQueryAnswer(t *testing.T, in, out proto.Message) {
	t.Helper()
	l := queryLimits()
	switch out := out.(type) {
	case *flamelinev1.FunctionsResponse:
		most := in.(*flamelinev1.FunctionsRequest).Limit
		if most == 0 {
			most = 100
		}
		require.LessOrEqual(t, int64(len(out.Functions)), most)
		require.LessOrEqual(t, int64(len(out.Functions)), out.Count)
	case *flamelinev1.FunctionSeriesResponse:
		for _, s := range out.Series {
			require.LessOrEqual(t, int64(len(s.Points)), l.MaxPoints)
		}
	case *flamelinev1.OffsetsResponse:
		require.LessOrEqual(t, int64(len(out.Columns)), l.MaxPoints)
		for _, c := range out.Columns {
			require.LessOrEqual(t, len(c.Values), 50)
		}
	case *flamelinev1.FlameGraphResponse:
		in := in.(*flamelinev1.FlameGraphRequest)
		most := in.MaxNodes
		if most == 0 {
			most = l.DefaultNodes
		}
		if len(in.View.GetGroupBy()) > 0 {
			most += (1 + 100) * 64 // a group has that many at least
		}
		require.LessOrEqual(t, int64(len(out.Parents)), 2*(1+most), "the root and the nodes, each with a rest node")
		require.Len(t, out.Functions, len(out.Parents))
		require.Len(t, out.Own, len(out.Parents))
		for i, up := range out.Parents {
			require.Less(t, up, int32(i))
			require.Less(t, out.Functions[i], int32(len(out.Names)))
		}
	}
}

// querySetup starts a server with a small profile.
func querySetup(t testing.TB) *server.Server {
	t.Helper()
	url, srv := start(t, queryLimits())
	pushSampled(t, url, "small", time.Now().Add(-10*time.Minute).Truncate(10*time.Second), map[string]int64{
		"main;read;parse": 50, "main;read;wait": 20, "main;read;read;parse": 7, "main;runtime.gcBgMarkWorker": 3, "main": 1,
	})
	return srv
}

// Whatever a body holds, in protobuf or JSON: no call panics, exceeds a limit, or fails
// with anything else than a mistake that names its field.
func FuzzQueryService(f *testing.F) {
	for method, m := range queryMethods {
		full := proto.Clone(m.in)
		fillQuery(full)
		for _, in := range []proto.Message{m.in, full} {
			raw, err := proto.Marshal(in)
			require.NoError(f, err)
			f.Add(byte(method), false, raw)
			text, err := protojson.Marshal(in)
			require.NoError(f, err)
			f.Add(byte(method), true, text)
		}
		f.Add(byte(method), true, []byte(`{"selection":{"profileTypeID":"`+cpu+`","start":"-9223372036854775808","end":"9223372036854775807"},"step":"NaN"}`))
	}
	srv := querySetup(f)
	f.Fuzz(func(t *testing.T, method byte, asJSON bool, body []byte) {
		callQuery(t, srv, int(method)%len(queryMethods), asJSON, body)
	})
}

// fillQuery sets every field of a request to a value that is accepted.
func fillQuery(in proto.Message) {
	switch m := in.(type) {
	case *flamelinev1.FunctionsRequest:
		m.Selection, m.Baseline, m.Limit, m.Order = querySelection(), querySelection(), 3, flamelinev1.Order_ORDER_TOTAL_CHANGE
	case *flamelinev1.FunctionSeriesRequest:
		m.Selection, m.Functions, m.Top, m.Own, m.GroupBy, m.Step, m.Limit = querySelection(), []string{"read"}, 3, true, []string{"service_name"}, 15, 2
	case *flamelinev1.OffsetsRequest:
		m.Selection, m.Step, m.Rows = querySelection(), 60, 25
		m.Selection.Start, m.Selection.End = m.Selection.Start/1000*1000, m.Selection.End/1000*1000
	case *flamelinev1.FlameGraphRequest:
		m.Selection, m.MaxNodes = querySelection(), 10
		m.View = &flamelinev1.View{
			Focus: "read", Ignore: "file:x.go", Hide: "^wait$", ShowFrom: "binary:.", Fold: []string{"go-runtime"}, Function: "read",
			CollapseRecursion: true, Reverse: true, MaxDepth: 5, GroupBy: []string{"service_name"}, Samples: true,
		}
	}
}

// As FuzzQueryService, with requests that are well formed: the fuzzer chooses the values.
func FuzzQueryFields(f *testing.F) {
	now := time.Now().UnixMilli()
	f.Add(cpu, "{}", now-1200_000, now, int64(3), int64(0), 15., "read", "go-runtime", int64(25))
	f.Add(cpu, `{service_name="small"}`, int64(0), int64(0), int64(-1), int64(-1), math.NaN(), "(", "", int64(0))
	f.Add("memory:inuse_space:bytes:space:bytes", `{a=~"(x{999}){2}"}`, int64(math.MinInt64), int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64), math.Inf(1), "file:(a{1000}){10}", "x\xff", int64(math.MinInt64))
	f.Add(cpu, "{", now, now-1, int64(1), int64(64), 5e-324, "binary:", "service_name", int64(1<<40))
	srv := querySetup(f)
	f.Fuzz(func(t *testing.T, typ, selector string, start, end, count, more int64, step float64, pattern, name string, rows int64) {
		sel := &flamelinev1.Selection{ProfileTypeID: typ, LabelSelector: selector, Start: start, End: end}
		other := &flamelinev1.Selection{LabelSelector: selector, Start: end, End: start}
		if more%2 == 0 {
			other = nil
		}
		list := slices.Repeat([]string{name}, int(uint64(more)%100))
		for method, in := range []proto.Message{
			&flamelinev1.FunctionsRequest{Selection: sel, Baseline: other, Limit: count, Order: flamelinev1.Order(rows)},
			&flamelinev1.FunctionSeriesRequest{Selection: sel, Functions: list, Top: count, Own: rows > 0, GroupBy: list, Step: step, Limit: more},
			&flamelinev1.OffsetsRequest{Selection: sel, Step: count, Rows: rows},
			&flamelinev1.FlameGraphRequest{Selection: sel, Baseline: other, MaxNodes: count, SpanSelector: list, View: &flamelinev1.View{
				Focus: pattern, Ignore: name, Hide: pattern, ShowFrom: pattern, Fold: list, Function: name, Reverse: rows > 0, MaxDepth: more, GroupBy: list, Samples: more > 0,
			}},
			&flamelinev1.FlameGraphRequest{Selection: sel, MaxNodes: more, View: &flamelinev1.View{
				Hide: pattern, Function: name, CollapseRecursion: more > 0, Reverse: count > 0, MaxDepth: rows, Samples: rows > 0,
			}},
		} {
			raw, err := proto.Marshal(in)
			if err != nil {
				continue // texts that are not UTF-8 cannot be sent
			}
			callQuery(t, srv, min(method, len(queryMethods)-1), false, raw)
		}
	})
}

// Numbers at the ends of what a request can say are answered.
func TestQueryServiceExtremes(t *testing.T) {
	srv := querySetup(t)
	all := querySelection()
	all.Start, all.End = -1, math.MaxInt64/1_000_000
	for _, in := range []proto.Message{
		&flamelinev1.FunctionsRequest{Selection: all, Baseline: all, Limit: 100_000},
		&flamelinev1.FunctionSeriesRequest{Selection: all, Step: math.MaxFloat64, Limit: math.MaxInt64, GroupBy: []string{"service_name", "service_name"}},
		&flamelinev1.OffsetsRequest{Selection: all, Step: math.MaxInt64},
		&flamelinev1.FlameGraphRequest{Selection: all, Baseline: all, View: &flamelinev1.View{GroupBy: []string{"service_name"}, MaxDepth: math.MaxInt64}},
		&flamelinev1.FlameGraphRequest{Selection: all, View: &flamelinev1.View{Reverse: true, MaxDepth: math.MaxInt64}, MaxNodes: 1},
	} {
		raw, err := proto.Marshal(in)
		require.NoError(t, err)
		require.Empty(t, callQuery(t, srv, methodOf(in), false, raw))
	}
}

// methodOf is the method of a request.
func methodOf(in proto.Message) int {
	return slices.IndexFunc(queryMethods, func(m queryMethod) bool {
		return m.in.ProtoReflect().Descriptor() == in.ProtoReflect().Descriptor()
	})
}

// Lists and numbers that would cost memory or time are refused before they do.
func TestQueryServiceRefusals(t *testing.T) {
	srv := querySetup(t)
	series := func(change func(*flamelinev1.FunctionSeriesRequest)) proto.Message {
		m := &flamelinev1.FunctionSeriesRequest{Selection: querySelection(), Step: 15}
		change(m)
		return m
	}
	for want, in := range map[string]proto.Message{
		"group_by: 65 labels are more than 64":         series(func(m *flamelinev1.FunctionSeriesRequest) { m.GroupBy = slices.Repeat([]string{"a"}, 65) }),
		"group_by: \"\" is not the name of a label":    series(func(m *flamelinev1.FunctionSeriesRequest) { m.GroupBy = []string{""} }),
		"functions: 65 are more than 64":               series(func(m *flamelinev1.FunctionSeriesRequest) { m.Functions = slices.Repeat([]string{"a"}, 65) }),
		"top: 65 is not between 0 and 64":              series(func(m *flamelinev1.FunctionSeriesRequest) { m.Top = 65 }),
		"step: 1 s gives":                              series(func(m *flamelinev1.FunctionSeriesRequest) { m.Step = 1 }),
		"step: NaN is not a number":                    series(func(m *flamelinev1.FunctionSeriesRequest) { m.Step = math.NaN() }),
		"selection.start/end: start is after":          series(func(m *flamelinev1.FunctionSeriesRequest) { m.Selection.Start = m.Selection.End + 1 }),
		"selection.start/end: the time range is empty": series(func(m *flamelinev1.FunctionSeriesRequest) { m.Selection.Start = m.Selection.End }),
		"limit: 100001 is not between":                 &flamelinev1.FunctionsRequest{Selection: querySelection(), Limit: 100_001},
		"baseline.start/end: the time range is miss":   &flamelinev1.FunctionsRequest{Selection: querySelection(), Baseline: &flamelinev1.Selection{}},
		"rows: 1099511627776 is none of":               &flamelinev1.OffsetsRequest{Selection: querySelection(), Step: 60, Rows: 1 << 40},
		"selection.start: 1 is no whole second":        &flamelinev1.OffsetsRequest{Selection: &flamelinev1.Selection{ProfileTypeID: cpu, Start: 1, End: 9}, Step: 60},
		"selection.profile_typeID: the values of":      &flamelinev1.OffsetsRequest{Selection: &flamelinev1.Selection{ProfileTypeID: "memory:inuse_space:bytes:space:bytes", Start: 1000, End: 9000}, Step: 60},
		"max_nodes: 65 is more than 64":                &flamelinev1.FlameGraphRequest{Selection: querySelection(), MaxNodes: 65},
	} {
		raw, err := proto.Marshal(in)
		require.NoError(t, err)
		require.Contains(t, callQuery(t, srv, methodOf(in), false, raw), want)
	}
}
