package conformance

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"google.golang.org/protobuf/proto"

	"github.com/flameline/flameline/pkg/profile"
)

// reduce turns a response into lines that do not depend on how it is encoded, such as on
// the order of its table of names.
func reduce(resp proto.Message, base int64) ([]string, error) {
	switch m := resp.(type) {
	case *querierv1.ProfileTypesResponse:
		var out []string
		for _, t := range m.ProfileTypes {
			out = append(out, fmt.Sprintf("%s = %s %s %s %s %s", t.ID, t.Name, t.SampleType, t.SampleUnit, t.PeriodType, t.PeriodUnit))
		}
		return out, nil
	case *typesv1.LabelValuesResponse:
		return m.Names, nil
	case *typesv1.LabelNamesResponse:
		return m.Names, nil
	case *querierv1.SeriesResponse:
		var out []string
		for _, ls := range m.LabelsSet {
			out = append(out, labelSet(ls.Labels))
		}
		slices.Sort(out) // the order of label sets has no meaning
		return out, nil
	case *querierv1.SelectMergeStacktracesResponse:
		switch {
		case m.Pprof != nil:
			return pprof(m.Pprof.Profile, base)
		case m.Dot != "":
			return dot(m.Dot)
		case m.Tree != nil:
			return tree(m.Tree)
		}
		return flamegraph(m.Flamegraph)
	case *querierv1.SelectMergeSpanProfileResponse:
		if m.Tree != nil {
			return tree(m.Tree)
		}
		return flamegraph(m.Flamegraph)
	case *googlev1.Profile:
		return pprof(m, base)
	case *querierv1.SelectSeriesResponse:
		var out []string
		for i, s := range m.Series {
			for _, p := range s.Points {
				at := fmt.Sprintf("%d %s %+d ms", i, labelSet(s.Labels), p.Timestamp-base)
				out = append(out, fmt.Sprintf("%s: %g", at, p.Value))
				out = append(out, exemplars(at, p.Exemplars, base)...)
			}
		}
		return out, nil
	case *querierv1.SelectHeatmapResponse:
		var out []string
		// Without a limit, servers return series in any order.
		series := slices.SortedFunc(slices.Values(m.Series), func(a, b *typesv1.HeatmapSeries) int {
			return strings.Compare(labelSet(a.Labels), labelSet(b.Labels))
		})
		for i, s := range series {
			for _, slot := range s.Slots {
				at := fmt.Sprintf("%d %s %+d ms", i, labelSet(s.Labels), slot.Timestamp-base)
				out = append(out, fmt.Sprintf("%s: rows %g counts %d", at, slot.YMin, slot.Counts))
				out = append(out, exemplars(at, slot.Exemplars, base)...)
			}
		}
		return out, nil
	case *querierv1.DiffResponse:
		return flamegraphDiff(m.Flamegraph)
	case *querierv1.AnalyzeQueryResponse:
		return []string{fmt.Sprintf("%d series", m.QueryImpact.GetTotalQueriedSeries())}, nil
	case *typesv1.GetProfileStatsResponse:
		return []string{fmt.Sprintf("data ingested: %v", m.DataIngested)}, nil
	}
	return []string{protoText(resp)}, nil
}

// exemplars lists the exemplars of a point or a slot, whose order has no meaning.
// Profile IDs differ between servers, so only their form is kept.
func exemplars(at string, list []*typesv1.Exemplar, base int64) (out []string) {
	for _, e := range list {
		id := e.ProfileId
		if uuid.Validate(id) == nil && len(id) == 36 {
			id = "a UUID"
		}
		out = append(out, fmt.Sprintf("%s: such as %d at %+d ms, profile %q, span %q, trace %q, %s", at, e.Value, e.Timestamp-base, id, e.SpanId, e.TraceId, labelSet(e.Labels)))
	}
	slices.Sort(out)
	return out
}

func protoText(m proto.Message) string { return strings.Join(strings.Fields(fmt.Sprint(m)), " ") }

func labelSet(pairs []*typesv1.LabelPair) string {
	out := make([]string, len(pairs))
	for i, p := range pairs {
		out[i] = fmt.Sprintf("%s=%q", p.Name, p.Value)
	}
	slices.Sort(out) // servers write them in several orders
	return "{" + strings.Join(out, ",") + "}"
}

