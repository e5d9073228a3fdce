package store

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

// A tableBuilder is a table that grows. It is not safe for concurrent writes.
type tableBuilder struct {
	table
	rows    map[uint32]uint32            // by stream
	indexes map[string]map[string]uint32 // by label name and value: index plus one
	byKind  map[string]uint32
}

func newTableBuilder() *tableBuilder {
	return &tableBuilder{
		table: table{columns: map[string]*labelColumn{}},
		rows:  map[uint32]uint32{}, indexes: map[string]map[string]uint32{}, byKind: map[string]uint32{},
	}
}

// slotsOf are the slots that the table has of a stream.
func (t *tableBuilder) slotsOf(stream uint32) uint16 {
	if t == nil {
		return 0
	}
	if row, ok := t.rows[stream]; ok {
		return t.slots[row]
	}
	return 0
}

// add notes slots of a stream.
func (t *tableBuilder) add(stream, partition uint32, def *definition, slots uint16) {
	if row, ok := t.rows[stream]; ok {
		t.slots[row] |= slots
		return
	}
	k := newKind(def)
	t.addRow(stream, partition, &k, slots)
	row := uint32(len(t.streams) - 1)
	def.labels.Range(func(l labels.Label) {
		if !follows(l.Name) && l.Name != labelServicePrivate {
			t.set(row, l.Name, l.Value)
		}
	})
}

func (t *tableBuilder) addRow(stream, partition uint32, k *kind, slots uint16) {
	key := string(k.def.append(nil))
	n, ok := t.byKind[key]
	if !ok {
		n = uint32(len(t.kinds))
		t.byKind[key] = n
		t.kinds = append(t.kinds, *k)
		t.bytes += int64(len(key))*8 + 256
	}
	t.rows[stream] = uint32(len(t.streams))
	t.streams = append(t.streams, stream)
	t.slots = append(t.slots, slots)
	t.partitions = append(t.partitions, partition)
	t.kindOf = append(t.kindOf, n)
	t.bytes += 48
}

func (t *tableBuilder) set(row uint32, name, value string) {
	c := t.columns[name]
	if c == nil {
		name = strings.Clone(name)
		c = &labelColumn{grows: true}
		t.columns[name], t.indexes[name] = c, map[string]uint32{}
		i, _ := slices.BinarySearch(t.names, name)
		t.names = slices.Insert(t.names, i, name)
		t.bytes += int64(len(name)) + 256
	}
	i, ok := t.indexes[name][value]
	if !ok {
		value = strings.Clone(value) // not a part of all labels' memory
		c.values = append(c.values, value)
		i = uint32(len(c.values))
		t.indexes[name][value] = i
		t.bytes += int64(len(value)) + 64
	}
	for len(c.of) < int(row) {
		c.of = append(c.of, 0)
	}
	c.of = append(c.of, i)
	t.bytes += 5
}

// addTable adds all rows of another table.
func (t *tableBuilder) addTable(from *table) error {
	columns := make([]*labelColumn, len(from.names))
	for i, name := range from.names {
		var err error
		if columns[i], err = from.column(name); err != nil {
			return err
		}
	}
	for row, stream := range from.streams {
		if at, ok := t.rows[stream]; ok {
			t.slots[at] |= from.slots[row]
			continue
		}
		t.addRow(stream, from.partitions[row], &from.kinds[from.kindOf[row]], from.slots[row])
		for i, c := range columns {
			if v := c.value(uint32(row)); v != "" {
				t.set(uint32(len(t.streams)-1), from.names[i], v)
			}
		}
	}
	return nil
}

