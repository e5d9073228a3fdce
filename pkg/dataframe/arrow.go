package dataframe

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"sync"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/grafana/grafana-plugin-sdk-go/data"
)

// Marshal encodes a data frame as an Arrow file, which data.UnmarshalArrowFrame reads.
// Frames of flame graphs are encoded here: their metadata has the names of all functions,
// which data.Frame.MarshalArrow copies several times, in buffers that grow as they are
// written. All others are left to it.
func Marshal(f *data.Frame) ([]byte, error) {
	rows, err := f.RowLen()
	if err != nil {
		return nil, err
	}
	columns := make([]arrowColumn, len(f.Fields))
	for i, field := range f.Fields {
		c, ok := newArrowColumn(field)
		if !ok {
			return f.MarshalArrow()
		}
		columns[i] = c
	}
	m := arrowMemories.Get().(*arrowMemory)
	defer m.free()
	e := arrowFile{columns: columns, rows: rows, arrowMemory: m}
	if err := e.readMetadata(f); err != nil {
		return nil, err
	}
	return e.encode(), nil
}

// arrowMemory is what is used again for the next file: the texts of metadata, and what
// writes them.
type arrowMemory struct {
	text    bytes.Buffer
	builder *flatbuffers.Builder
}

var arrowMemories = sync.Pool{New: func() any { return &arrowMemory{builder: flatbuffers.NewBuilder(0)} }}

func (m *arrowMemory) free() {
	const most = 1 << 20 // larger ones are not kept
	if m.text.Cap() <= most && cap(m.builder.Bytes) <= most {
		m.text.Reset()
		arrowMemories.Put(m)
	}
}

// An arrowColumn is a field of numbers without nulls.
type arrowColumn struct {
	field    *data.Field
	kind     string // the SDK's name of the type in TypeScript
	bits     int32  // of a value
	float    bool
	metadata []metadata
	write    func(to []byte) // writes all values
}

// metadata is a key with a value of a schema's or of a field's metadata.
type metadata struct {
	key   string
	value []byte
}

// newArrowColumn returns the column of a field; ok is false if its type is another one.
func newArrowColumn(field *data.Field) (c arrowColumn, ok bool) {
	c = arrowColumn{field: field, kind: "number", bits: 64}
	// PointerAt returns pointers, which fit into an interface without being allocated.
	switch field.Type() {
	case data.FieldTypeInt64:
		c.write = func(to []byte) {
			for i := range field.Len() {
				binary.LittleEndian.PutUint64(to[8*i:], uint64(*field.PointerAt(i).(*int64)))
			}
		}
	case data.FieldTypeFloat64:
		c.float = true
		c.write = func(to []byte) {
			for i := range field.Len() {
				binary.LittleEndian.PutUint64(to[8*i:], math.Float64bits(*field.PointerAt(i).(*float64)))
			}
		}
	case data.FieldTypeEnum:
		c.kind, c.bits = "enum", 16
		c.write = func(to []byte) {
			for i := range field.Len() {
				binary.LittleEndian.PutUint16(to[2*i:], uint16(*field.PointerAt(i).(*data.EnumItemIndex)))
			}
		}
	default:
		return c, false
	}
	return c, true
}

// size is the length of the column's values in bytes, without padding.
func (c *arrowColumn) size(rows int) int { return rows * int(c.bits) / 8 }

// readMetadata sets the metadata of the file and of its columns, by the SDK's keys.
func (e *arrowFile) readMetadata(f *data.Frame) error {
	e.metadata = []metadata{{"name", []byte(f.Name)}, {"refId", []byte(f.RefID)}}
	add := func(to *[]metadata, key string, value any) error {
		from := e.text.Len()
		err := json.NewEncoder(&e.text).Encode(value)
		*to = append(*to, metadata{key, bytes.TrimSuffix(e.text.Bytes()[from:], []byte("\n"))})
		return err
	}
	if f.Meta != nil {
		if err := add(&e.metadata, "meta", f.Meta); err != nil {
			return err
		}
	}
	for i := range e.columns {
		c := &e.columns[i]
		c.metadata = []metadata{{"tstype", []byte(c.kind)}}
		if c.field.Labels != nil {
			if err := add(&c.metadata, "labels", c.field.Labels); err != nil {
				return err
			}
		}
		if c.field.Config != nil {
			if err := add(&c.metadata, "config", c.field.Config); err != nil {
				return err
			}
		}
	}
	return nil
}
