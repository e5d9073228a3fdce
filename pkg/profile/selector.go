package profile

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
)

// ParseSelector reads PromQL's series selector, such as {pod=~"cart-.*"}. ""
// and {} match everything and give no matchers. Names with dots, dashes and
// slashes may stand without quotes: {k8s.pod.name="a"} is {"k8s.pod.name"="a"}.
// Errors name the position, in bytes from 1, as line:column. The editor's
// parseSelector reads the same; testdata/selectors.json holds both to it.
func ParseSelector(s string) ([]*labels.Matcher, error) {
	switch strings.Trim(s, " \t\r\n") {
	case "", "{}": // what most requests for labels have
		return nil, nil
	}
	ms, err := parser.NewParser(parser.Options{}).ParseMetricSelector(s)
	if err != nil {
		ms, err = parseQuoted(s)
	}
	for _, m := range ms {
		if err == nil && !(utf8.ValidString(m.Name) && utf8.ValidString(m.Value)) {
			err = fmt.Errorf("matcher %s is not UTF-8", m)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("selector %q: %w", s, err)
	}
	return ms, nil
}

// parseQuoted parses a selector whose names are put in quotes where PromQL wants them.
// Positions in its errors are those of s.
func parseQuoted(s string) ([]*labels.Matcher, error) {
	text, added := quoteNames(s)
	ms, err := parser.NewParser(parser.Options{}).ParseMetricSelector(text)
	var list parser.ParseErrors
	if errors.As(err, &list) && len(list) > 0 {
		first := list[0]
		first.Query, first.PositionRange.Start = s, first.PositionRange.Start-before(added, first.PositionRange.Start)
		err = &first
	}
	return ms, err
}

// named finds names before an operator, and what may look like one: strings and
// comments. The editor has the same expression.
var named = regexp.MustCompile(`"(?:[^"\\\n]|\\(?s:.))*"?|'(?:[^'\\\n]|\\(?s:.))*'?|` + "`[^`]*`?" + `|#[^\r\n]*|([a-zA-Z_][a-zA-Z0-9_./-]*)[ \t\r\n]*[=!]`)

// quoteNames puts names that PromQL does not take otherwise in quotes. added are
// the places of those quotes in the text.
func quoteNames(s string) (text string, added []posrange.Pos) {
	var b strings.Builder
	at := 0
	for _, m := range named.FindAllStringSubmatchIndex(s, -1) {
		if from, to := m[2], m[3]; from >= 0 && strings.ContainsAny(s[from:to], "./-") {
			b.WriteString(s[at:from])
			added = append(added, posrange.Pos(b.Len()), posrange.Pos(b.Len()+to-from+1))
			b.WriteString(`"` + s[from:to] + `"`)
			at = to
		}
	}
	b.WriteString(s[at:])
	return b.String(), added
}

// before counts the places before another one.
func before(places []posrange.Pos, at posrange.Pos) posrange.Pos {
	n := posrange.Pos(0)
	for _, p := range places {
		if p < at {
			n++
		}
	}
	return n
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
	// The parser takes this character for bytes that are not UTF-8.
	return strings.ReplaceAll(b.String(), "\uFFFD", `\ufffd`)
}
