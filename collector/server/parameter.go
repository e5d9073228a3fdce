package server

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// A parameter of a URL has the names that a value may be given by, the first of them
// being its own.
type parameter []string

// of returns the first value that is there and its name.
func (p parameter) of(v url.Values) (name, value string) {
	for _, name := range p {
		if s := strings.TrimSpace(v.Get(name)); s != "" {
			return name, s
		}
	}
	return p[0], ""
}

// unlistened are parameters without a meaning that pages send: Pyroscope's first one
// adds refreshToken, so that a browser asks again.
var unlistened = []string{"refreshToken"}

// only refuses parameters that are not among the known ones, and those that are given
// twice.
func only(v url.Values, known ...parameter) error {
	var names []string
	for _, p := range known {
		names = append(names, p...)
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if !slices.Contains(names, name) && !slices.Contains(unlistened, name) {
			return fmt.Errorf("%.100s: is no parameter of this; there are %s", name, strings.Join(names, ", "))
		}
	}
	return once(v, known...)
}

// once refuses parameters that have several values. Empty ones are not counted, nor
// the same one twice.
func once(v url.Values, known ...parameter) error {
	for _, p := range known {
		var by, value string
		for _, name := range p {
			for _, s := range v[name] {
				switch s = strings.TrimSpace(s); {
				case s == "" || s == value:
				case value != "":
					return fmt.Errorf("%s: is %.200q, and %s is %.200q; want one of them", name, s, by, value)
				default:
					by, value = name, s
				}
			}
		}
	}
	return nil
}
