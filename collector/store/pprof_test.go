package store

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"runtime/pprof"
	"sort"
	"strings"
	"testing"
	"time"

	pp "github.com/google/pprof/profile"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/pkg/profile"
)

// pprofOf turns a profile of google/pprof into ours.
func pprofOf(t testing.TB, p *pp.Profile) *googlev1.Profile {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, p.WriteUncompressed(&b))
	out := &googlev1.Profile{}
	require.NoError(t, out.UnmarshalVT(b.Bytes()))
	return out
}

// mergePprof is DB.Pprof, decoded.
func mergePprof(ctx context.Context, db *DB, sel query.Selection, callSite []string) (*googlev1.Profile, error) {
	p, err := db.Pprof(ctx, sel, callSite)
	if err != nil {
		return nil, err
	}
	out := &googlev1.Profile{}
	if err := out.UnmarshalVT(p.Data); err != nil {
		return nil, err
	}
	if len(out.Sample) != p.Samples {
		return nil, fmt.Errorf("%d samples, said to be %d", len(out.Sample), p.Samples)
	}
	return out, nil
}

// googleOf is the inverse of pprofOf; it checks references on the way.
func googleOf(t testing.TB, p *googlev1.Profile) *pp.Profile {
	t.Helper()
	b, err := p.MarshalVT()
	require.NoError(t, err)
	out, err := pp.ParseData(b)
	require.NoError(t, err)
	return out
}

// stacks lists a profile's stacktraces with lines and mappings, and their values
// of one sample type, summed.
func stacks(p *pp.Profile, sampleType int) map[string]int64 {
	out := map[string]int64{}
	for _, s := range p.Sample {
		var b strings.Builder
		for _, l := range s.Location {
			if l.Mapping != nil {
				fmt.Fprintf(&b, "[%s %s]", l.Mapping.File, l.Mapping.BuildID)
			}
			for _, ln := range l.Line {
				fmt.Fprintf(&b, "%s %s %s:%d from %d,", ln.Function.Name, ln.Function.SystemName, ln.Function.Filename, ln.Line, ln.Function.StartLine)
			}
			b.WriteByte('\n')
		}
		if v := s.Value[sampleType]; v != 0 {
			out[b.String()] += v
		}
	}
	return out
}

func selfByFunction(p *pp.Profile, sampleType int) map[string]int64 {
	out := map[string]int64{}
	for _, s := range p.Sample {
		if v := s.Value[sampleType]; v != 0 {
			out[s.Location[0].Line[0].Function.Name] += v
		}
	}
	return out
}

var keep [][]byte

// realHeap takes a heap profile of this process, which has four sample types,
// inlined functions and a mapping.
func realHeap(t testing.TB) *pp.Profile {
	t.Helper()
	for i := range 300 {
		keep = append(keep, bytes.Repeat([]byte("x"), 5000+i))
	}
	runtime.GC()
	var b bytes.Buffer
	require.NoError(t, pprof.Lookup("allocs").WriteTo(&b, 0))
	p, err := pp.Parse(&b)
	require.NoError(t, err)
	for _, s := range p.Sample { // numeric labels, which are not kept
		s.NumLabel, s.NumUnit = nil, nil
	}
	return p
}

