package query

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/data"
	"golang.org/x/sync/errgroup"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/dataframe"
	"github.com/flameline/flameline/pkg/profile"
)

// Bounds of an explanation.
const (
	explainFunctions = 20 // functions in the table, unless the query has a limit
	explainValues    = 5  // values of each label in the table
	explainLabels    = 16 // labels that are looked at
	explainFrames    = 4  // frames of the call path in the sentence
)

// A call that has at least followShare of its caller's change is followed down the call
// path. A label's value of onlyShare of the change or more has it alone, one of mostShare
// most of it.
const (
	followShare = 0.75
	onlyShare   = 0.97
	mostShare   = 0.75
)

// explain answers the query type explain: which functions and which values of labels
// account for the change from the baseline to the time range, as a table whose shares add
// up for the functions and for each label, and as a sentence.
func (r *Runner) explain(ctx context.Context, m *Model, tr backend.TimeRange) (data.Frames, error) {
	window, err := m.Baseline.Window(tr, r.now())
	if err != nil {
		return nil, err
	}
	e := explanation{
		model: m,
		now:   comparisonSide{"the time range of the query", m.LabelSelector, tr},
		base:  comparisonSide{"the baseline", m.Baseline.LabelSelector, window},
	}
	if e.base.equal(e.now) {
		return nil, client.Invalidf("baseline.from", "the baseline has the time and the labels of the query itself; choose another time or other labels")
	}
	var notice string
	e.baseUnit, e.unit, notice = r.comparisonUnits(m, e.base, e.now)
	if err := r.fetchExplanation(ctx, &e); err != nil {
		return nil, err
	}
	text := e.sentence()
	parts := e.parts()
	frame := dataframe.Explanation(parts, e.unit)
	sources := make([]Source, len(parts)) // functions are the first rows
	for i := range e.functions.Rows {
		sources[i] = sourceOf(&e.functions.Rows[i])
	}
	linked := r.addSources(m, frame, sources)
	frame.Meta.ExecutedQueryString = fmt.Sprintf("what changed in %s%s since %s", m.ProfileTypeID, e.now, e.base)
	frame.Meta.Custom = map[string]any{"profileTypeId": m.ProfileTypeID, "explanation": text}
	frame.AppendNotices(info(text))
	if notice != "" {
		frame.AppendNotices(info(notice))
	}
	if e.functions.Approximate {
		frame.AppendNotices(r.statesNotice(ctx, m)...)
		frame.AppendNotices(info(approximateNotice("change", linked)))
	}
	return data.Frames{frame}, nil
}

// An explanation is what explain is told by the server.
type explanation struct {
	model          *Model
	now, base      comparisonSide
	unit, baseUnit dataframe.Unit
	functions      *profile.FunctionTable
	tree           *profile.DiffTree // the baseline on the left
	labels         []labelChange
}

// A labelChange is a label with the values that its series have on both sides, in units.
type labelChange struct {
	name   string
	values []valueChange // the largest change first
}

type valueChange struct {
	value     string
	now, base float64
}

func (v valueChange) change() float64 { return v.now - v.base }