// encode calls fn with each of the table's values: one for the head, whose name
// is "", and one for each column. Rows are in order of their streams. The values
// end with a checksum, as a wrong bit in them would hide the profiles of others.
func (t *tableBuilder) encode(fn func(name string, value []byte)) {
	order := make([]uint32, len(t.streams))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return int(t.streams[a]) - int(t.streams[b]) })
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
		gap := t.streams[row] - next
		next = t.streams[row] + 1
		return uint64(gap)
	})
	head = column(head, func(row uint32) uint64 { return uint64(t.slots[row]) })
	head = column(head, func(row uint32) uint64 { return uint64(t.partitions[row]) })
	head = column(head, func(row uint32) uint64 { return uint64(t.kindOf[row]) })
	head = binary.AppendUvarint(head, uint64(len(t.kinds)))
	for i := range t.kinds {
		head = t.kinds[i].def.append(head)
	}
	head = binary.AppendUvarint(head, uint64(len(t.names)))
	for _, name := range t.names {
		head = appendText(head, name)
	}
	fn("", appendSum(head))
	for _, name := range t.names {
		c := t.columns[name]
		values := slices.Clone(c.values)
		slices.Sort(values)
		sorted := make([]uint64, len(values)+1) // by the index that it was
		b := binary.AppendUvarint(nil, uint64(len(values)))
		for i, v := range values {
			sorted[t.indexes[name][v]] = uint64(i) + 1
			b = appendText(b, v)
		}
		fn(name, appendSum(column(b, func(row uint32) uint64 { return sorted[c.at(row)] })))
	}
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendSum appends the checksum of all before it.
func appendSum(b []byte) []byte {
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

// decodeTable reads a table's head.
func decodeTable(value []byte) (*table, error) {
	value, err := checkSum(value)
	if err != nil {
		return nil, err
	}
	r := bitpack.Decoder{Data: value}
	n := r.Rows("row count")
	streams, slots, partitions, kindOf := r.Column("streams"), r.Column("slots"), r.Column("partitions"), r.Column("kinds")
	t := &table{columns: map[string]*labelColumn{}}
	for range r.Count(3, "kind count") {
		var k kind
		k.def.read(&r)
		k.derive()
		t.kinds = append(t.kinds, k)
	}
	for range r.Count(1, "name count") {
		t.names = append(t.names, r.String("name"))
	}
	if err := r.End(); err != nil {
		return nil, err
	}
	if !slices.IsSorted(t.names) {
		return nil, fmt.Errorf("%w: names are not sorted", storeerr.ErrCorrupt)
	}
	tmp := make([]uint64, n)
	decode := func(c bitpack.Column, limit uint64, what string, to func(uint64)) error {
		if !c.Decode(tmp) {
			return fmt.Errorf("%w: %s end early", storeerr.ErrCorrupt, what)
		}
		for _, v := range tmp {
			if v >= limit {
				return fmt.Errorf("%w: %s: %d of %d", storeerr.ErrCorrupt, what, v, limit)
			}
			to(v)
		}
		return nil
	}
	next := uint64(0)
	t.streams, t.slots = make([]uint32, 0, n), make([]uint16, 0, n)
	t.partitions, t.kindOf = make([]uint32, 0, n), make([]uint32, 0, n)
	err = decode(streams, 1<<32, "streams", func(v uint64) {
		t.streams = append(t.streams, uint32(next+v))
		next += v + 1
	})
	if err == nil && next > 1<<32 {
		err = fmt.Errorf("%w: stream %d", storeerr.ErrCorrupt, next-1)
	}
	if err == nil {
		err = decode(slots, allSlots+1, "slots", func(v uint64) { t.slots = append(t.slots, uint16(v)) })
	}
	if err == nil {
		err = decode(partitions, budget.EpochItself, "partitions", func(v uint64) { t.partitions = append(t.partitions, uint32(v)) })
	}
	if err == nil {
		err = decode(kindOf, uint64(len(t.kinds)), "kinds", func(v uint64) { t.kindOf = append(t.kindOf, uint32(v)) })
	}
	if err != nil {
		return nil, err
	}
	t.bytes = int64(n)*14 + int64(len(value))*4 + 512
	return t, nil
}

// decodeLabelColumn reads a column of a table with a number of rows.
func decodeLabelColumn(value []byte, rows int) (*labelColumn, error) {
	value, err := checkSum(value)
	if err != nil {
		return nil, err
	}
	r := bitpack.Decoder{Data: value}
	n := r.Count(1, "value count")
	c := &labelColumn{values: make([]string, 0, n)}
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
