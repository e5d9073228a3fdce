package labelindex

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/budget"
)

// LabelSets are distinct label sets in the order of labels.Compare. They are kept
// by column: for every name its values, and for every set which of them it has.
type LabelSets struct {
	names  []string
	values [][]string // by name
	Of     []uint32   // by row and name
	order  []uint32   // rows, each set once
}

// Len is the number of sets.
func (s *LabelSets) Len() int { return len(s.order) }

// Names are the names of all labels, sorted.
func (s *LabelSets) Names() []string { return s.names }

// Values are the values of the label with the index name, sorted.
func (s *LabelSets) Values(name int) []string { return s.values[name] }

// Set returns for every name the index of the i-th set's value plus one, or 0 if it
// has no such label.
func (s *LabelSets) Set(i int) []uint32 { return s.row(s.order[i]) }

func (s *LabelSets) row(i uint32) []uint32 {
	n := len(s.names)
	return s.Of[int(i)*n : (int(i)+1)*n]
}

// All returns the sets as labels.
func (s *LabelSets) All() []labels.Labels {
	out := make([]labels.Labels, s.Len())
	var b labels.ScratchBuilder
	for i := range out {
		b.Reset()
		for name, v := range s.Set(i) {
			if v != 0 {
				b.Add(s.names[name], s.values[name][v-1])
			}
		}
		out[i] = b.Labels()
	}
	return out
}

// Bytes is the length of all names and values of all sets.
func (s *LabelSets) Bytes() (n int64) {
	lengths := make([][]int64, len(s.names))
	for name := range s.names {
		lengths[name] = make([]int64, len(s.values[name])+1)
		for i, v := range s.values[name] {
			lengths[name][i+1] = int64(len(s.names[name]) + len(v))
		}
	}
	for i := range s.order {
		for name, v := range s.Set(i) {
			n += lengths[name][v]
		}
	}
	return n
}

// A SetCollector collects the label sets of tables.
type SetCollector struct {
	Names   []string // that are wanted; none for all
	Hold    *budget.Reservation
	epoch   uint32 // that streams are of
	Streams StreamSet
	Used    int64 // bytes
	Chunks  []SetChunk
	Rows    int
}

// take counts n bytes more.
func (c *SetCollector) take(n int64) error {
	c.Used += n
	return c.Hold.Take(n)
}

// A SetChunk are the sets of one table, which may have some of them twice.
type SetChunk struct {
	Rows    int
	Columns []SetColumn
}

// A SetColumn has those values alone that a set of the chunk has.
type SetColumn struct {
	Name   string
	Values []string
	Of     []uint32 // by row: index in values plus one, 0 for none
}

// Add adds the series that were picked from a table.
func (c *SetCollector) Add(epoch uint32, t *HourIndex, p *Pick) error {
	names := c.Names
	if len(names) == 0 {
		names = t.AllNames()
	}
	project, err := t.Project(names)
	if err != nil {
		return err
	}
	if epoch != c.epoch {
		c.epoch, c.Streams = epoch, StreamSet{}
	}
	var series []seriesRef
	local := map[uint64]struct{}{}
	for _, row := range p.Rows {
		if len(c.Names) == 0 && !c.Streams.Add(t.Streams[row]) {
			continue // it was in an earlier hour
		}
		for _, i := range p.Types[t.KindOf[row]] {
			if k, ok := project.key(row, i); ok && len(c.Names) > 0 {
				if _, ok := local[k]; ok {
					continue
				}
				local[k] = struct{}{}
			}
			series = append(series, seriesRef{row, uint32(i)})
		}
	}
	chunk := SetChunk{Rows: len(series)}
	for i := range project.labels {
		if column := project.column(&project.labels[i], series); len(column.Values) > 0 {
			if err := c.take(int64(len(column.Of))*4 + int64(len(column.Values))*16); err != nil {
				return err
			}
			chunk.Columns = append(chunk.Columns, column)
		}
	}
	if len(chunk.Columns) > 0 {
		c.Chunks = append(c.Chunks, chunk)
		c.Rows += chunk.Rows
	}
	return nil
}

// A seriesRef is a series of a table.
type seriesRef struct{ row, sampleType uint32 }

// column returns a label of some series.
func (p *Projection) column(l *projectedLabel, series []seriesRef) SetColumn {
	c := SetColumn{Name: l.name}
	if !l.follows && l.column == nil {
		return c
	}
	c.Of = make([]uint32, len(series))
	if l.follows {
		c.follow(p.table, series)
		return c
	}
	used := make([]uint32, len(l.column.values)+1)
	for i, s := range series {
		v := l.column.at(s.row)
		c.Of[i], used[v] = v, 1
	}
	used[0] = 0
	l.column.eachInOrder(func(v string, i uint32) {
		if used[i] != 0 {
			c.Values = append(c.Values, v)
			used[i] = uint32(len(c.Values))
		}
	})
	for i, v := range c.Of {
		c.Of[i] = used[v]
	}
	return c
}

