package sample

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"github.com/google/uuid"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/profile"
)

// profileName is the first part of the profile type of CPU samples, the label __name__.
const profileName = "process_cpu"

// A profileKind says what the values of a window's stacktraces are.
type profileKind struct {
	name   string      // the label __name__
	values []valueKind // at most len(values)
	period valueKind   // the period type, zero if there is none; of unknown length
}

// memoryName is the first part of the profile types of allocations.
const memoryName = "memory"

// spacePeriod is the period type of allocations: they are sampled by bytes.
var spacePeriod = valueKind{"space", "bytes"}

// A valueKind is a sample type and its unit.
type valueKind struct{ name, unit string }

// values are those of one stacktrace, as many as its kind of profile has. CPU samples
// are counted, and multiplied by the period when they are written.
type values [2]int64

var (
	cpuKind    = &profileKind{name: profileName, values: []valueKind{{"cpu", "nanoseconds"}}}
	offCPUKind = &profileKind{name: "off_cpu", values: []valueKind{{"off_cpu", "nanoseconds"}, {"blocks", "count"}}}
	// pageFaultKind has the bytes that became resident, oomKind the processes that were
	// killed for lack of memory, with the bytes of their page faults so far.
	pageFaultKind = &profileKind{name: "page_faults", values: []valueKind{{"page_faults", "bytes"}}}
	oomKind       = &profileKind{name: "oom", values: []valueKind{{"kills", "count"}, {"page_faults", "bytes"}}}
	// allocKind has what was allocated in a window, liveKind what was in use at its end,
	// with the names of Go's heap profiles.
	allocKind = &profileKind{name: memoryName, values: []valueKind{{"alloc_objects", "count"}, {"alloc_space", "bytes"}}, period: spacePeriod}
	liveKind  = &profileKind{name: memoryName, values: []valueKind{{"inuse_objects", "count"}, {"inuse_space", "bytes"}}, period: spacePeriod}
)

// tick is the precision to which the times of samples are kept, as in the store.
const tick = 20 * time.Millisecond

// tickOf numbers the tick (n·tick, (n+1)·tick] that a time in Unix ns falls into.
func tickOf(t int64) int64 { return (t - 1) / int64(tick) }

// windowStart returns the start s of the window (s, s+interval] that a time
// falls into, both in Unix ns.
func windowStart(t int64, interval time.Duration) int64 {
	n := int64(interval)
	s := t - t%n
	if s == t {
		s -= n
	}
	return s
}

// A window holds the samples of one interval, a series for each label set. It
// is used by one goroutine until it is closed, and only read from then on.
type window struct {
	start   int64 // Unix ns
	kind    *profileKind
	series  map[uint64]*series
	samples int64
}

// newWindow returns a window of CPU samples.
func newWindow(start int64) *window { return newWindowOf(start, cpuKind) }

func newWindowOf(start int64, kind *profileKind) *window {
	return &window{start: start, kind: kind, series: map[uint64]*series{}}
}

// A series is the samples of one label set, each distinct stacktrace once.
type series struct {
	id        string // of the profile, the same at every attempt to append it
	labels    labels.Labels
	index     map[*location]uint32
	locations []*location
	stacks    map[string]int // by the bytes of the indexes of its locations, and the IDs of the span
	samples   []counted
	scratch   []byte
}

// A counted stacktrace is one with the sums of its values.
type counted struct {
	locations []uint32 // leaf first
	values    values
	ticks     []int64 // of samples with times
	spans     spanIDs
}

// add counts a stacktrace n times. It keeps the locations, not the slice.
func (w *window) add(st stacktrace, n int64) { w.addValues(st, values{n}, n, nil) }

// addValues adds the values of n samples of a stacktrace, with their ticks if they have
// times. It keeps the locations, not the slices.
func (w *window) addValues(st stacktrace, v values, n int64, ticks []int64) {
	w.samples += n
	key := st.labels.Hash()
	s := w.series[key]
	if s == nil {
		s = &series{
			id:     uuid.NewString(),
			labels: st.labels,
			index:  map[*location]uint32{},
			stacks: map[string]int{},
		}
		w.series[key] = s
	}
	s.scratch = s.scratch[:0]
	for _, l := range st.locations {
		i, ok := s.index[l]
		if !ok {
			i = uint32(len(s.locations))
			s.index[l] = i
			s.locations = append(s.locations, l)
		}
		s.scratch = binary.LittleEndian.AppendUint32(s.scratch, i)
	}
	indexes := s.scratch
	s.scratch = append(s.scratch, st.spans.span...)
	s.scratch = append(s.scratch, st.spans.trace...)
	if i, ok := s.stacks[string(s.scratch)]; ok {
		for k := range v {
			s.samples[i].values[k] += v[k]
		}
		s.samples[i].ticks = append(s.samples[i].ticks, ticks...)
		return
	}
	s.stacks[string(s.scratch)] = len(s.samples)
	locs := make([]uint32, len(st.locations))
	for i := range locs {
		locs[i] = binary.LittleEndian.Uint32(indexes[4*i:])
	}
	s.samples = append(s.samples, counted{locations: locs, values: v, ticks: slices.Clone(ticks), spans: st.spans})
}

