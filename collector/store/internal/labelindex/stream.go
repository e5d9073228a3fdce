package labelindex

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unique"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/pkg/profile"
)

// Names of the labels that follow from the sample type, and of two copies that
// Pyroscope makes.
const (
	LabelName           = "__name__"
	LabelProfileType    = "__profile_type__"
	LabelType           = "__type__"
	LabelUnit           = "__unit__"
	labelPeriodType     = "__period_type__"
	labelPeriodUnit     = "__period_unit__"
	LabelServiceName    = "service_name"
	LabelServicePrivate = "__service_name__"

	UnknownService = "unknown_service"
)

// A Stream is what one sender's pprof profiles of one kind have in common: their
// labels and sample types. It is one series per sample type. Its profiles are
// stored as one row each, since all sample types share the stacktraces.
type Stream struct {
	ID        uint32
	Partition uint32
	Noted     SlotSet    // slots that the index knows to have its profiles, or some of them
	Linked    bool       // the link to the sender's stream, if it needs one, is written
	Def       Definition // what is stored about it
	Aggregate *Stream    // that it is part of, once it was asked for
}

// A Definition identifies a stream within an epoch.
type Definition struct {
	Labels labels.Labels // without those that follow from the types
	Period ValueType
	Types  []ValueType
}

// A ValueType is a sample type of pprof.
type ValueType struct{ Name, Unit string }

// Own returns the definition with texts that are its own: those of a push are parts
// of the whole profile, which a stream would keep in memory. Most have the same
// types.
func (d *Definition) Own() Definition {
	out := Definition{Labels: d.Labels, Period: d.Period.own(), Types: make([]ValueType, len(d.Types))}
	for i, t := range d.Types {
		out.Types[i] = t.own()
	}
	return out
}

func (t ValueType) own() ValueType {
	return ValueType{unique.Make(t.Name).Value(), unique.Make(t.Unit).Value()}
}

// Hash is the hash of what Append appends.
func (d *Definition) Hash() uint64 {
	var room [512]byte
	return xxhash.Sum64(d.Append(room[:0]))
}

// SeriesLabels are the labels of the series of one sample type.
func (d *Definition) SeriesLabels(sampleType int) labels.Labels {
	t := d.Types[sampleType]
	b := labels.NewBuilder(d.Labels)
	if d.Period != (ValueType{}) {
		b.Set(labelPeriodType, d.Period.Name)
		b.Set(labelPeriodUnit, d.Period.Unit)
	}
	b.Set(LabelType, t.Name)
	b.Set(LabelUnit, t.Unit)
	b.Set(LabelServicePrivate, d.Labels.Get(LabelServiceName))
	b.Set(LabelProfileType, TypeOf(d.Labels.Get(LabelName), d, sampleType).String())
	return b.Labels()
}

// TypeOf is the profile type of a definition's sample type, given __name__.
func TypeOf(name string, d *Definition, sampleType int) profile.Type {
	t := d.Types[sampleType]
	return profile.Type{
		Name:       name,
		SampleType: t.Name, SampleUnit: t.Unit,
		PeriodType: d.Period.Name, PeriodUnit: d.Period.Unit,
	}
}

// Append appends the definition's encoding, which is equal for equal streams.
func (d *Definition) Append(b []byte) []byte {
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	text(d.Period.Name)
	text(d.Period.Unit)
	b = binary.AppendUvarint(b, uint64(len(d.Types)))
	for _, t := range d.Types {
		text(t.Name)
		text(t.Unit)
	}
	b = binary.AppendUvarint(b, uint64(d.Labels.Len()))
	d.Labels.Range(func(l labels.Label) {
		text(l.Name)
		text(l.Value)
	})
	return b
}

func (d *Definition) read(r *bitpack.Decoder) {
	d.Period = ValueType{r.String("period type"), r.String("period unit")}
	for range r.Count(2, "sample type count") {
		d.Types = append(d.Types, ValueType{r.String("sample type"), r.String("sample unit")})
	}
	var b labels.ScratchBuilder
	for range r.Count(2, "label count") {
		b.Add(r.String("label name"), r.String("label value"))
	}
	b.Sort()
	d.Labels = b.Labels()
}

// AppendStream encodes what is stored of a stream.
func AppendStream(b []byte, partition uint32, d *Definition) []byte {
	return d.Append(binary.AppendUvarint(b, uint64(partition)))
}

// Is reports whether the stream is the one of an encoding.
func (s *Stream) Is(encoded []byte) bool {
	var room [512]byte
	return bytes.Equal(AppendStream(room[:0], s.Partition, &s.Def), encoded)
}

// Hash is the hash of the stream's encoding, by which it is found.
func (s *Stream) Hash() uint64 {
	var room [512]byte
	return xxhash.Sum64(AppendStream(room[:0], s.Partition, &s.Def))
}

// ReadStream decodes what is stored of a stream.
func ReadStream(value []byte) (partition uint32, d Definition, err error) {
	r := bitpack.Decoder{Data: value}
	partition = r.Below(1<<32-1, "partition")
	d.read(&r)
	return partition, d, r.End()
}

// A SlotSet is a set of the slots of an epoch, by hour one bit each.
type SlotSet [layout.HoursPerEpoch]uint16

// Edge is the first or the last slot of a set.
func (s *SlotSet) Edge(last bool) (slot int, ok bool) {
	for i := range s {
		if last {
			i = len(s) - 1 - i
		}
		switch {
		case s[i] == 0:
		case last:
			return i*layout.SlotsPerHour + bits.Len16(s[i]) - 1, true
		default:
			return i*layout.SlotsPerHour + bits.TrailingZeros16(s[i]), true
		}
	}
	return 0, false
}

// SlotsBetween are the slots of an epoch that overlap the times from start to
// end, in ms, both included.
func SlotsBetween(epoch uint32, start, end int64) (s SlotSet) {
	base := layout.EpochStart(epoch)
	lo := (max(start, base+1) - base - 1) / layout.SlotMs
	hi := (min(end, base+layout.DayMs) - base - 1) / layout.SlotMs
	for n := lo; n <= hi; n++ {
		s[n/layout.SlotsPerHour] |= 1 << (n % layout.SlotsPerHour)
	}
	return s
}

// A StreamSet is a bitmap by stream number.
type StreamSet []uint64

// Add reports whether the stream was not in the set.
func (s *StreamSet) Add(stream uint32) bool {
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

// IsAggregate reports whether the stream stands for all streams of a service that differ
// in labels alone.
func (d *Definition) IsAggregate() bool { return d.Labels.Has(AggregateLabel) }

// Aggregate is the definition of the stream that stands for all streams of a kind and a
// service.
func (k *Kind) Aggregate(service string) Definition {
	b := labels.NewBuilder(k.Def.Labels)
	b.Set(LabelServiceName, service)
	b.Set(AggregateLabel, "1")
	return Definition{Labels: b.Labels(), Period: k.Def.Period, Types: k.Def.Types}
}

// AggregateLabel marks the definition of a stream that stands for others. No sender has
// it, as its name is not a label's.
const AggregateLabel = "\x00family"

// Definition is that of a row's stream.
func (t *HourIndex) Definition(row uint32) (def Definition, err error) {
	k := &t.Kinds[t.KindOf[row]].Def
	b := labels.NewBuilder(k.Labels)
	for _, name := range t.Names {
		c, err := t.column(name)
		if err != nil {
			return def, err
		}
		b.Set(name, c.Value(row))
	}
	return Definition{Labels: b.Labels(), Period: k.Period, Types: k.Types}, nil
}
