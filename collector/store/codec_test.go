package store

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/calltree"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/symdb"
)

func TestColumnRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		vs := make([]uint64, r.IntN(70))
		width := r.IntN(63)
		for i := range vs {
			vs[i] = r.Uint64() >> 1 >> r.IntN(width+1)
			if r.IntN(20) == 0 {
				vs[i] = math.MaxInt64
			}
		}
		for _, tail := range []int{0, 3, 40} {
			data := append(bitpack.AppendColumn(nil, vs), make([]byte, tail)...)
			rd := bitpack.Decoder{Data: data}
			c := rd.Column("test")
			require.NoError(t, rd.Err)
			got := make([]uint64, len(vs))
			require.True(t, c.Decode(got))
			require.Equal(t, vs, got)
			require.Equal(t, len(data)-tail, rd.Off)
		}
	}
}

func TestColumnIsNearItsEntropy(t *testing.T) {
	// 450 of 20,000 nodes, mostly of the value 1, as in a CPU profile of 10 s.
	r := rand.New(rand.NewPCG(2, 2))
	nodes := map[uint32]bool{}
	for len(nodes) < 450 {
		nodes[r.Uint32N(20000)] = true
	}
	var in rowcodec.Row
	in.Values, in.Totals = make([][]int64, 2), make([]int64, 2)
	for n := range uint32(20000) {
		if nodes[n] {
			v := int64(1 + r.ExpFloat64())
			in.Nodes = append(in.Nodes, n)
			in.Values[0] = append(in.Values[0], v)
			in.Values[1] = append(in.Values[1], v*1e7)
		}
	}
	require.Less(t, len(in.Append(nil)), 540)
}

func randomRow(r *rand.Rand) rowcodec.Row {
	in := rowcodec.Row{Profiles: r.Uint64N(1000), Duration: r.Uint64N(1e9)}
	types := 1 + r.IntN(4)
	in.Totals, in.Values = make([]int64, types), make([][]int64, types)
	for n := range uint32(r.IntN(400)) {
		if r.IntN(5) == 0 {
			continue
		}
		in.Nodes = append(in.Nodes, n)
		for c := range types {
			v := r.Int64N(1 << (1 + 10*c))
			if c == 2 {
				v = in.Values[1][len(in.Nodes)-1] * 512
			}
			in.Values[c] = append(in.Values[c], v)
			in.Totals[c] += v
		}
	}
	return in
}

func TestRowRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	var p rowcodec.PackedRow
	var tmp rowcodec.Scratch
	for range 500 {
		in := randomRow(r)
		require.NoError(t, p.Decode(in.Append(nil)))
		require.Equal(t, in.Profiles, p.Profiles)
		require.Equal(t, in.Duration, p.Duration)
		require.Equal(t, in.Totals, p.Totals)
		for c := range in.Values {
			want, got := make([]int64, 500), make([]int64, 500)
			for i, n := range in.Nodes {
				want[n] = in.Values[c][i]
			}
			require.NoError(t, p.AddTo(bitpack.Sums{Values: got}, c, 1, &tmp))
			require.Equal(t, want, got)
		}
		if len(in.Nodes) > 0 {
			require.ErrorIs(t, p.AddTo(bitpack.Sums{Values: make([]int64, in.Nodes[len(in.Nodes)-1])}, 0, 1, &tmp), storeerr.ErrCorrupt)
		}
	}
}

func TestPointsRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	var l rowcodec.PointList
	for range 300 {
		start, n, types := int64(1e12), r.IntN(50), 1+r.IntN(3)
		times, totals, covers := []int64{}, make([][]int64, types), []uint64{}
		at, same := start, r.IntN(2) == 0
		for range n {
			at += r.Int64N(20000)
			times = append(times, at)
			if covers = append(covers, r.Uint64N(2*layout.SlotMs)); same {
				covers[len(covers)-1] = covers[0]
			}
			for c := range totals {
				totals[c] = append(totals[c], r.Int64N(1e6)*1e7)
			}
		}
		data := rowcodec.AppendPoints(nil, start, times, totals, covers)
		for c := range totals {
			require.NoError(t, l.Decode(data, start, c))
			require.Equal(t, times, l.Times[:n:n])
			require.Equal(t, covers, append([]uint64{}, l.Covers...))
			require.Equal(t, append([]int64{}, totals[c]...), append([]int64{}, l.Values...))
		}
		require.ErrorIs(t, l.Decode(data, start, types), storeerr.ErrCorrupt)
	}
}

