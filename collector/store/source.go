package store

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/symdb"
	"github.com/flameline/flameline/pkg/profile"
)

// A piece is the part of a source that goes into one stream: all of it, or the
// samples with the same labels.
type piece struct {
	source   *symdb.Profile
	samples  []*googlev1.Sample
	tags     []rowcodec.Tag   // of the samples as far as one has any, in their order
	stamps   []rowcodec.Stamp // of the samples that have times of their own, parts have those of the whole
	def      labelindex.Definition
	id       uint64 // of the profile
	time     int64  // ms
	duration int64  // ms, that the samples cover

	// base has the definition of the sender's samples without labels, if the piece has
	// states and labels of samples.
	base *labelindex.Definition

	continues  bool // a part of a profile that began in an earlier slot
	identified bool // the sender gave the ID
	duplicate  bool // of one that is stored, or comes first in the call
}

// split checks a profile and cuts it into pieces; those of the call so far are known. Errors wrap ErrInvalid and
// name the field.
func (a *appender) split(p profile.Profile, now time.Time, call []piece) ([]piece, error) {
	if p.Pprof == nil {
		return nil, fmt.Errorf("%w: pprof: missing", storeerr.ErrInvalid)
	}
	src, err := symdb.Check(p.Pprof)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", storeerr.ErrInvalid, err)
	}
	base, err := baseLabels(p.Labels)
	if err != nil {
		return nil, fmt.Errorf("%w: labels: %w", storeerr.ErrInvalid, err)
	}
	nanos := src.TimeNanos
	if nanos == 0 {
		nanos = now.UnixNano()
	}
	proto := piece{source: src, time: nanos / 1e6, duration: max(src.DurationNanos/1e6, 0)}
	if proto.time < 1 {
		return nil, fmt.Errorf("%w: time_nanos: %d is before 1970", storeerr.ErrInvalid, src.TimeNanos)
	}
	if limit := now.Add(a.maxFuture); proto.time > limit.UnixMilli() {
		return nil, fmt.Errorf("%w: time_nanos: %s is more than %s ahead of the clock", storeerr.ErrInvalid,
			time.UnixMilli(proto.time).UTC().Format(time.RFC3339), a.maxFuture)
	}
	if a.epochs.Retention.Expired(layout.EpochOf(proto.time), now) {
		return nil, fmt.Errorf("%w: time_nanos: %s is older than the retention of %s", storeerr.ErrInvalid,
			time.UnixMilli(proto.time).UTC().Format(time.RFC3339), a.epochs.Retention.All)
	}
	if limit := now.Add(-a.maxAge); a.maxAge > 0 && proto.time < limit.UnixMilli() {
		return nil, fmt.Errorf("%w: time_nanos: %s is more than %s behind the clock", storeerr.ErrInvalid,
			time.UnixMilli(proto.time).UTC().Format(time.RFC3339), a.maxAge)
	}
	if p.ID == "" {
		proto.id = rand.Uint64()
	} else {
		proto.id, proto.identified = xxhash.Sum64String(p.ID), true
	}
	text := func(i int64) string { return src.StringTable[i] }
	if t := src.PeriodType; t != nil {
		proto.def.Period = labelindex.ValueType{Name: text(t.Type), Unit: text(t.Unit)}
	}
	for _, t := range src.SampleType {
		proto.def.Types = append(proto.def.Types, labelindex.ValueType{Name: text(t.Type), Unit: text(t.Unit)})
	}
	for i := range min(len(proto.def.Types), 64) {
		if !labelindex.TypeOf(base.Get(labelindex.LabelName), &proto.def, i).Cumulative() {
			src.States |= 1 << i
		}
	}
	proto.normalize()
	return a.group(proto, base, call)
}

