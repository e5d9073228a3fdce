package ingest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/profile"
)

// speedscopeSchema is the $schema of files in speedscope's format.
const speedscopeSchema = "https://www.speedscope.app/file-format-schema.json"

// A speedscopeFile is a file in speedscope's own format, by its
// src/lib/file-format-spec.ts.
type speedscopeFile struct {
	Schema string `json:"$schema"`
	Shared struct {
		Frames []speedscopeFrame `json:"frames"`
	} `json:"shared"`
	Profiles []speedscopeProfile `json:"profiles"`
}

type speedscopeFrame struct {
	Name string  `json:"name"`
	File string  `json:"file"`
	Line float64 `json:"line"`
}

type speedscopeProfile struct {
	Type       string   `json:"type"` // sampled, evented
	Name       string   `json:"name"`
	Unit       string   `json:"unit"` // none, bytes, or a unit of time; "" means none
	StartValue *float64 `json:"startValue"`
	EndValue   float64  `json:"endValue"`
	// Sampled profiles have stacktraces of frame numbers, the outermost frame first, and
	// a value per stacktrace.
	Samples [][]float64        `json:"samples"`
	Weights []speedscopeWeight `json:"weights"`
	// Evented profiles have events.
	Events []speedscopeEvent `json:"events"`
}

type speedscopeEvent struct {
	Type  string   `json:"type"` // O(pen), C(lose)
	At    *float64 `json:"at"`
	Frame *float64 `json:"frame"`
}

// A speedscopeWeight is a number, or NaN for JSON's null.
type speedscopeWeight float64

func (w *speedscopeWeight) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*w = speedscopeWeight(math.NaN())
		return nil
	}
	return json.Unmarshal(b, (*float64)(w))
}

// speedscopeUnits are the units of time.
var speedscopeUnits = map[string]time.Duration{
	"nanoseconds": time.Nanosecond, "microseconds": time.Microsecond, "milliseconds": time.Millisecond, "seconds": time.Second,
}

// Speedscope reads a file in speedscope's format, its sampled and its evented profiles.
// As in Pyroscope, the type of a single profile follows from the application's name;
// that of several profiles from their units: time means wall-clock time, bytes mean
// memory. A profile's name becomes the label profile_name. Profiles of the same name and
// type are merged. The body may be compressed as in Pprof.
//
// Samples of time keep their times, see newSpeedscopeClock: a file longer than five
// seconds becomes one profile per five-second window.
//
// Errors name the field, or the offset in bytes. size is the size of the body after
// decompression, in bytes.
func Speedscope(body []byte, m Push, l Limits) (ps []profile.Profile, size int, err error) {
	raw, err := decompress(body, l)
	if err == nil && len(raw) > 0 {
		ps, err = readSpeedscope(raw, &m, l)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("speedscope: %w", err)
	}
	return ps, len(raw), nil
}

func readSpeedscope(raw []byte, m *Push, l Limits) ([]profile.Profile, error) {
	var f speedscopeFile
	raw, err := plainText(raw, l)
	if err != nil {
		return nil, err
	}
	if err := CheckJSON(raw, l, int64(unsafe.Sizeof(speedscopeProfile{}))); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, jsonError(err)
	}
	// speedscope.app also reads files without a schema, which it recognises by their
	// names.
	if f.Schema != speedscopeSchema && (f.Schema != "" || len(f.Shared.Frames) == 0 || len(f.Profiles) == 0) {
		return nil, fmt.Errorf("$schema: %.100q is not %s", f.Schema, speedscopeSchema)
	}
	type series struct{ name, unit string }
	type kind struct {
		series
		of    string
		start float64
	}
	kinds := map[kind]struct{}{}
	for i := range f.Profiles {
		p := &f.Profiles[i]
		if p.Unit == "" {
			p.Unit = "none"
		}
		k := kind{series{p.Name, p.Unit}, p.Type, 0}
		if p.StartValue != nil {
			k.start = *p.StartValue
		}
		kinds[k] = struct{}{}
	}
	clock := newSpeedscopeClock(f.Profiles, m, l.Report)
	var (
		readers []*speedscopeReader
		by      = map[series]*speedscopeReader{}
		size    int64 // of all profiles as pprof
	)
	for i := range f.Profiles {
		p := &f.Profiles[i]
		key := series{p.Name, p.Unit}
		r := by[key]
		if r == nil {
			if exceeds(len(readers)+1, l.MaxSeries) {
				return nil, fmt.Errorf("profiles[%d]: more than %d names and units of profiles (limits.max_series_per_push)", i, l.MaxSeries)
			}
			var err error
			if r, err = newSpeedscopeReader(p, f.Shared.Frames, m, l, clock, len(kinds) > 1); err != nil {
				return nil, fmt.Errorf("profiles[%d].%w", i, err)
			}
			by[key] = r
			readers = append(readers, r)
		}
		r.stacks.bytes = size
		if err := r.read(p); err != nil {
			return nil, fmt.Errorf("profiles[%d].%w", i, err)
		}
		size = r.stacks.bytes
	}
	var out []profile.Profile
	for _, r := range readers {
		ps, _, err := r.stacks.profiles(r.stackType, &r.push, 0)
		if err != nil {
			return nil, err
		}
		for _, whole := range ps {
			for _, p := range r.cut(whole.Pprof) {
				out = append(out, profile.Profile{Labels: whole.Labels, Pprof: p})
			}
		}
	}
	if clock.times.length > windowLength {
		l.Report.Correct("time", fmt.Sprintf("of samples, to windows of %d s", clock.times.length/1e9), 1)
	}
	return out, nil
}

