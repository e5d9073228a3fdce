// Package client calls a Flameline or Pyroscope server over its Connect API, and
// converts transport codes to Grafana's statuses and error sources.
//
// It knows nothing of queries, panels or data frames.
package client

import (
	"context"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"

	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
	"github.com/flameline/flameline/pkg/profile"
)

// A Client calls one server. It is safe for concurrent use.
type Client struct {
	http    *http.Client
	url     string
	querier querierv1connect.QuerierServiceClient
	own     flamelinev1connect.QueryServiceClient // only Flameline offers it

	kind serverKind
}

// New returns a client of the server at url, such as http://localhost:4040. httpClient
// determines authentication, TLS and timeouts.
func New(httpClient *http.Client, url string, opts ...connect.ClientOption) *Client {
	url = strings.TrimRight(url, "/")
	return &Client{
		http:    httpClient,
		url:     url,
		querier: querierv1connect.NewQuerierServiceClient(httpClient, url, opts...),
		own:     flamelinev1connect.NewQueryServiceClient(httpClient, url, opts...),
	}
}

// URL is the server's address, without a slash at the end.
func (c *Client) URL() string { return c.url }

// A Selection is a set of profiles: those of one type whose series match the
// selector and whose time is in [Start, End].
type Selection struct {
	Type       profile.Type
	Selector   string // PromQL's braces; {} for everything
	Start, End int64  // Unix milliseconds
}

// Only narrows a flame graph to parts of the selected profiles; the zero Only is all of
// them. If both are set, spans count, as in Grafana's Pyroscope data source.
type Only struct {
	Spans    []string // the samples of these span IDs
	Profiles []string // the profiles of these IDs
}

// Tree merges the selected profiles into one call tree. maxNodes limits its nodes (nil:
// the server's own limit). A selection without samples gives an empty tree.
//
// A server that supports it cuts the tree by functions
// (profile.DiffTree.TruncateFunctions); then the tree's Functions is set. From other
// servers, nodes named "other" are taken for rest nodes.
func (c *Client) Tree(ctx context.Context, sel Selection, maxNodes *int64, only Only) (*profile.Tree, error) {
	var graph *querierv1.FlameGraph
	var header http.Header
	if len(only.Spans) > 0 {
		// The newer way is a field that older servers ignore, whose answer would cover
		// all spans.
		req := connect.NewRequest(&querierv1.SelectMergeSpanProfileRequest{
			ProfileTypeID: sel.Type.String(), LabelSelector: sel.Selector, SpanSelector: only.Spans,
			Start: sel.Start, End: sel.End, MaxNodes: maxNodes,
		})
		req.Header().Set(profile.HeaderRest, profile.RestFunctions)
		resp, err := c.querier.SelectMergeSpanProfile(ctx, req)
		if err != nil {
			return nil, c.wrap("flame graph of spans", err)
		}
		graph, header = resp.Msg.Flamegraph, resp.Header()
	} else {
		req := connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{
			ProfileTypeID: sel.Type.String(), LabelSelector: sel.Selector, ProfileIdSelector: only.Profiles,
			Start: sel.Start, End: sel.End, MaxNodes: maxNodes,
		})
		req.Header().Set(profile.HeaderRest, profile.RestFunctions)
		resp, err := c.querier.SelectMergeStacktraces(ctx, req)
		if err != nil {
			if code := connect.CodeOf(err); len(only.Profiles) > 0 && (code == connect.CodeUnknown || code == connect.CodeInternal) && strings.Contains(err.Error(), "invalid UUID") {
				return nil, Invalidf("profileIdSelector", "%w", err) // Pyroscope's answer is HTTP 500
			}
			return nil, c.wrap("flame graph", err)
		}
		graph, header = resp.Msg.Flamegraph, resp.Header()
	}
	if graph == nil || graph.Total == 0 {
		return &profile.Tree{}, nil
	}
	functions, rest := readRest(header)
	tree, err := profile.ParseFlamegraph(profile.Flamegraph{
		Names: graph.Names, Levels: levels(graph.Levels), Total: graph.Total, MaxSelf: graph.MaxSelf, Rest: rest,
	})
	if err != nil {
		return nil, c.wrap("answer of the server", err)
	}
	tree.Functions = functions
	return tree, nil
}

// Diff compares two selections, as Tree shows one. If neither has samples, the tree is
// empty.
func (c *Client) Diff(ctx context.Context, left, right Selection, maxNodes *int64) (*profile.DiffTree, error) {
	return c.diff(ctx, left, right, maxNodes, profile.RestFunctions)
}

