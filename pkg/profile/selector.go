package profile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// ParseSelector reads PromQL's series selector, such as {pod=~"cart-.*"}. "" and {}
// match everything and give no matchers. Quotes may be ", ' or `, with PromQL's escapes.
// Names with dots, dashes and slashes may be unquoted; other special characters need
// quotes, as in {"my label"="a"}. Errors name the position, in bytes from 1, as
// line:column.
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
		err = lenient // the more specific error
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
