package query

import (
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/pkg/profile"
)

// A Selection says which profiles a query is about: those of a profile type and
// of the series that all matchers match, taken at Start <= time <= End, in ms
// since 1970.
type Selection struct {
	Type       profile.Type
	Matchers   []*labels.Matcher
	Start, End int64
	// MaxNodes limits the nodes of a tree, as profile.Tree.Truncate does; 0
	// means no limit.
	MaxNodes int64
	// Functions, with MaxNodes, cuts as profile.DiffTree.TruncateFunctions does: the
	// own values of functions can be added up. It costs more than the whole tree. If
	// MaxNodes are too few for it, the tree is cut as without; its Functions reports which
	// it is.
	Functions bool

	// What follows narrows flame graphs and pprof, and nothing else, to samples
	// that are told apart only as long as rows of single profiles are kept.

	// Profiles, unless empty, are IDs, the sender's or ProfileID.String's, of the
	// only profiles that count.
	Profiles []string
	// Spans and Traces, unless both are empty, are those whose samples alone
	// count.
	Spans  []rowcodec.SpanID
	Traces []rowcodec.TraceID
}

// Times are the range of a selection as an interval that is open at the start,
// within an epoch.
func (sel *Selection) Times(epoch uint32) (lo, hi int64) {
	base := layout.EpochStart(epoch)
	return max(sel.Start, base+1) - 1, min(sel.End, base+layout.DayMs)
}

// hasSpans reports whether the selection is about samples of some spans or traces
// alone.
func (sel *Selection) hasSpans() bool { return len(sel.Spans) > 0 || len(sel.Traces) > 0 }

// tagged are the tags whose samples the selection is about.
func (sel *Selection) tagged() func(*rowcodec.Tag) bool {
	spans, traces := make(map[rowcodec.SpanID]bool, len(sel.Spans)), make(map[rowcodec.TraceID]bool, len(sel.Traces))
	for _, id := range sel.Spans {
		spans[id] = id != 0
	}
	for _, id := range sel.Traces {
		traces[id] = id != rowcodec.TraceID{}
	}
	return func(t *rowcodec.Tag) bool { return spans[t.Span] || traces[t.Trace] }
}
