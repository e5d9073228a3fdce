package conformance

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// These expressions read Graphviz text, which servers write differently. Both give a box
// per function and an arrow per call with shares of the total; the form of values and
// the place of the name differ.
var (
	dotNode    = regexp.MustCompile(`(?m)^(N\d+) \[label="((?:[^"\\]|\\.)*)"(.*)\];?$`)
	dotEdge    = regexp.MustCompile(`(?m)^(N\d+) -> (N\d+) \[label="([^"]*)"`)
	dotTooltip = regexp.MustCompile(`tooltip="(\S+) `)
	dotShares  = regexp.MustCompile(`\(([\d.]+)%\)`)
	dotTotal   = regexp.MustCompile(`(?:of (\S+) total|total (\S+ \w+))`)
)

// dot lists the boxes with their own and cumulative shares of the total, and the arrows
// with their shares, in whole percent.
func dot(s string) ([]string, error) {
	m := dotTotal.FindStringSubmatch(s)
	if m == nil {
		return nil, fmt.Errorf("a graph without a total: %.100s", s)
	}
	total, err := dotValue(m[1] + m[2])
	if err != nil {
		return nil, err
	}
	names, out := map[string]string{}, []string(nil)
	for _, m := range dotNode.FindAllStringSubmatch(s, -1) {
		label := strings.Split(m[2], `\n`)
		name := label[0]
		if tip := dotTooltip.FindStringSubmatch(m[3]); tip != nil {
			name = tip[1]
		}
		names[m[1]] = name
		// A box has its own and its cumulative share; one number if they are equal, and
		// no own share if it is 0.
		shares := dotShares.FindAllStringSubmatch(m[2], -1)
		own, cumulative := shares[0][1], shares[len(shares)-1][1]
		if len(shares) == 1 && strings.Contains(m[2], `\n0 of `) {
			own = "0"
		}
		out = append(out, fmt.Sprintf("%s: own %s, cumulative %s", name, percent(own), percent(cumulative)))
	}
	for _, m := range dotEdge.FindAllStringSubmatch(s, -1) {
		v, err := dotValue(m[3])
		if err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprintf("%s -> %s: %.0f%%", names[m[1]], names[m[2]], math.Round(100*v/total)))
	}
	slices.Sort(out)
	return out, nil
}

func percent(s string) string {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return s
	}
	return fmt.Sprintf("%.0f%%", math.Round(v))
}

// dotValue reads "1.84s", "12" or "4240000000 nanoseconds".
func dotValue(s string) (float64, error) {
	s = strings.TrimSpace(s)
	if d, err := time.ParseDuration(s); err == nil {
		return float64(d), nil
	}
	number, _, _ := strings.Cut(s, " ")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("the value %q of a graph: %w", s, err)
	}
	return v, nil
}