// fuzzDictionary makes a dictionary of a few of everything, in two segments.
func fuzzDictionary() (d *symdb.Dictionary, segments [][]byte) {
	d = symdb.NewDictionary()
	add := func(first bool) {
		from := d.Sizes()
		var m, f uint32
		if first {
			m = d.AddMapping(symdb.Mapping{File: d.AddString("/bin/x"), Start: 4096, Limit: 8192})
			f = d.AddFunction(symdb.Function{Name: d.AddString("main"), File: d.AddString("main.go"), StartLine: 3})
		} else {
			f = d.AddFunction(symdb.Function{Name: d.AddString("other")})
		}
		l := d.AddLocation(symdb.Location{Mapping: m, Address: 5000}, []symdb.Line{{Function: f, Line: 7}, {Function: f, Line: -1}})
		u := d.AddLocation(symdb.Location{Mapping: m, Address: 4100, Folded: true}, nil)
		d.AddNode(d.AddNode(0, l), u)
		segments = append(segments, d.AppendSegment(nil, from))
	}
	add(true)
	add(false)
	return d, segments
}

func TestSegmentRoundTrip(t *testing.T) {
	want, segments := fuzzDictionary()
	got := symdb.NewDictionary()
	for _, s := range segments {
		require.NoError(t, got.ReadSegment(s))
	}
	require.Equal(t, want.View, got.View)
	require.Equal(t, "x+0x4", want.Strings[want.Locations[1].Name])

	before := got.View
	require.ErrorIs(t, got.ReadSegment(segments[1]), storeerr.ErrCorrupt, "a segment that is there already")
	require.ErrorIs(t, got.ReadSegment(want.AppendSegment(nil, want.Sizes())[:3]), storeerr.ErrCorrupt)
	require.Equal(t, before, got.View)
}

func TestStreamRoundTrip(t *testing.T) {
	in := labelindex.Definition{
		Labels: labels.FromStrings("__name__", "memory", "service_name", "ä"),
		Period: labelindex.ValueType{Name: "space", Unit: "bytes"}, Types: []labelindex.ValueType{{Name: "alloc", Unit: "bytes"}, {Name: "inuse", Unit: "bytes"}},
	}
	partition, out, err := labelindex.ReadStream(labelindex.AppendStream(nil, 7, &in))
	require.NoError(t, err)
	require.EqualValues(t, 7, partition)
	require.Equal(t, in, out)
}

