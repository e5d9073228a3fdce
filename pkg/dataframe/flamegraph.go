// Package dataframe converts trees and series to Grafana's data frames. It computes only
// units, and calls no server.
package dataframe

import (
	"math"
	"slices"
	"sync"

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
	level, labels := newValues(Unit{Divisor: 1}, rows), newLabels(t.Names, t.Rest, rows)
	value, self := newValues(unit, rows), newValues(unit, rows)
	t.Walk(func(l int, n *profile.Node, _ string) {
		level.add(int64(l))
		value.add(n.Total)
		self.add(n.Self)
		labels.add(n.Name)
	})
	return flamegraphFrame(level.field("level"), value.field("value"), self.field("self"), labels.field("label"))
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
	level, labels := newValues(Unit{Divisor: 1}, rows), newLabels(t.Names, t.Rest, rows)
	value, self := newValues(left, rows), newValues(left, rows)
	valueRight, selfRight := newValues(right, rows), newValues(right, rows)
	t.Walk(func(l int, n *profile.DiffNode, _ string) {
		level.add(int64(l))
		value.add(n.Total)
		self.add(n.Self)
		valueRight.add(n.TotalRight)
		selfRight.add(n.SelfRight)
		labels.add(n.Name)
	})
	return flamegraphFrame(level.field("level"),
		value.field("value"), self.field("self"),
		valueRight.field("valueRight"), selfRight.field("selfRight"), labels.field("label"))
}

// restLabel returns the label of a tree's rest nodes. names are all names of the tree;
// rest is the index of the rest nodes' name.
func restLabel(names []string, rest int32) string {
	label := Rest
	isFunction := func(name string) bool {
		at := slices.Index(names, name)
		return at >= 0 && int32(at) != rest
	}
	for rest != 0 && isFunction(label) {
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
	whole  *[]int64 // of wholes
	divide []float64
}

// wholes are slices that are used again: data.NewField copies them.
var wholes = sync.Pool{New: func() any { return new([]int64) }}

func newValues(unit Unit, rows int) *values {
	if unit.Divisor != 1 {
		return &values{unit: unit, divide: make([]float64, 0, rows)}
	}
	whole := wholes.Get().(*[]int64)
	*whole = slices.Grow((*whole)[:0], rows)
	return &values{unit: unit, whole: whole}
}

func (v *values) add(n int64) {
	if v.divide != nil {
		v.divide = append(v.divide, float64(n)/v.unit.Divisor)
		return
	}
	*v.whole = append(*v.whole, n)
}

// field returns the column. The values must not be used afterwards.
func (v *values) field(name string) *data.Field {
	var f *data.Field
	if v.divide != nil {
		f = data.NewField(name, nil, v.divide)
	} else {
		f = data.NewField(name, nil, *v.whole)
		if cap(*v.whole) <= 1<<18 { // larger ones are not kept
			wholes.Put(v.whole)
		}
	}
	if v.unit.ID != "" {
		f.SetConfig(&data.FieldConfig{Unit: v.unit.ID})
	}
	return f
}

// names are the column of labels: an enum, which has each name once.
type names struct {
	all  []string // the tree's
	rest int32    // the index of the name of rest nodes, 0 for none
	text []string
	at   []int32 // by index of all: the index in text, plus one; 0 if unknown
	rows []data.EnumItemIndex
	long []int32 // the rows if an enum's 16-bit index cannot distinguish all names
}

func newLabels(all []string, rest int32, rows int) *names {
	n := &names{all: all, rest: rest, text: make([]string, 0, len(all)), at: make([]int32, len(all))}
	if len(all) > math.MaxUint16+1 {
		n.long = make([]int32, 0, rows)
	} else {
		n.rows = make([]data.EnumItemIndex, 0, rows)
	}
	return n
}

// add appends a row with a name of the tree.
func (n *names) add(name int32) {
	at := n.at[name]
	if at == 0 {
		text := n.all[name]
		if name == n.rest && name != 0 {
			text = restLabel(n.all, n.rest)
		}
		n.text = append(n.text, text)
		at = int32(len(n.text))
		n.at[name] = at
	}
	if n.rows != nil {
		n.rows = append(n.rows, data.EnumItemIndex(at-1))
	} else {
		n.long = append(n.long, at-1)
	}
}

// field returns an enum field, or a string field if the tree has too many names.
func (n *names) field(name string) *data.Field {
	if n.rows == nil {
		column := make([]string, len(n.long))
		for i, at := range n.long {
			column[i] = n.text[at]
		}
		return data.NewField(name, nil, column)
	}
	return data.NewField(name, nil, n.rows).SetConfig(&data.FieldConfig{
		TypeConfig: &data.FieldTypeConfig{Enum: &data.EnumFieldConfig{Text: n.text}},
	})
}
