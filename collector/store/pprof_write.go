package store

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/flameline/flameline/pkg/profile"
)

// A pprofWriter encodes samples as a message of profile.proto, whose field
// numbers stand beside the calls, without a message in memory: that would take
// ten times the bytes. Its tables hold the ID of a part in the result, 0 while it
// has none, and the parts in the order of their IDs.
type pprofWriter struct {
	*view
	values  []int64 // by node
	out     []byte
	samples int

	stringIDs, functionIDs, mappingIDs, locationIDs []uint32
	strings                                         []string // beginning with ""
	functions, mappings, locations                  []uint32
}

func newPprofWriter(v *view, values []int64) *pprofWriter {
	return &pprofWriter{
		view: v, values: values, strings: []string{""},
		stringIDs: make([]uint32, len(v.strings)), functionIDs: make([]uint32, len(v.functions)),
		mappingIDs: make([]uint32, len(v.mappings)), locationIDs: make([]uint32, len(v.locations)),
	}
}

// size estimates the bytes of the samples and their symbols, from above.
func (w *pprofWriter) size() int {
	n := 1024
	depth := make([]uint32, len(w.nodes))
	for i := range w.values {
		if i > 0 {
			depth[i] = depth[w.nodes[i].parent] + 1
		}
		if w.values[i] != 0 {
			n += 16 + 3*int(depth[i])
		}
	}
	n += 24*len(w.view.locations) + 12*len(w.lines) + 16*len(w.view.functions)
	for _, s := range w.view.strings {
		n += len(s) + 3
	}
	return n
}

func (w *pprofWriter) write(sel Selection) *Pprof {
	w.out = make([]byte, 0, w.size())
	w.head(sel)
	w.putSamples()
	for i := 0; i < len(w.locations); i++ {
		w.putLocation(i)
	}
	for i, f := range w.functions {
		w.putFunction(i, w.view.functions[f])
	}
	for i, m := range w.mappings {
		w.putMapping(i, w.view.mappings[m])
	}
	for _, s := range w.strings {
		w.out = protowire.AppendString(tag(w.out, 6, protowire.BytesType), s) // string_table
	}
	return &Pprof{Data: w.out, Samples: w.samples}
}

func tag(b []byte, field protowire.Number, t protowire.Type) []byte {
	return protowire.AppendTag(b, field, t)
}

// number appends a field that is a number, unless it is 0.
func number(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(tag(b, field, protowire.VarintType), v)
}

func (w *pprofWriter) message(field protowire.Number, b []byte) {
	w.out = protowire.AppendBytes(tag(w.out, field, protowire.BytesType), b)
}

// text adds a string that is none of the view's.
func (w *pprofWriter) text(s string) uint64 {
	for i, known := range w.strings {
		if s == known {
			return uint64(i)
		}
	}
	w.strings = append(w.strings, s)
	return uint64(len(w.strings) - 1)
}

func (w *pprofWriter) stringID(i uint32) uint64 {
	if i != 0 && w.stringIDs[i] == 0 {
		w.stringIDs[i] = uint32(len(w.strings))
		w.strings = append(w.strings, w.view.strings[i])
	}
	return uint64(w.stringIDs[i])
}

// assign gives a part the next ID of its kind.
func assign(ids []uint32, list *[]uint32, i uint32) uint64 {
	if ids[i] == 0 {
		*list = append(*list, i)
		ids[i] = uint32(len(*list))
	}
	return uint64(ids[i])
}

// head fills in what describes the profile as a whole. The period is not kept
// with samples; it is what Pyroscope says for the type.
func (w *pprofWriter) head(sel Selection) {
	t := sel.Type
	valueType := func(typ, unit string) []byte {
		return number(number(nil, 1, w.text(typ)), 2, w.text(unit)) // type, unit
	}
	w.message(1, valueType(t.SampleType, t.SampleUnit))        // sample_type
	w.out = number(w.out, 9, uint64(sel.End*1e6))              // time_nanos
	w.out = number(w.out, 10, uint64((sel.End-sel.Start)*1e6)) // duration_nanos
	w.message(11, valueType(t.PeriodType, t.PeriodUnit))       // period_type
	w.out = number(w.out, 12, period(t))                       // period
	w.out = number(w.out, 14, w.text(t.SampleType))            // default_sample_type
}

func (w *pprofWriter) putSamples() {
	var stack []byte
	for n, x := range w.values {
		if x == 0 {
			continue
		}
		w.samples++
		stack = stack[:0]
		for at := uint32(n); at != 0; at = w.nodes[at].parent {
			stack = protowire.AppendVarint(stack, assign(w.locationIDs, &w.locations, w.nodes[at].location))
		}
		value := protowire.SizeVarint(uint64(x))
		size := 2 + value
		if len(stack) > 0 {
			size += protowire.SizeTag(1) + protowire.SizeBytes(len(stack))
		}
		w.out = protowire.AppendVarint(tag(w.out, 2, protowire.BytesType), uint64(size)) // sample
		if len(stack) > 0 {
			w.message(1, stack) // location_id, packed
		}
		w.out = protowire.AppendVarint(tag(w.out, 2, protowire.BytesType), uint64(value)) // value, packed
		w.out = protowire.AppendVarint(w.out, uint64(x))
	}
}

func (w *pprofWriter) putLocation(i int) {
	l := &w.view.locations[w.locations[i]]
	b := number(nil, 1, uint64(i)+1) // id
	if l.mapping != 0 {
		b = number(b, 2, assign(w.mappingIDs, &w.mappings, l.mapping)) // mapping_id
	}
	b = number(b, 3, l.address) // address
	for _, ln := range w.lines[l.first:l.end] {
		to := number(nil, 1, assign(w.functionIDs, &w.functions, ln.function)) // function_id
		to = number(to, 2, uint64(ln.line))                                    // line
		b = protowire.AppendBytes(tag(b, 4, protowire.BytesType), to)          // line
	}
	b = number(b, 5, protowire.EncodeBool(l.folded)) // is_folded
	w.message(4, b)
}

func (w *pprofWriter) putFunction(i int, f function) {
	b := number(nil, 1, uint64(i)+1)                // id
	b = number(b, 2, w.stringID(f.name))            // name
	b = number(b, 3, w.stringID(f.systemName))      // system_name
	b = number(b, 4, w.stringID(f.file))            // filename
	w.message(5, number(b, 5, uint64(f.startLine))) // start_line
}

func (w *pprofWriter) putMapping(i int, m mapping) {
	b := number(nil, 1, uint64(i)+1)        // id
	b = number(b, 2, m.start)               // memory_start
	b = number(b, 3, m.limit)               // memory_limit
	b = number(b, 4, m.offset)              // file_offset
	b = number(b, 5, w.stringID(m.file))    // filename
	b = number(b, 6, w.stringID(m.buildID)) // build_id
	for bit := range 4 {                    // has_functions and so on
		b = number(b, protowire.Number(7+bit), uint64(m.flags>>bit&1))
	}
	w.message(3, b)
}

func period(t profile.Type) uint64 {
	switch t.Name {
	case "process_cpu":
		return 1_000_000_000
	case "memory":
		return 512 << 10
	}
	return 1
}
