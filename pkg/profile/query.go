package profile

import (
	"errors"
	"fmt"
	"slices"
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
// Quotes and names are those of ParseSelector. Values without quotes are of the
// older form, in which they reach to the next comma. The type's ID may also be the value of __profile_type__ or __name__ in the
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
		older := selectorLexer{text: selector}
		var bare error
		switch ms, bare = older.matchers(); {
		case older.invalid:
			return Query{}, fmt.Errorf("selector %q: %w", selector, bare)
		case bare != nil:
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
