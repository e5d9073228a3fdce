// Package labelindex has the streams of an hour by their labels, and lists of label sets.
package labelindex

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A Builder is a table that grows. It is not safe for concurrent writes.
type Builder struct {
	HourIndex
	rows    map[uint32]uint32            // by stream
	indexes map[string]map[string]uint32 // by label name and value: index plus one
	byKind  map[string]uint32
}

// NewBuilder returns a builder of an index without streams.
func NewBuilder() *Builder {
	return &Builder{
		HourIndex: HourIndex{columns: map[string]*LabelColumn{}},
		rows:      map[uint32]uint32{}, indexes: map[string]map[string]uint32{}, byKind: map[string]uint32{},
	}
}

// SlotsOf are the slots that the table has of a stream.
func (t *Builder) SlotsOf(stream uint32) uint16 {
	if t == nil {
		return 0
	}
	if row, ok := t.rows[stream]; ok {
		return t.Slots[row]
	}
	return 0
}

// Add notes slots of a stream.
func (t *Builder) Add(stream, partition uint32, def *Definition, slots uint16) {
	if row, ok := t.rows[stream]; ok {
		t.Slots[row] |= slots
		return
	}
	k := NewKind(def)
	t.addRow(stream, partition, &k, slots)
	row := uint32(len(t.Streams) - 1)
	def.Labels.Range(func(l labels.Label) {
		if !Follows(l.Name) && l.Name != LabelServicePrivate {
			t.set(row, l.Name, l.Value)
		}
	})
}

func (t *Builder) addRow(stream, partition uint32, k *Kind, slots uint16) {
	key := string(k.Def.Append(nil))
	n, ok := t.byKind[key]
	if !ok {
		n = uint32(len(t.Kinds))
		t.byKind[key] = n
		t.Kinds = append(t.Kinds, *k)
		t.Bytes += int64(len(key))*8 + 256
	}
	t.rows[stream] = uint32(len(t.Streams))
	t.Streams = append(t.Streams, stream)
	t.Slots = append(t.Slots, slots)
	t.Partitions = append(t.Partitions, partition)
	t.KindOf = append(t.KindOf, n)
	t.Bytes += 48
}

func (t *Builder) set(row uint32, name, value string) {
	c := t.columns[name]
	if c == nil {
		name = strings.Clone(name)
		c = &LabelColumn{grows: true}
		t.columns[name], t.indexes[name] = c, map[string]uint32{}
		i, _ := slices.BinarySearch(t.Names, name)
		t.Names = slices.Insert(t.Names, i, name)
		t.Bytes += int64(len(name)) + 256
	}
	i, ok := t.indexes[name][value]
	if !ok {
		value = strings.Clone(value) // not a part of all labels' memory
		c.values = append(c.values, value)
		i = uint32(len(c.values))
		t.indexes[name][value] = i
		t.Bytes += int64(len(value)) + 64
	}
	for len(c.of) < int(row) {
		c.of = append(c.of, 0)
	}
	c.of = append(c.of, i)
	t.Bytes += 5
}

// AddTable adds all rows of another table.
func (t *Builder) AddTable(from *HourIndex) error {
	columns := make([]*LabelColumn, len(from.Names))
	for i, name := range from.Names {
		var err error
		if columns[i], err = from.column(name); err != nil {
			return err
		}
	}
	for row, stream := range from.Streams {
		if at, ok := t.rows[stream]; ok {
			t.Slots[at] |= from.Slots[row]
			continue
		}
		t.addRow(stream, from.Partitions[row], &from.Kinds[from.KindOf[row]], from.Slots[row])
		for i, c := range columns {
			if v := c.Value(uint32(row)); v != "" {
				t.set(uint32(len(t.Streams)-1), from.Names[i], v)
			}
		}
	}
	return nil
}

// Encode calls fn with each of the table's values: one for the head, whose name
// is "", and one for each column. Rows are in order of their streams. The values
// end with a checksum, as a wrong bit in them would hide the profiles of others.
func (t *Builder) Encode(fn func(name string, value []byte)) {
	order := make([]uint32, len(t.Streams))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return int(t.Streams[a]) - int(t.Streams[b]) })
	tmp := make([]uint64, len(order))
	column := func(b []byte, of func(row uint32) uint64) []byte {
		for i, row := range order {
			tmp[i] = of(row)
		}
		return bitpack.AppendColumn(b, tmp)
	}
	head := binary.AppendUvarint(nil, uint64(len(order)))
	next := uint32(0)
	head = column(head, func(row uint32) uint64 {
		gap := t.Streams[row] - next
		next = t.Streams[row] + 1
		return uint64(gap)
	})
	head = column(head, func(row uint32) uint64 { return uint64(t.Slots[row]) })
	head = column(head, func(row uint32) uint64 { return uint64(t.Partitions[row]) })
	head = column(head, func(row uint32) uint64 { return uint64(t.KindOf[row]) })
	head = binary.AppendUvarint(head, uint64(len(t.Kinds)))
	for i := range t.Kinds {
		head = t.Kinds[i].Def.Append(head)
	}
	head = binary.AppendUvarint(head, uint64(len(t.Names)))
	for _, name := range t.Names {
		head = appendText(head, name)
	}
	fn("", AppendSum(head))
	for _, name := range t.Names {
		c := t.columns[name]
		values := slices.Clone(c.values)
		slices.Sort(values)
		sorted := make([]uint64, len(values)+1) // by the index that it was
		b := binary.AppendUvarint(nil, uint64(len(values)))
		for i, v := range values {
			sorted[t.indexes[name][v]] = uint64(i) + 1
			b = appendText(b, v)
		}
		fn(name, AppendSum(column(b, func(row uint32) uint64 { return sorted[c.at(row)] })))
	}
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// AppendSum appends the checksum of all before it.
func AppendSum(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(xxhash.Sum64(b)))
}