// follow fills in a column of what follows from the sample types.
func (c *SetColumn) follow(t *HourIndex, series []seriesRef) {
	known := make([][]uint32, len(t.Kinds)) // by kind and sample type: index plus two
	index := map[string]uint32{"": 0}
	for i, s := range series {
		k := t.KindOf[s.row]
		if known[k] == nil {
			known[k] = make([]uint32, len(t.Kinds[k].types))
		}
		at := &known[k][s.sampleType]
		if *at == 0 {
			v := t.Kinds[k].types[s.sampleType].Get(c.Name)
			n, ok := index[v]
			if !ok {
				c.Values = append(c.Values, v)
				n = uint32(len(c.Values))
				index[v] = n
			}
			*at = n + 1
		}
		c.Of[i] = *at - 1
	}
}

// allNames are the names that any of the chunks has.
func (c *SetCollector) allNames() (names []string) {
	for _, chunk := range c.Chunks {
		for _, column := range chunk.Columns {
			names = append(names, column.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Bytes is the memory of what is collected, and of what sets makes of it.
func (c *SetCollector) Bytes() int64 {
	const perRow = 8 + 16 + 4 // a key, to be sorted, and its order
	return c.Used + int64(c.Rows)*(int64(len(c.allNames()))*4+perRow)
}

// Sets brings all together.
func (c *SetCollector) Sets() *LabelSets {
	s := &LabelSets{names: c.allNames()}
	n := len(s.names)
	s.Of = make([]uint32, c.Rows*n)
	lists := make([][][]string, n)
	at := func(name string) int {
		i, _ := slices.BinarySearch(s.names, name)
		return i
	}
	for _, chunk := range c.Chunks {
		for _, column := range chunk.Columns {
			i := at(column.Name)
			lists[i] = append(lists[i], column.Values)
		}
	}
	s.values = make([][]string, n)
	for i := range lists {
		s.values[i] = MergeSorted(lists[i])
	}
	first := 0
	for _, chunk := range c.Chunks {
		for _, column := range chunk.Columns {
			i := at(column.Name)
			to := placesOf(column.Values, s.values[i])
			for row, v := range column.Of {
				if v != 0 {
					s.Of[(first+row)*n+i] = to[v-1]
				}
			}
		}
		first += chunk.Rows
	}
	s.sort(c.Rows)
	return s
}

// placesOf returns where values are in a sorted list that has them all, plus one.
func placesOf(values, list []string) []uint32 {
	to := make([]uint32, len(values))
	at := 0
	for i, v := range values {
		if at >= len(list) || list[at] > v {
			at = 0 // the values are not sorted
		}
		// Sorted values come soon after one another.
		step := 1
		for at+step < len(list) && list[at+step] <= v {
			at += step
			step *= 2
		}
		n, _ := slices.BinarySearch(list[at:min(at+step, len(list))], v)
		at += n
		to[i] = uint32(at) + 1
	}
	return to
}

// sort puts the rows in order, and leaves out those that are there twice or have no
// label. It compares numbers in the place of texts: keys with the values of the first names,
// as many as fit, and rows where those are not all.
func (s *LabelSets) sort(rows int) {
	has := make([]int, len(s.names))
	for i := range rows {
		for name, v := range s.row(uint32(i)) {
			if v != 0 {
				has[name]++
			}
		}
	}
	shifts, free := make([]uint, 0, len(s.names)), uint(64)
	for name, values := range s.values {
		if len(values) == 1 && has[name] == rows {
			shifts = append(shifts, 64) // all rows have the same value, which needs no place
			continue
		}
		width := uint(bits.Len(uint(len(values)) + 1))
		if width > free {
			break
		}
		free -= width
		shifts = append(shifts, free)
	}
	type keyed struct {
		key uint64
		row uint32
	}
	sorted := make([]keyed, 0, rows)
	for i := range uint32(rows) {
		row, k := s.row(i), keyed{row: i}
		end := len(row)
		for end > 0 && row[end-1] == 0 {
			end--
		}
		if end == 0 {
			continue
		}
		for name, v := range row[:min(end, len(shifts))] {
			if v == 0 { // it has a later label
				v = uint32(len(s.values[name])) + 1
			}
			k.key |= uint64(v) << shifts[name]
		}
		sorted = append(sorted, k)
	}
	whole := len(shifts) == len(s.names)
	compare := func(a, b keyed) int {
		if order := cmp.Compare(a.key, b.key); order != 0 || whole {
			return order
		}
		return compareSets(s.row(a.row), s.row(b.row))
	}
	slices.SortFunc(sorted, compare)
	sorted = slices.CompactFunc(sorted, func(a, b keyed) bool { return compare(a, b) == 0 })
	s.order = make([]uint32, len(sorted))
	for i, k := range sorted {
		s.order[i] = k.row
	}
}

// compareSets orders rows as their labels. A row without a label comes after those that
// have it, since its next label has a later name, or before them if it has no further label.
func compareSets(a, b []uint32) int {
	for i, v := range a {
		other := b[i]
		switch {
		case v == other:
			continue
		case v == 0:
			return -compareSets(b[i:], a[i:])
		case other == 0 && slices.Max(b[i:]) > 0:
			return -1
		case other == 0:
			return 1
		}
		return cmp.Compare(v, other)
	}
	return 0
}