func FuzzRow(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 5 {
		in := randomRow(r)
		f.Add(in.Append(nil))
		in.Times = &rowcodec.Times{Ticks: []uint32{0, 3, 4}, Values: make([][]int64, len(in.Values))}
		for c := range in.Times.Values {
			in.Times.Values[c] = []int64{1, 0, int64(c)}
		}
		f.Add(in.Append(nil))
		in.Totals[0] = bitpack.Overflowed
		f.Add(in.Append(nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p rowcodec.PackedRow
		var tmp rowcodec.Scratch
		if p.Decode(data) != nil {
			return
		}
		var times rowcodec.PackedRow
		if some, err := p.Times(&times); some && err == nil {
			for c := range min(len(p.Totals), 4) {
				last := -1
				_ = times.EachTick(c, &tmp, func(tick uint32, v int64) {
					if int(tick) <= last || v == 0 {
						t.Fatalf("tick %d of %d after %d", tick, v, last)
					}
					last = int(tick)
				})
			}
		}
		sums := make([]int64, 1000)
		for c := range min(len(p.Totals), 4) { // of which there may be very many
			err := p.AddTo(bitpack.Sums{Values: sums}, c, 1, &tmp)
			one := []int64{0}
			errOfOne := p.AddTo(bitpack.Sums{Values: one, Place: make([]uint32, len(sums))}, c, 1, &tmp)
			if want := one[0]; (err == nil) != (errOfOne == nil) || err != nil && want != 0 {
				t.Fatalf("by node: %v, all in one place: %v, with %d", err, errOfOne, want)
			}
			if err == nil {
				sum := int64(0)
				for _, x := range sums {
					sum += x
				}
				if sum != one[0] {
					t.Fatalf("by node it adds %d, all in one place %d", sum, one[0])
				}
				if err := p.AddTo(bitpack.Sums{Values: sums}, c, -1, &tmp); err != nil {
					t.Fatal(err)
				}
			}
			for n, x := range sums {
				if x != 0 {
					t.Fatalf("%d is left of node %d, error %v", x, n, err)
				}
			}
		}
	})
}

func FuzzPoints(f *testing.F) {
	f.Add(rowcodec.AppendPoints(nil, 0, []int64{5, 10}, [][]int64{{1, 2}, {10, 20}}, []uint64{10000, 7}))
	f.Fuzz(func(_ *testing.T, data []byte) {
		var l rowcodec.PointList
		_ = l.Decode(data, 0, 0)
		_ = l.Decode(data, 0, 1)
	})
}

func FuzzSegment(f *testing.F) {
	_, segments := fuzzDictionary()
	f.Add(segments[0])
	f.Add(segments[1])
	f.Fuzz(func(t *testing.T, data []byte) {
		d := symdb.NewDictionary()
		before := d.Sizes()
		if err := d.ReadSegment(data); err != nil {
			if d.Sizes() != before {
				t.Fatalf("%v left %v of %v", err, d.Sizes(), before)
			}
			return
		}
		for i, n := range d.Nodes {
			if i > 0 && int(n.Parent) >= i {
				t.Fatalf("node %d has parent %d", i, n.Parent)
			}
		}
		for i, c := range d.Calls {
			if i > 0 && int(c.Parent) >= i {
				t.Fatalf("call %d has parent %d", i, c.Parent)
			}
		}
		c := calltree.New(&d.View, 1)
		if err := c.Sum(); err != nil {
			t.Fatal(err)
		}
		calltree.TopN([]*calltree.Values{c}, math.MaxInt64, false)
	})
}

func FuzzTable(f *testing.F) {
	b := labelindex.NewBuilder()
	for i := range uint32(20) {
		def := labelindex.Definition{
			Labels: labels.FromStrings(labelindex.LabelServiceName, "app", "pod", fmt.Sprint(i), "zone", fmt.Sprint(i%3)),
			Period: labelindex.ValueType{Name: "cpu", Unit: "ns"}, Types: []labelindex.ValueType{{Name: "cpu", Unit: "ns"}},
		}
		b.Add(3*i, i%2, &def, uint16(1+i))
	}
	b.Encode(func(name string, value []byte) { f.Add(value[:len(value)-4], name == "") })
	f.Fuzz(func(t *testing.T, data []byte, head bool) {
		if !head {
			if c, err := labelindex.DecodeLabelColumn(labelindex.AppendSum(data), 20); err == nil {
				for row := range uint32(20) {
					c.Value(row)
				}
			}
			return
		}
		table, err := labelindex.DecodeTable(labelindex.AppendSum(data))
		if err != nil {
			return
		}
		p, err := table.Pick(nil, labelindex.AllSlots)
		if err != nil || len(p.Rows) > len(table.Streams) {
			t.Fatalf("picked %d of %d rows, %v", len(p.Rows), len(table.Streams), err)
		}
		table.EachType(&p, func(labels.Labels) {})
	})
}

func FuzzStream(f *testing.F) {
	f.Add(labelindex.AppendStream(nil, 1, &labelindex.Definition{Labels: labels.FromStrings("a", "b"), Types: []labelindex.ValueType{{Name: "cpu", Unit: "ns"}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		partition, def, err := labelindex.ReadStream(data)
		if err != nil {
			return
		}
		for i := range def.Types {
			def.SeriesLabels(i)
		}
		_, again, err := labelindex.ReadStream(labelindex.AppendStream(nil, partition, &def))
		if err != nil || again.Labels.String() != def.Labels.String() {
			t.Fatalf("%v: %v, then %v", err, def, again)
		}
	})
}