// checkSum returns a value without its checksum.
func checkSum(value []byte) ([]byte, error) {
	n := len(value) - 4
	if n < 0 || binary.BigEndian.Uint32(value[n:]) != uint32(xxhash.Sum64(value[:n])) {
		return nil, fmt.Errorf("%w: checksum of %d bytes", storeerr.ErrCorrupt, len(value))
	}
	return value[:n], nil
}

// DecodeTable reads a table's head.
func DecodeTable(value []byte) (*HourIndex, error) {
	value, err := checkSum(value)
	if err != nil {
		return nil, err
	}
	r := bitpack.Decoder{Data: value}
	n := r.Rows("row count")
	streams, slots, partitions, kindOf := r.Column("streams"), r.Column("slots"), r.Column("partitions"), r.Column("kinds")
	t := &HourIndex{columns: map[string]*LabelColumn{}}
	for range r.Count(3, "kind count") {
		var k Kind
		k.Def.read(&r)
		k.derive()
		t.Kinds = append(t.Kinds, k)
	}
	for range r.Count(1, "name count") {
		t.Names = append(t.Names, r.String("name"))
	}
	if err := r.End(); err != nil {
		return nil, err
	}
	if !slices.IsSorted(t.Names) {
		return nil, fmt.Errorf("%w: names are not sorted", storeerr.ErrCorrupt)
	}
	tmp, next := make([]uint64, n), uint64(0)
	t.Streams, t.Slots = make([]uint32, 0, n), make([]uint16, 0, n)
	t.Partitions, t.KindOf = make([]uint32, 0, n), make([]uint32, 0, n)
	for _, c := range []struct {
		what  string
		from  bitpack.Column
		limit uint64
		add   func(v uint64)
	}{
		{"streams", streams, 1 << 32, func(v uint64) {
			t.Streams = append(t.Streams, uint32(next+v))
			next += v + 1
		}},
		{"slots", slots, AllSlots + 1, func(v uint64) { t.Slots = append(t.Slots, uint16(v)) }},
		{"partitions", partitions, budget.EpochItself, func(v uint64) { t.Partitions = append(t.Partitions, uint32(v)) }},
		{"kinds", kindOf, uint64(len(t.Kinds)), func(v uint64) { t.KindOf = append(t.KindOf, uint32(v)) }},
	} {
		if !c.from.Decode(tmp) {
			return nil, fmt.Errorf("%w: %s end early", storeerr.ErrCorrupt, c.what)
		}
		for _, v := range tmp {
			if v >= c.limit {
				return nil, fmt.Errorf("%w: %s: %d of %d", storeerr.ErrCorrupt, c.what, v, c.limit)
			}
			c.add(v)
		}
	}
	if next > 1<<32 {
		return nil, fmt.Errorf("%w: stream %d", storeerr.ErrCorrupt, next-1)
	}
	t.Bytes = int64(n)*14 + int64(len(value))*4 + 512
	return t, nil
}

// DecodeLabelColumn reads a column of a table with a number of rows.
func DecodeLabelColumn(value []byte, rows int) (*LabelColumn, error) {
	value, err := checkSum(value)
	if err != nil {
		return nil, err
	}
	r := bitpack.Decoder{Data: value}
	n := r.Count(1, "value count")
	c := &LabelColumn{values: make([]string, 0, n)}
	text := string(value) // of which all values are parts
	for range n {
		size := r.Count(1, "value")
		if r.Bytes(size, "value"); r.Err == nil {
			c.values = append(c.values, text[r.Off-size:r.Off])
		}
	}
	of := r.Column("indexes")
	if err := r.End(); err != nil {
		return nil, err
	}
	if !slices.IsSorted(c.values) {
		return nil, fmt.Errorf("%w: values are not sorted", storeerr.ErrCorrupt)
	}
	if rows > len(value)*8 {
		return nil, fmt.Errorf("%w: %d rows", storeerr.ErrCorrupt, rows)
	}
	tmp := make([]uint64, rows)
	if !of.Decode(tmp) {
		return nil, fmt.Errorf("%w: indexes end early", storeerr.ErrCorrupt)
	}
	c.of = make([]uint32, rows)
	for i, v := range tmp {
		if v > uint64(n) {
			return nil, fmt.Errorf("%w: index %d of %d", storeerr.ErrCorrupt, v, n)
		}
		c.of[i] = uint32(v)
	}
	return c, nil
}
