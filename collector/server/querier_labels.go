package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store"
)

// ProfileTypes lists the types of the profiles in a range, or of all profiles if the
// request has no range.
func (q *querier) ProfileTypes(ctx context.Context, req *connect.Request[querierv1.ProfileTypesRequest]) (*connect.Response[querierv1.ProfileTypesResponse], error) {
	start, end, err := q.limits.optionalRange(req.Msg.Start, req.Msg.End)
	if err != nil {
		return nil, invalid(err)
	}
	found, err := q.store.ProfileTypes(ctx, start, end)
	if err != nil {
		return nil, code(err)
	}
	resp := &querierv1.ProfileTypesResponse{}
	for _, t := range found {
		resp.ProfileTypes = append(resp.ProfileTypes, &typesv1.ProfileType{
			ID: t.String(), Name: t.Name, SampleType: t.SampleType, SampleUnit: t.SampleUnit, PeriodType: t.PeriodType, PeriodUnit: t.PeriodUnit,
		})
	}
	slices.SortFunc(resp.ProfileTypes, func(a, b *typesv1.ProfileType) int { return strings.Compare(a.ID, b.ID) })
	return connect.NewResponse(resp), nil
}

// LabelNames lists the names of the labels that matching series have.
func (q *querier) LabelNames(ctx context.Context, req *connect.Request[typesv1.LabelNamesRequest]) (*connect.Response[typesv1.LabelNamesResponse], error) {
	names, err := q.strings(req.Msg.Matchers, req.Msg.Start, req.Msg.End, func(ms []*labels.Matcher, start, end int64) ([]string, error) {
		return q.store.LabelNames(ctx, ms, start, end)
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&typesv1.LabelNamesResponse{Names: names}), nil
}

// LabelValues lists the values that one label of matching series has.
func (q *querier) LabelValues(ctx context.Context, req *connect.Request[typesv1.LabelValuesRequest]) (*connect.Response[typesv1.LabelValuesResponse], error) {
	if req.Msg.Name == "" {
		return nil, invalid(errors.New("name: is empty"))
	}
	values, err := q.strings(req.Msg.Matchers, req.Msg.Start, req.Msg.End, func(ms []*labels.Matcher, start, end int64) ([]string, error) {
		return q.store.LabelValues(ctx, req.Msg.Name, ms, start, end)
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&typesv1.LabelValuesResponse{Names: values}), nil
}

// strings answers a look-up by look, sorted and without duplicates.
func (q *querier) strings(selectors []string, start, end int64, look func(ms []*labels.Matcher, start, end int64) ([]string, error)) ([]string, error) {
	start, end, err := q.limits.optionalRange(start, end)
	if err != nil {
		return nil, invalid(err)
	}
	ms, err := matchers(selectors)
	if err != nil {
		return nil, invalid(err)
	}
	out, err := look(ms, start, end)
	if err != nil {
		return nil, code(err)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Series lists the label sets of matching series, reduced to the label names of the
// request, if it has any.
func (q *querier) Series(ctx context.Context, req *connect.Request[querierv1.SeriesRequest]) (*connect.Response[querierv1.SeriesResponse], error) {
	start, end, err := q.limits.optionalRange(req.Msg.Start, req.Msg.End)
	if err != nil {
		return nil, invalid(err)
	}
	ms, err := matchers(req.Msg.Matchers)
	if err != nil {
		return nil, invalid(err)
	}
	wanted := names(req.Msg.LabelNames)
	slices.Sort(wanted)
	resp := &querierv1.SeriesResponse{}
	err = q.store.UseLabels(ctx, wanted, ms, start, end, func(sets *store.LabelSets) error {
		return encodedAs(resp, appendLabelSets(nil, sets), req.Header())
	})
	if err != nil {
		return nil, code(err)
	}
	return connect.NewResponse(resp), nil
}

// GetProfileStats says whether any profile was ever stored, and the times of the oldest
// and the newest.
func (q *querier) GetProfileStats(ctx context.Context, _ *connect.Request[typesv1.GetProfileStatsRequest]) (*connect.Response[typesv1.GetProfileStatsResponse], error) {
	st, err := q.store.Stats(ctx)
	if err != nil {
		return nil, code(err)
	}
	return connect.NewResponse(&typesv1.GetProfileStatsResponse{
		DataIngested:      st.Profiles,
		OldestProfileTime: st.Oldest,
		NewestProfileTime: st.Newest,
	}), nil
}

// AnalyzeQuery counts the series that a selector matches. Pyroscope's blocks and
// components do not exist in an embedded store, so those fields stay empty.
func (q *querier) AnalyzeQuery(ctx context.Context, req *connect.Request[querierv1.AnalyzeQueryRequest]) (*connect.Response[querierv1.AnalyzeQueryResponse], error) {
	start, end, err := q.limits.optionalRange(req.Msg.Start, req.Msg.End)
	if err != nil {
		return nil, invalid(err)
	}
	ms, err := parseSelector(req.Msg.Query)
	if err != nil {
		return nil, invalid(fmt.Errorf("query: %w", err))
	}
	count, err := q.store.CountLabels(ctx, nil, ms, start, end)
	if err != nil {
		return nil, code(err)
	}
	n := uint64(count)
	return connect.NewResponse(&querierv1.AnalyzeQueryResponse{
		QueryScopes: []*querierv1.QueryScope{{ComponentType: "Store", ComponentCount: 1, SeriesCount: n}},
		QueryImpact: &querierv1.QueryImpact{TotalQueriedSeries: n},
	}), nil
}

// pairs converts labels to the API's type.
func pairs(ls labels.Labels) []*typesv1.LabelPair {
	out := make([]*typesv1.LabelPair, 0, ls.Len())
	ls.Range(func(l labels.Label) { out = append(out, &typesv1.LabelPair{Name: l.Name, Value: l.Value}) })
	return out
}
