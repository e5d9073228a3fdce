package store

import (
	"context"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/pkg/profile"
)

// Pprof merges all selected profiles into one pprof profile of one sample type.
// A call site selects stacktraces as in Tree. Its time is the selection's end
// and its duration the selection's length, as in Pyroscope.
func (db *DB) Pprof(ctx context.Context, sel Selection, callSite []string) (p *googlev1.Profile, err error) {
	defer func() {
		if db.heal(err) {
			p, err = db.Pprof(ctx, sel, callSite)
		}
	}()
	leave, err := db.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	defer db.metrics.query("pprof")()
	jobs, err := db.plan(ctx, sel)
	if err != nil {
		return nil, err
	}
	type result struct {
		view view
		sums []int64
	}
	results := make([]result, len(jobs))
	err = db.merge(ctx, jobs, sel, func(j *job, v *view, sums []int64) {
		if len(callSite) > 0 {
			in := v.below(callSite)
			for n := range sums {
				if !in[v.callOf[n]] {
					sums[n] = 0
				}
			}
		}
		results[j.order] = result{*v, append([]int64(nil), sums...)}
	})
	if err != nil {
		return nil, err
	}
	merged, values := newDictionary(), []int64{0}
	if len(results) == 1 {
		merged, values = &dictionary{view: results[0].view}, results[0].sums
	}
	for i := 0; i < len(results) && len(results) > 1; i++ {
		at := merged.absorb(&results[i].view, results[i].sums)
		values = append(values, make([]int64, len(merged.nodes)-len(values))...)
		for n, x := range results[i].sums {
			if x != 0 {
				values[at[n]] += x
			}
		}
	}
	w := &pprofWriter{view: &merged.view, out: &googlev1.Profile{}, strings: make([]int64, len(merged.strings))}
	w.samples(values)
	w.head(sel)
	return w.out, nil
}

// absorb adds the nodes that have a value, and their callers, of another
// dictionary, and returns where they are.
func (d *dictionary) absorb(v *view, values []int64) []uint32 {
	d.find()
	used := make([]bool, len(v.nodes))
	for n := len(values) - 1; n > 0; n-- {
		if values[n] != 0 || used[n] {
			used[n] = true
			used[v.nodes[n].parent] = true
		}
	}
	strings, functions := make([]uint32, len(v.strings)), make([]uint32, len(v.functions))
	mappings, locations := make([]uint32, len(v.mappings)), make([]uint32, len(v.locations))
	text := func(i uint32) uint32 {
		if i != 0 && strings[i] == 0 {
			strings[i] = d.addString(v.strings[i])
		}
		return strings[i]
	}
	fn := func(i uint32) uint32 {
		if i != 0 && functions[i] == 0 {
			f := v.functions[i]
			functions[i] = d.addFunction(function{text(f.name), text(f.systemName), text(f.file), f.startLine})
		}
		return functions[i]
	}
	var lines []line
	loc := func(i uint32) uint32 {
		if locations[i] != 0 {
			return locations[i] - 1
		}
		l := v.locations[i]
		if l.mapping != 0 && mappings[l.mapping] == 0 {
			m := v.mappings[l.mapping]
			m.file, m.buildID = text(m.file), text(m.buildID)
			mappings[l.mapping] = d.addMapping(m)
		}
		lines = lines[:0]
		for _, ln := range v.lines[l.first:l.end] {
			lines = append(lines, line{fn(ln.function), ln.line})
		}
		l.mapping = mappings[l.mapping]
		n := d.addLocation(l, lines)
		locations[i] = n + 1
		return n
	}
	at := make([]uint32, len(v.nodes))
	for n := 1; n < len(v.nodes); n++ {
		if used[n] {
			at[n] = d.addNode(at[v.nodes[n].parent], loc(v.nodes[n].location))
		}
	}
	return at
}

// A pprofWriter copies what samples need into a pprof profile. Its tables hold
// the new number of a part, 0 while it has none.
type pprofWriter struct {
	*view
	out       *googlev1.Profile
	strings   []int64
	functions []uint64
	mappings  []uint64
	locations []uint64
}

func (w *pprofWriter) text(i uint32) int64 {
	if len(w.out.StringTable) == 0 {
		w.out.StringTable = append(w.out.StringTable, "")
	}
	if i != 0 && w.strings[i] == 0 {
		w.strings[i] = int64(len(w.out.StringTable))
		w.out.StringTable = append(w.out.StringTable, w.view.strings[i])
	}
	return w.strings[i]
}

