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
// label. It compares numbers in the place of texts.
func (s *LabelSets) sort(rows int) {
	key := s.newSetKey(rows)
	words := key.words
	keys := make([]uint64, rows*words)
	for i := range rows {
		key.of(s.row(uint32(i)), keys[i*words:(i+1)*words])
	}
	s.order = make([]uint32, 0, rows)
	for i := range uint32(rows) {
		if slices.ContainsFunc(s.row(i), func(v uint32) bool { return v != 0 }) {
			s.order = append(s.order, i)
		}
	}
	of := func(row uint32) []uint64 { return keys[int(row)*words : (int(row)+1)*words] }
	if words == 1 { // it nearly always is
		type keyed struct {
			key uint64
			row uint32
		}
		sorted := make([]keyed, len(s.order))
		for i, row := range s.order {
			sorted[i] = keyed{keys[row], row}
		}
		slices.SortFunc(sorted, func(a, b keyed) int { return cmp.Compare(a.key, b.key) })
		for i, k := range sorted {
			s.order[i] = k.row
		}
	} else {
		slices.SortFunc(s.order, func(a, b uint32) int { return slices.Compare(of(a), of(b)) })
	}
	s.order = slices.CompactFunc(s.order, func(a, b uint32) bool { return slices.Equal(of(a), of(b)) })
}

// A setKey makes keys of rows, in as many words as are needed, that are in the order
// of the rows' labels. A row without a label comes after those that have it, since
// its next label has a later name, or before them if it has no further label.
type setKey struct {
	words  int
	places []keyPlace // by name
}

type keyPlace struct {
	word    int
	shift   uint
	missing uint64 // what stands for a label that is missing before others
	same    bool   // all rows have the same value, which needs no place
}

func (s *LabelSets) newSetKey(rows int) *setKey {
	k := &setKey{words: 1, places: make([]keyPlace, len(s.names))}
	has := make([]int, len(s.names))
	for i := range rows {
		for name, v := range s.row(uint32(i)) {
			if v != 0 {
				has[name]++
			}
		}
	}
	free := uint(64)
	for name := range s.names {
		p := &k.places[name]
		n := uint64(len(s.values[name]))
		if p.missing = n + 1; n == 1 && has[name] == rows {
			p.same = true
			continue
		}
		width := uint(bits.Len64(p.missing))
		if width > free {
			k.words++
			free = 64
		}
		free -= width
		p.word, p.shift = k.words-1, free
	}
	return k
}

// of fills in the key of a row.
func (k *setKey) of(row []uint32, key []uint64) {
	last := len(row) - 1
	for last >= 0 && row[last] == 0 {
		last--
	}
	for name := range last + 1 {
		p := &k.places[name]
		if p.same {
			continue
		}
		v := uint64(row[name])
		if v == 0 {
			v = p.missing
		}
		key[p.word] |= v << p.shift
	}
}
