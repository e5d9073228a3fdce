// Package dataframe converts trees and series to Grafana's data frames. It computes only
// units, and calls no server.
package dataframe

import (
	"math"
	"slices"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/flameline/flameline/pkg/profile"
)

// Rest is the label of rest nodes, whatever the server calls them. If a function has
// that name, parentheses are added until the label differs from all functions. Grafana's
// table adds up rows by label, so all rest nodes are one row of it.
const Rest = "(not shown)"

// Flamegraph is the frame that Grafana's flame graph draws: the tree's nodes depth
// first, each with its level, value (total), self and label. A tree without samples
// gives a root of value 0, since the panel fails without rows.
func Flamegraph(t *profile.Tree, unit Unit) *data.Frame {
	if len(t.Nodes) == 0 {
		t = profile.NewBuilder(0).Tree()
	}
	rows := len(t.Nodes)
	level, labels := make([]int64, 0, rows), newLabels(rows)
	value, self := newValues(unit, rows), newValues(unit, rows)
	rest := restLabel(t.Names, t.Rest)
	t.Walk(func(l int, n *profile.Node, name string) {
		level = append(level, int64(l))
		value.add(n.Total)
		self.add(n.Self)
		if t.IsRest(n) {
			name = rest
		}
		labels.add(name)
	})
	return flamegraphFrame(data.NewField("level", nil, level), value.field("value"), self.field("self"), labels.field("label"))
}

// FlamegraphDiff returns the frame of a comparison, which Grafana's flame graph draws as
// one: value and self are those of the left (baseline) side, valueRight and selfRight
// those of the right side. The units differ in their divisors alone, if one side is
// scaled so that it compares with the other.
func FlamegraphDiff(t *profile.DiffTree, left, right Unit) *data.Frame {
	if len(t.Nodes) == 0 {
		t = profile.Diff(&profile.Tree{}, &profile.Tree{})
	}
	rows := len(t.Nodes)
	level, labels := make([]int64, 0, rows), newLabels(rows)
	value, self := newValues(left, rows), newValues(left, rows)
	valueRight, selfRight := newValues(right, rows), newValues(right, rows)
	rest := restLabel(t.Names, t.Rest)
	t.Walk(func(l int, n *profile.DiffNode, name string) {
		if t.IsRest(n) {
			name = rest
		}
		level = append(level, int64(l))
		value.add(n.Total)
		self.add(n.Self)
		valueRight.add(n.TotalRight)
		selfRight.add(n.SelfRight)
		labels.add(name)
	})
	return flamegraphFrame(data.NewField("level", nil, level),
		value.field("value"), self.field("self"),
		valueRight.field("valueRight"), selfRight.field("selfRight"), labels.field("label"))
}

// restLabel returns the label of a tree's rest nodes. names are all names of the tree;
// rest is the index of the rest nodes' name.
func restLabel(names []string, rest int32) string {
	label := Rest
	if rest == 0 {
		return label
	}
	functions := slices.Concat(names[:rest], names[rest+1:])
	for slices.Contains(functions, label) {
		label = "(" + label + ")"
	}
	return label
}

func flamegraphFrame(fields ...*data.Field) *data.Frame {
	f := data.NewFrame("response", fields...)
	f.Meta = &data.FrameMeta{PreferredVisualization: data.VisTypeFlameGraph}
	return f
}

// values are one column of numbers: integers if the unit's divisor is 1.
type values struct {
	unit   Unit
	whole  []int64
	divide []float64
}

func newValues(unit Unit, rows int) *values {
	if unit.Divisor == 1 {
		return &values{unit: unit, whole: make([]int64, 0, rows)}
	}
	return &values{unit: unit, divide: make([]float64, 0, rows)}
}

func (v *values) add(n int64) {
	if v.divide != nil {
		v.divide = append(v.divide, float64(n)/v.unit.Divisor)
		return
	}
	v.whole = append(v.whole, n)
}

func (v *values) field(name string) *data.Field {
	f := data.NewField(name, nil, v.whole)
	if v.divide != nil {
		f = data.NewField(name, nil, v.divide)
	}
	return f.SetConfig(&data.FieldConfig{Unit: v.unit.ID})
}

// names are the column of labels: an enum, which sends each name once.
type names struct {
	text []string
	at   map[string]int
	rows []int
}

func newLabels(rows int) *names {
	return &names{at: make(map[string]int, rows), rows: make([]int, 0, rows)}
}

func (n *names) add(name string) {
	i, ok := n.at[name]
	if !ok {
		i = len(n.text)
		n.at[name] = i
		n.text = append(n.text, name)
	}
	n.rows = append(n.rows, i)
}

// field returns an enum field, or a string field if there are more names than an enum's
// 16-bit index can distinguish.
func (n *names) field(name string) *data.Field {
	if len(n.text) > math.MaxUint16+1 {
		column := make([]string, len(n.rows))
		for i, at := range n.rows {
			column[i] = n.text[at]
		}
		return data.NewField(name, nil, column)
	}
	column := make([]data.EnumItemIndex, len(n.rows))
	for i, at := range n.rows {
		column[i] = data.EnumItemIndex(at)
	}
	return data.NewField(name, nil, column).SetConfig(&data.FieldConfig{
		TypeConfig: &data.FieldTypeConfig{Enum: &data.EnumFieldConfig{Text: n.text}},
	})
}