func (w *pprofWriter) samples(values []int64) {
	w.functions, w.mappings = make([]uint64, len(w.view.functions)), make([]uint64, len(w.view.mappings))
	w.locations = make([]uint64, len(w.view.locations))
	depth := make([]uint32, len(w.nodes))
	count, sum := 0, 0
	for n := range values {
		if n > 0 {
			depth[n] = depth[w.nodes[n].parent] + 1
		}
		if values[n] != 0 {
			count++
			sum += int(depth[n])
		}
	}
	w.out.Sample = make([]*googlev1.Sample, 0, count)
	// One allocation each for all samples, stacks and values.
	samples, stacks, vs := make([]googlev1.Sample, count), make([]uint64, 0, sum), make([]int64, 0, count)
	for n, x := range values {
		if x == 0 {
			continue
		}
		first := len(stacks)
		for at := uint32(n); at != 0; at = w.nodes[at].parent {
			stacks = append(stacks, w.location(w.nodes[at].location))
		}
		vs = append(vs, x)
		s := &samples[len(w.out.Sample)]
		s.LocationId, s.Value = stacks[first:len(stacks):len(stacks)], vs[len(vs)-1:len(vs):len(vs)]
		w.out.Sample = append(w.out.Sample, s)
	}
}

func (w *pprofWriter) location(i uint32) uint64 {
	if w.locations[i] != 0 {
		return w.locations[i]
	}
	l := w.view.locations[i]
	out := &googlev1.Location{
		Id: uint64(len(w.out.Location)) + 1, MappingId: w.mapping(l.mapping), Address: l.address, IsFolded: l.folded,
	}
	for _, ln := range w.lines[l.first:l.end] {
		out.Line = append(out.Line, &googlev1.Line{FunctionId: w.function(ln.function), Line: ln.line})
	}
	w.out.Location = append(w.out.Location, out)
	w.locations[i] = out.Id
	return out.Id
}

func (w *pprofWriter) function(i uint32) uint64 {
	if w.functions[i] == 0 {
		f := w.view.functions[i]
		w.functions[i] = uint64(len(w.out.Function)) + 1
		w.out.Function = append(w.out.Function, &googlev1.Function{
			Id: w.functions[i], Name: w.text(f.name), SystemName: w.text(f.systemName), Filename: w.text(f.file), StartLine: f.startLine,
		})
	}
	return w.functions[i]
}

func (w *pprofWriter) mapping(i uint32) uint64 {
	if i != 0 && w.mappings[i] == 0 {
		m := w.view.mappings[i]
		w.mappings[i] = uint64(len(w.out.Mapping)) + 1
		w.out.Mapping = append(w.out.Mapping, &googlev1.Mapping{
			Id: w.mappings[i], MemoryStart: m.start, MemoryLimit: m.limit, FileOffset: m.offset,
			Filename: w.text(m.file), BuildId: w.text(m.buildID),
			HasFunctions: m.flags&hasFunctions != 0, HasFilenames: m.flags&hasFilenames != 0,
			HasLineNumbers: m.flags&hasLineNumbers != 0, HasInlineFrames: m.flags&hasInlineFrames != 0,
		})
	}
	return w.mappings[i]
}

// head fills in what describes the profile as a whole. The period is not kept
// with samples; it is what Pyroscope says for the type.
func (w *pprofWriter) head(sel Selection) {
	own := map[string]int64{}
	text := func(s string) int64 {
		if s == "" {
			return w.text(0)
		}
		if _, ok := own[s]; !ok {
			w.text(0)
			own[s] = int64(len(w.out.StringTable))
			w.out.StringTable = append(w.out.StringTable, s)
		}
		return own[s]
	}
	t := sel.Type
	w.out.SampleType = []*googlev1.ValueType{{Type: text(t.SampleType), Unit: text(t.SampleUnit)}}
	w.out.DefaultSampleType = w.out.SampleType[0].Type
	w.out.PeriodType = &googlev1.ValueType{Type: text(t.PeriodType), Unit: text(t.PeriodUnit)}
	w.out.Period = period(t)
	w.out.TimeNanos = sel.End * 1e6
	w.out.DurationNanos = (sel.End - sel.Start) * 1e6
}

func period(t profile.Type) int64 {
	switch t.Name {
	case "process_cpu":
		return 1_000_000_000
	case "memory":
		return 512 << 10
	}
	return 1
}
