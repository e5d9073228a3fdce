package record

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"
)

func TestParsePIDs(t *testing.T) {
	pids, err := ParsePIDs([]string{"7,8", " 9 ", "7"})
	require.NoError(t, err)
	require.Equal(t, []int{7, 8, 9}, pids)
	for _, bad := range []string{"", "x", "0", "-3", "1,", "1 2", "99999999999999999999"} {
		_, err := ParsePIDs([]string{bad})
		require.ErrorContains(t, err, "is not a process ID", bad)
	}
}

func TestSelectionCheck(t *testing.T) {
	re := regexp.MustCompile("x")
	for _, good := range []Selection{
		{PIDs: []int{1}}, {All: true}, {Comm: re}, {Container: "ab"}, {CGroup: "/"}, {Command: []string{"x"}},
		{PIDs: []int{1}, Subprocesses: true}, {Command: []string{"x"}, Subprocesses: true},
	} {
		require.NoError(t, good.Check())
	}
	require.ErrorContains(t, Selection{}.Check(), "say what to record")
	require.ErrorContains(t, Selection{All: true, PIDs: []int{1}}.Check(), "give only one of")
	require.ErrorContains(t, Selection{PIDs: []int{1}, Command: []string{"x"}}.Check(), "give only one of")
	require.ErrorContains(t, Selection{All: true, Subprocesses: true}.Check(), "--subprocesses goes with -p or a command")
	require.True(t, Selection{PIDs: []int{1}}.One())
	require.False(t, Selection{PIDs: []int{1}, Subprocesses: true}.One())
	require.False(t, Selection{Comm: re}.One())
}

func TestInCGroup(t *testing.T) {
	const v1 = "5:memory:/docker/abc\n1:name=systemd:/system.slice/nginx.service\n0::/user.slice\n"
	for group, want := range map[string]bool{
		"/docker": true, "/docker/abc": true, "/docker/ab": false, "/system.slice": true, "/": true,
		"/user.slice": true, "/user.slice/x": false, "/abc": false,
	} {
		require.Equal(t, want, inCGroup([]byte(v1), group), group)
	}
	require.False(t, inCGroup([]byte("nonsense\n1:2"), "/x"))
	for in, want := range map[string]string{
		"system.slice/": "/system.slice", "/system.slice": "/system.slice", "/sys/fs/cgroup": "/", "/sys/fs/cgroup/a/b/": "/a/b",
	} {
		require.Equal(t, want, CleanCGroup(in), in)
	}
}

// A testProfile has stacktraces such as "main;work 3", in samples of a period of 10 ns.
func testProfile(stacks map[string]int64) *googlev1.Profile {
	p := &googlev1.Profile{
		StringTable: []string{"", "cpu", "nanoseconds", "x.c", "bin", "id"}, Period: 10,
		SampleType: []*googlev1.ValueType{{Type: 1, Unit: 2}}, PeriodType: &googlev1.ValueType{Type: 1, Unit: 2},
		Mapping: []*googlev1.Mapping{{Id: 1, Filename: 4, BuildId: 5}},
	}
	ids := map[string]uint64{}
	for stack, n := range stacks {
		s := &googlev1.Sample{Value: []int64{10 * n}}
		for name := range strings.SplitSeq(stack, ";") {
			if ids[name] == 0 {
				id := uint64(len(ids) + 1)
				ids[name] = id
				p.StringTable = append(p.StringTable, name)
				p.Function = append(p.Function, &googlev1.Function{Id: id, Name: int64(len(p.StringTable) - 1), Filename: 3})
				p.Location = append(p.Location, &googlev1.Location{Id: id, MappingId: 1, Line: []*googlev1.Line{{FunctionId: id, Line: int64(len(name))}}})
			}
			s.LocationId = append([]uint64{ids[name]}, s.LocationId...)
		}
		p.Sample = append(p.Sample, s)
	}
	return p
}

// folded returns a profile's stacktraces with one of their values, as read by the pprof
// library, an implementation of somebody else's.
func folded(t *testing.T, p *googlev1.Profile, value int) map[string]int64 {
	t.Helper()
	raw, err := p.MarshalVT()
	require.NoError(t, err)
	parsed, err := profile.ParseData(raw)
	require.NoError(t, err)
	require.NoError(t, parsed.CheckValid())
	out := map[string]int64{}
	for _, s := range parsed.Sample {
		var names []string
		for _, l := range s.Location {
			for _, ln := range l.Line {
				names = append([]string{ln.Function.Name}, names...)
			}
		}
		out[strings.Join(names, ";")] += s.Value[value]
	}
	return out
}

