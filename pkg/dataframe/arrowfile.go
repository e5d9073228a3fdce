package dataframe

import (
	"encoding/binary"
	"slices"

	flatbuffers "github.com/google/flatbuffers/go"
)

// Numbers of Arrow's format: format/Schema.fbs, Message.fbs and File.fbs of Apache Arrow.
// The fields of its tables are numbered in their order there; a union has two numbers.
const (
	arrowMagic     = "ARROW1"
	arrowVersion   = 4 // V5
	arrowAlignment = 8

	arrowSchemaMessage, arrowRecordMessage = 1, 3 // of the union MessageHeader
	arrowInt, arrowFloat                   = 2, 3 // of the union Type
	arrowDouble                            = 2    // of the enum Precision
)

// An arrowFile is an Arrow file with one record batch: the magic, a message with the
// schema, a message with the columns, the end of messages, and the footer, which has the
// schema again.
type arrowFile struct {
	columns  []arrowColumn
	rows     int
	metadata []metadata
	*arrowMemory
}

// encode returns the bytes of the file, which it allocates once.
func (e *arrowFile) encode() []byte {
	if size := e.schemaSize(); cap(e.builder.Bytes) < size {
		e.builder = flatbuffers.NewBuilder(size)
	}
	e.builder.Reset()
	schema := e.message(arrowSchemaMessage, e.schema(), 0)
	out := make([]byte, 0, 2*len(schema)+e.bodySize()+512*(1+len(e.columns)))
	out = align(append(out, arrowMagic...))
	out, _ = appendMessage(out, schema)

	e.builder.Reset()
	at := len(out)
	out, prefix := appendMessage(out, e.message(arrowRecordMessage, e.record(), e.bodySize()))
	for i := range e.columns {
		c, from := &e.columns[i], len(out)
		out = slices.Grow(out, c.size(e.rows))[:from+c.size(e.rows)]
		c.write(out[from:])
		out = align(out)
	}
	out = binary.LittleEndian.AppendUint64(out, 0xffffffff) // a message of length 0 is the end

	e.builder.Reset()
	footer := e.footer(at, prefix)
	out = append(out, footer...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(footer)))
	return append(out, arrowMagic...)
}

// schemaSize estimates the length of the schema in the file.
func (e *arrowFile) schemaSize() int {
	n := 512
	for _, m := range e.metadata {
		n += 64 + len(m.value)
	}
	for i := range e.columns {
		n += 256
		for _, m := range e.columns[i].metadata {
			n += 64 + len(m.value)
		}
	}
	return n
}

// bodySize is the length of all columns with padding.
func (e *arrowFile) bodySize() int {
	n := 0
	for i := range e.columns {
		n += padded(e.columns[i].size(e.rows))
	}
	return n
}

// padded rounds a length up to the alignment.
func padded(n int) int { return (n + arrowAlignment - 1) &^ (arrowAlignment - 1) }

// align appends zeros up to the alignment.
func align(out []byte) []byte {
	return append(out, make([]byte, padded(len(out))-len(out))...)
}

// appendMessage appends the prefix of a message and its metadata, and returns the length
// of both with padding.
func appendMessage(out, message []byte) (with []byte, length int) {
	const prefix = 8 // a continuation marker and the length
	at := len(out)
	out = binary.LittleEndian.AppendUint32(out, 0xffffffff)
	out = binary.LittleEndian.AppendUint32(out, uint32(padded(prefix+len(message))-prefix))
	out = align(append(out, message...))
	return out, len(out) - at
}

// message returns the table Message with a header and the length of the body that follows.
// It is valid until the builder is reset.
func (e *arrowFile) message(kind byte, header flatbuffers.UOffsetT, body int) []byte {
	b := e.builder
	b.StartObject(5)
	b.PrependInt64Slot(3, int64(body), 0)
	b.PrependUOffsetTSlot(2, header, 0)
	b.PrependInt16Slot(0, arrowVersion, 0)
	b.PrependByteSlot(1, kind, 0)
	b.Finish(b.EndObject())
	return b.FinishedBytes()
}

// schema writes the table Schema.
func (e *arrowFile) schema() flatbuffers.UOffsetT {
	b := e.builder
	fields := make([]flatbuffers.UOffsetT, len(e.columns))
	for i := range e.columns {
		fields[i] = e.field(&e.columns[i])
	}
	list, meta := e.vector(fields), e.keyValues(e.metadata)
	b.StartObject(4)
	b.PrependUOffsetTSlot(1, list, 0)
	b.PrependUOffsetTSlot(2, meta, 0)
	return b.EndObject()
}