// jsonError adds the position to an error of the JSON decoder.
func jsonError(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("%w, at byte %d", err, syntax.Offset)
	}
	var field *json.UnmarshalTypeError
	if errors.As(err, &field) {
		return fmt.Errorf("%s: a JSON %s, want %s, at byte %d", cmp.Or(field.Field, "the document"), field.Value, field.Type, field.Offset)
	}
	return err
}

// A speedscopeReader merges the profiles of one series.
type speedscopeReader struct {
	stackType
	push   Push
	frames []speedscopeFrame
	stacks *stacks
	number map[int]uint32 // of a frame's function, by the frame's number
	factor float64        // for values
	clock  *speedscopeClock
	times  *timeline // by node; nil if all samples have one time
}

func newSpeedscopeReader(p *speedscopeProfile, frames []speedscopeFrame, m *Push, l Limits, clock *speedscopeClock, several bool) (*speedscopeReader, error) {
	unit, isTime := speedscopeUnits[p.Unit]
	if !isTime && p.Unit != "none" && p.Unit != "bytes" {
		return nil, fmt.Errorf("unit: %.100q is not one of none, bytes, seconds, milliseconds, microseconds, nanoseconds", p.Unit)
	}
	r := &speedscopeReader{push: *m, frames: frames, stacks: newStacks(l), number: map[int]uint32{}, factor: 1, clock: clock}
	if err := r.setName(p.Name, l); err != nil {
		return nil, err
	}
	named := strings.Contains(m.App, ".")
	if several && p.Unit != "none" || p.Unit == "bytes" && !named {
		r.push.App += "." + p.Unit
	}
	// The file gives the unit of its values.
	r.push.SampleRate, r.push.Units, r.push.AggregationType = 0, "", ""
	var err error
	if r.stackType, err = r.push.stackType(); err != nil {
		return nil, err
	}
	timed := r.metric == "process_cpu" || r.metric == "wall"
	if isTime && !timed && r.unit != "nanoseconds" || p.Unit == "bytes" && r.unit != "bytes" {
		return nil, fmt.Errorf("unit: %s does not fit the type that the name %q gives, %s of %s", p.Unit, r.push.App, r.sampleType, r.metric)
	}
	switch {
	case isTime:
		r.factor = float64(unit)
		r.ofTime(int64(unit), 1) // the resolution of the file's times
		if clock.placed {
			r.push.From = time.Unix(0, clock.begin)
			r.push.Until = time.Unix(0, clock.begin+clock.length)
		}
		if !clock.whole() {
			r.times = clock.times.newTimeline(1)
		}
	case p.Unit == "none":
		if period := m.period(); period > 0 {
			r.ofTime(period, 1)
		}
	}
	if r.period > 0 {
		r.factor = float64(r.period)
	}
	return r, nil
}

// setName adds the label profile_name.
func (r *speedscopeReader) setName(name string, l Limits) error {
	switch {
	case name == "":
		return nil
	case exceeds(len(name), l.MaxLabelValueBytes):
		return fmt.Errorf("name: %d bytes are more than %d (limits.max_label_value_bytes)", len(name), l.MaxLabelValueBytes)
	}
	r.push.Labels = labels.NewBuilder(r.push.Labels).Set("profile_name", name).Labels()
	return nil
}