// relabelled returns the window with other labels, given by the keys of series. Series that
// have the same labels then are added up; those without labels are left out. It takes the
// series of w.
func (w *window) relabelled(final map[uint64]labels.Labels) *window {
	out := newWindowOf(w.start, w.kind)
	out.samples = w.samples
	for key, s := range w.series {
		s.labels = final[key]
		if s.labels.IsEmpty() {
			continue
		}
		key := s.labels.Hash()
		if out.series[key] == nil {
			out.series[key] = s
			continue
		}
		for _, c := range s.samples {
			st := stacktrace{labels: s.labels, locations: make([]*location, len(c.locations)), spans: c.spans}
			for i, l := range c.locations {
				st.locations[i] = s.locations[l]
			}
			out.addValues(st, c.values, 0, c.ticks)
		}
	}
	return out
}

// profiles returns the window as one profile per series, in label order. The
// caller owns them; every call makes new ones with the same IDs.
func (w *window) profiles(interval time.Duration, period int64) []profile.Profile {
	ps := make([]profile.Profile, 0, len(w.series))
	for _, s := range w.series {
		lb := labels.NewBuilder(s.labels)
		lb.Set(model.MetricNameLabel, w.kind.name)
		p := s.pprof(w.kind, period)
		p.TimeNanos = w.start + int64(time.Millisecond)
		p.DurationNanos = int64(interval)
		ps = append(ps, profile.Profile{ID: s.id, Labels: lb.Labels(), Pprof: p})
	}
	slices.SortFunc(ps, func(a, b profile.Profile) int {
		if c := labels.Compare(a.Labels, b.Labels); c != 0 {
			return c
		}
		return cmp.Compare(a.ID, b.ID)
	})
	return ps
}

// pprof writes the series as a pprof profile without its time. period is that of CPU
// samples, in ns; other kinds of profiles have none.
func (s *series) pprof(kind *profileKind, period int64) *googlev1.Profile {
	t := newTables(len(s.locations))
	p := &googlev1.Profile{Sample: make([]*googlev1.Sample, 0, len(s.samples))}
	for _, v := range kind.values {
		p.SampleType = append(p.SampleType, &googlev1.ValueType{Type: t.text(v.name), Unit: t.text(v.unit)})
	}
	scale := int64(1)
	if kind == cpuKind {
		p.PeriodType, p.Period, scale = p.SampleType[0].CloneVT(), period, period
	}
	if kind.period != (valueKind{}) {
		p.PeriodType = &googlev1.ValueType{Type: t.text(kind.period.name), Unit: t.text(kind.period.unit)}
	}
	for _, l := range s.locations {
		t.location(l)
	}
	for _, c := range s.samples {
		ids := make([]uint64, len(c.locations))
		for i, n := range c.locations {
			ids[i] = uint64(n) + 1
		}
		v := make([]int64, len(kind.values))
		for i := range v {
			v[i] = c.values[i] * scale
		}
		p.Sample = append(p.Sample, c.timed(t, ids, scale)...)
		if v[0] -= int64(len(c.ticks)) * scale; v[0] > 0 || len(c.ticks) == 0 {
			p.Sample = append(p.Sample, &googlev1.Sample{LocationId: ids, Value: v, Label: t.spans(c.spans)})
		}
	}
	p.Mapping, p.Location, p.Function, p.StringTable = t.mappings, t.locations, t.functions, t.strings
	return p
}

// timed returns the samples that have times, one for each tick, with the end of the tick as
// their time. Each counts scale.
func (c *counted) timed(t *tables, ids []uint64, scale int64) (out []*googlev1.Sample) {
	for left := slices.Sorted(slices.Values(c.ticks)); len(left) > 0; {
		n := 1
		for n < len(left) && left[n] == left[0] {
			n++
		}
		label := &googlev1.Label{Key: t.text(profile.LabelSampleTime), Num: (left[0] + 1) * int64(tick), NumUnit: t.text("nanoseconds")}
		out = append(out, &googlev1.Sample{LocationId: ids, Value: []int64{int64(n) * scale}, Label: append(t.spans(c.spans), label)})
		left = left[n:]
	}
	return out
}
