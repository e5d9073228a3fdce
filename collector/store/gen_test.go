package store

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/pkg/profile"
)

var cpuType = profile.Type{Name: "process_cpu", SampleType: "cpu", SampleUnit: "nanoseconds", PeriodType: "cpu", PeriodUnit: "nanoseconds"}

// midnight is the start of the day that most tests write to.
var midnight = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

func ms(t time.Time) int64 { return t.UnixMilli() }

// open opens a store in a directory, with the clock a day after midnight and
// maintenance by hand. Files are synced in benchmarks only.
func open(t testing.TB, dir string, change ...func(*Options)) *DB {
	t.Helper()
	o := Options{MaintenanceInterval: -1, Now: func() time.Time { return midnight.Add(24 * time.Hour) }}
	if _, isTest := t.(*testing.T); isTest {
		o.fs = unsyncedFS{vfs.Default}
	}
	for _, c := range change {
		c(&o)
	}
	db, err := Open(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			require.ErrorIs(t, err, ErrClosed)
		}
	})
	return db
}

// folded makes a CPU profile, without a duration, of folded stacks, such as "main;work 3", with the
// counts in samples of 10 ms. Functions that begin with "+" are inlined into the
// one before.
func folded(at time.Time, stacks ...string) *googlev1.Profile {
	b := newPprof(at)
	for _, s := range stacks {
		i := strings.LastIndexByte(s, ' ')
		var n int64
		if _, err := fmt.Sscan(s[i+1:], &n); err != nil {
			panic(err)
		}
		var locations [][]string // outermost first; lines outermost first
		for _, f := range strings.Split(s[:i], ";") {
			if inlined, ok := strings.CutPrefix(f, "+"); ok {
				last := &locations[len(locations)-1]
				*last = append(*last, inlined)
				continue
			}
			locations = append(locations, []string{f})
		}
		b.sample(locations, n, n*1e7)
	}
	return b.p
}

type pprofBuilder struct {
	p         *googlev1.Profile
	strings   map[string]int64
	functions map[string]uint64
	locations map[string]uint64
}

func newPprof(at time.Time) *pprofBuilder {
	b := &pprofBuilder{
		p: &googlev1.Profile{
			StringTable: []string{""}, TimeNanos: at.UnixNano(), Period: 1e7,
		},
		strings: map[string]int64{"": 0}, functions: map[string]uint64{}, locations: map[string]uint64{},
	}
	b.p.SampleType = []*googlev1.ValueType{{Type: b.text("samples"), Unit: b.text("count")}, {Type: b.text("cpu"), Unit: b.text("nanoseconds")}}
	b.p.PeriodType = &googlev1.ValueType{Type: b.text("cpu"), Unit: b.text("nanoseconds")}
	b.p.Mapping = []*googlev1.Mapping{{
		Id: 1, MemoryStart: 0x400000, MemoryLimit: 0x800000, Filename: b.text("/usr/bin/app"), BuildId: b.text("abc123"),
		HasFunctions: true, HasFilenames: true, HasLineNumbers: true,
	}}
	return b
}

func (b *pprofBuilder) text(s string) int64 {
	i, ok := b.strings[s]
	if !ok {
		i = int64(len(b.p.StringTable))
		b.strings[s] = i
		b.p.StringTable = append(b.p.StringTable, s)
	}
	return i
}

func (b *pprofBuilder) function(name string) uint64 {
	id, ok := b.functions[name]
	if !ok {
		id = uint64(len(b.p.Function)) + 1
		b.functions[name] = id
		b.p.Function = append(b.p.Function, &googlev1.Function{
			Id: id, Name: b.text(name), SystemName: b.text(name), Filename: b.text("/src/" + name + ".go"), StartLine: int64(len(name)),
		})
	}
	return id
}

func (b *pprofBuilder) location(lines []string) uint64 {
	key := strings.Join(lines, ";")
	id, ok := b.locations[key]
	if !ok {
		id = uint64(len(b.p.Location)) + 1
		b.locations[key] = id
		l := &googlev1.Location{Id: id, MappingId: 1, Address: 0x400000 + id}
		for i := len(lines) - 1; i >= 0; i-- {
			l.Line = append(l.Line, &googlev1.Line{FunctionId: b.function(lines[i]), Line: int64(10 + i)})
		}
		b.p.Location = append(b.p.Location, l)
	}
	return id
}

func (b *pprofBuilder) sample(locations [][]string, values ...int64) *googlev1.Sample {
	s := &googlev1.Sample{Value: values}
	for i := len(locations) - 1; i >= 0; i-- {
		s.LocationId = append(s.LocationId, b.location(locations[i]))
	}
	b.p.Sample = append(b.p.Sample, s)
	return s
}

