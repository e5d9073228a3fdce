package top

import (
	"bytes"
	"strings"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// window returns a second's profile with stacktraces such as "main;work", in samples of
// 10 ms.
func window(at time.Time, process string, stacks map[string]int64) []profile.Profile {
	p := &googlev1.Profile{
		StringTable: []string{"", "app.py", "/usr/lib/libx.so"}, Period: 10e6, TimeNanos: at.UnixNano() + 1e6, DurationNanos: 1e9,
		Mapping: []*googlev1.Mapping{{Id: 1, Filename: 2}},
	}
	ids := map[string]uint64{}
	for stack, n := range stacks {
		s := &googlev1.Sample{Value: []int64{n * p.Period}}
		for name := range strings.SplitSeq(stack, ";") {
			if ids[name] == 0 {
				id := uint64(len(ids) + 1)
				ids[name] = id
				p.StringTable = append(p.StringTable, name)
				f := &googlev1.Function{Id: id, Name: int64(len(p.StringTable) - 1)}
				if !strings.HasPrefix(name, "c_") {
					f.Filename = 1
				}
				p.Function = append(p.Function, f)
				p.Location = append(p.Location, &googlev1.Location{Id: id, MappingId: 1, Line: []*googlev1.Line{{FunctionId: id}}})
			}
			s.LocationId = append([]uint64{ids[name]}, s.LocationId...)
		}
		p.Sample = append(p.Sample, s)
	}
	return []profile.Profile{{Labels: labels.FromStrings("comm", process), Pprof: p}}
}

func comm(p profile.Profile) string { return p.Labels.Get("comm") }

// rows returns the rows as own, total, all-own and all-total in hundredths of a second.
func rows(s Snapshot) map[string][4]int {
	out := map[string][4]int{}
	for _, r := range s.Rows {
		n := func(d time.Duration) int { return int(d / (10 * time.Millisecond)) }
		out[strings.Trim(r.Process+" "+r.Function+" "+r.Where, " ")] = [4]int{n(r.Own), n(r.Total), n(r.AllOwn), n(r.AllTotal)}
	}
	return out
}

func TestTable(t *testing.T) {
	begin := time.Unix(1000, 0)
	table := NewTable(false)
	table.Begin(begin)
	require.Equal(t, begin.Add(2*time.Second+windowDelay), table.Next(2*time.Second))
	table.Add(window(begin, "", map[string]int64{"main;work": 30, "main;work;work;c_copy": 20}), comm)
	table.Add(window(begin.Add(time.Second), "", map[string]int64{"main": 50}), comm)
	s := table.Snapshot(begin.Add(2*time.Second + windowDelay))
	require.Equal(t, 2*time.Second, s.Span)
	require.Equal(t, time.Second, s.CPU)
	require.EqualValues(t, 100, s.Samples)
	require.Equal(t, map[string][4]int{
		"main app.py": {50, 100, 50, 100}, "work app.py": {30, 50, 30, 50}, "c_copy libx.so": {20, 20, 20, 20},
	}, rows(s), "recursion counts once in the total")

	table.Add(window(begin.Add(3*time.Second), "", map[string]int64{"main;work": 10, "[stack incomplete: new process];main": 10}), comm)
	s = table.Snapshot(begin.Add(4*time.Second + windowDelay))
	require.EqualValues(t, 10, s.Cut)
	require.Equal(t, [4]int{10, 20, 60, 120}, rows(s)["main app.py"])
	require.Equal(t, [4]int{0, 0, 20, 20}, rows(s)["c_copy libx.so"], "what was seen stays")
	s = table.Snapshot(begin.Add(6*time.Second + windowDelay))
	require.Zero(t, s.CPU)
	require.Equal(t, 2*time.Second, s.Span, "a process that waits uses 0 %")
	table.Clear()
	require.Empty(t, table.Snapshot(begin.Add(8*time.Second)).Rows)
}

// A recording that began within a second has less than a second of it.
func TestTableFirstWindow(t *testing.T) {
	begin := time.Unix(1000, 6e8)
	table := NewTable(false)
	table.Begin(begin)
	require.Equal(t, time.Unix(1002, 0).Add(windowDelay), table.Next(time.Second))
	table.Add(window(time.Unix(1000, 0), "", map[string]int64{"main": 40}), comm)
	table.Add(window(time.Unix(1001, 0), "", map[string]int64{"main": 100}), comm)
	s := table.Snapshot(time.Unix(1002, 0).Add(windowDelay))
	require.Equal(t, 1400*time.Millisecond, s.Span)
	require.Equal(t, s.Span, s.CPU)
}

// Windows that come late are not more than 100 %.
func TestTableLateWindows(t *testing.T) {
	begin := time.Unix(1000, 0)
	table := NewTable(false)
	table.Begin(begin)
	table.Snapshot(begin.Add(3 * time.Second))
	for i := range 3 {
		table.Add(window(begin.Add(time.Duration(i)*time.Second), "", map[string]int64{"main": 100}), comm)
	}
	s := table.Snapshot(begin.Add(4 * time.Second))
	require.Equal(t, s.Span, s.CPU)
}

func TestSort(t *testing.T) {
	begin := time.Unix(1000, 0)
	table := NewTable(true)
	table.Begin(begin)
	table.Add(window(begin, "old", map[string]int64{"b": 90}), comm)
	table.Snapshot(begin.Add(2 * time.Second))
	table.Add(window(begin.Add(2*time.Second), "new", map[string]int64{"main;a": 20, "main": 1}), comm)
	s := table.Snapshot(begin.Add(4 * time.Second))
	for by, want := range map[Order]string{
		ByOwn: "a main b", ByTotal: "main a b", ByAllOwn: "b a main", ByAllTotal: "b main a", ByFunction: "a b main",
	} {
		s.Sort(by)
		var got []string
		for _, r := range s.Rows {
			got = append(got, r.Function)
		}
		require.Equal(t, want, strings.Join(got, " "), Orders[by])
	}
	require.Contains(t, rows(s), "new a app.py", "a row is of a process")
}

func TestPrint(t *testing.T) {
	begin := time.Unix(1000, 0)
	table := NewTable(true)
	table.Begin(begin)
	table.Add(window(begin, "shop\x1b[2J", map[string]int64{"main;wo\x1brk": 50, "main;c_x": 1}), comm)
	s := table.Snapshot(begin.Add(time.Second + windowDelay))
	var b bytes.Buffer
	require.NoError(t, s.Print(&b, true, ByOwn, 2))
	text := b.String()
	require.NotContains(t, text, "\x1b", "names do not control the terminal")
	lines := strings.Split(text, "\n")
	require.Contains(t, lines[0], "51.0 % of a CPU, 51 samples in 1 s")
	require.Equal(t, "   OWN %  TOTAL %     OWN s   TOTAL s  PROCESS          FUNCTION", lines[1])
	require.Equal(t, "    50.0     50.0      0.50      0.50  shop?[2J         wo?rk (app.py)", lines[2])
	require.Equal(t, []string{"", ""}, lines[4:], "two rows")
}
