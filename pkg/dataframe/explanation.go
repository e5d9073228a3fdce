package dataframe

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/flameline/flameline/pkg/profile"
)

// A Part is what a function, or a value of a label, has of a change. Values are in units.
type Part struct {
	Kind          string // function, or the label's name
	Name          string
	Now, Baseline float64
	Share         float64 // of the whole change, from 0 to 1 unless parts change in different ways
	Error         float64 // what chance explains of the change; 0 if it is not known
}

// Explanation is the table of the parts of a change.
func Explanation(parts []Part, unit Unit) *data.Frame {
	t := &functionTable{rows: len(parts)}
	change, shares := t.column("Change", unit.ID), t.column("Share of the change", percentUnit)
	var chance *column
	if slices.ContainsFunc(parts, func(p Part) bool { return p.Error > 0 }) { // unknown without numbers of samples
		chance = t.column("Change ±", unit.ID)
	}
	now, base := t.column(valueColumn, unit.ID), t.column("Value in baseline", unit.ID)
	kinds := make([]string, 0, len(parts))
	for _, p := range parts {
		kinds, t.names = append(kinds, p.Kind), append(t.names, p.Name)
		change.add(p.Now - p.Baseline)
		shares.add(p.Share)
		chance.add(p.Error)
		now.add(p.Now)
		base.add(p.Baseline)
	}
	frame := t.frame()
	frame.Name = "explanation"
	frame.Fields[0].Name = "Name"
	frame.Fields = append([]*data.Field{data.NewField("By", nil, kinds)}, frame.Fields...)
	return frame
}

// ChangeError is what chance explains of the change between two values of a table, in
// units: in 95 of 100 cases a change is smaller if nothing has changed.
func ChangeError(now, before profile.Sampled, f *profile.FunctionTable, baseline, unit Unit) float64 {
	return deviations * math.Hypot(deviation(now, f.Total)/unit.Divisor, deviation(before, f.BaselineTotal)/baseline.Divisor)
}

// FormatValue writes a value of a unit for a sentence, with three digits.
func FormatValue(v float64, unit Unit) string {
	scale := func(v, by float64, names ...string) string {
		i := 0
		for math.Abs(v) >= by && i < len(names)-1 {
			v /= by
			i++
		}
		return digits(v) + " " + names[i]
	}
	switch unit.ID {
	case "ns":
		return FormatValue(v/1e9, Unit{ID: "s"})
	case "µs":
		return FormatValue(v/1e6, Unit{ID: "s"})
	case "ms":
		return FormatValue(v/1e3, Unit{ID: "s"})
	case "s":
		if a := math.Abs(v); a != 0 && a < 1 {
			return scale(v*1e6, 1000, "µs", "ms", "s")
		}
		return digits(v) + " s"
	case "bytes":
		return scale(v, 1024, "B", "KiB", "MiB", "GiB", "TiB")
	case "binBps":
		return scale(v, 1024, "B/s", "KiB/s", "MiB/s", "GiB/s", "TiB/s")
	case "ops":
		return digits(v) + "/s"
	case "short":
		return digits(v)
	}
	return fmt.Sprintf("%s %s", digits(v), unit.ID)
}

// digits writes a number with three digits, and not in powers of ten.
func digits(v float64) string {
	if math.Abs(v) >= 1000 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}
