package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"

	"connectrpc.com/connect"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"

	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/pkg/profile"
)

// A querier is querier.v1.QuerierService. This file has its flame graphs; the other
// querier files have series and look-ups.
type querier struct {
	store  Store
	limits Limits
}

var _ querierv1connect.QuerierServiceHandler = (*querier)(nil)

// A flameQuery holds the parameters that all flame-graph methods share.
type flameQuery struct {
	store.Selection
	stack []string
	nodes int64
	pgo   *typesv1.GoPGO
}

func (q *querier) flameQuery(m *querierv1.SelectMergeStacktracesRequest) (f flameQuery, err error) {
	if f.Selection, err = q.limits.selection(m.ProfileTypeID, m.LabelSelector, m.Start, m.End); err != nil {
		return f, invalid(err)
	}
	if f.stack, err = callSite(m.StackTraceSelector); err != nil {
		return f, invalid(err)
	}
	if f.nodes, err = q.limits.nodes(m.GetMaxNodes()); err != nil {
		return f, invalid(err)
	}
	if f.Profiles, err = profiles(m.ProfileIdSelector); err != nil {
		return f, invalid(err)
	}
	if f.Spans, err = hexIDs("span_selector", m.SpanSelector, store.ParseSpanID); err != nil {
		return f, invalid(err)
	}
	if f.Traces, err = hexIDs("trace_id_selector", m.TraceIdSelector, store.ParseTraceID); err != nil {
		return f, invalid(err)
	}
	if len(f.Spans) > 0 && len(f.Traces) > 0 {
		return f, invalid(errors.New("trace_id_selector: cannot be combined with span_selector"))
	}
	if m.Async != nil && m.Async.Type != querierv1.AsyncQueryType_ASYNC_QUERY_TYPE_DISABLED || m.Async.GetRequestId() != "" {
		return f, unsupported("async", "queries are answered at once")
	}
	return f, nil
}

func unsupported(field, why string) error {
	return connect.NewError(connect.CodeUnimplemented, fmt.Errorf("%s: %s", field, why))
}

// exportQuery reads a query for the pprof format, in which stack_trace_selector may have
// go_pgo beside a call site.
func (q *querier) exportQuery(m *querierv1.SelectMergeStacktracesRequest) (flameQuery, error) {
	pgo := m.StackTraceSelector.GetGoPgo()
	if pgo != nil {
		m = m.CloneVT()
		m.StackTraceSelector = &typesv1.StackTraceSelector{CallSite: m.StackTraceSelector.CallSite}
	}
	f, err := q.flameQuery(m)
	f.pgo = pgo
	return f, err
}

// tree merges the profiles that f selects.
func (q *querier) tree(ctx context.Context, f flameQuery) (*profile.Tree, error) {
	t, err := q.store.Tree(ctx, f.Selection, f.stack)
	if err == nil && t.Total() == 0 {
		err = q.checkType(ctx, "profile_typeID", f.Type)
	}
	return t, code(err)
}

// pprof merges the profiles that f selects, with locations and lines, into an encoded
// message. With go_pgo the profile is reduced to what the Go toolchain needs.
func (q *querier) pprof(ctx context.Context, f flameQuery, header http.Header) (*googlev1.Profile, error) {
	out := &googlev1.Profile{}
	p, err := q.store.Pprof(ctx, f.Selection, f.stack)
	switch {
	case err != nil:
		return nil, code(err)
	case p.Samples == 0:
		if err := q.checkType(ctx, "profile_typeID", f.Type); err != nil {
			return nil, err
		}
	}
	data := p.Data
	if f.pgo != nil {
		if data, err = goPGO(data, f.pgo); err != nil {
			return nil, code(err)
		}
	}
	return out, code(encodedAs(out, data, header))
}

