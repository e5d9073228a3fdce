package query

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/prometheus/common/model"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/dataframe"
	"github.com/flameline/flameline/pkg/profile"
)

// sameLength is the difference in length, as a share, up to which two time ranges are
// taken as equally long: ranges of Grafana may end a millisecond early.
const sameLength = 1e-3

// comparison answers the query type comparison: one flame graph with the values of the
// baseline on the left and of the query's time range on the right.
//
// If one side has no samples, the result is the flame graph of the other side. Grafana
// would show shares of nothing as NaN %.
func (r *Runner) comparison(ctx context.Context, m *Model, tr backend.TimeRange) (data.Frames, error) {
	base, err := m.Baseline.Window(tr, r.now())
	if err != nil {
		return nil, err
	}
	left := comparisonSide{"the baseline", m.Baseline.LabelSelector, base}
	right := comparisonSide{"the time range of the query", m.LabelSelector, tr}
	if left.equal(right) {
		return nil, client.Invalidf("baseline.from", "the baseline has the time and the labels of the query itself; choose another time or other labels")
	}
	var (
		tree    *profile.DiffTree
		changed []data.Notice
	)
	if m.changesGraph() {
		baseline := left.selection(m)
		m, tree, changed, err = r.changedGraph(ctx, m, client.FlameGraphRequest{Selection: right.selection(m), Baseline: &baseline})
	} else {
		tree, err = r.Client.Diff(ctx, left.selection(m), right.selection(m), m.MaxNodes)
	}
	if err != nil {
		return nil, err
	}
	frame, notices := r.comparisonFrame(m, tree, left, right)
	notices = append(notices, changed...)
	if len(tree.Nodes) > 0 {
		notices = append(notices, r.statesNotice(ctx, m)...)
	}
	frame.Meta.ExecutedQueryString = fmt.Sprintf("%s%s, compared with %s", m.ProfileTypeID, right, left)
	frame.Meta.Custom = map[string]any{"profileTypeId": m.ProfileTypeID}
	if len(m.SpanSelector) > 0 {
		// Pyroscope's API has spans in comparisons by a field that older servers ignore.
		notices = append(notices, warning("The comparison has all samples: the span selector applies only to flame graphs of one time range."))
	}
	if text := restNotice(tree.Rest, tree.Functions); text != "" {
		notices = append(notices, info(text))
	}
	_, total := tree.Totals()
	notices = append(notices, gapNotices(tree.Gaps(), 1, total)...)
	frame.AppendNotices(notices...)
	return data.Frames{frame}, nil
}

// comparisonFrame returns the frame of a comparison, and notices about its values.
func (r *Runner) comparisonFrame(m *Model, tree *profile.DiffTree, left, right comparisonSide) (*data.Frame, []data.Notice) {
	var (
		only         *profile.Tree // of other, the side that has samples
		empty, other comparisonSide
	)
	switch l, rt := tree.Totals(); {
	case l == 0 && rt == 0:
		text := fmt.Sprintf("No samples of %s, neither for %s nor for %s. Choose other times or fewer label filters; the data source's Test button shows which profiles the server has.",
			m.ProfileTypeID, left, right)
		return dataframe.Flamegraph(&profile.Tree{}, dataframe.Total(m.profileType)), []data.Notice{info(text)}
	case l == 0:
		only, empty, other = tree.Right(), left, right
	case rt == 0:
		only, empty, other = tree.Left(), right, left
	default:
		leftUnit, rightUnit, text := r.comparisonUnits(m, left, right)
		if m.Unit == UnitPercent {
			leftUnit, rightUnit, text = dataframe.Percent(l), dataframe.Percent(rt), ""
		}
		frame := dataframe.FlamegraphDiff(tree, leftUnit, rightUnit)
		if text == "" {
			return frame, nil
		}
		return frame, []data.Notice{info(text)}
	}
	unit, text := r.flamegraphUnit(m, other.TimeRange)
	if m.Unit == UnitPercent {
		unit = dataframe.Percent(only.Total())
	}
	notices := []data.Notice{warning(fmt.Sprintf("There is nothing to compare: %s has no samples of %s (%s). The flame graph is that of %s alone.",
		empty.name, m.ProfileTypeID, empty, other.name))}
	if text != "" {
		notices = append(notices, info(text))
	}
	return dataframe.Flamegraph(only, unit), notices
}

// comparisonUnits returns the units of both sides, and a notice if they are not simply
// those of a flame graph.
//
// Values that add up over time are made comparable if the sides are not equally long: in
// the unit time, the left side is scaled to the length of the right one; in cores, each
// side is divided by its own. Averages of states, such as memory in use, compare as they
// are. As in flamegraphUnit, a range is as long as its part that has passed.
func (r *Runner) comparisonUnits(m *Model, left, right comparisonSide) (l, rt dataframe.Unit, notice string) {
	total := dataframe.Total(m.profileType)
	leftLength, rightLength := r.elapsed(left.TimeRange), r.elapsed(right.TimeRange)
	equal := math.Abs(float64(leftLength-rightLength)) <= sameLength*float64(rightLength)
	switch {
	case !m.profileType.Cumulative() && m.Unit == UnitCores:
		_, notice = r.flamegraphUnit(m, right.TimeRange)
		return total, total, notice
	case !m.profileType.Cumulative() && !equal:
		return total, total, fmt.Sprintf("%s is a state, such as memory in use. Neither side is scaled, although the baseline is %s long and the time range %s.",
			m.profileType.SampleType, length(leftLength), length(rightLength))
	case !m.profileType.Cumulative(), leftLength <= 0, rightLength <= 0:
		return total, total, ""
	case m.Unit == UnitCores:
		l, rt = dataframe.Rate(m.profileType), dataframe.Rate(m.profileType)
		l.Divisor *= leftLength.Seconds()
		rt.Divisor *= rightLength.Seconds()
		return l, rt, ""
	case equal:
		return total, total, ""
	}
	scale := rightLength.Seconds() / leftLength.Seconds()
	l = total
	l.Divisor /= scale
	return l, total, fmt.Sprintf("The baseline is %s long and the time range %s: all values of the baseline are multiplied by %.4g, so that both sides compare.",
		length(leftLength), length(rightLength), scale)
}

// length formats a length of time, such as 1d6h.
func length(d time.Duration) string {
	if d > 10*time.Second {
		d = d.Round(time.Second)
	}
	return model.Duration(d).String()
}

// A comparisonSide is the baseline or the query's own time range.
type comparisonSide struct {
	name     string // for users
	selector string
	backend.TimeRange
}

// String is the selector and the time range.
func (s comparisonSide) String() string {
	return fmt.Sprintf("%s between %s and %s", s.selector, rfc3339(s.From), rfc3339(s.To))
}

func (s comparisonSide) selection(m *Model) client.Selection {
	return client.Selection{Type: m.profileType, Selector: s.selector, Start: s.From.UnixMilli(), End: s.To.UnixMilli()}
}

func (s comparisonSide) equal(o comparisonSide) bool {
	return s.From.UnixMilli() == o.From.UnixMilli() && s.To.UnixMilli() == o.To.UnixMilli() && equalSelectors(s.selector, o.selector)
}

func info(text string) data.Notice {
	return data.Notice{Severity: data.NoticeSeverityInfo, Text: text}
}

func warning(text string) data.Notice {
	return data.Notice{Severity: data.NoticeSeverityWarning, Text: text}
}
