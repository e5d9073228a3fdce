package ingest

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/prometheus/model/labels"
	otlpv1 "go.opentelemetry.io/proto/otlp/profiles/v1development"

	"github.com/flameline/flameline/pkg/profile"
)

// An otlpConverter collects the profiles of one request.
type otlpConverter struct {
	budget
	received   time.Time
	dictionary *otlpv1.ProfilesDictionary
	times      timelines
	misplaced  int            // impossible timestamps
	payloads   map[string]int // profiles that have only an original payload, by format
	drafts     []*otlpDraft
	byKey      map[otlpKey]*otlpDraft
}

// An otlpKey identifies profiles that are merged.
type otlpKey struct {
	labels          string
	kind            otlpKind
	begin, duration int64
	id              string
}

// An otlpKind is the type under which a profile is stored.
type otlpKind struct {
	name           string
	value, trigger valueType
	period         int64
}

// An otlpDraft is a profile under construction.
type otlpDraft struct {
	draft
	id        string
	labels    labels.Labels
	times     *timeline        // nil until a sample has its own time
	mappings  map[int32]uint64 // by index of the dictionary
	locations map[int32]uint64
	stacks    map[int32][]uint64
}

// profiles returns the collected profiles that have samples. A profile that was divided
// into windows gets an ID per window.
func (c *otlpConverter) profiles() ([]profile.Profile, error) {
	var out []profile.Profile
	for _, d := range c.drafts {
		if len(d.pprof.Sample) == 0 {
			continue
		}
		tidyLabels(d.pprof, c.limits)
		for _, p := range d.times.cut(d.pprof) {
			id := d.id
			if p != d.pprof && id != "" {
				id = fmt.Sprintf("%s-%d", id, p.TimeNanos)
			}
			out = append(out, profile.Profile{ID: id, Labels: d.labels, Pprof: p})
		}
	}
	for format, n := range c.payloads {
		if len(out) == 0 {
			return nil, fmt.Errorf("original_payload: %d profiles have no samples, only a payload in the format %.100q, which is not supported", n, format)
		}
		c.limits.Report.Skip("payload", format, n)
	}
	c.limits.Report.Correct("time", "of samples, whose timestamps are impossible", c.misplaced)
	if c.times.length > windowLength {
		c.limits.Report.Correct("time", fmt.Sprintf("of samples, to windows of %d s", c.times.length/1e9), 1)
	}
	return out, nil
}

// addResource adds the profiles of one resource.
func (c *otlpConverter) addResource(r *otlpv1.ResourceProfiles) error {
	resource, err := otlpAttributes(c.dictionary, r.GetResource().GetAttributes())
	if err != nil {
		return fmt.Errorf("resource.%w", err)
	}
	for i, s := range r.GetScopeProfiles() {
		scope, err := otlpAttributes(c.dictionary, s.GetScope().GetAttributes())
		if err != nil {
			return fmt.Errorf("scope_profiles[%d].scope.%w", i, err)
		}
		for j, p := range s.GetProfiles() {
			if err := c.add(resource, scope, p); err != nil {
				return fmt.Errorf("scope_profiles[%d].profiles[%d].%w", i, j, err)
			}
		}
	}
	return nil
}

// add adds one profile of a request.
func (c *otlpConverter) add(resource, scope []otlpAttribute, p *otlpv1.Profile) error {
	kind, scale, err := c.kind(p)
	if err != nil {
		return err
	}
	times, err := c.timesOf(p)
	if err != nil {
		return err
	}
	if len(p.Samples) == 0 && len(p.OriginalPayload) > 0 {
		if c.payloads == nil {
			c.payloads = map[string]int{}
		}
		c.payloads[p.OriginalPayloadFormat]++
	}
	// Samples may name a service other than their resource's.
	byService := map[string]*otlpDraft{}
	negative := 0
	var first error // about a negative value
	var sum signedSum
	for i, s := range p.Samples {
		service, err := c.service(s)
		if err != nil {
			return fmt.Errorf("samples[%d].%w", i, err)
		}
		d := byService[service]
		if d == nil {
			ls, err := otlpLabels(kind.name, service, resource, scope, c.limits)
			if err != nil {
				return fmt.Errorf("attributes of the resource: %w", err)
			}
			d = c.draft(kind, ls, p, &times)
			byService[service] = d
		}
		for _, v := range s.Values {
			sum.add(v)
		}
		if j := slices.IndexFunc(s.Values, func(v int64) bool { return v < 0 }); j >= 0 {
			if negative++; negative == 1 {
				first = fmt.Errorf("samples[%d].values[%d]: %d is negative, as are half of all or more: a comparison of two profiles is not a profile", i, j, s.Values[j])
			}
			continue
		}
		if err := c.addSample(d, s, &times, scale); err != nil {
			return fmt.Errorf("samples[%d].%w", i, err)
		}
	}
	if sum.negative > 0 && sum.negative >= sum.positive {
		return first
	}
	c.limits.Report.Skip("sample", "with a negative value", negative)
	return nil
}

