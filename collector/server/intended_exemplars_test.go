package server_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/flameline/flameline/collector/server/conformance"
)

// An exampleSpan is one of the corpus in one profile.
type exampleSpan struct {
	id, trace string
	labels    string // that it has alone, sorted
	value     int64
}

// spansOf are the spans of cart in its i-th profile, with as many pods.
func spansOf(i, pods int64) []exampleSpan {
	const first = `,pod="cart-0"`
	shared := ""
	if pods == 1 {
		shared = first
	}
	spans := []exampleSpan{
		{"3333333333333333", "5b8aa5a2d2c872e8321cf37308d69df2", `namespace="shop"` + shared, pods * 10_000_000 * (1 + i)},
		{"1a1a1a1a1a1a1a1a", "00000000000000000000000000000001", `namespace="shop"` + first, 50_000_000},
		{"1111111111111111", "", `endpoint="/pay",namespace="shop"` + shared, pods * 40_000_000},
	}
	if pods == 2 {
		spans = append(spans, exampleSpan{"2222222222222222", "00000000000000000000000000000001", `namespace="shop",pod="cart-1"`, 50_000_000})
	}
	// The highest value comes first, and of equal ones the lowest ID.
	slices.SortFunc(spans, func(a, b exampleSpan) int { return cmp.Or(cmp.Compare(b.value, a.value), cmp.Compare(a.id, b.id)) })
	return spans
}

func (s exampleSpan) line(at string, i int64) string {
	const typed = `__name__="process_cpu",__period_type__="cpu",__period_unit__="nanoseconds",__profile_type__="` + cpu + `",__service_name__="cart",__type__="cpu",__unit__="nanoseconds",`
	return fmt.Sprintf(`%s: such as %d at %+d ms, profile "", span "%s", trace "%s", {%s%s,service_name="cart"}`, at, s.value, i*conformance.Step+1, s.id, s.trace, typed, s.labels)
}

// spanPoints are the series of pod cart-0 with an example of a span for each point.
func spanPoints() (out []string) {
	for i := range int64(conformance.Count) {
		at := fmt.Sprintf("0 {} %+d ms", (i+1)*conformance.Step)
		out = append(out, fmt.Sprintf("%s: %g", at, 230e6+10e6*float64(i)), spansOf(i, 1)[0].line(at, i))
	}
	return out
}

// workPoints are the series of what main.work takes in pod cart-0, with its profiles.
func workPoints() (out []string) {
	for i := range int64(conformance.Count) {
		at := fmt.Sprintf("0 {} %+d ms", (i+1)*conformance.Step)
		s := exampleSpan{labels: `namespace="shop",pod="cart-0"`, value: 80_000_000 + 10_000_000*i}
		out = append(out, fmt.Sprintf("%s: %g", at, float64(s.value)), strings.Replace(s.line(at, i), `profile ""`, `profile "a UUID"`, 1))
	}
	return out
}

// spanCells are the heatmap of both pods' spans, of 20 to 160 ms in 20 rows, with
// an example for each row of a slot. No label is lost that all series of a span
// have.
func spanCells() (out []string) {
	var rows []float64
	for i := range 20 {
		rows = append(rows, 20e6+7e6*float64(i))
	}
	for i := range int64(conformance.Count) {
		at := fmt.Sprintf("0 {} %+d ms", (i+1)*conformance.Step)
		var counts [20]int
		var lines []string
		for _, s := range spansOf(i, 2) {
			row := min((s.value-20e6)/7e6, 19)
			if counts[row]++; counts[row] == 1 {
				lines = append(lines, s.line(at, i))
			}
		}
		slices.Sort(lines)
		out = append(append(out, fmt.Sprintf("%s: rows %g counts %d", at, rows, counts)), lines...)
	}
	return out
}
