package dataframe

import (
	"math"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/flameline/flameline/pkg/profile"
)

// percentUnit is Grafana's unit of shares from 0 to 1.
const percentUnit = "percentunit"

// deviations is how many standard deviations the error columns span on either side: chance
// stays within in 95 of 100 cases.
const deviations = 1.96

// CurrencyUnit returns Grafana's unit of amounts in the currency with a symbol.
func CurrencyUnit(symbol string) string { return "currency:" + symbol }

// Functions is the table of functions: each with its own value, that of it and all that it
// calls, and their shares of all stacktraces. If samples are known, they are counted. cost
// converts values in the unit to money per month; without an ID there is no such column.
func Functions(f *profile.FunctionTable, unit, cost Unit) *data.Frame {
	t := newFunctionTable(f)
	own, ownShare := t.column("Own", unit.ID), t.column("Own share", percentUnit)
	total, totalShare := t.column("Total", unit.ID), t.column("Total share", percentUnit)
	money := t.optional("Cost per month", cost)
	samples := make([]int64, 0, len(f.Rows))
	for i := range f.Rows {
		row := &f.Rows[i]
		t.names = append(t.names, row.Name)
		own.add(float64(row.Own.Value) / unit.Divisor)
		total.add(float64(row.Total.Value) / unit.Divisor)
		ownShare.add(share(row.Own.Value, f.Total.Value))
		totalShare.add(share(row.Total.Value, f.Total.Value))
		money.add(float64(row.Own.Value) / unit.Divisor / cost.Divisor)
		samples = append(samples, row.Own.Samples)
	}
	frame := t.frame()
	if f.HasSamples {
		frame.Fields = append(frame.Fields, data.NewField("Own samples", nil, samples).SetConfig(&data.FieldConfig{Unit: "short"}))
	}
	return frame
}

// FunctionsDiff is the table of functions with a baseline, whose unit differs in its
// divisor alone if the baseline is scaled. If samples are known, changes have the error
// that sampling gives them: a change that is smaller may be chance. cost is that of
// Functions.
func FunctionsDiff(f *profile.FunctionTable, baseline, unit, cost Unit) *data.Frame {
	t := newFunctionTable(f)
	type side struct{ now, before, change, err *column }
	columns := func(name string) side {
		s := side{now: t.column(name, unit.ID), before: t.column(name+" in baseline", unit.ID), change: t.column(name+" change", unit.ID)}
		if f.HasSamples {
			s.err = t.column(name+" change ±", unit.ID)
		}
		return s
	}
	fill := func(s side, now, before profile.Sampled) (value, change float64) {
		a, b := float64(now.Value)/unit.Divisor, float64(before.Value)/baseline.Divisor
		s.now.add(a)
		s.before.add(b)
		s.change.add(a - b)
		if s.err != nil { // the error takes some computing
			s.err.add(ChangeError(now, before, f, baseline, unit))
		}
		return a, a - b
	}
	own, total := columns("Own"), columns("Total")
	money, moneyChange := t.optional("Cost per month", cost), t.optional("Cost change per month", cost)
	for i := range f.Rows {
		row := &f.Rows[i]
		t.names = append(t.names, row.Name)
		value, change := fill(own, row.Own, row.BaselineOwn)
		fill(total, row.Total, row.BaselineTotal)
		money.add(value / cost.Divisor)
		moneyChange.add(change / cost.Divisor)
	}
	return t.frame()
}

// deviation is the standard deviation of a value that so many samples measured: samples
// come at random, so their number's is its square root. Of no samples it is that of one.
func deviation(v, all profile.Sampled) float64 {
	if all.Samples == 0 {
		return 0
	}
	each := float64(all.Value) / float64(all.Samples)
	if v.Samples > 0 {
		each = float64(v.Value) / float64(v.Samples)
	}
	return each * math.Sqrt(float64(max(v.Samples, 1)))
}

func share(part, all int64) float64 {
	if all == 0 {
		return 0
	}
	return float64(part) / float64(all)
}

// A functionTable is a frame whose first field is the function's name.
type functionTable struct {
	names   []string
	columns []*column
	rows    int
}

type column struct {
	name, unit string
	values     []float64
}

// add appends a value; a nil column drops it.
func (c *column) add(v float64) {
	if c != nil {
		c.values = append(c.values, v)
	}
}

func newFunctionTable(f *profile.FunctionTable) *functionTable {
	return &functionTable{rows: len(f.Rows), names: make([]string, 0, len(f.Rows))}
}

func (t *functionTable) column(name, unit string) *column {
	c := &column{name: name, unit: unit, values: make([]float64, 0, t.rows)}
	t.columns = append(t.columns, c)
	return c
}

// optional returns a column for values in a unit, or nil if the unit has no ID.
func (t *functionTable) optional(name string, unit Unit) *column {
	if unit.ID == "" {
		return nil
	}
	return t.column(name, unit.ID)
}

// valueColumn is a name that Grafana replaces by that of the frame, unless the field says
// how it is displayed.
const valueColumn = "Value"

func (t *functionTable) frame() *data.Frame {
	frame := data.NewFrame("functions", data.NewField("Function", nil, t.names))
	for _, c := range t.columns {
		config := &data.FieldConfig{Unit: c.unit}
		if c.name == valueColumn {
			config.DisplayNameFromDS = c.name
		}
		frame.Fields = append(frame.Fields, data.NewField(c.name, nil, c.values).SetConfig(config))
	}
	frame.Meta = &data.FrameMeta{PreferredVisualization: data.VisTypeTable}
	return frame
}

// AddLinks adds a column of texts that link to URLs, and a hidden one with the URLs. A text
// and URL of "" is a cell without a link.
func AddLinks(frame *data.Frame, name, title string, texts, urls []string) {
	hidden := name + "URL"
	frame.Fields = append(frame.Fields,
		data.NewField(name, nil, texts).SetConfig(&data.FieldConfig{
			Links: []data.DataLink{{Title: title, TargetBlank: true, URL: "${__data.fields." + hidden + ":raw}"}},
		}),
		data.NewField(hidden, nil, urls).SetConfig(&data.FieldConfig{
			// Tables of older versions of Grafana read the first, of newer ones the second.
			Custom: map[string]any{"hidden": true, "hideFrom": map[string]any{"viz": true}},
		}))
}
