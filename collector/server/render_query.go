package server

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/pkg/profile"
	"github.com/flameline/flameline/pkg/timeexpr"
)

// labelService is the label whose value is the application's name.
const labelService = "service_name"

// A renderQuery is one selection of /render and /render-diff.
type renderQuery struct {
	store.Selection
	// Service is the service that the query names, "" if it names none.
	Service     string
	from, until time.Time
}

// renderNames are the parameters of one selection.
type renderNames struct{ query, from, until parameter }

// defaultRenderRange is the length of the range if the request has no start.
const defaultRenderRange = time.Hour

// query reads a selection. Its errors begin with the parameter's name.
func (r *renderer) query(ctx context.Context, v url.Values, names renderNames) (q renderQuery, err error) {
	if q.from, q.until, err = r.times(v, names); err != nil {
		return q, invalid(err)
	}
	// Both ends are inclusive. Times before 1970 become 1970.
	q.Start, q.End = max(q.from.UnixMilli(), 0), max(q.until.UnixMilli(), 0)
	name, text := names.query.of(v)
	if text == "" {
		return q, invalid(fmt.Errorf(`%s: is missing; want a profile type and labels, such as process_cpu:cpu:nanoseconds:cpu:nanoseconds{service_name="cart"}, or cart.cpu`, name))
	}
	p, err := profile.ParseQuery(text)
	if err != nil {
		return q, invalid(fmt.Errorf("%s: %w", name, err))
	}
	q.Type, q.Matchers = p.Type, p.Matchers
	if p.Name != "" {
		if err := r.resolve(ctx, &q, name, p.Name); err != nil {
			return q, code(err)
		}
	}
	for _, m := range q.Matchers {
		if m.Name == labelService && m.Type == labels.MatchEqual {
			q.Service = m.Value
		}
	}
	return q, nil
}

func (r *renderer) times(v url.Values, names renderNames) (from, until time.Time, err error) {
	now := r.now()
	until = now
	fromName, fromText := names.from.of(v)
	untilName, untilText := names.until.of(v)
	if untilText != "" {
		if until, err = timeexpr.Parse(untilText, now, true); err != nil {
			return from, until, fmt.Errorf("%s: %w", untilName, err)
		}
	}
	from = until.Add(-defaultRenderRange)
	if fromText != "" {
		if from, err = timeexpr.Parse(fromText, now, false); err != nil {
			return from, until, fmt.Errorf("%s: %w", fromName, err)
		}
	}
	both := fromName + "/" + untilName
	if !from.Before(until) {
		return from, until, fmt.Errorf("%s: the time range is empty: %s is not before %s",
			both, from.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339))
	}
	if err := r.limits.length(from.UnixMilli(), until.UnixMilli()); err != nil {
		return from, until, fmt.Errorf("%s: %w", both, err)
	}
	return from, until, nil
}

// resolve finds the profile type that a name such as my-go-service.cpu means: one that
// the application has stored, or else the likeliest one.
//
// If the last part of the name is not a known type, the whole name is an application's
// and means its CPU time. An unknown application is not an error, since its first
// profile may be on the way. field is the parameter's name, for errors.
func (r *renderer) resolve(ctx context.Context, q *renderQuery, field, name string) error {
	matchers := q.Matchers
	try := func(service, what string) (bool, error) {
		q.Matchers = matchers
		if service != "" {
			m, err := labels.NewMatcher(labels.MatchEqual, labelService, service)
			if err != nil {
				return false, err
			}
			q.Matchers = append([]*labels.Matcher{m}, matchers...)
		}
		stored, err := r.typesOf(ctx, q.Matchers, q.Start, q.End)
		if err != nil {
			return false, err
		}
		var ok bool
		q.Type, ok = legacyType(what, stored)
		return ok, nil
	}

	service, what := "", name
	if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return m.Name == labelService }) {
		if i := strings.LastIndexByte(name, '.'); i > 0 {
			service, what = name[:i], name[i+1:]
		} else {
			service, what = name, "cpu"
		}
	}
	if ok, err := try(service, what); ok || err != nil {
		return err
	}
	narrowed := q.Matchers
	if service != "" && service != name {
		if ok, err := try(name, "cpu"); ok || err != nil {
			return err
		}
	}
	// Nothing is stored in this time range: use the likeliest type, or one that was
	// stored at another time.
	if t, ok := usualLegacyType(what); ok {
		q.Type, q.Matchers = t, narrowed
		return nil
	}
	ever, err := r.typesOf(ctx, narrowed, 0, math.MaxInt64)
	if err != nil {
		return err
	}
	if t, ok := legacyType(what, ever); ok {
		q.Type, q.Matchers = t, narrowed
		return nil
	}
	if service == "" || len(ever) > 0 {
		return invalid(fmt.Errorf("%s: %q is not a profile type of %s; %s", field, what, profile.FormatSelector(narrowed), storedTypes(ever)))
	}
	q.Type, _ = usualLegacyType("cpu")
	return nil
}

// typesOf lists the profile types of matching series.
func (r *renderer) typesOf(ctx context.Context, ms []*labels.Matcher, start, end int64) ([]profile.Type, error) {
	ids, err := r.store.LabelValues(ctx, "__profile_type__", ms, start, end)
	if err != nil {
		return nil, err
	}
	var out []profile.Type
	for _, id := range ids {
		if t, err := profile.ParseType(id); err == nil {
			out = append(out, t)
		}
	}
	return out, nil
}

// renderNodes is the parameter for the number of nodes.
var renderNodes = parameter{"max-nodes", "maxNodes"}

// maxNodes reads the requested number of nodes, 0 if the request has none.
func maxNodes(v url.Values) (name string, n int64, err error) {
	name, text := renderNodes.of(v)
	if text == "" {
		return name, 0, nil
	}
	if n, err = strconv.ParseInt(text, 10, 64); err != nil {
		return name, 0, invalid(fmt.Errorf("%s: %q is not a number of nodes", name, text))
	}
	return name, n, nil
}
