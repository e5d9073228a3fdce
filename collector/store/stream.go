package store

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unique"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/pkg/profile"
)

// Names of the labels that follow from the sample type, and of two copies that
// Pyroscope makes.
const (
	labelName           = "__name__"
	labelProfileType    = "__profile_type__"
	labelType           = "__type__"
	labelUnit           = "__unit__"
	labelPeriodType     = "__period_type__"
	labelPeriodUnit     = "__period_unit__"
	labelServiceName    = "service_name"
	labelServicePrivate = "__service_name__"

	unknownService = "unknown_service"
)

// A stream is what one sender's pprof profiles of one kind have in common: their
// labels and sample types. It is one series per sample type. Its profiles are
// stored as one row each, since all sample types share the stacktraces.
type stream struct {
	id        uint32
	partition uint32
	noted     slotSet    // slots that the index knows to have its profiles, or some of them
	linked    bool       // the link to the sender's stream, if it needs one, is written
	def       definition // what is stored about it
	family    *stream    // that of its family, once it was asked for
	same      *stream    // another live one of the same hash
}

// A definition identifies a stream within an epoch.
type definition struct {
	labels labels.Labels // without those that follow from the types
	period valueType
	types  []valueType
}

type valueType struct{ name, unit string }

// own returns the definition with texts that are its own: those of a push are parts
// of the whole profile, which a stream would keep in memory. Most have the same
// types.
func (d *definition) own() definition {
	out := definition{labels: d.labels, period: d.period.own(), types: make([]valueType, len(d.types))}
	for i, t := range d.types {
		out.types[i] = t.own()
	}
	return out
}

func (t valueType) own() valueType {
	return valueType{unique.Make(t.name).Value(), unique.Make(t.unit).Value()}
}

// is reports whether an encoding is the definition's.
func (d *definition) is(key []byte) bool {
	var room [512]byte
	return bytes.Equal(d.append(room[:0]), key)
}

// seriesLabels are the labels of the series of one sample type.
func (d *definition) seriesLabels(sampleType int) labels.Labels {
	t := d.types[sampleType]
	b := labels.NewBuilder(d.labels)
	if d.period != (valueType{}) {
		b.Set(labelPeriodType, d.period.name)
		b.Set(labelPeriodUnit, d.period.unit)
	}
	b.Set(labelType, t.name)
	b.Set(labelUnit, t.unit)
	b.Set(labelServicePrivate, d.labels.Get(labelServiceName))
	b.Set(labelProfileType, typeOf(d.labels.Get(labelName), d, sampleType).String())
	return b.Labels()
}

// typeOf is the profile type of a definition's sample type, given __name__.
func typeOf(name string, d *definition, sampleType int) profile.Type {
	t := d.types[sampleType]
	return profile.Type{
		Name:       name,
		SampleType: t.name, SampleUnit: t.unit,
		PeriodType: d.period.name, PeriodUnit: d.period.unit,
	}
}

// append appends the definition's encoding, which is equal for equal streams.
func (d *definition) append(b []byte) []byte {
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	text(d.period.name)
	text(d.period.unit)
	b = binary.AppendUvarint(b, uint64(len(d.types)))
	for _, t := range d.types {
		text(t.name)
		text(t.unit)
	}
	b = binary.AppendUvarint(b, uint64(d.labels.Len()))
	d.labels.Range(func(l labels.Label) {
		text(l.Name)
		text(l.Value)
	})
	return b
}

func (d *definition) read(r *bitpack.Decoder) {
	d.period = valueType{r.String("period type"), r.String("period unit")}
	for range r.Count(2, "sample type count") {
		d.types = append(d.types, valueType{r.String("sample type"), r.String("sample unit")})
	}
	var b labels.ScratchBuilder
	for range r.Count(2, "label count") {
		b.Add(r.String("label name"), r.String("label value"))
	}
	b.Sort()
	d.labels = b.Labels()
}

// appendStream encodes what is stored of a stream.
func appendStream(b []byte, partition uint32, d *definition) []byte {
	return d.append(binary.AppendUvarint(b, uint64(partition)))
}

func readStream(value []byte) (partition uint32, d definition, err error) {
	r := bitpack.Decoder{Data: value}
	partition = r.Below(1<<32-1, "partition")
	d.read(&r)
	return partition, d, r.End()
}

// A slotSet is a set of the 288 slots of an epoch.
type slotSet [(layout.HoursPerEpoch*layout.SlotsPerHour + 63) / 64]uint64

func (s *slotSet) hour(hour uint8) (mask uint16) {
	for i := range uint(layout.SlotsPerHour) {
		n := uint(hour)*layout.SlotsPerHour + i
		mask |= uint16(s[n/64]>>(n%64)&1) << i
	}
	return mask
}

func (s *slotSet) add(hour uint8, mask uint16) {
	for i := range uint(layout.SlotsPerHour) {
		n := uint(hour)*layout.SlotsPerHour + i
		s[n/64] |= uint64(mask>>i&1) << (n % 64)
	}
}

// edge is the first or the last slot of a set.
func (s *slotSet) edge(last bool) (slot int, ok bool) {
	for i := range s {
		if last {
			i = len(s) - 1 - i
		}
		switch {
		case s[i] == 0:
		case last:
			return i*64 + 63 - bits.LeadingZeros64(s[i]), true
		default:
			return i*64 + bits.TrailingZeros64(s[i]), true
		}
	}
	return 0, false
}

// slotsBetween are the slots of an epoch that overlap the times from start to
// end, in ms, both included.
func slotsBetween(epoch uint32, start, end int64) (s slotSet) {
	base := layout.EpochStart(epoch)
	lo := (max(start, base+1) - base - 1) / layout.SlotMs
	hi := (min(end, base+layout.DayMs) - base - 1) / layout.SlotMs
	for n := lo; n <= hi; n++ {
		s[n/64] |= 1 << (n % 64)
	}
	return s
}

// A streamSet is a bitmap by stream number.
type streamSet []uint64

// add reports whether the stream was not in the set.
func (s *streamSet) add(stream uint32) bool {
	for int(stream/64) >= len(*s) {
		*s = append(*s, 0)
	}
	word, bit := &(*s)[stream/64], uint64(1)<<(stream%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

func (d *definition) isFamily() bool { return d.labels.Has(familyLabel) }

// familyLabel marks the definition of a family's stream. No sender has it, as
// its name is not a label's.
const familyLabel = "\x00family"

// definition is that of a row's stream.
func (t *table) definition(row uint32) (def definition, err error) {
	k := &t.kinds[t.kindOf[row]].def
	b := labels.NewBuilder(k.labels)
	for _, name := range t.names {
		c, err := t.column(name)
		if err != nil {
			return def, err
		}
		b.Set(name, c.value(row))
	}
	return definition{labels: b.Labels(), period: k.period, types: k.types}, nil
}
