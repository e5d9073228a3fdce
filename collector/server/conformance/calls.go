package conformance

import (
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
	mutex     = "mutex:contentions:count:contentions:count"
	notStored = "wall:wall:nanoseconds:wall:nanoseconds"
)

// A Call is one request to a server. Its name says what is asked, and is unique.
type Call struct {
	Name      string
	Procedure string
	Request   proto.Message

	// Path is a path with parameters, for calls by URL that have no procedure. Timeline
	// says that the call is about the answer's timeline.
	Path     string
	Timeline bool

	// Exemplars is sent before Request, which then asks for the profiles that the answer
	// names as exemplars.
	Exemplars *querierv1.SelectSeriesRequest

	// Empty says that the call selects nothing, so that an empty answer is right; for
	// other calls it is wrong.
	Empty bool
	// Fault is the field that the error has to name, "" for a call that must succeed.
	Fault string
}

// Calls returns the questions about the corpus with the same base time.
func Calls(base int64) []Call {
	c := &calls{base: base, end: base + Count*Step}
	c.flamegraphs()
	c.nodeLimits()
	c.ranges()
	c.selectors()
	c.formats()
	c.diffs()
	c.series()
	c.heatmaps()
	c.spans()
	c.exemplars()
	c.lookups()
	c.renders()
	c.mistakes()
	c.pushes()
	return c.list
}

type calls struct {
	base, end int64
	list      []Call
}

func (c *calls) add(name, procedure string, req proto.Message) {
	c.list = append(c.list, Call{Name: name, Procedure: procedure, Request: req})
}

// empty marks the last call as one that selects nothing.
func (c *calls) empty() { c.list[len(c.list)-1].Empty = true }

// fault marks the last call as one whose error has to name a field.
func (c *calls) fault(field string) { c.list[len(c.list)-1].Fault = field }

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
