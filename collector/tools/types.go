package tools

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/profile"
)

// typesOf returns the profile types of profiles, each once, in their order.
func typesOf(ps []profile.Profile) (out []profile.Type) {
	for _, p := range ps {
		for i := range p.Pprof.SampleType {
			if t := typeOf(p, i); !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	return out
}

// typeOf returns the type of the values with index i.
func typeOf(p profile.Profile, i int) profile.Type {
	text := p.Pprof.StringTable
	t := profile.Type{
		Name:       p.Labels.Get(labels.MetricName),
		SampleType: text[p.Pprof.SampleType[i].Type],
		SampleUnit: text[p.Pprof.SampleType[i].Unit],
	}
	if period := p.Pprof.PeriodType; period != nil {
		t.PeriodType, t.PeriodUnit = text[period.Type], text[period.Unit]
	}
	return t
}

// defaultType is the type that `go tool pprof` shows: the profile's own default, else
// its last type. Of several profiles, the first one counts, and of recordings the type
// of CPU time.
func defaultType(ps []profile.Profile) profile.Type {
	if len(ps) == 0 {
		return profile.Type{}
	}
	first := ps[0]
	if name := first.Pprof.StringTable[first.Pprof.DefaultSampleType]; name != "" {
		for i := range first.Pprof.SampleType {
			if t := typeOf(first, i); t.SampleType == name {
				return t
			}
		}
	}
	return typeOf(first, len(first.Pprof.SampleType)-1)
}

// chooseType returns the type that a user named: by its whole ID, by name and sample
// type (memory:alloc_space) or by the sample type alone.
func chooseType(ps []profile.Profile, named string) (profile.Type, error) {
	if named == "" {
		return defaultType(ps), nil
	}
	var known []string
	types := typesOf(ps)
	for _, t := range types {
		if named == t.SampleType || named == t.Name+":"+t.SampleType || named == t.String() {
			return t, nil
		}
	}
	for _, t := range types {
		known = append(known, nameOf(t, types))
	}
	return profile.Type{}, usage("--type: %q is not in the file, which has %s", named, strings.Join(known, ", "))
}

// nameOf returns the shortest name by which chooseType finds a type among others.
func nameOf(t profile.Type, among []profile.Type) string {
	for _, o := range among {
		if o != t && o.SampleType == t.SampleType {
			return t.Name + ":" + t.SampleType
		}
	}
	return t.SampleType
}

// treeOf adds up the values of one type in a call tree of functions. A location with
// inlined functions becomes several calls, one without functions is named by its module
// and offset, as in the store.
func treeOf(ps []profile.Profile, t profile.Type) *profile.Tree {
	b := profile.NewBuilder(1 << 10)
	for _, p := range ps {
		for i := range p.Pprof.SampleType {
			if typeOf(p, i) == t {
				addTree(b, p.Pprof, i)
			}
		}
	}
	return b.Tree()
}

func addTree(b *profile.Builder, p *googlev1.Profile, value int) {
	calls := callsByLocation(b, p)
	for _, s := range p.Sample {
		if s.Value[value] == 0 {
			continue
		}
		node := int32(0)
		for _, id := range slices.Backward(s.LocationId) {
			for _, name := range calls[id] {
				node = b.Child(node, name)
			}
		}
		b.Add(node, s.Value[value])
	}
}

// callsByLocation returns the names of each location's functions, the caller first.
func callsByLocation(b *profile.Builder, p *googlev1.Profile) map[uint64][]int32 {
	functions := make(map[uint64]int32, len(p.Function))
	for _, f := range p.Function {
		functions[f.Id] = b.Name(p.StringTable[f.Name])
	}
	mappings := make(map[uint64]*googlev1.Mapping, len(p.Mapping))
	for _, m := range p.Mapping {
		mappings[m.Id] = m
	}
	out := make(map[uint64][]int32, len(p.Location))
	for _, l := range p.Location {
		names := make([]int32, 0, max(len(l.Line), 1))
		for _, line := range slices.Backward(l.Line) {
			names = append(names, functions[line.FunctionId])
		}
		if len(names) == 0 {
			names = append(names, b.Name(unknownName(p, mappings[l.MappingId], l.Address)))
		}
		out[l.Id] = names
	}
	return out
}

// spanOf returns the time that profiles cover, in Unix ns and ns; 0 if they do not say.
func spanOf(ps []profile.Profile) (start, length int64) {
	end := int64(0)
	for _, p := range ps {
		t := p.Pprof.TimeNanos
		if t <= 0 {
			continue
		}
		if start == 0 || t < start {
			start = t
		}
		end = max(end, t+p.Pprof.DurationNanos)
	}
	if start == 0 {
		for _, p := range ps {
			length = max(length, p.Pprof.DurationNanos)
		}
		return 0, length
	}
	return start, end - start
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// validNames makes a tree's names UTF-8, which JSON and protocol buffers need.
func validNames(t *profile.Tree) *profile.Tree {
	if !slices.ContainsFunc(t.Names, func(s string) bool { return !utf8.ValidString(s) }) {
		return t
	}
	b := profile.NewBuilder(len(t.Nodes))
	at := make([]int32, len(t.Nodes))
	for i := 1; i < len(t.Nodes); i++ {
		n := &t.Nodes[i]
		at[i] = b.Child(at[n.Parent], b.Name(strings.ToValidUTF8(t.Names[n.Name], "\uFFFD")))
	}
	for i := range t.Nodes {
		b.Add(at[i], t.Nodes[i].Self)
	}
	return b.Tree()
}