// cpu is a profile to append, with labels as name and value in turn.
func cpu(p *googlev1.Profile, ls ...string) profile.Profile {
	return profile.Profile{Labels: labels.FromStrings(append([]string{labelindex.LabelName, "process_cpu"}, ls...)...), Pprof: p}
}

// sameAt is a profile of another time that shares all else with p.
func sameAt(p *googlev1.Profile, at time.Time) *googlev1.Profile {
	return &googlev1.Profile{
		SampleType: p.SampleType, Sample: p.Sample, Mapping: p.Mapping, Location: p.Location, Function: p.Function,
		StringTable: p.StringTable, TimeNanos: at.UnixNano(), DurationNanos: p.DurationNanos, PeriodType: p.PeriodType, Period: p.Period,
	}
}

// everything selects all CPU profiles of the day and the next.
func everything(selectors ...string) query.Selection {
	sel := query.Selection{Type: cpuType, Start: ms(midnight), End: ms(midnight.Add(48 * time.Hour))}
	for _, s := range selectors {
		m, err := profile.ParseSelector(s)
		if err != nil {
			panic(err)
		}
		sel.Matchers = append(sel.Matchers, m...)
	}
	return sel
}

// draw writes a tree as folded stacks with own values, without the root.
func draw(t *profile.Tree) (out []string) {
	var path []string
	t.Walk(func(level int, n *profile.Node, name string) {
		path = append(path[:level], name)
		if n.Self != 0 {
			out = append(out, fmt.Sprintf("%s %d", strings.Join(path[1:], ";"), n.Self))
		}
	})
	return out
}

// A workload makes CPU profiles of the shape of a real fleet: services of some
// 4,700 distinct stacks and 3,200 functions, of which each profile of 10 s shows
// about 450, few of them often.
type workload struct {
	services []*workloadService
	pods     int
}

type workloadService struct {
	name   string
	stacks [][][]string
	cum    []float64
}

func newWorkload(services, pods int) *workload {
	w := &workload{pods: pods}
	for i := range services {
		r := rand.New(rand.NewPCG(uint64(i), 7))
		s := &workloadService{name: fmt.Sprintf("service-%02d", i)}
		total := 0.0
		var last [][]string
		for range 4700 {
			// A stack leaves the one before it somewhere on the way, as in a
			// real call tree, where most callers have few callees.
			keep := 0
			if len(last) > 0 {
				keep = min(len(last)-1, 3+r.IntN(16))
			}
			stack := append([][]string(nil), last[:keep]...)
			for depth := 10 + r.IntN(20); len(stack) < depth; {
				f := int(math.Pow(r.Float64(), 1.5) * 3200)
				owner := "runtime/internal"
				if f%2 == 1 {
					owner = "github.com/acme/" + s.name + "/internal/handler"
				}
				lines := []string{fmt.Sprintf("%s.(*Type%d).method%d", owner, f%97, f)}
				if f%7 == 0 {
					lines = append(lines, fmt.Sprintf("%s.inlined%d", owner, f%300))
				}
				stack = append(stack, lines)
			}
			last = stack
			s.stacks = append(s.stacks, stack)
			total += math.Exp(r.NormFloat64() * 1.8)
			s.cum = append(s.cum, total)
		}
		w.services = append(w.services, s)
	}
	return w
}

// profile makes the nth profile of a pod.
func (w *workload) profile(service, pod, n int, at time.Time) profile.Profile {
	s := w.services[service]
	r := rand.New(rand.NewPCG(uint64(service*1000+pod), uint64(n)))
	counts := map[int]int64{}
	for want, i := 300+r.IntN(301), 0; i < 3000 && len(counts) < want; i++ {
		counts[sort.SearchFloat64s(s.cum, r.Float64()*s.cum[len(s.cum)-1])]++
	}
	picked := make([]int, 0, len(counts))
	for i := range counts {
		picked = append(picked, i)
	}
	sort.Ints(picked)
	b := newPprof(at)
	b.p.DurationNanos = 10e9
	for _, i := range picked {
		b.sample(s.stacks[i], counts[i], counts[i]*1e7)
	}
	return cpu(b.p, labelindex.LabelServiceName, s.name, "pod", fmt.Sprintf("%s-%d", s.name, pod),
		"namespace", fmt.Sprintf("ns-%d", service%4), "region", "eu-west-1")
}

func (b *pprofBuilder) valueType(name, unit string) *googlev1.ValueType {
	return &googlev1.ValueType{Type: b.text(name), Unit: b.text(unit)}
}

func (b *pprofBuilder) label(name, value string) *googlev1.Label {
	return &googlev1.Label{Key: b.text(name), Str: b.text(value)}
}