// DiffOfCalls is Diff with as many of the largest calls as there may be. Functions cannot
// be added up from it.
func (c *Client) DiffOfCalls(ctx context.Context, left, right Selection, maxNodes *int64) (*profile.DiffTree, error) {
	return c.diff(ctx, left, right, maxNodes, "")
}

func (c *Client) diff(ctx context.Context, left, right Selection, maxNodes *int64, rest string) (*profile.DiffTree, error) {
	side := func(sel Selection) *querierv1.SelectMergeStacktracesRequest {
		return &querierv1.SelectMergeStacktracesRequest{
			ProfileTypeID: sel.Type.String(), LabelSelector: sel.Selector,
			Start: sel.Start, End: sel.End, MaxNodes: maxNodes,
		}
	}
	req := connect.NewRequest(&querierv1.DiffRequest{Left: side(left), Right: side(right)})
	if rest != "" {
		req.Header().Set(profile.HeaderRest, rest)
	}
	resp, err := c.querier.Diff(ctx, req)
	if err != nil {
		return nil, c.wrap("comparison", err)
	}
	graph := resp.Msg.Flamegraph
	if graph == nil || graph.LeftTicks == 0 && graph.RightTicks == 0 {
		return &profile.DiffTree{}, nil
	}
	functions, rest := readRest(resp.Header())
	tree, err := profile.ParseFlamegraphDiff(profile.FlamegraphDiff{
		Names: graph.Names, Levels: levels(graph.Levels), Total: graph.Total, MaxSelf: graph.MaxSelf,
		LeftTicks: graph.LeftTicks, RightTicks: graph.RightTicks, Rest: rest,
	})
	if err != nil {
		return nil, c.wrap("answer of the server", err)
	}
	tree.Functions = functions
	return tree, nil
}

// readRest returns what an answer's headers say of rest nodes: whether the tree was cut
// by functions, and their name.
func readRest(h http.Header) (functions bool, name string) {
	functions, name = h.Get(profile.HeaderRest) == profile.RestFunctions, h.Get(profile.HeaderRestName)
	if name == "" && !functions {
		name = profile.OtherName
	}
	return functions, name
}

func levels(in []*querierv1.Level) [][]int64 {
	out := make([][]int64, len(in))
	for i, l := range in {
		out[i] = l.Values
	}
	return out
}

// ProfileTypes lists the types of the profiles between start and end (Unix
// milliseconds). A type whose ID cannot be read is left out.
func (c *Client) ProfileTypes(ctx context.Context, start, end int64) ([]profile.Type, error) {
	resp, err := c.querier.ProfileTypes(ctx, connect.NewRequest(&querierv1.ProfileTypesRequest{Start: start, End: end}))
	if err != nil {
		return nil, c.wrap("profile types", err)
	}
	types := make([]profile.Type, 0, len(resp.Msg.ProfileTypes))
	for _, t := range resp.Msg.ProfileTypes {
		if parsed, err := profile.ParseType(t.ID); err == nil {
			types = append(types, parsed)
		}
	}
	return types, nil
}

// LabelNames lists the label names of the series that match selector between
// start and end, without those that begin with two underscores.
func (c *Client) LabelNames(ctx context.Context, selector string, start, end int64) ([]string, error) {
	resp, err := c.querier.LabelNames(ctx, connect.NewRequest(&typesv1.LabelNamesRequest{
		Matchers: []string{selector}, Start: start, End: end,
	}))
	if err != nil {
		return nil, c.wrap("label names", err)
	}
	names := make([]string, 0, len(resp.Msg.Names))
	for _, n := range resp.Msg.Names {
		if !strings.HasPrefix(n, "__") {
			names = append(names, n)
		}
	}
	return names, nil
}

// LabelValues lists the values of one label.
func (c *Client) LabelValues(ctx context.Context, name, selector string, start, end int64) ([]string, error) {
	resp, err := c.querier.LabelValues(ctx, connect.NewRequest(&typesv1.LabelValuesRequest{
		Name: name, Matchers: []string{selector}, Start: start, End: end,
	}))
	if err != nil {
		return nil, c.wrap("values of label "+name, err)
	}
	if resp.Msg.Names == nil {
		return []string{}, nil
	}
	return resp.Msg.Names, nil
}

// Newest is the time of the newest profile in Unix milliseconds, 0 when the
// server has none.
func (c *Client) Newest(ctx context.Context) (int64, error) {
	resp, err := c.querier.GetProfileStats(ctx, connect.NewRequest(&typesv1.GetProfileStatsRequest{}))
	if err != nil {
		return 0, c.wrap("profile statistics", err)
	}
	if !resp.Msg.DataIngested {
		return 0, nil
	}
	return resp.Msg.NewestProfileTime, nil
}