// flamegraph lists the bars of a flame graph with their positions, from the root down
// and from left to right.
func flamegraph(f *querierv1.FlameGraph) ([]string, error) {
	if f == nil {
		return []string{"no flame graph"}, nil
	}
	out := []string{fmt.Sprintf("total %d, max self %d", f.Total, f.MaxSelf)}
	for level, l := range f.Levels {
		x := int64(0)
		if len(l.Values)%4 != 0 {
			return nil, fmt.Errorf("level %d has %d values", level, len(l.Values))
		}
		for v := range slices.Chunk(l.Values, 4) {
			if v[3] < 0 || v[3] >= int64(len(f.Names)) {
				return nil, fmt.Errorf("level %d has name %d of %d", level, v[3], len(f.Names))
			}
			x += v[0]
			out = append(out, fmt.Sprintf("level %d at %d: %s total %d self %d", level, x, f.Names[v[3]], v[1], v[2]))
			x += v[1]
		}
	}
	return out, nil
}

func flamegraphDiff(f *querierv1.FlameGraphDiff) ([]string, error) {
	if f == nil {
		return []string{"no flame graph"}, nil
	}
	out := []string{fmt.Sprintf("total %d, max self %d, left %d, right %d", f.Total, f.MaxSelf, f.LeftTicks, f.RightTicks)}
	for level, l := range f.Levels {
		var left, right int64
		if len(l.Values)%7 != 0 {
			return nil, fmt.Errorf("level %d has %d values", level, len(l.Values))
		}
		for v := range slices.Chunk(l.Values, 7) {
			if v[6] < 0 || v[6] >= int64(len(f.Names)) {
				return nil, fmt.Errorf("level %d has name %d of %d", level, v[6], len(f.Names))
			}
			left, right = left+v[0], right+v[3]
			out = append(out, fmt.Sprintf("level %d at %d/%d: %s total %d/%d self %d/%d", level, left, right, f.Names[v[6]], v[1], v[4], v[2], v[5]))
			left, right = left+v[1], right+v[4]
		}
	}
	return out, nil
}

func tree(b []byte) ([]string, error) {
	t, err := profile.UnmarshalTree(b)
	if err != nil {
		return nil, err
	}
	var out []string
	t.Walk(func(level int, n *profile.Node, name string) {
		out = append(out, fmt.Sprintf("%s%s total %d self %d", strings.Repeat(" ", level), name, n.Total, n.Self))
	})
	return out, nil
}

// pprof lists the sorted stacktraces with their values, and the profile's metadata.
func pprof(p *googlev1.Profile, base int64) ([]string, error) {
	text := func(i int64) string {
		if i < 0 || i >= int64(len(p.StringTable)) {
			return "?"
		}
		return p.StringTable[i]
	}
	mappings := map[uint64]string{}
	for _, m := range p.Mapping {
		if mappings[m.Id] != "" {
			return nil, fmt.Errorf("mapping %d is there twice", m.Id)
		}
		mappings[m.Id] = fmt.Sprintf("%s build ID %s", text(m.Filename), text(m.BuildId))
	}
	functions := map[uint64]*googlev1.Function{}
	for _, f := range p.Function {
		if functions[f.Id] != nil {
			return nil, fmt.Errorf("function %d is there twice", f.Id)
		}
		functions[f.Id] = f
	}
	locations, used := map[uint64]string{}, map[string]bool{}
	for _, l := range p.Location {
		var lines []string
		for _, line := range l.Line {
			f := functions[line.FunctionId]
			lines = append(lines, fmt.Sprintf("%s (%s:%d, from %d)", text(f.GetName()), text(f.GetFilename()), line.Line, f.GetStartLine()))
		}
		if len(lines) == 0 {
			lines = []string{fmt.Sprintf("%#x", l.Address)}
		}
		if locations[l.Id] != "" {
			return nil, fmt.Errorf("location %d is there twice", l.Id)
		}
		locations[l.Id] = strings.Join(lines, ",")
		used[mappings[l.MappingId]] = true
	}
	merged := map[string][]int64{}
	for _, s := range p.Sample {
		var stack []string
		for _, id := range slices.Backward(s.LocationId) {
			stack = append(stack, locations[id])
		}
		key := strings.Join(stack, "; ")
		if merged[key] == nil {
			merged[key] = make([]int64, len(s.Value))
		}
		for i, v := range s.Value {
			merged[key][i] += v
		}
	}
	var out []string
	for stack, v := range merged {
		out = append(out, fmt.Sprintf("%s: %d", stack, v))
	}
	slices.Sort(out)
	var head []string
	if len(p.Sample) == 0 {
		head = append(head, "an empty profile")
	}
	head = append(head, fmt.Sprintf("period %s %s %d", text(p.PeriodType.GetType()), text(p.PeriodType.GetUnit()), p.Period))
	for _, t := range p.SampleType {
		head = append(head, fmt.Sprintf("sample type %s %s", text(t.Type), text(t.Unit)))
	}
	head = append(head, fmt.Sprintf("time %+d ms", p.TimeNanos/1_000_000-base))
	for _, m := range slices.Sorted(maps.Keys(used)) {
		head = append(head, "of "+m)
	}
	return append(head, out...), nil
}
