package query

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/flameline/flameline/pkg/client"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/profile/view"
)

// A View is what the flame graph of a query shows, as view.Options.
type View struct {
	GroupBy           []string `json:"groupBy,omitempty"` // labels whose values have frames below the root
	Focus             string   `json:"focus,omitempty"`
	Ignore            string   `json:"ignore,omitempty"`
	Hide              string   `json:"hide,omitempty"`
	ShowFrom          string   `json:"showFrom,omitempty"`
	Fold              []string `json:"fold,omitempty"`
	Function          string   `json:"function,omitempty"`
	CollapseRecursion bool     `json:"collapseRecursion,omitempty"`
	Reverse           bool     `json:"reverse,omitempty"`
	MaxDepth          int64    `json:"maxDepth,omitempty"`
}

func (v *View) options() view.Options {
	if v == nil {
		return view.Options{}
	}
	return view.Options{
		Focus: v.Focus, Ignore: v.Ignore, Hide: v.Hide, ShowFrom: v.ShowFrom, Fold: v.Fold, Function: v.Function,
		CollapseRecursion: v.CollapseRecursion, Reverse: v.Reverse, MaxDepth: v.MaxDepth,
	}
}

// check sets defaults, and returns an error for an invalid field.
func (v *View) check() error {
	if v == nil {
		return nil
	}
	v.GroupBy = slices.DeleteFunc(v.GroupBy, func(s string) bool { return strings.TrimSpace(s) == "" })
	v.Fold = slices.DeleteFunc(v.Fold, func(s string) bool { return s == "" })
	if len(v.GroupBy) > view.MaxLabels {
		return client.Invalidf("view.groupBy", "%d labels are more than %d", len(v.GroupBy), view.MaxLabels)
	}
	_, err := view.New(v.options())
	return client.ViewError(err)
}

// changesGraph reports whether the flame graph is another one than the server's.
func (m *Model) changesGraph() bool {
	o := m.View.options()
	return m.Unit == UnitSamples || !o.IsZero() || m.View != nil && len(m.View.GroupBy) > 0
}

// changedGraph returns a flame graph with the options of a query, and notices about it. The
// query that it returns has the type of the values.
func (r *Runner) changedGraph(ctx context.Context, m *Model, request client.FlameGraphRequest) (*Model, *profile.DiffTree, []data.Notice, error) {
	request.View, request.Samples, request.MaxNodes = m.View.options(), m.Unit == UnitSamples, m.MaxNodes
	if m.View != nil {
		request.GroupBy = m.View.GroupBy
	}
	found, err := r.Client.FlameGraph(ctx, request)
	if err != nil {
		return nil, nil, nil, err
	}
	var notices []data.Notice
	add := func(format string, args ...any) { notices = append(notices, info(fmt.Sprintf(format, args...))) }
	switch {
	case found.Samples:
		of := *m
		of.profileType.SampleType, of.profileType.SampleUnit = "samples", "count"
		m = &of
	case request.Samples:
		add("The profiles do not say how many samples were taken, so the flame graph has their values.")
	}
	if text := droppedNotice(found.Tree); text != "" {
		add("%s", text)
	}
	if found.Approximate {
		add("The options are applied to the server's flame graph, which has only the largest calls, since it has no query for them. What is in smaller ones is missing; of labels, the largest %d values are shown.", client.MaxGroups)
	}
	return m, found.Tree, notices, nil
}

// droppedNotice says how much of the total is below the root, if that is not all.
func droppedNotice(t *profile.DiffTree) string {
	left, right := t.Totals()
	if len(t.Nodes) == 0 || t.Nodes[0].Self == 0 && t.Nodes[0].SelfRight == 0 {
		return ""
	}
	share := func(own, total int64) string {
		if total == 0 {
			return "nothing"
		}
		return fmt.Sprintf("%.3g %%", 100*float64(total-own)/float64(total))
	}
	root := &t.Nodes[0]
	if right == 0 {
		return fmt.Sprintf("Shown are %s of the total. The root has the whole, so shares are those of everything that is selected.", share(root.Self, left))
	}
	return fmt.Sprintf("Shown are %s of the baseline's total and %s of the time range's. The root has the whole, so shares are those of everything that is selected.",
		share(root.Self, left), share(root.SelfRight, right))
}
