package ingest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"
)

// allocating is a profile of calls of an allocator, in which memory::New is
// inlined into its caller.
func allocating() *googlev1.Profile {
	p := &googlev1.Profile{
		StringTable: []string{"", "space", "bytes", "main", "Cart::add", "operator new(unsigned long)", "tc_malloc", "tc_malloc|operator new|Cart::.*", "Cart::.*", "("},
		SampleType:  []*googlev1.ValueType{{Type: 1, Unit: 2}},
		DropFrames:  7, KeepFrames: 8,
		Sample: []*googlev1.Sample{
			{LocationId: []uint64{4, 3, 2, 1}, Value: []int64{10}},
			{LocationId: []uint64{5, 1}, Value: []int64{20}},
			{LocationId: []uint64{4}, Value: []int64{30}},
		},
	}
	for i := range uint64(4) {
		p.Function = append(p.Function, &googlev1.Function{Id: i + 1, Name: int64(i + 3)})
		p.Location = append(p.Location, &googlev1.Location{Id: i + 1, Line: []*googlev1.Line{{FunctionId: i + 1}}})
	}
	p.Location = append(p.Location, &googlev1.Location{Id: 5, Line: []*googlev1.Line{{FunctionId: 3}, {FunctionId: 2}}})
	return p
}

// drop_frames and keep_frames do what `go tool pprof` does on opening a profile.
func TestPprofDropsFrames(t *testing.T) {
	for name, edit := range map[string]func(*googlev1.Profile){
		"drop and keep": func(*googlev1.Profile) {},
		"drop":          func(p *googlev1.Profile) { p.KeepFrames = 0 },
		"keep":          func(p *googlev1.Profile) { p.DropFrames = 0 },
		"mangled":       func(p *googlev1.Profile) { p.StringTable[4] = "_ZN4Cart3addEv" },
	} {
		t.Run(name, func(t *testing.T) {
			p := allocating()
			edit(p)
			r := &Report{}
			got, _, err := Pprof(encode(t, p), Limits{Report: r})
			require.NoError(t, err)
			require.Empty(t, r.String())
			if name == "mangled" {
				p.StringTable[4] = "Cart::add"
			}
			tool, err := profile.ParseData(encode(t, p))
			require.NoError(t, err)
			require.NoError(t, tool.RemoveUninteresting())
			var b bytes.Buffer
			require.NoError(t, tool.WriteUncompressed(&b))
			want := &googlev1.Profile{}
			require.NoError(t, want.UnmarshalVT(b.Bytes()))
			require.Equal(t, shownStacks(want), shownStacks(got))
			require.NoError(t, check(got, Limits{}))
			if name == "drop and keep" {
				require.Equal(t, []string{"main;Cart::add [10]", "main;Cart::add [20]", "tc_malloc [30]"}, shownStacks(got))
			}
		})
	}
}

// Expressions that are none, or would take long, are left out.
func TestPprofIgnoresBadFrameExpressions(t *testing.T) {
	p := allocating()
	p.DropFrames = 9
	r := &Report{}
	got, _, err := Pprof(encode(t, p), Limits{Report: r})
	require.NoError(t, err)
	require.Equal(t, "main;Cart::add;operator new(unsigned long);tc_malloc [10]", shownStacks(got)[0])
	require.Equal(t, "skipped frames drop_frames, which is not a regular expression (1)", r.String())
	p.StringTable[9] = strings.Repeat("(a{0,30}b){30}|", 50)
	p.StringTable[3] = strings.Repeat("x", 60_000)
	r = &Report{}
	_, _, err = Pprof(encode(t, p), Limits{Report: r})
	require.NoError(t, err)
	require.Equal(t, "skipped frames drop_frames, which would take too long for the names of this profile (1)", r.String())
}
