package labelindex

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// A Projection reduces the labels of a table's series to some names.
type Projection struct {
	table  *HourIndex
	labels []projectedLabel
	typed  bool // some follow from the type
	b      labels.ScratchBuilder
}

type projectedLabel struct {
	name    string
	column  *LabelColumn // nil if no series has it, or it follows from the type
	follows bool
}

// AllNames are the names of all labels that a series of the table may have.
func (t *HourIndex) AllNames() []string {
	return append(slices.Clone(t.Names), LabelServicePrivate, LabelProfileType, LabelType, LabelUnit, labelPeriodType, labelPeriodUnit)
}

// Project makes a projection.
func (t *HourIndex) Project(names []string) (*Projection, error) {
	p := &Projection{table: t}
	names = slices.Clone(names)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		l := projectedLabel{name: name, follows: Follows(name)}
		if !l.follows {
			var err error
			if l.column, err = t.column(ColumnName(name)); err != nil {
				return nil, err
			}
		}
		p.typed = p.typed || l.follows
		p.labels = append(p.labels, l)
	}
	return p, nil
}

// Of returns the labels of a series.
func (p *Projection) Of(row uint32, sampleType int) labels.Labels {
	p.b.Reset()
	for i := range p.labels {
		l := &p.labels[i]
		v := l.column.Value(row)
		if l.follows {
			v = p.table.Kinds[p.table.KindOf[row]].types[sampleType].Get(l.name)
		}
		if v != "" {
			p.b.Add(l.name, v)
		}
	}
	return p.b.Labels()
}

// key is equal for series with equal labels, and only for those, if ok.
func (p *Projection) key(row uint32, sampleType int) (key uint64, ok bool) {
	size := uint64(1)
	add := func(i, n uint64) {
		key = key*n + i
		ok = size <= (1<<63)/n
		size *= n
	}
	ok = true
	if p.typed {
		add(uint64(p.table.KindOf[row]), uint64(len(p.table.Kinds)))
		if add(uint64(sampleType), 1<<8); sampleType >= 1<<8 {
			return 0, false
		}
	}
	for i := range p.labels {
		if c := p.labels[i].column; c != nil && ok {
			add(uint64(c.at(row)), uint64(len(c.values))+1)
		}
	}
	return key, ok
}
