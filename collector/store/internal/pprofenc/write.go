package pprofenc

import (
	"encoding/binary"
	"runtime"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/flameline/flameline/collector/store/internal/reuse"
	"github.com/flameline/flameline/collector/store/internal/symdb"
	"github.com/flameline/flameline/pkg/profile"
)

// A Writer encodes what was merged as a message of profile.proto, whose field
// numbers stand beside the calls, without a message in memory: that would take ten
// times the bytes. IDs are numbers of the dictionary; those of locations begin at 1.
type Writer struct {
	*Merge
	Size   int // of all, estimated from above
	out    []byte
	chunks []sampleChunk
}

// A sampleChunk is some of the samples, which are written at once with the others.
type sampleChunk struct {
	from, to int // samples
	size     int // bytes
	out      []byte
}

// NewWriter measures the samples.
func NewWriter(m *Merge) *Writer {
	w := &Writer{Merge: m, Size: 1024}
	w.packed = reuse.Sized(w.packed, len(m.Values))
	n := min(runtime.GOMAXPROCS(0), 8)
	for i := range n {
		w.chunks = append(w.chunks, sampleChunk{from: len(w.Values) * i / n, to: len(w.Values) * (i + 1) / n})
	}
	w.eachChunk(func(c *sampleChunk) {
		for i := c.from; i < c.to; i++ {
			locations := 0
			for _, id := range w.stack(i) {
				locations += protowire.SizeVarint(uint64(id))
			}
			w.packed[i] = uint32(locations)
			c.size += 1 + protowire.SizeBytes(w.sampleSize(i))
		}
	})
	for _, c := range w.chunks {
		w.Size += c.size
	}
	d := w.to
	w.Size += 32*len(d.Locations) + 24*len(d.Lines) + 40*len(d.Functions) + 80*len(d.Mappings) + 6*len(d.Strings)
	for _, s := range d.Strings {
		w.Size += len(s)
	}
	return w
}

// eachChunk calls fn with all chunks at once.
func (w *Writer) eachChunk(fn func(c *sampleChunk)) {
	var group sync.WaitGroup
	for i := range w.chunks {
		group.Go(func() { fn(&w.chunks[i]) })
	}
	group.Wait()
}

// Write returns the message, of samples of a type in a range of time, ms.
func (w *Writer) Write(t profile.Type, start, end int64) []byte {
	w.out = make([]byte, 0, w.Size)
	w.head(t, start, end)
	at := len(w.out)
	for i := range w.chunks {
		c := &w.chunks[i]
		c.out = w.out[at : at : at+c.size]
		at += c.size
	}
	w.eachChunk(w.putSamples)
	w.out = w.out[:at]
	for i := range w.to.Locations {
		w.putLocation(i, &w.to.Locations[i])
	}
	for i, f := range w.to.Functions[1:] {
		w.putFunction(i+1, f)
	}
	for i, m := range w.to.Mappings[1:] {
		w.putMapping(i+1, m)
	}
	for _, s := range w.to.Strings {
		w.out = protowire.AppendString(tag(w.out, 6, protowire.BytesType), s) // string_table
	}
	return w.out
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

func (w *Writer) message(field protowire.Number, b []byte) {
	w.out = protowire.AppendBytes(tag(w.out, field, protowire.BytesType), b)
}

// head fills in what describes the profile as a whole. The period is not kept
// with samples; it is what Pyroscope says for the type.
func (w *Writer) head(t profile.Type, start, end int64) {
	text := func(s string) uint64 { return uint64(w.to.AddString(s)) }
	valueType := func(typ, unit string) []byte {
		return number(number(nil, 1, text(typ)), 2, text(unit)) // type, unit
	}
	w.message(1, valueType(t.SampleType, t.SampleUnit))  // sample_type
	w.out = number(w.out, 9, uint64(end*1e6))            // time_nanos
	w.out = number(w.out, 10, uint64((end-start)*1e6))   // duration_nanos
	w.message(11, valueType(t.PeriodType, t.PeriodUnit)) // period_type
	w.out = number(w.out, 12, period(t))                 // period
	w.out = number(w.out, 14, text(t.SampleType))        // default_sample_type
}

// stack returns the IDs of a sample's locations.
func (w *Writer) stack(sample int) []uint32 {
	first := 0
	if sample > 0 {
		first = w.ends[sample-1]
	}
	return w.stacks[first:w.ends[sample]]
}

// sampleSize is the size of a sample without its tag and length.
func (w *Writer) sampleSize(i int) int {
	size := 2 + protowire.SizeVarint(uint64(w.Values[i]))
	if w.packed[i] > 0 {
		size += 1 + protowire.SizeBytes(int(w.packed[i]))
	}
	return size
}

// putSamples writes the samples of a chunk, which has room for them.
func (w *Writer) putSamples(c *sampleChunk) {
	b := c.out
	for i := c.from; i < c.to; i++ {
		stack, x := w.stack(i), w.Values[i]
		b = protowire.AppendVarint(tag(b, 2, protowire.BytesType), uint64(w.sampleSize(i))) // sample
		if len(stack) > 0 {
			b = protowire.AppendVarint(tag(b, 1, protowire.BytesType), uint64(w.packed[i])) // location_id, packed
			for _, id := range stack {
				b = binary.AppendUvarint(b, uint64(id))
			}
		}
		b = protowire.AppendVarint(tag(b, 2, protowire.BytesType), uint64(protowire.SizeVarint(uint64(x)))) // value, packed
		b = protowire.AppendVarint(b, uint64(x))
	}
}

func (w *Writer) putLocation(i int, l *symdb.Location) {
	var room [256]byte
	b := number(room[:0], 1, uint64(i)+1) // id
	b = number(b, 2, uint64(l.Mapping))   // mapping_id
	b = number(b, 3, l.Address)           // address
	for _, ln := range w.to.Lines[l.First:l.End] {
		var room [32]byte
		to := number(room[:0], 1, uint64(ln.Function))                // function_id
		to = number(to, 2, uint64(ln.Line))                           // line
		b = protowire.AppendBytes(tag(b, 4, protowire.BytesType), to) // line
	}
	b = number(b, 5, protowire.EncodeBool(l.Folded)) // is_folded
	w.message(4, b)
}

func (w *Writer) putFunction(i int, f symdb.Function) {
	var room [64]byte
	b := number(room[:0], 1, uint64(i)) // id
	b = number(b, 2, uint64(f.Name))    // name
	if f.SystemName != f.Name {
		// go tool pprof would shorten the name, such as Python's <module>, if it had this too.
		b = number(b, 3, uint64(f.SystemName)) // system_name
	}
	b = number(b, 4, uint64(f.File))                // filename
	w.message(5, number(b, 5, uint64(f.StartLine))) // start_line
}

func (w *Writer) putMapping(i int, m symdb.Mapping) {
	b := number(nil, 1, uint64(i))      // id
	b = number(b, 2, m.Start)           // memory_start
	b = number(b, 3, m.Limit)           // memory_limit
	b = number(b, 4, m.Offset)          // file_offset
	b = number(b, 5, uint64(m.File))    // filename
	b = number(b, 6, uint64(m.BuildID)) // build_id
	for bit := range 4 {                // has_functions and so on
		b = number(b, protowire.Number(7+bit), uint64(m.Flags>>bit&1))
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
