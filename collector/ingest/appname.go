package ingest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/util/strutil"
)

// labelSpy is the label that names the sender.
const labelSpy = "pyroscope_spy"

// ParseName reads an application's name with labels, app{name=value,...}, as Pyroscope's
// SDKs send it. Names are made of ASCII letters, digits, _ and ., the application's also
// of - and /; values of anything but , and }. Space around each is dropped. Names and
// values may also be in quotes, as in selectors: ", ' and ` mean what they mean there,
// with the same escapes, and any text is allowed within. Of labels with the same name
// the last one counts.
//
// A label that is not closed, and text after the closing brace, are errors that give the
// offset in bytes; Pyroscope ignores them silently.
func ParseName(s string) (app string, set map[string]string, err error) {
	return parseName(s, nil)
}

// parseName is ParseName with a report, which may be nil, of labels that the name has
// twice with different values.
func parseName(s string, r *Report) (app string, set map[string]string, err error) {
	app, rest, braced := strings.Cut(s, "{")
	if app = strings.TrimSpace(app); app == "" {
		return "", nil, errors.New("name: the application has no name")
	}
	if i := strings.IndexFunc(app, func(r rune) bool { return !isNameRune(r) && r != '-' && r != '/' }); i >= 0 {
		return "", nil, fmt.Errorf("name: %q: %q may not be in an application's name", app, firstRune(app[i:]))
	}
	set = map[string]string{}
	if !braced {
		return app, set, nil
	}
	p := nameParser{text: s, rest: rest}
	for {
		key, value, more, err := p.label()
		if err != nil {
			return "", nil, fmt.Errorf("name: %w", err)
		}
		if other, ok := set[key]; ok && other != value {
			r.Skip("label", key+", which the name has twice", 1)
		}
		if key != "" {
			set[key] = value
		}
		if !more {
			break
		}
	}
	if _, ok := set[model.MetricNameLabel]; ok {
		return "", nil, errors.New("name: the label __name__ is the application's name, which stands before the labels")
	}
	if rest = strings.Trim(p.rest, "} \t"); rest != "" {
		return "", nil, fmt.Errorf("name: %q follows the labels, at byte %d", rest, strings.LastIndex(s, rest))
	}
	return app, set, nil
}

// A nameParser reads the labels of an application's name.
type nameParser struct {
	text, rest string // the whole name, and the part not read yet
}

func (p *nameParser) at() int { return len(p.text) - len(p.rest) }

// label reads a label and the comma or brace after it. key is "" if the closing brace
// comes at once; more reports whether another label may follow.
func (p *nameParser) label() (key, value string, more bool, err error) {
	at := p.at()
	if key, err = p.key(); err != nil || key == "" {
		return "", "", false, err
	}
	p.rest = strings.TrimLeft(p.rest[1:], " \t") // =
	if p.rest != "" && isQuote(p.rest[0]) {
		if value, err = p.quoted(); err != nil {
			return "", "", false, fmt.Errorf("the value of the label %q: %w", key, err)
		}
		if p.rest = strings.TrimLeft(p.rest, " \t"); p.rest != "" && p.rest[0] != ',' && p.rest[0] != '}' {
			return "", "", false, fmt.Errorf("the value of the label %q is in quotes, but %q follows them, at byte %d", key, firstRune(p.rest), p.at())
		}
	}
	end := strings.IndexAny(p.rest, ",}")
	if end < 0 {
		return "", "", false, fmt.Errorf("the value of the label %q is not closed by , or }, at byte %d", key, at+strings.IndexByte(p.text[at:], '=')+1)
	}
	if end > 0 {
		value = strings.TrimSpace(p.rest[:end])
	}
	more = p.rest[end] == ','
	p.rest = p.rest[end+1:]
	return key, value, more, nil
}

// key reads a label's name, up to the = after it. If the closing brace comes instead, it
// reads the brace and returns "".
func (p *nameParser) key() (string, error) {
	at := p.at()
	if rest := strings.TrimLeft(p.rest, " \t"); rest != "" && isQuote(rest[0]) {
		p.rest = rest
		key, err := p.quoted()
		if err != nil {
			return "", fmt.Errorf("a label's name: %w", err)
		}
		if p.rest = strings.TrimLeft(p.rest, " \t"); p.rest == "" || p.rest[0] != '=' {
			return "", fmt.Errorf("the label %q has no value, at byte %d", key, at)
		}
		if key == "" {
			return "", fmt.Errorf("a label has no name, at byte %d", at)
		}
		return key, nil
	}
	i := strings.IndexAny(p.rest, "=}")
	if i < 0 {
		return "", fmt.Errorf("the labels are not closed by } after byte %d", at)
	}
	key := strings.TrimSpace(p.rest[:i])
	closed := p.rest[i] == '}'
	switch {
	case closed && key != "":
		return "", fmt.Errorf("the label %q has no value, at byte %d", key, at)
	case closed:
		p.rest = p.rest[i+1:]
		return "", nil
	case key == "":
		return "", fmt.Errorf("a label has no name, at byte %d", at)
	}
	if j := strings.IndexFunc(key, func(r rune) bool { return !isNameRune(r) }); j >= 0 {
		return "", fmt.Errorf("the label %q: %q may not be in a label's name, at byte %d", key, firstRune(key[j:]), at)
	}
	p.rest = p.rest[i:]
	return key, nil
}

func isQuote(c byte) bool { return c == '"' || c == '\'' || c == '`' }

// quoted reads text in quotes.
func (p *nameParser) quoted() (string, error) {
	at, quote := p.at(), p.rest[0]
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '\\' && quote != '`':
			i++
		case c == quote:
			text, err := strutil.Unquote(p.rest[:i+1])
			if err != nil {
				return "", fmt.Errorf("%.100s is not quoted as in a selector, at byte %d", p.rest[:i+1], at)
			}
			p.rest = p.rest[i+1:]
			return text, nil
		}
	}
	return "", fmt.Errorf("the quotes are not closed, at byte %d", at)
}

func isNameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '.'
}

func firstRune(s string) string {
	for _, r := range s {
		return string(r)
	}
	return ""
}