// SelectMergeStacktraces merges the selected profiles into one flame graph, in
// the format that the request asks for.
func (q *querier) SelectMergeStacktraces(ctx context.Context, req *connect.Request[querierv1.SelectMergeStacktracesRequest]) (*connect.Response[querierv1.SelectMergeStacktracesResponse], error) {
	if err := oneOf("format", req.Msg.Format, querierv1.ProfileFormat_name); err != nil {
		return nil, invalid(err)
	}
	resp := &querierv1.SelectMergeStacktracesResponse{}
	if req.Msg.Format == querierv1.ProfileFormat_PROFILE_FORMAT_PPROF {
		f, err := q.exportQuery(req.Msg)
		if err != nil {
			return nil, err
		}
		p, err := q.pprof(ctx, f, req.Header())
		if err != nil {
			return nil, err
		}
		resp.Pprof = &querierv1.PprofProfile{Profile: p}
		return connect.NewResponse(resp), nil
	}
	f, err := q.flameQuery(req.Msg)
	if err != nil {
		return nil, err
	}
	if req.Msg.Format != querierv1.ProfileFormat_PROFILE_FORMAT_DOT { // a call graph needs the whole tree
		f.MaxNodes = f.nodes
		if f.Functions, err = wantsFunctions(req.Header()); err != nil {
			return nil, err
		}
	}
	t, err := q.tree(ctx, f)
	if err != nil {
		return nil, err
	}
	switch req.Msg.Format {
	case querierv1.ProfileFormat_PROFILE_FORMAT_TREE:
		if resp.Tree, err = t.MarshalBinary(); err != nil {
			return nil, code(err)
		}
	case querierv1.ProfileFormat_PROFILE_FORMAT_DOT:
		resp.Dot = dot(t, f.Type, req.Msg.GetMaxNodes())
	default:
		resp.Flamegraph = flamegraph(t)
	}
	out := connect.NewResponse(resp)
	if f.MaxNodes > 0 {
		setRestHeaders(out.Header(), f.Functions, t.Functions, t.RestName())
	}
	return out, nil
}

// SelectMergeSpanProfile is SelectMergeStacktraces for the samples of spans, as a flame
// graph or a tree.
func (q *querier) SelectMergeSpanProfile(ctx context.Context, req *connect.Request[querierv1.SelectMergeSpanProfileRequest]) (*connect.Response[querierv1.SelectMergeSpanProfileResponse], error) {
	m := req.Msg
	switch m.Format {
	case querierv1.ProfileFormat_PROFILE_FORMAT_PPROF, querierv1.ProfileFormat_PROFILE_FORMAT_DOT:
		return nil, invalid(fmt.Errorf("format: SelectMergeSpanProfile does not support %s; use SelectMergeStacktraces with span_selector", m.Format))
	}
	all := connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{
		ProfileTypeID: m.ProfileTypeID,
		LabelSelector: m.LabelSelector,
		SpanSelector:  m.SpanSelector,
		Start:         m.Start,
		End:           m.End,
		MaxNodes:      m.MaxNodes,
		Format:        m.Format,
	})
	all.Header()[profile.HeaderRest] = req.Header()[profile.HeaderRest]
	resp, err := q.SelectMergeStacktraces(ctx, all)
	if err != nil {
		return nil, err
	}
	out := connect.NewResponse(&querierv1.SelectMergeSpanProfileResponse{Flamegraph: resp.Msg.Flamegraph, Tree: resp.Msg.Tree})
	maps.Copy(out.Header(), resp.Header())
	return out, nil
}

// SelectMergeProfile merges the selected profiles into one in pprof format. max_nodes
// does not apply: an export is complete.
func (q *querier) SelectMergeProfile(ctx context.Context, req *connect.Request[querierv1.SelectMergeProfileRequest]) (*connect.Response[googlev1.Profile], error) {
	m := req.Msg
	f, err := q.exportQuery(&querierv1.SelectMergeStacktracesRequest{
		ProfileTypeID:      m.ProfileTypeID,
		LabelSelector:      m.LabelSelector,
		Start:              m.Start,
		End:                m.End,
		MaxNodes:           m.MaxNodes,
		StackTraceSelector: m.StackTraceSelector,
		ProfileIdSelector:  m.ProfileIdSelector,
		TraceIdSelector:    m.TraceIdSelector,
	})
	if err != nil {
		return nil, err
	}
	p, err := q.pprof(ctx, f, req.Header())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(p), nil
}

