package ingest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/common/model"
)

// labelSpy names the sender.
const labelSpy = "pyroscope_spy"

// ParseName reads an application's name with labels, app{name=value,...}, as
// Pyroscope's SDKs send it. Names are made of ASCII letters, digits, _ and ., the
// application's also of - and /; values of anything but , and }. Space around
// each is dropped. Of labels with the same name the last one counts.
//
// Pyroscope drops a label that is not closed in silence, and what follows the
// closing brace; here they are errors, which give the offset in bytes.
func ParseName(s string) (app string, set map[string]string, err error) {
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
	for {
		at := len(s) - len(rest)
		i := strings.IndexAny(rest, "=}")
		if i < 0 {
			return "", nil, fmt.Errorf("name: the labels are not closed by } after byte %d", at)
		}
		key := strings.TrimSpace(rest[:i])
		if rest[i] == '}' {
			if key != "" {
				return "", nil, fmt.Errorf("name: the label %q has no value, at byte %d", key, at)
			}
			rest = rest[i+1:]
			break
		}
		if key == "" {
			return "", nil, fmt.Errorf("name: a label has no name, at byte %d", at)
		}
		if j := strings.IndexFunc(key, func(r rune) bool { return !isNameRune(r) }); j >= 0 {
			return "", nil, fmt.Errorf("name: the label %q: %q may not be in a label's name, at byte %d", key, firstRune(key[j:]), at)
		}
		rest = rest[i+1:]
		end := strings.IndexAny(rest, ",}")
		if end < 0 {
			return "", nil, fmt.Errorf("name: the value of the label %q is not closed by , or }, at byte %d", key, len(s)-len(rest))
		}
		set[key] = strings.TrimSpace(rest[:end])
		closed := rest[end] == '}'
		if rest = rest[end+1:]; closed {
			break
		}
	}
	if _, ok := set[model.MetricNameLabel]; ok {
		return "", nil, errors.New("name: the label __name__ is the application's name, which stands before the labels")
	}
	if rest = strings.Trim(rest, "} \t"); rest != "" {
		return "", nil, fmt.Errorf("name: %q follows the labels, at byte %d", rest, strings.LastIndex(s, rest))
	}
	return app, set, nil
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
