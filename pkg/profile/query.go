package profile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// A Query is what Pyroscope's /render takes: profiles of one type, narrowed by
// matchers.
type Query struct {
	// Type is the profile type, if the query names one by its ID.
	Type Type
	// Name is what stands in its place in queries from before there were IDs: the
	// application and what was measured, such as my-go-service.cpu.
	Name     string
	Matchers []*labels.Matcher
}

// ParseQuery reads a profile type's ID or a name, followed by a selector, which
// may be missing:
//
//	process_cpu:cpu:nanoseconds:cpu:nanoseconds{service_name="cart"}
//	my-go-service.cpu{env="prod"}
//	my-go-service.cpu{env=prod}
//
// Values without quotes are of the older form, in which they reach to the next
// comma. The type's ID may also be the value of __profile_type__ or __name__ in the
// selector. Errors name what cannot be read.
func ParseQuery(s string) (Query, error) {
	s = strings.TrimSpace(s)
	head, selector := s, ""
	if i := strings.IndexByte(s, '{'); i >= 0 {
		head, selector = strings.TrimSpace(s[:i]), s[i:]
		if !strings.HasSuffix(selector, "}") {
			return Query{}, fmt.Errorf("%q: the labels are not closed by }", s)
		}
	} else if strings.ContainsAny(s, `="`) {
		return Query{}, fmt.Errorf("%q: the labels are not in braces; curl takes braces for itself, and leaves them with --globoff (-g)", s)
	}
	ms, err := ParseSelector(selector)
	if err != nil {
		quoted, ok := quoteValues(selector)
		if !ok {
			return Query{}, err
		}
		if ms, err = ParseSelector(quoted); err != nil {
			return Query{}, err
		}
	}
	q := Query{Matchers: ms}
	if head == "" {
		head, q.Matchers = takeType(ms)
		if head != strings.TrimSpace(head) || strings.ContainsAny(head, `{}="`) {
			return Query{}, fmt.Errorf("%q: no profile type has braces, quotes or =, or begins or ends with a space", head)
		}
	}
	switch {
	case head == "":
		return Query{}, errors.New("no profile type: want name:sample_type:sample_unit:period_type:period_unit{label=\"value\"}")
	case strings.Contains(head, ":"):
		q.Type, err = ParseType(head)
		return q, err
	}
	q.Name = head
	return q, nil
}

// takeType takes the matcher that names the profile type out of others.
func takeType(ms []*labels.Matcher) (string, []*labels.Matcher) {
	for _, name := range []string{"__profile_type__", model.MetricNameLabel} {
		i := slices.IndexFunc(ms, func(m *labels.Matcher) bool { return m.Name == name && m.Type == labels.MatchEqual })
		if i >= 0 {
			id := ms[i].Value
			return id, slices.Delete(ms, i, i+1)
		}
	}
	return "", ms
}

// quoteValues turns a selector of the older form, {a=b,c!=d}, into one of today.
// It reports whether it is one: pairs and nothing else.
func quoteValues(s string) (string, bool) {
	var b strings.Builder
	b.WriteByte('{')
	rest := s[1 : len(s)-1]
	for strings.TrimSpace(rest) != "" {
		i := strings.IndexAny(rest, "=!")
		if i < 0 {
			return "", false
		}
		name := strings.TrimSpace(rest[:i])
		if !model.LegacyValidation.IsValidLabelName(name) {
			name = strconv.Quote(name)
		}
		rest = rest[i:]
		op := rest[:min(2, len(rest))]
		switch op {
		case "=~", "!~", "!=":
		default:
			if op = rest[:1]; op != "=" {
				return "", false
			}
		}
		rest = strings.TrimSpace(rest[len(op):])
		var value, after string
		if q, err := strconv.QuotedPrefix(rest); err == nil {
			value, after = q, strings.TrimSpace(rest[len(q):])
			if after != "" && after[0] != ',' {
				return "", false
			}
			after = strings.TrimPrefix(after, ",")
		} else {
			value, after, _ = strings.Cut(rest, ",")
			value = strconv.Quote(strings.TrimSpace(value))
		}
		b.WriteString(name + op + value + ",")
		rest = after
	}
	return strings.TrimSuffix(b.String(), ",") + "}", true
}