func TestMerge(t *testing.T) {
	m := newMerger(nil, nil)
	first, second := testProfile(map[string]int64{"main;work": 3, "main": 1}), testProfile(map[string]int64{"main;work": 2, "main;[stack incomplete: new process];leaf": 1})
	for _, p := range []*googlev1.Profile{first, second} {
		countAndValue(p, CPU)
	}
	m.add(first, "shop", "worker (7)")
	m.add(second, "shop", "worker (7)")
	require.Equal(t, map[string]int64{
		"shop;worker (7);main;work": 5, "shop;worker (7);main": 1, "shop;worker (7);main;[stack incomplete: new process];leaf": 1,
	}, folded(t, m.out, SampleCount))
	require.EqualValues(t, 50, folded(t, m.out, SampleValue)["shop;worker (7);main;work"])
	require.EqualValues(t, 7, m.total())
	require.EqualValues(t, 1, m.cut)
	require.Len(t, m.out.Mapping, 1)
	r := &Recording{Pprof: m.out}
	require.Equal(t, []Cut{{"new process", 1}}, r.Cuts())
	require.EqualValues(t, 70, r.Tree(SampleValue).Total())
}

func TestMergePatterns(t *testing.T) {
	stacks := map[string]int64{"main;work": 3, "main;wait": 4, "main": 1}
	for _, c := range []struct {
		include, exclude string
		kept             map[string]int64
	}{
		{"work", "", map[string]int64{"main;work": 3}},
		{"", "^wait$", map[string]int64{"main;work": 3, "main": 1}},
		{"main", "wo", map[string]int64{"main;wait": 4, "main": 1}},
		{`x\.c`, "", stacks}, // a file
		{"nothing", "", map[string]int64{}},
	} {
		var in, out []*regexp.Regexp
		if c.include != "" {
			in = append(in, regexp.MustCompile(c.include))
		}
		if c.exclude != "" {
			out = append(out, regexp.MustCompile(c.exclude))
		}
		m := newMerger(in, out)
		p := testProfile(stacks)
		countAndValue(p, CPU)
		m.add(p)
		require.Equal(t, c.kept, folded(t, m.out, SampleCount), c)
		require.EqualValues(t, 8, m.total()+m.leftOut)
	}
}

// Stacktraces beyond the bound are counted under one frame.
func TestMergeIsBounded(t *testing.T) {
	m := newMerger(nil, nil)
	m.limit = 2
	for _, stack := range []string{"a", "b", "c", "d", "a"} {
		p := testProfile(map[string]int64{stack: 1})
		countAndValue(p, CPU)
		m.add(p)
	}
	require.Equal(t, map[string]int64{"a": 2, "b": 1, otherStacks: 2}, folded(t, m.out, SampleCount))
	require.EqualValues(t, 2, m.beyond)
}

func TestWaits(t *testing.T) {
	wait := func() *googlev1.Profile {
		return &googlev1.Profile{
			StringTable: []string{"", "off_cpu", "nanoseconds", "blocks", "count", "sleep"},
			SampleType:  []*googlev1.ValueType{{Type: 1, Unit: 2}, {Type: 3, Unit: 4}},
			Function:    []*googlev1.Function{{Id: 1, Name: 5}},
			Location:    []*googlev1.Location{{Id: 1, Line: []*googlev1.Line{{FunctionId: 1}}}},
			Sample:      []*googlev1.Sample{{LocationId: []uint64{1}, Value: []int64{500, 2}}},
		}
	}
	m := newMerger(nil, nil)
	p := wait()
	countAndValue(p, OffCPU)
	m.add(p)
	require.Equal(t, map[string]int64{"sleep": 2}, folded(t, m.out, SampleCount))
	require.Equal(t, map[string]int64{"sleep": 500}, folded(t, m.out, SampleValue))

	m = newMerger(nil, nil)
	p, cpu := wait(), testProfile(map[string]int64{"sleep": 7})
	countAndValue(p, Wall)
	countAndValue(cpu, Wall)
	m.add(p)
	m.add(cpu)
	require.Equal(t, map[string]int64{"sleep": 570}, folded(t, m.out, SampleValue), "both kinds of time")
	require.Equal(t, "wall", m.out.StringTable[m.out.SampleType[SampleValue].Type])
}

func TestEvents(t *testing.T) {
	require.True(t, Wall.takes("off_cpu") && Wall.takes("process_cpu") && !OffCPU.takes("process_cpu") && !CPU.takes("off_cpu"))
}

func TestRootFrames(t *testing.T) {
	require.Empty(t, rootFrames(false, false, "a", "1", "t", "2"))
	require.Equal(t, []string{"a"}, rootFrames(true, false, "a", "1", "t", "2"))
	require.Equal(t, []string{"t (2)"}, rootFrames(false, true, "a", "1", "t", "2"))
	require.Equal(t, []string{"a (1)", "t (2)"}, rootFrames(true, true, "a", "1", "t", "2"))
	require.Equal(t, []string{"[unknown thread]"}, rootFrames(false, true, "a", "1", "", ""))
}
