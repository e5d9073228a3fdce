package profile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// ParseSelector reads PromQL's series selector, such as {pod=~"cart-.*"}. ""
// and {} match everything and give no matchers. Quotes may be ", ' or `, with
// PromQL's escapes; names with other characters stand in quotes, as in
// {"k8s.pod.name"="a"}, and those with dots, dashes and slashes may do without.
// Errors name the position, in bytes from 1, as line:column.
func ParseSelector(s string) ([]*labels.Matcher, error) {
	trimmed := strings.TrimSpace(s)
	if trimmed == "" {
		return nil, nil
	}
	if inner, ok := strings.CutPrefix(trimmed, "{"); ok {
		if inner, ok = strings.CutSuffix(inner, "}"); ok && strings.TrimSpace(inner) == "" {
			return nil, nil
		}
	}
	ms, err := parser.NewParser(parser.Options{}).ParseMetricSelector(s)
	if err == nil {
		return ms, nil
	}
	var list parser.ParseErrors
	if errors.As(err, &list) && len(list) > 0 {
		err = &list[0]
	}
	l := selectorLexer{text: trimmed}
	if ms, lenient := l.matchers(); lenient == nil {
		return ms, nil
	} else if l.invalid && !strings.Contains(err.Error(), "regexp") {
		err = lenient // the form was right but for the parser
	}
	return nil, fmt.Errorf("selector %q: %w", s, err)
}

// FormatSelector is the inverse of ParseSelector.
func FormatSelector(ms []*labels.Matcher) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, m := range ms {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(m.String())
	}
	b.WriteByte('}')
	return b.String()
}
