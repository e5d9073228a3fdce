// Package query answers the queries of panels, Explore and alert rules: one file per
// query type, and the drilldown from an alert to a query.
//
// Calls to a server are left to package client, data frames to package dataframe, and
// Grafana's plugin protocol to package plugin.
package query

import (
	"context"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	"golang.org/x/sync/errgroup"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/profile"
)

// A Runner answers queries. It is safe for concurrent use.
type Runner struct {
	Client *client.Client
	// MinStep is the smallest step of a series, and all steps are multiples of it. It is
	// the interval at which the sources send profiles.
	MinStep time.Duration
	// DrilldownURL is the address of the drilldown, to which the cells of heat maps link;
	// empty for no links.
	DrilldownURL string
	// DefaultType is the profile type of a drilldown that names none; the zero type means
	// CPU time.
	DefaultType profile.Type
	// LabelMapping is tried before the names that a drilldown knows.
	LabelMapping []LabelMapping
	// Price is what CPU time costs, for tables of functions.
	Price Price
	// Links are added to results.
	Links Links
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// A LabelMapping says which label of profiles has the values of a label of metrics.
type LabelMapping struct {
	Metrics  string `json:"metrics"`
	Profiles string `json:"profiles"`
}

// A Price is what a core costs for an hour. If CoreHour is 0, no costs are shown.
type Price struct {
	CoreHour float64
	Currency string // a symbol such as $
}

// Links are the data links of results. Those that are nil are left out.
type Links struct {
	// Function returns the links of a function's name in a table.
	Function func(*Model) []data.DataLink
	// Source returns the URL of a function's source, "" if it has none. It is set if that
	// differs by the function's file.
	Source func(*Model, Source) string
	// Series returns the links of a series of CPU time with these labels.
	Series func(*Model, data.Labels) []data.DataLink
}

func (r *Runner) now() time.Time {
	if r.Now == nil {
		return time.Now()
	}
	return r.Now()
}

// Run answers one query with its frames or an error. For an alert rule it returns only
// series, since Grafana cannot evaluate a flame graph.
func (r *Runner) Run(ctx context.Context, q backend.DataQuery, forAlert bool) backend.DataResponse {
	frames, err := r.run(ctx, q, forAlert)
	if err != nil {
		return client.Response(err)
	}
	return backend.DataResponse{Status: backend.StatusOK, Frames: frames}
}

func (r *Runner) run(ctx context.Context, q backend.DataQuery, forAlert bool) (data.Frames, error) {
	m, err := ParseModel(q.JSON)
	if err != nil {
		return nil, err
	}
	if forAlert {
		switch m.QueryType {
		case TypeHeatmap:
			return nil, client.Invalidf("queryType", "an alert rule needs %s or %s; a heat map has no single value to compare", TypeMetrics, TypeFunctionSeries)
		case TypeProfile, TypeComparison:
			return nil, client.Invalidf("queryType", "an alert rule needs %s or %s; a flame graph has no value to compare", TypeMetrics, TypeFunctionSeries)
		case TypeFunctions, TypeExplain:
			return nil, client.Invalidf("queryType", "an alert rule needs %s or %s; a table has no time", TypeMetrics, TypeFunctionSeries)
		case TypeAnnotations:
			return nil, client.Invalidf("queryType", "an alert rule needs %s or %s; annotations have no value to compare", TypeMetrics, TypeFunctionSeries)
		case TypeBoth:
			m.QueryType = TypeMetrics
		}
	}
	if !q.TimeRange.From.Before(q.TimeRange.To) {
		return nil, client.Invalidf("time range", "it ends (%s) before it begins (%s)",
			q.TimeRange.To.UTC().Format(time.RFC3339), q.TimeRange.From.UTC().Format(time.RFC3339))
	}
	if m.QueryType == TypeAnnotations {
		return r.annotations(ctx, m, q.TimeRange)
	}
	draws := m.QueryType != TypeMetrics && m.QueryType != TypeFunctionSeries
	var first, series data.Frames
	g, ctx := errgroup.WithContext(ctx)
	if draws {
		g.Go(func() (err error) {
			defer Recovered(&err)
			switch m.QueryType {
			case TypeComparison:
				first, err = r.comparison(ctx, m, q.TimeRange)
			case TypeExplain:
				first, err = r.explain(ctx, m, q.TimeRange)
			case TypeFunctions:
				first, err = r.functions(ctx, m, q.TimeRange)
			case TypeHeatmap:
				first, err = r.heatmap(ctx, m, q)
			default:
				first, err = r.profile(ctx, m, q.TimeRange)
			}
			return err
		})
	}
	if !draws || m.QueryType == TypeBoth {
		g.Go(func() (err error) {
			defer Recovered(&err)
			if m.QueryType == TypeFunctionSeries {
				series, err = r.functionSeries(ctx, m, q, forAlert)
			} else {
				series, err = r.series(ctx, m, q, forAlert)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	// The flame graph panel draws only the first frame.
	frames := append(first, series...)
	frames[0].AppendNotices(foreignNotices(m)...)
	if m.Notice != "" {
		frames[0].AppendNotices(data.Notice{Severity: data.NoticeSeverityInfo, Text: m.Notice})
	}
	return frames, nil
}