func TestPprofEqualsGoogleMerge(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute with the race detector")
	}
	t.Parallel()
	rate := runtime.MemProfileRate
	runtime.MemProfileRate = 512 // until the profiles are taken: it slows all tests down
	ctx := context.Background()
	db := open(t, t.TempDir())
	var all []*pp.Profile
	for i := range 3 {
		p := realHeap(t)
		all = append(all, p)
		in := pprofOf(t, p)
		in.TimeNanos = midnight.Add(time.Hour + time.Duration(i)*time.Second).UnixNano() // at once, so that states add up
		require.NoError(t, db.Append(ctx, []profile.Profile{{
			Labels: labels.FromStrings(labelindex.LabelName, "memory", labelindex.LabelServiceName, "test", "pod", fmt.Sprint(i)), Pprof: in,
		}}))
	}
	runtime.MemProfileRate = rate
	want, err := pp.Merge(all)
	require.NoError(t, err)
	for _, f := range want.Function {
		if f.SystemName == f.Name { // left out, so that go tool pprof does not shorten the name
			f.SystemName = ""
		}
	}
	for i, st := range want.SampleType {
		t.Run(st.Type, func(t *testing.T) {
			typ := profile.Type{Name: "memory", SampleType: st.Type, SampleUnit: st.Unit, PeriodType: "space", PeriodUnit: "bytes"}
			sel := query.Selection{Type: typ, Start: ms(midnight), End: ms(midnight.Add(24 * time.Hour))}
			got, err := mergePprof(ctx, db, sel, nil)
			require.NoError(t, err)
			g := googleOf(t, got)
			require.NotEmpty(t, g.Sample)
			require.Equal(t, stacks(want, i), stacks(g, 0))
			require.Equal(t, selfByFunction(want, i), selfByFunction(g, 0))
			require.Equal(t, sel.End*1e6, got.TimeNanos)
			require.EqualValues(t, 24*time.Hour, got.DurationNanos)

			tree, err := db.Tree(ctx, sel, nil)
			require.NoError(t, err)
			self := map[string]int64{}
			for _, n := range tree.Nodes {
				if n.Self != 0 {
					self[tree.Names[n.Name]] += n.Self
				}
			}
			require.Equal(t, selfByFunction(want, i), self)
		})
	}
}

func TestPprofOfSeveralPartitions(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	day2 := midnight.Add(23 * time.Hour)
	db.epochs.Now = func() time.Time { return midnight.Add(72 * time.Hour) }
	for i, s := range []string{"a", "b", "a"} {
		p := folded(day2.Add(time.Duration(i)*time.Hour), "main;work;+inner 2", "main;"+s+" 3")
		require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p, labelindex.LabelServiceName, s)}))
	}
	got, err := mergePprof(ctx, db, everything(), nil)
	require.NoError(t, err)
	g := googleOf(t, got)
	// The third profile is of the next day, which has its own numbering.
	require.Len(t, g.Sample, 3)
	require.Equal(t, map[string]int64{"inner": 6e7, "a": 6e7, "b": 3e7}, selfByFunction(g, 0))
	require.Len(t, g.Mapping, 1)
	require.Equal(t, "abc123", g.Mapping[0].BuildID)

	again, err := mergePprof(ctx, db, everything(), nil)
	require.NoError(t, err)
	require.Equal(t, got.String(), again.String(), "repeatable")

	got, err = mergePprof(ctx, db, everything(), []string{"main", "a"})
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"a": 6e7}, selfByFunction(googleOf(t, got), 0))

	none, err := mergePprof(ctx, db, everything(`{pod="none"}`), nil)
	require.NoError(t, err)
	require.Empty(t, none.Sample)
	googleOf(t, none)
}

func TestUnknownLocationsKeepTheirAddress(t *testing.T) {
	ctx := context.Background()
	db := open(t, t.TempDir())
	p := folded(midnight.Add(time.Hour), "main 1")
	p.StringTable = append(p.StringTable, "/lib/libc.so.6")
	p.Mapping = append(p.Mapping, &googlev1.Mapping{Id: 2, MemoryStart: 0x7f0000, MemoryLimit: 0x7fffff, FileOffset: 0x1000, Filename: int64(len(p.StringTable) - 1)})
	p.Location = append(p.Location, &googlev1.Location{Id: 70, MappingId: 2, Address: 0x7f0123}, &googlev1.Location{Id: 71, Address: 0xabc},
		&googlev1.Location{Id: 72, MappingId: 1, Address: 0x400010})
	p.Sample = append(p.Sample, &googlev1.Sample{LocationId: []uint64{70, 71, 72, 1}, Value: []int64{1, 5}})
	require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p)}))
	tree, err := db.Tree(ctx, everything(`{service_name="unknown_service"}`), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"main 10000000", "main;app+0x10;0xabc;libc.so.6+0x1123 5"}, draw(tree))
	got, err := mergePprof(ctx, db, everything(), nil)
	require.NoError(t, err)
	var addresses []uint64
	for _, l := range got.Location {
		addresses = append(addresses, l.Address)
	}
	sort.Slice(addresses, func(i, j int) bool { return addresses[i] < addresses[j] })
	require.Equal(t, []uint64{0, 0x10, 0xabc, 0x7f0123}, addresses)
}