// Diff merges two selections and compares them.
func (q *querier) Diff(ctx context.Context, req *connect.Request[querierv1.DiffRequest]) (*connect.Response[querierv1.DiffResponse], error) {
	var sides [2]flameQuery
	for i, m := range []*querierv1.SelectMergeStacktracesRequest{req.Msg.Left, req.Msg.Right} {
		name := [...]string{"left", "right"}[i]
		if m == nil {
			return nil, invalid(fmt.Errorf("%s: is missing", name))
		}
		var err error
		if sides[i], err = q.flameQuery(m); err != nil {
			var ce *connect.Error
			errors.As(err, &ce)
			return nil, connect.NewError(ce.Code(), fmt.Errorf("%s.%w", name, ce.Unwrap()))
		}
		if f := m.Format; f != querierv1.ProfileFormat_PROFILE_FORMAT_UNSPECIFIED && f != querierv1.ProfileFormat_PROFILE_FORMAT_FLAMEGRAPH {
			return nil, invalid(fmt.Errorf("%s.format: %s is not supported; a comparison is always a flame graph", name, f))
		}
	}
	nodes, err := q.limits.nodes(max(req.Msg.Left.GetMaxNodes(), req.Msg.Right.GetMaxNodes()))
	if err != nil {
		return nil, invalid(err)
	}
	functions, err := wantsFunctions(req.Header())
	if err != nil {
		return nil, err
	}
	sides[0].Functions, sides[1].Functions = functions, functions
	// Both sides are cut at the same functions; otherwise a function that was cut from
	// one side would look like a change.
	d, err := q.diff(ctx, sides, nodes)
	if err != nil {
		return nil, err
	}
	out := connect.NewResponse(&querierv1.DiffResponse{Flamegraph: flamegraphDiff(d)})
	setRestHeaders(out.Header(), functions, d.Functions, d.RestName())
	return out, nil
}

// diff compares two selections.
func (q *querier) diff(ctx context.Context, sides [2]flameQuery, nodes int64) (*profile.DiffTree, error) {
	var sels [2]store.Selection
	var stacks [2][]string
	for i, f := range sides {
		sels[i], stacks[i] = f.Selection, f.stack
	}
	d, err := q.store.Diff(ctx, sels, stacks, nodes)
	if err != nil {
		return nil, code(err)
	}
	for i, total := range []int64{d.Nodes[0].Total, d.Nodes[0].TotalRight} {
		if total == 0 {
			if err := q.checkType(ctx, "profile_typeID", sels[i].Type); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

// wantsFunctions reports whether a request asks for a flame graph from which the self
// values of functions can be added up.
func wantsFunctions(h http.Header) (bool, error) {
	switch v := h.Get(profile.HeaderRest); v {
	case "":
		return false, nil
	case profile.RestFunctions:
		return true, nil
	default:
		return false, invalid(fmt.Errorf("header %s: %q is not %s", profile.HeaderRest, v, profile.RestFunctions))
	}
}

// setRestHeaders sets the answer's headers that give the name of the rest nodes, and say
// whether self values of functions can be added up, if the request wanted that.
func setRestHeaders(h http.Header, wanted, functions bool, name string) {
	if wanted && (functions || name == "") {
		h.Set(profile.HeaderRest, profile.RestFunctions)
	}
	if name != "" {
		h.Set(profile.HeaderRestName, name)
	}
}

// defaultDotNodes is the number of functions in a call graph unless the request gives
// one; larger graphs are hard to read.
const defaultDotNodes = 100

func dot(t *profile.Tree, ty profile.Type, nodes int64) string {
	if t.Total() == 0 {
		return ""
	}
	if nodes <= 0 {
		nodes = defaultDotNodes
	}
	return string(t.Dot(ty.SampleUnit, int(nodes)))
}

func flamegraph(t *profile.Tree) *querierv1.FlameGraph {
	f := t.Flamegraph()
	return &querierv1.FlameGraph{Names: f.Names, Levels: levels(f.Levels), Total: f.Total, MaxSelf: f.MaxSelf}
}

func flamegraphDiff(t *profile.DiffTree) *querierv1.FlameGraphDiff {
	f := t.Flamegraph()
	return &querierv1.FlameGraphDiff{
		Names: f.Names, Levels: levels(f.Levels), Total: f.Total, MaxSelf: f.MaxSelf,
		LeftTicks: f.LeftTicks, RightTicks: f.RightTicks,
	}
}

func levels(in [][]int64) []*querierv1.Level {
	out := make([]*querierv1.Level, len(in))
	for i, values := range in {
		out[i] = &querierv1.Level{Values: values}
	}
	return out
}
