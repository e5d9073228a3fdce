package query

import (
	"context"
	"fmt"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/dataframe"
)

// defaultFunctions is the number of functions without a limit.
const defaultFunctions = 100

// The values that a table of functions is ordered by.
const (
	SortOwn   = "own"
	SortTotal = "total"
)

// functions answers the query type functions: a table of the functions with the largest
// values, or with the largest changes if the query has a baseline.
func (r *Runner) functions(ctx context.Context, m *Model, tr backend.TimeRange) (data.Frames, error) {
	side := comparisonSide{"the time range of the query", m.LabelSelector, tr}
	request := client.FunctionsRequest{Selection: side.selection(m), Limit: defaultFunctions, ByTotal: m.Sort == SortTotal, BaselineScale: 1}
	if m.Limit != nil {
		request.Limit = *m.Limit
	}
	unit, notice := r.flamegraphUnit(m, tr)
	baselineUnit, description := unit, m.describe()
	if m.Baseline != nil {
		window, err := m.Baseline.Window(tr, r.now())
		if err != nil {
			return nil, err
		}
		base := comparisonSide{"the baseline", m.Baseline.LabelSelector, window}
		if base.equal(side) {
			return nil, client.Invalidf("baseline.from", "the baseline has the time and the labels of the query itself; choose another time or other labels")
		}
		selection := base.selection(m)
		request.Baseline = &selection
		baselineUnit, unit, notice = r.comparisonUnits(m, base, side)
		request.BaselineScale = unit.Divisor / baselineUnit.Divisor
		description = fmt.Sprintf("functions of %s%s, compared with %s", m.ProfileTypeID, side, base)
	}
	found, err := r.Client.Functions(ctx, request)
	if err != nil {
		return nil, err
	}
	if m.Unit == UnitPercent {
		unit, baselineUnit, notice = dataframe.Percent(found.Total.Value), dataframe.Percent(found.BaselineTotal.Value), ""
	}
	var frame *data.Frame
	cost := r.cost(m, tr, unit)
	if m.Baseline != nil {
		frame = dataframe.FunctionsDiff(found, baselineUnit, unit, cost)
	} else {
		frame = dataframe.Functions(found, unit, cost)
	}
	if r.Links.Function != nil {
		frame.Fields[0].SetConfig(&data.FieldConfig{Links: r.Links.Function(m)})
	}
	sources := make([]Source, len(found.Rows))
	for i := range found.Rows {
		sources[i] = sourceOf(&found.Rows[i])
	}
	linked := r.addSources(m, frame, sources)
	frame.Meta.ExecutedQueryString = description
	frame.Meta.Custom = map[string]any{"profileTypeId": m.ProfileTypeID}
	if notice != "" {
		frame.AppendNotices(info(notice))
	}
	switch shown := int64(len(found.Rows)); {
	case found.Total.Value == 0 && found.BaselineTotal.Value == 0:
		frame.AppendNotices(info(emptyNotice(m, tr)))
	case found.Approximate:
		frame.AppendNotices(r.statesNotice(ctx, m)...)
		frame.AppendNotices(info(approximateNotice("value", linked)))
	case shown < found.Count:
		frame.AppendNotices(info(fmt.Sprintf("These are the %d largest of %d functions.", shown, found.Count)))
	}
	if len(m.SpanSelector) > 0 {
		frame.AppendNotices(warning("The table has all samples: the span selector applies only to flame graphs of one time range."))
	}
	return data.Frames{frame}, nil
}

// approximateNotice says of a server without a query for functions what they may lack, and
// their sources if links to them were asked for.
func approximateNotice(lacks string, linked bool) string {
	text := "The server has no query for functions: they are added up from the largest calls of its flame graph, so functions that are called from many places may lack some of their " + lacks + "."
	if linked {
		text += " It does not say in which files functions are, so they have no links to their source."
	}
	return text
}

// hoursPerMonth is the length of an average month as cloud providers price it.
const hoursPerMonth = 730

// cost returns what a value in a unit costs in a month, if it goes on as in the time
// range: the average cores times the price. Without a price, and for types other than CPU
// time, it is zero.
func (r *Runner) cost(m *Model, tr backend.TimeRange, unit dataframe.Unit) dataframe.Unit {
	seconds := r.elapsed(tr).Seconds()
	if r.Price.CoreHour <= 0 || !m.profileType.CPUTime() || seconds <= 0 {
		return dataframe.Unit{}
	}
	cores := dataframe.Rate(m.profileType).Divisor * seconds
	return dataframe.Unit{
		ID:      dataframe.CurrencyUnit(r.Price.Currency),
		Divisor: cores / (unit.Divisor * r.Price.CoreHour * hoursPerMonth),
	}
}