// kind returns a profile's type, as Pyroscope determines it, and the factor for its
// values.
func (c *otlpConverter) kind(p *otlpv1.Profile) (kind otlpKind, scale int64, err error) {
	read := func(t *otlpv1.ValueType, field string) valueType {
		for _, i := range []int32{t.GetTypeStrindex(), t.GetUnitStrindex()} {
			if i != 0 {
				err = errors.Join(err, outside(i, len(c.dictionary.StringTable), "dictionary.string_table", field))
			}
		}
		return valueType{otlpText(c.dictionary, t.GetTypeStrindex()), otlpText(c.dictionary, t.GetUnitStrindex())}
	}
	kind.value = read(p.SampleType, "sample_type")
	kind.trigger = read(p.PeriodType, "period_type")
	kind.period = p.Period
	switch {
	case err != nil:
		return kind, 0, err
	case kind.value.name == "":
		return kind, 0, errors.New("sample_type: is missing")
	case p.Period < 0:
		return kind, 0, fmt.Errorf("period: %d is negative", p.Period)
	}
	nanoseconds := valueType{"cpu", "nanoseconds"}
	samples := kind.value == valueType{"samples", "count"} || kind.value == valueType{"cpu", "count"}
	switch {
	case kind.trigger == nanoseconds && samples && p.Period > 0:
		kind.name, kind.value = "process_cpu", nanoseconds
		return kind, p.Period, nil
	case kind.trigger == nanoseconds && kind.value == nanoseconds:
		kind.name = "process_cpu"
	default: // off_cpu, and types that only the sender knows
		kind.name = cmp.Or(kind.trigger.name, kind.value.name)
	}
	return kind, 1, nil
}

// service returns the service that a sample's attributes name, "" if there is none.
func (c *otlpConverter) service(s *otlpv1.Sample) (string, error) {
	for i, a := range s.AttributeIndices {
		if err := outside(a, len(c.dictionary.AttributeTable), "dictionary.attribute_table", "attribute_indices[%d]", i); err != nil {
			return "", err
		}
	}
	return otlpAttributeText(c.dictionary, s.AttributeIndices, attributeService), nil
}

// draft returns the draft that a profile is added to.
func (c *otlpConverter) draft(kind otlpKind, ls labels.Labels, p *otlpv1.Profile, t *otlpTimes) *otlpDraft {
	key := otlpKey{ls.String(), kind, t.begin, t.duration, hex.EncodeToString(p.ProfileId)}
	if strings.Trim(key.id, "0") == "" {
		key.id = ""
	}
	d := c.byKey[key]
	if d == nil {
		d = &otlpDraft{
			draft: *newDraft(&c.budget, kind.value), id: key.id, labels: ls,
			mappings: map[int32]uint64{}, locations: map[int32]uint64{}, stacks: map[int32][]uint64{},
		}
		d.period(kind.trigger, kind.period)
		d.pprof.TimeNanos, d.pprof.DurationNanos = t.begin, t.duration
		c.byKey[key] = d
		c.drafts = append(c.drafts, d)
	}
	return d
}

// addSample adds one sample. It has a value per timestamp, or one value for all
// timestamps, or only timestamps, each of which counts 1.
func (c *otlpConverter) addSample(d *otlpDraft, s *otlpv1.Sample, t *otlpTimes, scale int64) error {
	value := int64(len(s.TimestampsUnixNano))
	switch {
	case len(s.Values) > 1 && value > 0 && int64(len(s.Values)) != value:
		return fmt.Errorf("timestamps_unix_nano: there are %d for %d values", value, len(s.Values))
	case len(s.Values) > 0:
		value = 0
		for i, v := range s.Values {
			if v > math.MaxInt64-value {
				return fmt.Errorf("values[%d]: %d makes the sum too large", i, v)
			}
			value += v
		}
	case value == 0:
		return errors.New("values: is empty, and so is timestamps_unix_nano")
	}
	scaled, ok := times(value, scale)
	if !ok {
		return fmt.Errorf("values: %d times the period of %d is too large", value, scale)
	}
	ids, err := c.stack(d, s.StackIndex)
	if err != nil {
		return err
	}
	ls, err := c.sampleLabels(s)
	if err != nil {
		return err
	}
	index, err := d.add(ids, ls, scaled)
	if err != nil {
		return err
	}
	return c.place(d, index, s, t, scaled, scale)
}

// stack returns the IDs, in the draft, of the locations of a stack, leaf first.
func (c *otlpConverter) stack(d *otlpDraft, index int32) ([]uint64, error) {
	if ids, ok := d.stacks[index]; ok {
		return ids, nil
	}
	var ids []uint64
	if index != 0 {
		if err := outside(index, len(c.dictionary.StackTable), "dictionary.stack_table", "stack_index"); err != nil {
			return nil, err
		}
		for _, i := range c.dictionary.StackTable[index].GetLocationIndices() {
			ids = append(ids, c.location(d, i))
		}
	}
	if len(ids) == 0 {
		ids = append(ids, d.location(frameUnknown, 0))
	}
	d.stacks[index] = ids
	return ids, d.fits()
}

