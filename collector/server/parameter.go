package server

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// A parameter is a URL parameter's name and its aliases, the name first.
type parameter []string

// of returns the first value that is not empty, and the name it was given by.
func (p parameter) of(v url.Values) (name, value string) {
	for _, name := range p {
		if s := strings.TrimSpace(v.Get(name)); s != "" {
			return name, s
		}
	}
	return p[0], ""
}

// ignoredParameters are parameters without a meaning that web pages send: Pyroscope's
// first page adds refreshToken to get past the browser's cache.
var ignoredParameters = []string{"refreshToken"}

// checkKnown returns an error for a parameter that is not known, and for one that is given
// twice.
func checkKnown(v url.Values, known ...parameter) error {
	var names []string
	for _, p := range known {
		names = append(names, p...)
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if !slices.Contains(names, name) && !slices.Contains(ignoredParameters, name) {
			return fmt.Errorf("%.100s: unknown parameter; known are %s", name, strings.Join(names, ", "))
		}
	}
	return checkSingle(v, known...)
}

// checkSingle returns an error for a parameter with several different values. Empty values do
// not count.
func checkSingle(v url.Values, known ...parameter) error {
	for _, p := range known {
		var by, value string
		for _, name := range p {
			for _, s := range v[name] {
				switch s = strings.TrimSpace(s); {
				case s == "" || s == value:
				case value != "":
					return fmt.Errorf("%s: is %.200q, and %s is %.200q; give only one value", name, s, by, value)
				default:
					by, value = name, s
				}
			}
		}
	}
	return nil
}