// field writes the table Field.
func (e *arrowFile) field(c *arrowColumn) flatbuffers.UOffsetT {
	b := e.builder
	meta, name, children := e.keyValues(c.metadata), b.CreateString(c.field.Name), e.vector(nil)
	kind := byte(arrowInt)
	b.StartObject(2)
	if c.float {
		kind = arrowFloat
		b.PrependInt16Slot(0, arrowDouble, 0)
	} else {
		b.PrependInt32Slot(0, c.bits, 0)
		b.PrependBoolSlot(1, c.bits == 64, false) // int64 is signed, an enum's index is not
	}
	numbers := b.EndObject()
	b.StartObject(7)
	b.PrependUOffsetTSlot(0, name, 0)
	b.PrependUOffsetTSlot(3, numbers, 0)
	b.PrependUOffsetTSlot(5, children, 0)
	b.PrependUOffsetTSlot(6, meta, 0)
	b.PrependByteSlot(2, kind, 0)
	return b.EndObject()
}

// keyValues writes a list of the table KeyValue.
func (e *arrowFile) keyValues(list []metadata) flatbuffers.UOffsetT {
	b := e.builder
	offsets := make([]flatbuffers.UOffsetT, len(list))
	for i, m := range list {
		value, key := b.CreateByteString(m.value), b.CreateString(m.key)
		b.StartObject(2)
		b.PrependUOffsetTSlot(0, key, 0)
		b.PrependUOffsetTSlot(1, value, 0)
		offsets[i] = b.EndObject()
	}
	return e.vector(offsets)
}

// vector writes a list of tables.
func (e *arrowFile) vector(tables []flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	return e.structs(flatbuffers.SizeUOffsetT, flatbuffers.SizeUOffsetT, len(tables), func(i int) {
		e.builder.PrependUOffsetT(tables[i])
	})
}

// structs writes a list of structs of a size and an alignment; add writes the i-th.
func (e *arrowFile) structs(size, alignment, n int, add func(i int)) flatbuffers.UOffsetT {
	b := e.builder
	b.StartVector(size, n, alignment)
	for i := n - 1; i >= 0; i-- { // a flatbuffer is written from its end
		b.Prep(alignment, size)
		add(i)
	}
	return b.EndVector(n)
}

// record writes the table RecordBatch: of each column its length, and where in the body
// its values are, after an empty buffer for nulls.
func (e *arrowFile) record() flatbuffers.UOffsetT {
	b := e.builder
	nodes := e.structs(16, 8, len(e.columns), func(int) {
		b.PrependInt64(0) // nulls
		b.PrependInt64(int64(e.rows))
	})
	offsets := make([]int64, len(e.columns)+1)
	for i := range e.columns {
		offsets[i+1] = offsets[i] + int64(padded(e.columns[i].size(e.rows)))
	}
	buffers := e.structs(16, 8, 2*len(e.columns), func(i int) {
		size := 0
		if i%2 == 1 {
			size = e.columns[i/2].size(e.rows)
		}
		b.PrependInt64(int64(size))
		b.PrependInt64(offsets[i/2])
	})
	b.StartObject(4)
	b.PrependInt64Slot(0, int64(e.rows), 0)
	b.PrependUOffsetTSlot(1, nodes, 0)
	b.PrependUOffsetTSlot(2, buffers, 0)
	return b.EndObject()
}

// footer returns the table Footer with the place of the record batch: its offset in the
// file and the length of its message without the body.
func (e *arrowFile) footer(offset, length int) []byte {
	b := e.builder
	schema, dictionaries := e.schema(), e.structs(24, 8, 0, nil)
	records := e.structs(24, 8, 1, func(int) {
		b.PrependInt64(int64(e.bodySize()))
		b.Pad(4)
		b.PrependInt32(int32(length))
		b.PrependInt64(int64(offset))
	})
	b.StartObject(5)
	b.PrependUOffsetTSlot(1, schema, 0)
	b.PrependUOffsetTSlot(2, dictionaries, 0)
	b.PrependUOffsetTSlot(3, records, 0)
	b.PrependInt16Slot(0, arrowVersion, 0)
	b.Finish(b.EndObject())
	return b.FinishedBytes()
}
