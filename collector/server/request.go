package server

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/pkg/profile"
)

// The functions in this file read fields that several requests have. Their errors begin
// with the field's name in the API.

// selection reads profile_typeID, label_selector, start and end.
func (l Limits) selection(typeID, selector string, start, end int64) (store.Selection, error) {
	t, err := profile.ParseType(typeID)
	if err != nil {
		return store.Selection{}, fmt.Errorf("profile_typeID: %w", err)
	}
	ms, err := parseSelector(selector)
	if err != nil {
		return store.Selection{}, fmt.Errorf("label_selector: %w", err)
	}
	if start, err = l.timeRange(start, end); err != nil {
		return store.Selection{}, err
	}
	if err := representable(end); err != nil {
		return store.Selection{}, err
	}
	return store.Selection{Type: t, Matchers: ms, Start: start, End: end}, nil
}

// representable returns an error for a time, in ms, that does not fit into int64
// nanoseconds, which exports and charts use. Such a time is most often in another unit.
func representable(ms int64) error {
	if most := int64(math.MaxInt64 / 1_000_000); ms > most {
		return fmt.Errorf("start/end: %d is past the last time that can be shown, %d ms since 1970; is it in µs or ns?", ms, most)
	}
	return nil
}

// timeRange checks a required range, and returns its start; a start before 1970 becomes
// 1970.
func (l Limits) timeRange(start, end int64) (int64, error) {
	switch {
	case start == 0 || end == 0:
		return 0, fmt.Errorf("start/end: the time range is missing (start=%d, end=%d)", start, end)
	case start > end:
		return 0, fmt.Errorf("start/end: start is after end (start=%d, end=%d)", start, end)
	}
	switch {
	case start == end:
		return 0, fmt.Errorf("start/end: the time range is empty (start=%d, end=%d)", start, end)
	case end < 0:
		return 0, fmt.Errorf("start/end: the time range is before 1970 (start=%d, end=%d)", start, end)
	}
	start = max(start, 0)
	if err := l.length(start, end); err != nil {
		return 0, fmt.Errorf("start/end: %w", err)
	}
	return start, representable(start)
}

// length checks a range against MaxQueryRange.
func (l Limits) length(start, end int64) error {
	if most := l.MaxQueryRange; most > 0 && end-start > most.Milliseconds() {
		return fmt.Errorf("the range of %d s is more than %s (limits.max_query_range)", (end-start)/1000, most)
	}
	return nil
}

// optionalRange reads the range of a look-up of labels or types. 0 for both ends means
// all that is stored.
func (l Limits) optionalRange(start, end int64) (int64, int64, error) {
	if start == 0 && end == 0 {
		return 0, math.MaxInt64, nil
	}
	start, err := l.timeRange(start, end)
	return start, end, err
}

// matchers reads the selectors of a look-up. A series must match all of them; an empty
// list matches everything.
func matchers(selectors []string) ([]*labels.Matcher, error) {
	var out []*labels.Matcher
	size := 0
	for i, s := range selectors {
		if size += len(s); size > maxSelectorBytes {
			return nil, fmt.Errorf("matchers: more than %d bytes", maxSelectorBytes)
		}
		ms, err := parseSelector(s)
		if err != nil {
			return nil, fmt.Errorf("matchers[%d]: %w", i, err)
		}
		out = append(out, ms...)
	}
	return out, checkRepetitions(out)
}

// nodes reads max_nodes of a flame graph.
func (l Limits) nodes(n int64) (int64, error) {
	n, err := l.size(n)
	if err != nil {
		return 0, fmt.Errorf("max_nodes: %w", err)
	}
	return n, nil
}

// size checks a requested number of nodes, and returns the number that a flame graph
// then has.
func (l Limits) size(n int64) (int64, error) {
	switch {
	case n < 0:
		return 0, fmt.Errorf("%d is negative", n)
	case l.MaxNodes > 0 && n > l.MaxNodes:
		return 0, fmt.Errorf("%d is more than %d (limits.max_nodes)", n, l.MaxNodes)
	case n > 0:
		return n, nil
	case l.DefaultNodes > 0:
		return l.DefaultNodes, nil
	}
	return 8192, nil
}

// maxStep is the longest step in ms, of whole seconds: longer ones, which no range has, are
// as long.
const maxStep = math.MaxInt64 / 10_000_000_000 * 1000

// step reads step, in seconds, of a range that timeRange has accepted. It is rounded to
// milliseconds, since clients compute with floating-point numbers.
func (l Limits) step(seconds float64, start, end int64) (time.Duration, error) {
	switch {
	case math.IsNaN(seconds) || math.IsInf(seconds, 0):
		return 0, fmt.Errorf("step: %g is not a number of seconds", seconds)
	case seconds < 0.001:
		return 0, fmt.Errorf("step: %g s is less than a millisecond", seconds)
	}
	ms := int64(math.Min(math.Round(seconds*1000), maxStep))
	most, limit := l.MaxPoints, " (limits.max_points)"
	if most <= 0 || most > store.MaxPoints {
		most, limit = store.MaxPoints, ""
	}
	// A range may touch one step more than fit into it.
	if steps := (end - start) / ms; steps >= most {
		return 0, fmt.Errorf("step: %g s gives %d points a series, more than %d%s", seconds, uint64(steps)+1, most, limit)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// callSite reads stack_trace_selector: function names, root first.
func callSite(s *typesv1.StackTraceSelector) ([]string, error) {
	if s == nil {
		return nil, nil
	}
	if s.GoPgo != nil {
		return nil, errors.New("stack_trace_selector.go_pgo: requires the pprof format")
	}
	var out []string
	for _, loc := range s.CallSite {
		out = append(out, loc.GetName())
	}
	return out, nil
}

// names reads label_names without empty names, which no label has, and without
// duplicates.
func names(in []string) []string {
	out := make([]string, 0, len(in))
	for _, n := range in {
		if n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// groupBy reads group_by of Flameline's own queries: the names of at most so many labels,
// each once.
func groupBy(in []string, most int) ([]string, error) {
	if len(in) > most {
		return nil, fmt.Errorf("group_by: %d labels are more than %d", len(in), most)
	}
	for _, name := range in {
		if !model.UTF8Validation.IsValidLabelName(name) {
			return nil, fmt.Errorf("group_by: %q is not the name of a label", name)
		}
	}
	return names(in), nil
}

// profiles reads profile_id_selector.
func profiles(ids []string) ([]string, error) {
	for i, id := range ids {
		if id == "" {
			return nil, fmt.Errorf("profile_id_selector[%d]: is empty", i)
		}
	}
	return ids, nil
}

// hexIDs reads span_selector or trace_id_selector.
func hexIDs[ID any](field string, ids []string, parse func(string) (ID, error)) ([]ID, error) {
	var out []ID
	for i, s := range ids {
		id, err := parse(s)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", field, i, err)
		}
		out = append(out, id)
	}
	return out, nil
}

// limit reads limit; 0 means no limit.
func limit(n int64) (int64, error) {
	if n < 0 {
		return 0, fmt.Errorf("limit: %d is negative", n)
	}
	return n, nil
}

// oneOf checks that a value of an enumeration has a name in its API.
func oneOf[E ~int32](field string, v E, names map[int32]string) error {
	if _, ok := names[int32(v)]; !ok {
		var known []string
		for i := range int32(len(names)) {
			known = append(known, names[i])
		}
		return fmt.Errorf("%s: %d is not one of %s", field, v, strings.Join(known, ", "))
	}
	return nil
}