func (r *Runner) fetchExplanation(ctx context.Context, e *explanation) error {
	baseline := e.base.selection(e.model)
	request := client.FunctionsRequest{
		Selection: e.now.selection(e.model), Baseline: &baseline, BaselineScale: e.unit.Divisor / e.baseUnit.Divisor, Limit: explainFunctions,
	}
	if e.model.Limit != nil {
		request.Limit = *e.model.Limit
	}
	names, err := r.Client.LabelNames(ctx, e.now.selector, e.now.From.UnixMilli(), e.now.To.UnixMilli())
	if err != nil {
		return err
	}
	names = names[:min(len(names), explainLabels)]
	e.labels = make([]labelChange, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	g.Go(func() (err error) {
		defer Recovered(&err)
		e.functions, err = r.Client.Functions(ctx, request)
		return err
	})
	g.Go(func() (err error) {
		defer Recovered(&err)
		e.tree, err = r.Client.DiffOfCalls(ctx, baseline, request.Selection, e.model.MaxNodes)
		return err
	})
	for i, name := range names {
		g.Go(func() (err error) {
			defer Recovered(&err)
			e.labels[i], err = r.labelChange(ctx, e, name)
			return err
		})
	}
	return g.Wait()
}

// labelChange asks for the values of a label on both sides.
func (r *Runner) labelChange(ctx context.Context, e *explanation, name string) (labelChange, error) {
	both := map[string]*valueChange{}
	for _, side := range []struct {
		comparisonSide
		divisor float64
		add     func(v *valueChange, x float64)
	}{
		{e.now, e.unit.Divisor, func(v *valueChange, x float64) { v.now += x }},
		{e.base, e.baseUnit.Divisor, func(v *valueChange, x float64) { v.base += x }},
	} {
		found, err := r.Client.Totals(ctx, client.SeriesRequest{
			Selection: side.selection(e.model), GroupBy: []string{name}, Average: !e.model.profileType.Cumulative(),
		})
		if err != nil {
			return labelChange{}, err
		}
		for _, t := range found {
			value := ""
			for _, l := range t.Labels {
				if l.Name == name {
					value = l.Value
				}
			}
			if both[value] == nil {
				both[value] = &valueChange{value: value}
			}
			side.add(both[value], t.Value/side.divisor)
		}
	}
	out := labelChange{name: name}
	for _, v := range both {
		out.values = append(out.values, *v)
	}
	slices.SortFunc(out.values, func(a, b valueChange) int {
		return cmp.Or(cmp.Compare(math.Abs(b.change()), math.Abs(a.change())), strings.Compare(a.value, b.value))
	})
	return out, nil
}

// totals are the values of both sides, in units.
func (e *explanation) totals() (now, base float64) {
	return float64(e.functions.Total.Value) / e.unit.Divisor, float64(e.functions.BaselineTotal.Value) / e.baseUnit.Divisor
}

// parts are the rows of the table: functions and what the others have, then for each label
// with several values the same.
func (e *explanation) parts() []dataframe.Part {
	now, base := e.totals()
	all := now - base
	var parts []dataframe.Part
	group := func(kind, rest string, list []dataframe.Part, exact float64) {
		left := dataframe.Part{Kind: kind, Name: rest, Now: now, Baseline: base}
		for _, p := range list {
			p.Share = shareOf(p.Now-p.Baseline, all)
			left.Now -= p.Now
			left.Baseline -= p.Baseline
			parts = append(parts, p)
		}
		if math.Abs(left.Now)+math.Abs(left.Baseline) > exact*(math.Abs(now)+math.Abs(base)) {
			left.Share = shareOf(left.Now-left.Baseline, all)
			parts = append(parts, left)
		}
	}
	var functions []dataframe.Part
	for i := range e.functions.Rows {
		row := &e.functions.Rows[i]
		p := dataframe.Part{Kind: "function", Name: row.Name, Now: float64(row.Own.Value) / e.unit.Divisor, Baseline: float64(row.BaselineOwn.Value) / e.baseUnit.Divisor}
		if e.functions.HasSamples {
			p.Error = dataframe.ChangeError(row.Own, row.BaselineOwn, e.functions, e.baseUnit, e.unit)
		}
		functions = append(functions, p)
	}
	const rounded = 1e-9
	group("function", "(all other functions)", functions, rounded)
	// Functions are of all milliseconds of the range, values of labels of the time between
	// its ends, which is up to 1 ms less on each side.
	exact := max(rounded, 2/float64(max(min(e.now.Duration(), e.base.Duration()).Milliseconds(), 1)))
	for _, l := range e.labels {
		if len(l.values) < 2 {
			continue
		}
		var values []dataframe.Part
		for _, v := range l.values[:min(len(l.values), explainValues)] {
			values = append(values, dataframe.Part{Kind: l.name, Name: cmp.Or(v.value, "(none)"), Now: v.now, Baseline: v.base})
		}
		group(l.name, "(all other values)", values, exact)
	}
	return parts
}

func shareOf(part, all float64) float64 {
	if all == 0 {
		return 0
	}
	return part / all
}

// sentence says in words what changed most.
func (e *explanation) sentence() string {
	now, base := e.totals()
	all := now - base
	if now == 0 && base == 0 {
		return fmt.Sprintf("No samples of %s, neither for %s nor for %s.", e.model.ProfileTypeID, e.now, e.base)
	}
	amount := func(v float64) string { return dataframe.FormatValue(v, e.unit) }
	start := fmt.Sprintf("From %s to %s", amount(base), amount(now))
	if e.functions.HasSamples {
		chance := dataframe.ChangeError(e.functions.Total, e.functions.BaselineTotal, e.functions, e.baseUnit, e.unit)
		if math.Abs(all) <= chance {
			return fmt.Sprintf("%s: the change of %s is within what chance explains (± %s).", start, signed(all, amount), amount(chance))
		}
	}
	word := "rise"
	if all < 0 {
		word = "fall"
	}
	text := fmt.Sprintf("%s, a %s of %s", start, word, amount(math.Abs(all)))
	if path, change := e.path(all); len(path) > 0 {
		text += fmt.Sprintf(". %s: %s, %.0f %% of the %s", strings.Join(path[max(0, len(path)-explainFrames):], " → "), signed(change, amount), 100*change/all, word)
	}
	if where := e.where(all); where != "" {
		text += ", " + where
	}
	return text + "."
}

func signed(v float64, amount func(float64) string) string {
	if v < 0 {
		return "-" + amount(-v)
	}
	return "+" + amount(v)
}

// path follows the change down the calls, as long as one call has most of its caller's
// change, and returns the functions with the change of the last one.
func (e *explanation) path(all float64) (path []string, change float64) {
	t := e.tree
	if len(t.Nodes) == 0 || all == 0 {
		return nil, 0
	}
	of := func(n *profile.DiffNode) float64 {
		return float64(n.TotalRight)/e.unit.Divisor - float64(n.Total)/e.baseUnit.Divisor
	}
	children := make([][]int32, len(t.Nodes))
	for i := 1; i < len(t.Nodes); i++ {
		children[t.Nodes[i].Parent] = append(children[t.Nodes[i].Parent], int32(i))
	}
	for at, whole := int32(0), all; ; {
		best := int32(-1)
		for _, k := range children[at] {
			if n := &t.Nodes[k]; !t.IsRest(n) && (best < 0 || of(n)/all > of(&t.Nodes[best])/all) {
				best = k
			}
		}
		if best < 0 || of(&t.Nodes[best])/whole < followShare {
			return path, change
		}
		at, change = best, of(&t.Nodes[best])
		whole = change
		path = append(path, t.Names[t.Nodes[best].Name])
	}
}

// where names the values of labels that have the change alone, or most of it: of labels
// that have several values, those with the fewest first, and at most two.
func (e *explanation) where(all float64) string {
	type found struct {
		text   string
		values int
	}
	var list []found
	for _, l := range e.labels {
		if len(l.values) < 2 {
			continue
		}
		v := l.values[0]
		var word string
		switch s := shareOf(v.change(), all); {
		case s >= onlyShare && s <= 2-onlyShare:
			word = "only"
		case s >= mostShare && s < onlyShare:
			word = "mostly"
		default:
			continue
		}
		list = append(list, found{fmt.Sprintf("%s %s=%s", word, l.name, cmp.Or(v.value, "(none)")), len(l.values)})
	}
	slices.SortStableFunc(list, func(a, b found) int { return cmp.Compare(a.values, b.values) })
	var texts []string
	for _, f := range list[:min(len(list), 2)] {
		texts = append(texts, f.text)
	}
	return strings.Join(texts, ", ")
}