// sampleLabels returns a sample's labels: its attributes, and the IDs of its span.
func (c *otlpConverter) sampleLabels(s *otlpv1.Sample) ([]sampleLabel, error) {
	var ls []sampleLabel
	for i, a := range s.AttributeIndices {
		attribute := c.dictionary.AttributeTable[a]
		key := otlpText(c.dictionary, attribute.GetKeyStrindex())
		label := sampleLabel{otlpLabelName(key), otlpString(c.dictionary, attribute.GetValue())}
		switch {
		case key == attributeService, label.name == "", label.value == "":
			continue
		case exceeds(len(label.name), c.limits.MaxLabelNameBytes):
			return nil, fmt.Errorf("attribute_indices[%d]: a name of %d bytes is longer than %d (limits.max_label_name_bytes)", i, len(label.name), c.limits.MaxLabelNameBytes)
		case exceeds(len(label.value), c.limits.MaxLabelValueBytes):
			return nil, fmt.Errorf("attribute_indices[%d]: the value of %q has %d bytes, more than %d (limits.max_label_value_bytes)", i, key, len(label.value), c.limits.MaxLabelValueBytes)
		}
		// OpenTelemetry forbids the same key twice.
		switch i := slices.IndexFunc(ls, func(l sampleLabel) bool { return l.name == label.name }); {
		case i < 0:
			ls = append(ls, label)
		case ls[i].value != label.value:
			c.limits.Report.Skip("label", label.name+", of which the sample has another value", 1)
		}
	}
	slices.SortFunc(ls, func(a, b sampleLabel) int { return cmp.Compare(a.name, b.name) })
	if s.LinkIndex == 0 {
		return ls, nil
	}
	if err := outside(s.LinkIndex, len(c.dictionary.LinkTable), "dictionary.link_table", "link_index"); err != nil {
		return nil, err
	}
	link := c.dictionary.LinkTable[s.LinkIndex]
	if id := link.GetSpanId(); len(id) == 8 {
		ls = append(ls, sampleLabel{"span_id", hex.EncodeToString(id)})
	}
	if id := link.GetTraceId(); len(id) == 16 {
		ls = append(ls, sampleLabel{"trace_id", hex.EncodeToString(id)})
	}
	return ls, nil
}

// location returns the ID, in the draft, of a location of the dictionary. A location
// without functions keeps its address and mapping, by which it is displayed.
func (c *otlpConverter) location(d *otlpDraft, index int32) uint64 {
	if id, ok := d.locations[index]; ok {
		return id
	}
	from := c.dictionary.LocationTable[index]
	to := &googlev1.Location{Address: from.GetAddress(), MappingId: c.mapping(d, from.GetMappingIndex())}
	for _, line := range from.GetLines() {
		f := c.dictionary.FunctionTable[line.GetFunctionIndex()]
		file := otlpText(c.dictionary, f.GetFilenameStrindex())
		name := cmp.Or(otlpText(c.dictionary, f.GetNameStrindex()), otlpText(c.dictionary, f.GetSystemNameStrindex()),
			file, frameUnknown)
		to.Line = append(to.Line, &googlev1.Line{FunctionId: d.function(name, file), Line: line.GetLine()})
	}
	if kind := otlpAttributeText(c.dictionary, from.GetAttributeIndices(), attributeFrameType); len(to.Line) == 0 && to.MappingId == 0 && kind != "" {
		// The unwinder marks where it stopped early by a frame of this type.
		to.Line = []*googlev1.Line{{FunctionId: d.function("["+kind+"]", "")}}
	}
	id := d.newLocation(to)
	d.locations[index] = id
	return id
}

func (c *otlpConverter) mapping(d *otlpDraft, index int32) uint64 {
	if index == 0 {
		return 0
	}
	if id, ok := d.mappings[index]; ok {
		return id
	}
	from := c.dictionary.MappingTable[index]
	attribute := func(key string) string { return otlpAttributeText(c.dictionary, from.GetAttributeIndices(), key) }
	build := cmp.Or(attribute("process.executable.build_id.gnu"), attribute("process.executable.build_id.go"),
		attribute("process.executable.build_id.htlhash"))
	id := uint64(len(d.pprof.Mapping)) + 1
	d.pprof.Mapping = append(d.pprof.Mapping, &googlev1.Mapping{
		Id: id, MemoryStart: from.GetMemoryStart(), MemoryLimit: from.GetMemoryLimit(), FileOffset: from.GetFileOffset(),
		Filename: d.text(otlpText(c.dictionary, from.GetFilenameStrindex())), BuildId: d.text(build),
	})
	d.mappings[index] = id
	return id
}
