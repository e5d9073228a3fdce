package store

import (
	"slices"
	"testing"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/symdb"
)

// What tells two stacktraces apart for a dictionary has to do so for their
// fingerprints, and nothing else.
func TestFingerprintsTellStacktracesApart(t *testing.T) {
	inner := func(p *googlev1.Profile) *googlev1.Location { return p.Location[0] }
	text := func(p *googlev1.Profile, s string) int64 {
		p.StringTable = append(p.StringTable, s)
		return int64(len(p.StringTable)) - 1
	}
	bare := func(p *googlev1.Profile) { p.Mapping[0].HasFunctions = false }
	unnamed := func(p *googlev1.Profile) { inner(p).Line = nil }
	for name, c := range map[string]struct {
		before, change func(p *googlev1.Profile)
		same           bool
	}{
		"function's name":        {change: func(p *googlev1.Profile) { p.Function[1].Name = text(p, "else") }},
		"function's system name": {change: func(p *googlev1.Profile) { p.Function[1].SystemName = text(p, "else") }},
		"file":                   {change: func(p *googlev1.Profile) { p.Function[1].Filename = text(p, "else") }},
		"name and file":          {change: func(p *googlev1.Profile) { f := p.Function[1]; f.Name, f.Filename = f.Filename, f.Name }},
		"start line":             {change: func(p *googlev1.Profile) { p.Function[1].StartLine++ }},
		"line":                   {change: func(p *googlev1.Profile) { inner(p).Line[0].Line++ }},
		"lines' order":           {change: func(p *googlev1.Profile) { slices.Reverse(inner(p).Line) }},
		"one line less":          {change: func(p *googlev1.Profile) { inner(p).Line = inner(p).Line[1:] }},
		"no lines":               {change: unnamed},
		"folded":                 {change: func(p *googlev1.Profile) { inner(p).IsFolded = true }},
		"no mapping":             {change: func(p *googlev1.Profile) { inner(p).MappingId = 0 }},
		"build ID":               {change: func(p *googlev1.Profile) { p.Mapping[0].BuildId = text(p, "else") }},
		"mapping's file":         {change: func(p *googlev1.Profile) { p.Mapping[0].Filename = text(p, "else") }},
		"mapping's flag":         {change: func(p *googlev1.Profile) { p.Mapping[0].HasInlineFrames = true }},
		"frames' order":          {change: func(p *googlev1.Profile) { slices.Reverse(p.Sample[0].LocationId) }},
		"one frame less":         {change: func(p *googlev1.Profile) { p.Sample[0].LocationId = p.Sample[0].LocationId[1:] }},
		"a frame twice": {change: func(p *googlev1.Profile) {
			p.Sample[0].LocationId = append(p.Sample[0].LocationId[:1:1], p.Sample[0].LocationId...)
		}},
		"no frames":                    {change: func(p *googlev1.Profile) { p.Sample[0].LocationId = nil }},
		"address":                      {change: func(p *googlev1.Profile) { inner(p).Address++ }, same: true},
		"address, unnamed":             {before: unnamed, change: func(p *googlev1.Profile) { inner(p).Address++ }},
		"address, no functions":        {before: bare, change: func(p *googlev1.Profile) { inner(p).Address++ }},
		"mapping's start":              {change: func(p *googlev1.Profile) { p.Mapping[0].MemoryStart-- }, same: true},
		"mapping's start, unnamed":     {before: unnamed, change: func(p *googlev1.Profile) { p.Mapping[0].MemoryStart-- }},
		"start and address, unnamed":   {before: unnamed, change: func(p *googlev1.Profile) { p.Mapping[0].MemoryStart++; inner(p).Address++ }, same: true},
		"mapping's start, no function": {before: bare, change: func(p *googlev1.Profile) { p.Mapping[0].MemoryStart-- }},
		"mapping's limit, no function": {before: bare, change: func(p *googlev1.Profile) { p.Mapping[0].MemoryLimit-- }},
		"offset, no functions":         {before: bare, change: func(p *googlev1.Profile) { p.Mapping[0].FileOffset++ }},
		"text of string 0":             {before: func(p *googlev1.Profile) { p.Function[1].Filename = 0 }, change: func(p *googlev1.Profile) { p.StringTable[0] = "else" }, same: true},
		"value":                        {change: func(p *googlev1.Profile) { p.Sample[0].Value[0]++ }, same: true},
		"IDs": {change: func(p *googlev1.Profile) {
			for _, l := range p.Location {
				l.Id += 100
				for _, ln := range l.Line {
					ln.FunctionId += 7
				}
			}
			for _, f := range p.Function {
				f.Id += 7
			}
			for i := range p.Sample[0].LocationId {
				p.Sample[0].LocationId[i] += 100
			}
			slices.Reverse(p.Location)
		}, same: true},
		"strings' order": {change: func(p *googlev1.Profile) {
			n := int64(len(p.StringTable))
			slices.Reverse(p.StringTable[1:])
			turn := func(i *int64) {
				if *i > 0 {
					*i = n - *i
				}
			}
			for _, f := range p.Function {
				turn(&f.Name)
				turn(&f.SystemName)
				turn(&f.Filename)
			}
			turn(&p.Mapping[0].Filename)
			turn(&p.Mapping[0].BuildId)
			for _, vt := range p.SampleType {
				turn(&vt.Type)
				turn(&vt.Unit)
			}
		}, same: true},
	} {
		t.Run(name, func(t *testing.T) {
			var prints []uint64
			var nodes, slow []uint32
			known, parts := symdb.NewDictionary(), symdb.NewDictionary()
			for i := range 2 {
				p := folded(midnight, "main;work;+inlined 3")
				if c.before != nil {
					c.before(p)
				}
				if i > 0 {
					c.change(p)
				}
				src, err := symdb.Check(p)
				require.NoError(t, err)
				tr := symdb.NewImporter(src, p.Sample)
				prints = append(prints, tr.Prints...)
				nodes = append(nodes, uint32(tr.Nodes(known)[0]>>32))
				parts.Stacks = symdb.Pairs{} // so that it looks at the parts
				slow = append(slow, uint32(tr.Nodes(parts)[0]>>32))
				tr.Free()
			}
			require.Equal(t, c.same, prints[0] == prints[1], "fingerprints are equal")
			require.Equal(t, c.same, slow[0] == slow[1], "nodes are equal")
			require.Equal(t, slow, nodes)
		})
	}
}

// A dictionary that is read again knows no stacktraces by fingerprint, and finds
// the same nodes.
func TestKnownStacktracesAreTheSameAsTheirParts(t *testing.T) {
	w := newWorkload(1, 1)
	known, parts := symdb.NewDictionary(), symdb.NewDictionary()
	for n := range 20 {
		p := w.profile(0, 0, n, midnight).Pprof
		src, err := symdb.Check(p)
		require.NoError(t, err)
		tr := symdb.NewImporter(src, p.Sample)
		parts.Stacks = symdb.Pairs{}
		want := slices.Clone(tr.Nodes(parts))
		require.Equal(t, want, tr.Nodes(known))
		if n > 0 {
			require.Less(t, len(tr.Unknown), len(p.Sample))
		}
		require.Equal(t, parts.View.Sizes(), known.View.Sizes())
		tr.Free()
	}
}