// group cuts a profile by its samples' labels. A label of the series is stronger
// than one of a sample.
func (a *appender) group(proto piece, base labels.Labels, call []piece) ([]piece, error) {
	totals := make([]int64, len(proto.def.Types))
	var pieces []piece
	by := map[string]int{}
	negative := 0
	b := labels.NewBuilder(base)
	add := func(key string, s *googlev1.Sample, t rowcodec.Tag, at int64, series func() labels.Labels) {
		i, ok := by[key]
		if !ok {
			i = len(pieces)
			by[key] = i
			p := proto
			p.def.Labels = withService(series())
			pieces = append(pieces, p)
		}
		pieces[i].samples = append(pieces[i].samples, s)
		if t != (rowcodec.Tag{}) {
			pieces[i].tag(t)
		}
		if at > 0 {
			pieces[i].stamps = append(pieces[i].stamps, rowcodec.Stamp{Time: at, Sample: s})
		}
	}
	for i, s := range proto.source.Sample {
		if slices.ContainsFunc(s.Value, func(v int64) bool { return v < 0 }) {
			negative++
			continue
		}
		if !slices.ContainsFunc(s.Value, func(v int64) bool { return v != 0 }) {
			continue
		}
		for c, v := range s.Value {
			if totals[c] = bitpack.AddTotals(totals[c], v); totals[c] == bitpack.Overflowed {
				return nil, fmt.Errorf("%w: sample[%d].value[%d]: with those before it adds up to more than %d", storeerr.ErrInvalid, i, c, int64(math.MaxInt64))
			}
		}
		if len(s.Label) == 0 {
			add("", s, rowcodec.Tag{}, 0, func() labels.Labels { return base })
			continue
		}
		b.Reset(base)
		var t rowcodec.Tag
		at := int64(0)
		for _, l := range s.Label {
			name := proto.source.StringTable[l.Key]
			if l.Str == 0 && name == profile.LabelSampleTime {
				at = l.Num
				continue
			}
			if t.Read(name, proto.source.StringTable[l.Str]) {
				continue
			}
			if l.Str != 0 && name != "" && !base.Has(name) && !strings.HasPrefix(name, "__") {
				b.Set(name, strings.ToValidUTF8(proto.source.StringTable[l.Str], "\uFFFD"))
			}
		}
		series := b.Labels()
		key := ""
		if series.Len() > base.Len() {
			key = string(series.Bytes(nil))
		}
		add(key, s, t, at, func() labels.Labels { return series })
	}
	if negative > 0 {
		a.kv.Metrics.Negative.Add(float64(negative))
	}
	return a.bound(pieces, by, proto, base, call)
}

// baseLabels checks labels and leaves out those that are the store's to set.
func baseLabels(in labels.Labels) (labels.Labels, error) {
	var b labels.ScratchBuilder
	var err error
	in.Range(func(l labels.Label) {
		switch {
		case err != nil, l.Value == "":
		case l.Name == "":
			err = fmt.Errorf("name of %q is empty", l.Value)
		case !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value):
			err = fmt.Errorf("%q=%q is not UTF-8", l.Name, l.Value)
		case l.Name != labelindex.LabelName && strings.HasPrefix(l.Name, "__"):
		default:
			b.Add(l.Name, l.Value)
		}
	})
	if err != nil {
		return labels.Labels{}, err
	}
	b.Sort()
	out := b.Labels()
	if name, twice := out.HasDuplicateLabelNames(); twice {
		return out, fmt.Errorf("%s is there twice", name)
	}
	if out.Get(labelindex.LabelName) == "" {
		return out, fmt.Errorf("%s is missing", labelindex.LabelName)
	}
	return out, nil
}

func withService(l labels.Labels) labels.Labels {
	if l.Has(labelindex.LabelServiceName) {
		return l
	}
	return labels.NewBuilder(l).Set(labelindex.LabelServiceName, labelindex.UnknownService).Labels()
}

// tag tags the last sample.
func (p *piece) tag(t rowcodec.Tag) {
	p.tags = append(p.tags, make([]rowcodec.Tag, len(p.samples)-1-len(p.tags))...)
	p.tags = append(p.tags, t)
}
