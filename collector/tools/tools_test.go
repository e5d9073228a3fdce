package tools

import (
	"fmt"
	"strings"
	"testing"

	pprof "github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

func tree(values map[string]int64) *profile.Tree {
	b := profile.NewBuilder(0)
	for _, name := range sortedKeys(values) {
		b.Add(b.Child(0, b.Name(name)), values[name])
	}
	return b.Tree()
}

// Rounding errors do not add up, and nothing overflows in silence.
func TestScaleTree(t *testing.T) {
	x := tree(map[string]int64{"a": 1, "b": 1, "c": 1})
	require.NoError(t, scaleTree(x, 10, 3))
	require.EqualValues(t, 10, x.Total())
	require.NoError(t, scaleTree(x, 1, 10))
	require.EqualValues(t, 1, x.Total())
	require.ErrorContains(t, scaleTree(tree(map[string]int64{"a": 1 << 40}), 1<<40, 3), "is more than")
}

// A call vanished if the right side has no sample below it; callers give it a place.
func TestElided(t *testing.T) {
	build := func(inner, leaf int64) *profile.Tree {
		b := profile.NewBuilder(0)
		main := b.Child(0, b.Name("main"))
		b.Add(main, 7)
		gone := b.Child(main, b.Name("gone"))
		b.Add(gone, inner)
		b.Add(b.Child(gone, b.Name("leaf")), leaf)
		return b.Tree()
	}
	e := elided(profile.Diff(build(2, 3), build(0, 0)))
	require.EqualValues(t, 5, e.Total())
	require.Len(t, e.Nodes, 4)
	// The leaf is still there, so is its caller.
	require.Zero(t, elided(profile.Diff(build(2, 3), build(0, 1))).Total())
}

func TestSniff(t *testing.T) {
	for head, want := range map[string]string{
		"FLR\x00\x00\x02":                            jfr,
		"\x0a\x04\x08\x01\x10\x02":                   pprofFile,
		"heap profile: 1: 2 [3: 4] @ heap/1048576\n": pprofFile,
		"--- contention:\n":                          pprofFile,
		"a;b 1\n":                                    folded,
		"work (a.py:3);x 2\n":                        folded,
		"\xff\xfea\x00":                              folded,
		"  \n<!DOCTYPE html>\n<html>":                flameHTML,
		"<svg":                                       folded, // whose error names it
		`{"$schema":"https://www.speedscope.app/file-format-schema.json"`:                      speedscope,
		`{"meta":{"title":"x.speedscope.json","stackwalk":1}`:                                  gecko,
		"# ========\n# captured on: x\n":                                                       perfText,
		"java 12 cycles:\n":                                                                    perfText,
		"swapper     0 [000] 1.5: cpu-clock: \n\tffff x (y)\n":                                 perfText,
		"java 12 1.5: sched:sched_switch: prev=x\n\t    ffff81 schedule ([kernel.kallsyms])\n": perfText,
		// A process may have any name, and there may be other text before its samples.
		"heap profile: 12 1.5: cycles:\n\tffff x (y)\n":                     perfText,
		"{\"a\": 12 1.5: 7 cycles:\n\tffff x (y)\n":                         perfText,
		"<html> 12 1.5: 7 cycles:\n\tffff x (y)\n":                          perfText,
		"a\x01b 12 1.5: 7 cycles:\n\tffff x (y)\n":                          perfText,
		strings.Repeat("junk\n", 1000) + "sh 12 1.5: cycles:\n\tff x (y)\n": perfText,
		strings.Repeat("a;b;c 1\n", 1000):                                   folded,
	} {
		require.Equal(t, want, sniff([]byte(head)), "%q", head)
	}
}

// TestPySpyBody checks with go tool pprof's library that what is imported has functions,
// files, lines and CPU time.
func TestPySpyBody(t *testing.T) {
	text := "<module> (a.py:7);work (a.py:3) 20\n<module> (a.py:7) 1\n"
	in, err := Read(t.Context(), "-", ReadOptions{Stdin: strings.NewReader(text)})
	require.NoError(t, err)
	body, format, err := in.body(50)
	require.NoError(t, err)
	require.Equal(t, pprofFile, format)
	p, err := pprof.ParseData(body)
	require.NoError(t, err)
	require.NoError(t, p.CheckValid())
	require.Equal(t, []*pprof.ValueType{{Type: "cpu", Unit: "nanoseconds"}}, p.SampleType)
	require.Zero(t, p.TimeNanos, "the push says when")
	values := map[string]int64{}
	for _, s := range p.Sample {
		leaf := s.Location[0].Line[0]
		values[fmt.Sprintf("%s %s:%d", leaf.Function.Name, leaf.Function.Filename, leaf.Line)] = s.Value[0]
	}
	require.Equal(t, map[string]int64{"work a.py:3": 400_000_000, "<module> a.py:7": 20_000_000}, values)
}

func TestIsQuery(t *testing.T) {
	require.True(t, isQuery(`process_cpu:cpu:nanoseconds:cpu:nanoseconds{service_name="x"}`))
	require.True(t, isQuery("process_cpu:cpu:nanoseconds:cpu:nanoseconds"))
	for _, name := range []string{"-", "a.folded", "sniff.go", "/a:b:c:d:e"} {
		require.False(t, isQuery(name), name)
	}
}
