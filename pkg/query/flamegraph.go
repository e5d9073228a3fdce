package query

import (
	"context"
	"fmt"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/dataframe"
	"github.com/flameline/flameline/pkg/profile"
)

// profile answers the query type profile: one flame graph of all selected profiles.
func (r *Runner) profile(ctx context.Context, m *Model, tr backend.TimeRange) (data.Frames, error) {
	sel := client.Selection{
		Type: m.profileType, Selector: m.LabelSelector,
		Start: tr.From.UnixMilli(), End: tr.To.UnixMilli(),
	}
	only := client.Only{Spans: m.SpanSelector, Profiles: m.ProfileIDSelector}
	var (
		tree    *profile.Tree
		notices []data.Notice
		err     error
	)
	if m.changesGraph() {
		var graph *profile.DiffTree
		if m, graph, notices, err = r.changedGraph(ctx, m, client.FlameGraphRequest{Selection: sel, Only: only}); err == nil {
			tree = graph.Left()
		}
	} else {
		tree, err = r.Client.Tree(ctx, sel, m.MaxNodes, only)
	}
	if err != nil {
		return nil, err
	}
	unit, notice := r.flamegraphUnit(m, tr)
	if m.Unit == UnitPercent {
		unit = dataframe.Percent(tree.Total())
	}
	frame := dataframe.Flamegraph(tree, unit)
	frame.Meta.ExecutedQueryString = m.describe()
	frame.Meta.Custom = map[string]any{"profileTypeId": m.ProfileTypeID}
	if tree.Total() == 0 {
		notice, notices = emptyNotice(m, tr), nil
	} else {
		notices = append(notices, r.statesNotice(ctx, m)...)
	}
	for _, text := range []string{notice, restNotice(tree.Rest, tree.Functions)} {
		if text != "" {
			notices = append(notices, info(text))
		}
	}
	notices = append(notices, gapNotices(tree.Gaps(), 0, tree.Total())...)
	frame.AppendNotices(notices...)
	return data.Frames{frame}, nil
}

// restNotice returns the notice about what is missing from the table of functions, which
// Grafana computes from the flame graph, if the server did not cut it by functions.
func restNotice(rest int32, functions bool) string {
	if rest == 0 || functions {
		return ""
	}
	return fmt.Sprintf("The server left out calls that are too small and did not say of which functions they are. The table counts their time as %s; ask for more nodes, a shorter range or fewer services to see it.", dataframe.Rest)
}

// flamegraphUnit returns the unit that the query asks for. In cores, values are divided
// by the length of the time range up to now, so that the root is the average of the
// series over the range.
func (r *Runner) flamegraphUnit(m *Model, tr backend.TimeRange) (unit dataframe.Unit, notice string) {
	if m.Unit != UnitCores {
		return dataframe.Total(m.profileType), ""
	}
	if !m.profileType.Cumulative() {
		return dataframe.Total(m.profileType), fmt.Sprintf("%s describes an instant, so it is not shown per second.", m.profileType.SampleType)
	}
	seconds := r.elapsed(tr).Seconds()
	if seconds <= 0 {
		return dataframe.Total(m.profileType), "The time range lies in the future."
	}
	unit = dataframe.Rate(m.profileType)
	unit.Divisor *= seconds
	return unit, ""
}

// elapsed returns the length of the part of a time range that has passed; below 0 if it
// lies in the future.
func (r *Runner) elapsed(tr backend.TimeRange) time.Duration {
	to := tr.To
	if now := r.now(); to.After(now) {
		to = now
	}
	return to.Sub(tr.From)
}

// emptyNotice returns the notice about an empty result, with advice.
func emptyNotice(m *Model, tr backend.TimeRange) string {
	advice := "Choose a longer range or fewer label filters"
	if m.LabelSelector == "{}" {
		advice = "Choose a longer range or another profile type"
	}
	return fmt.Sprintf("No samples of %s for %s between %s and %s. %s; the data source's Test button shows which profiles the server has.",
		m.ProfileTypeID, m.LabelSelector, tr.From.UTC().Format(time.RFC3339), tr.To.UTC().Format(time.RFC3339), advice)
}
