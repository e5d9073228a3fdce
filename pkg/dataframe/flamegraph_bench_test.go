package dataframe_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/flameline/flameline/pkg/dataframe"
	"github.com/flameline/flameline/pkg/profile"
)

// answer is a server's answer: a call tree of 20,000 nodes with 4,000 functions.
func answer(tb testing.TB) profile.Flamegraph {
	const nodes, functions, depth = 20_000, 4_000, 40
	r := rand.New(rand.NewPCG(1, 2))
	builder := profile.NewBuilder(nodes)
	levels := []int32{0}
	for made := int32(0); made < nodes-1; {
		level, function := r.IntN(min(len(levels), depth)), r.IntN(functions)
		name := fmt.Sprintf("github.com/example/shop/pkg%02d.(*Service).handle%04d", function%50, function)
		at := builder.Child(levels[level], builder.Name(name))
		builder.Add(at, 1+r.Int64N(1e9))
		levels = append(levels[:level+1], at)
		made = max(made, at)
	}
	tree := builder.Tree()
	if len(tree.Nodes) != nodes {
		tb.Fatalf("%d nodes, want %d", len(tree.Nodes), nodes)
	}
	return tree.Flamegraph()
}

// BenchmarkFlamegraph measures the steps from the answer of a server to the bytes of a
// data frame, as the plugin sends them to Grafana: tree decodes the answer, frame makes the
// data frame of a tree, arrow both the frame and its bytes, sdk is arrow with the encoding
// of Grafana's SDK, and all is tree and arrow.
func BenchmarkFlamegraph(b *testing.B) {
	graph := answer(b)
	tree, err := profile.ParseFlamegraph(graph)
	if err != nil {
		b.Fatal(err)
	}
	unit := dataframe.Unit{ID: "ns", Divisor: 1}
	b.Run("tree", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := profile.ParseFlamegraph(graph); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("frame", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			dataframe.Flamegraph(tree, unit)
		}
	})
	b.Run("all", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			tree, err := profile.ParseFlamegraph(graph)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := dataframe.Marshal(dataframe.Flamegraph(tree, unit)); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, marshal := range map[string]func(*data.Frame) ([]byte, error){"arrow": dataframe.Marshal, "sdk": (*data.Frame).MarshalArrow} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				raw, err := marshal(dataframe.Flamegraph(tree, unit))
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(raw)), "frame-bytes")
			}
		})
	}
}
