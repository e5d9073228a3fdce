package dataset

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// Options say how much is generated. All are more than 0.
type Options struct {
	Services int
	Pods     int // of each service
	Minutes  int
}

// interval is the length of a profile, and hertz how often it samples.
const (
	interval = 10 * time.Second
	hertz    = 100
)

const serviceNames = `checkout cart catalog search payments billing ledger pricing inventory shipping orders accounts auth sessions reviews recommender mailer gateway frontend indexer`

// Generate makes CPU profiles of the shape of a real fleet: services of some
// 4,700 distinct stacks, of which each profile of 10 s shows about 450, few of
// them often. The same options give the same bytes.
func Generate(o Options) (*Set, error) {
	if o.Services < 1 || o.Pods < 1 || o.Minutes < 1 {
		return nil, fmt.Errorf("generate data set: %d services of %d pods for %d minutes", o.Services, o.Pods, o.Minutes)
	}
	s := &Set{Length: time.Duration(o.Minutes) * time.Minute}
	for i := range o.Services {
		names := strings.Fields(serviceNames)
		name := names[i%len(names)]
		if i >= len(names) {
			name = fmt.Sprintf("%s-%d", name, i/len(names)+1)
		}
		service := newProgram(name, uint64(i))
		for pod := range o.Pods {
			s.Profiles = append(s.Profiles, service.profiles(name, i, pod, s.Length)...)
		}
	}
	slices.SortStableFunc(s.Profiles, byOffset)
	s.Origin = fmt.Sprintf("%d generated profiles of %s: services: %d, pods of each: %d, minutes: %d",
		len(s.Profiles), interval, o.Services, o.Pods, o.Minutes)
	return s, nil
}

// profiles lists those of one pod.
func (p *program) profiles(name string, service, pod int, length time.Duration) (out []Profile) {
	r := rand.New(rand.NewPCG(uint64(service), uint64(pod)))
	labels := pairs(map[string]string{
		"__name__": "process_cpu", labelServiceName: name,
		"pod":       fmt.Sprintf("%s-%08x-%05x", name, r.Uint32(), r.Uint32()&0xfffff),
		"namespace": fmt.Sprintf("ns-%d", service%4),
		"region":    []string{"eu-west-1", "us-east-1", "ap-south-1"}[service%3],
		"version":   fmt.Sprintf("v1.%d.0", service%2),
	})
	// Every pod has its own phase, and none is at the edge of a step.
	phase := 200*time.Millisecond + time.Duration(r.IntN(9600))*time.Millisecond
	for n := range int(length / interval) {
		out = append(out, Profile{
			Labels: labels,
			Offset: time.Duration(n)*interval + phase,
			load: func() ([]byte, error) {
				return p.profile(rand.New(rand.NewPCG(uint64(service)<<32|uint64(pod), uint64(n)))).MarshalVT()
			},
		})
	}
	return out
}

// profile draws samples until some hundred stacks were seen.
func (p *program) profile(r *rand.Rand) *googlev1.Profile {
	counts := map[int]int64{}
	for want, n := 300+r.IntN(301), 0; n < 6000 && len(counts) < want; n++ {
		counts[p.pick.draw(r)]++
	}
	stacks := make([]int, 0, len(counts))
	for i := range counts {
		stacks = append(stacks, i)
	}
	slices.SortFunc(stacks, func(a, b int) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	w := newWriter()
	for _, i := range stacks {
		w.sample(p.stacks[i], counts[i])
	}
	return w.profile
}

// A writer builds a profile as Go's runtime writes it: only what its samples
// use is in its tables.
type writer struct {
	profile   *googlev1.Profile
	strings   map[string]int64
	functions map[*function]uint64
	locations map[uint64]uint64 // by address
}

func newWriter() *writer {
	w := &writer{
		profile:   &googlev1.Profile{DurationNanos: interval.Nanoseconds(), Period: int64(time.Second / hertz)},
		strings:   map[string]int64{},
		functions: map[*function]uint64{},
		locations: map[uint64]uint64{},
	}
	w.text("")
	cpu := &googlev1.ValueType{Type: w.text("cpu"), Unit: w.text("nanoseconds")}
	w.profile.SampleType = []*googlev1.ValueType{{Type: w.text("samples"), Unit: w.text("count")}, cpu}
	w.profile.PeriodType = cpu
	w.profile.Mapping = []*googlev1.Mapping{{
		Id: 1, MemoryStart: 0x400000, MemoryLimit: 0x2400000,
		Filename: w.text("/app/server"), BuildId: w.text("5f1d3c8a9be04772"), HasFunctions: true,
	}}
	return w
}

func (w *writer) text(s string) int64 {
	i, ok := w.strings[s]
	if !ok {
		i = int64(len(w.profile.StringTable))
		w.strings[s] = i
		w.profile.StringTable = append(w.profile.StringTable, s)
	}
	return i
}

func (w *writer) function(f *function) uint64 {
	id, ok := w.functions[f]
	if !ok {
		id = uint64(len(w.profile.Function)) + 1
		w.functions[f] = id
		name := w.text(f.name)
		w.profile.Function = append(w.profile.Function, &googlev1.Function{
			Id: id, Name: name, SystemName: name, Filename: w.text(f.file), StartLine: f.start,
		})
	}
	return id
}

func (w *writer) location(c call) uint64 {
	id, ok := w.locations[c.address()]
	if !ok {
		id = uint64(len(w.profile.Location)) + 1
		w.locations[c.address()] = id
		l := &googlev1.Location{Id: id, MappingId: 1, Address: c.address()}
		if c.inlined != nil { // the innermost comes first
			l.Line = append(l.Line, &googlev1.Line{FunctionId: w.function(c.inlined), Line: c.inlined.start + 2})
		}
		l.Line = append(l.Line, &googlev1.Line{FunctionId: w.function(c.function), Line: c.line()})
		w.profile.Location = append(w.profile.Location, l)
	}
	return id
}

// sample adds a stack with its number of samples and their time.
func (w *writer) sample(stack []call, count int64) {
	s := &googlev1.Sample{Value: []int64{count, count * int64(time.Second/hertz)}}
	for _, c := range slices.Backward(stack) {
		s.LocationId = append(s.LocationId, w.location(c))
	}
	w.profile.Sample = append(w.profile.Sample, s)
}
