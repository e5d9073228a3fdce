package profile

import (
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/strutil"
)

// A selectorLexer reads selectors of Pyroscope's older form, which PromQL's parser
// does not know: values may stand without quotes and reach to the next comma.
type selectorLexer struct {
	text string // from { to }

	// invalid says that the form was right and a regular expression was not.
	invalid bool
}

var errNoSelector = errors.New("not a selector")

func (l *selectorLexer) matchers() ([]*labels.Matcher, error) {
	rest, ok := strings.CutPrefix(l.text, "{")
	if !ok || !strings.HasSuffix(rest, "}") {
		return nil, errNoSelector
	}
	rest = strings.TrimSpace(strings.TrimSuffix(rest, "}"))
	var ms []*labels.Matcher
	for rest != "" {
		var name, value string
		var op labels.MatchType
		var err error
		if name, rest, err = olderName(rest); err != nil {
			return nil, err
		}
		if !model.UTF8Validation.IsValidLabelName(name) {
			return nil, errNoSelector
		}
		if op, rest, err = matchType(strings.TrimSpace(rest)); err != nil {
			return nil, err
		}
		if value, rest, err = olderValue(strings.TrimSpace(rest)); err != nil {
			return nil, err
		}
		m, err := labels.NewMatcher(op, name, value)
		if err != nil {
			l.invalid = true
			return nil, fmt.Errorf("value of %q: %w", name, err)
		}
		ms = append(ms, m)
		rest = strings.TrimSpace(rest)
		if rest == "" {
			break
		}
		if rest, ok = strings.CutPrefix(rest, ","); !ok {
			return nil, errNoSelector
		}
		rest = strings.TrimSpace(rest)
	}
	return ms, nil
}

// olderName reads a label's name, in quotes or not.
func olderName(s string) (name, rest string, err error) {
	if s != "" && strings.IndexByte(quotes, s[0]) >= 0 {
		return CutQuoted(s)
	}
	n := 0
	for n < len(s) && isNameByte(s[n], n == 0) {
		n++
	}
	if n == 0 {
		return "", s, errNoSelector
	}
	return s[:n], s[n:], nil
}

// isNameByte reports whether a character may be in a label's name without quotes.
func isNameByte(c byte, first bool) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		return true
	}
	return !first && (c >= '0' && c <= '9' || c == '.' || c == '-' || c == '/')
}

func matchType(s string) (op labels.MatchType, rest string, err error) {
	for _, op := range []labels.MatchType{labels.MatchRegexp, labels.MatchNotRegexp, labels.MatchNotEqual, labels.MatchEqual} {
		if rest, ok := strings.CutPrefix(s, op.String()); ok {
			return op, rest, nil
		}
	}
	return op, s, errNoSelector
}

func olderValue(s string) (value, rest string, err error) {
	if s != "" && strings.IndexByte(quotes, s[0]) >= 0 {
		value, rest, err = CutQuoted(s)
		if after := strings.TrimSpace(rest); err == nil && (after == "" || after[0] == ',') {
			return value, rest, nil
		}
		if s[0] == '"' {
			return "", s, errNoSelector
		}
		// An apostrophe of a value without quotes.
	}
	if i := strings.IndexByte(s, ','); i >= 0 {
		return strings.TrimSpace(s[:i]), s[i:], nil
	}
	return strings.TrimSpace(s), "", nil
}

// quotes are the characters that a value may stand between.
const quotes = "\"'`"

// CutQuoted reads a text that begins with a quote, which is ", ' or `, up to the same
// quote, and what follows it. In all but the last a backslash escapes, as in PromQL.
func CutQuoted(s string) (value, rest string, err error) {
	if s == "" || strings.IndexByte(quotes, s[0]) < 0 {
		return "", s, errors.New("want a quote")
	}
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && s[0] != '`':
			i++
		case s[i] == s[0]:
			value, err = strutil.Unquote(s[:i+1])
			if err != nil {
				return "", s, fmt.Errorf("%.100s: %w", s[:i+1], err)
			}
			return value, s[i+1:], nil
		}
	}
	return "", s, fmt.Errorf("the quote %c is not closed", s[0])
}