func (r *speedscopeReader) read(p *speedscopeProfile) error {
	switch p.Type {
	case "sampled":
		return r.sampled(p)
	case "evented":
		return r.evented(p)
	}
	return fmt.Errorf("type: %.100q is neither sampled nor evented", p.Type)
}

func (r *speedscopeReader) sampled(p *speedscopeProfile) error {
	if len(p.Samples) != len(p.Weights) {
		return fmt.Errorf("weights: there are %d for %d samples", len(p.Weights), len(p.Samples))
	}
	at, _ := p.bounds()
	for i, sample := range p.Samples {
		n := uint32(0)
		var err error
		for j, frame := range sample {
			if n, err = r.call(n, frame); err != nil {
				return fmt.Errorf("samples[%d][%d]: %w", i, j, err)
			}
		}
		weight := float64(p.Weights[i])
		if math.IsNaN(weight) {
			return fmt.Errorf("weights[%d]: is null", i)
		}
		if err := r.add(n, weight, at); err != nil {
			return fmt.Errorf("weights[%d]: %w", i, err)
		}
		at += weight
	}
	return nil
}

// evented adds the time between two events to the innermost open frame.
func (r *speedscopeReader) evented(p *speedscopeProfile) error {
	last, _ := p.bounds()
	type open struct {
		node  uint32
		frame float64
	}
	stack := []open{{}} // the root
	pass := func(at float64) error {
		top := stack[len(stack)-1]
		since := last
		last = at
		if len(stack) == 1 {
			return nil
		}
		return r.add(top.node, at-since, since)
	}
	for i, e := range p.Events {
		switch {
		case e.At == nil:
			return fmt.Errorf("events[%d].at: is missing", i)
		case e.Frame == nil:
			return fmt.Errorf("events[%d].frame: is missing", i)
		case *e.At < last:
			return fmt.Errorf("events[%d].at: %v is before %v", i, *e.At, last)
		}
		if err := pass(*e.At); err != nil {
			return fmt.Errorf("events[%d]: %w", i, err)
		}
		top := stack[len(stack)-1]
		switch e.Type {
		case "O":
			n, err := r.call(top.node, *e.Frame)
			if err != nil {
				return fmt.Errorf("events[%d].frame: %w", i, err)
			}
			stack = append(stack, open{n, *e.Frame})
		case "C":
			if len(stack) == 1 || top.frame != *e.Frame {
				return fmt.Errorf("events[%d].frame: %v is closed, but is not the innermost open frame", i, *e.Frame)
			}
			stack = stack[:len(stack)-1]
		default:
			return fmt.Errorf("events[%d].type: %.100q is neither O nor C", i, e.Type)
		}
	}
	if p.EndValue > last {
		if err := pass(p.EndValue); err != nil {
			return fmt.Errorf("endValue: %w", err)
		}
	}
	return nil
}

func (r *speedscopeReader) call(n uint32, number float64) (uint32, error) {
	if number != math.Trunc(number) || math.Abs(number) > math.MaxInt32 {
		return 0, fmt.Errorf("%v is not the number of a frame", number)
	}
	frame := int(number)
	f, ok := r.number[frame]
	if !ok {
		if frame < 0 || frame >= len(r.frames) {
			return 0, fmt.Errorf("frame %d does not exist, there are %d", frame, len(r.frames))
		}
		from := r.frames[frame]
		var err error
		if f, err = r.stacks.addFunction(function{name: cmp.Or(from.Name, frameUnknown), file: from.File, line: int64(min(max(from.Line, 0), math.MaxInt32))}); err != nil {
			return 0, err
		}
		r.number[frame] = f
	}
	return r.stacks.child(n, f)
}

// add adds a weight to a node that became the innermost at the file's time at.
func (r *speedscopeReader) add(n uint32, weight, at float64) error {
	value := math.Round(weight * r.factor)
	if value >= math.MaxInt64 {
		return fmt.Errorf("%v is too large", weight)
	}
	if err := r.stacks.add(n, int64(value)); err != nil || r.times == nil {
		return err
	}
	return r.times.spread(n, r.clock.time(at*r.factor), r.clock.time((at+weight)*r.factor), int64(value))
}
