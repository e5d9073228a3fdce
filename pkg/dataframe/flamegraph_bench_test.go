package dataframe_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/flameline/flameline/pkg/dataframe"
	"github.com/flameline/flameline/pkg/profile"
)

// BenchmarkFlamegraph measures a call tree of 20,000 nodes of 4,000 functions until it is
// the bytes of a frame, as the plugin sends them to Grafana.
func BenchmarkFlamegraph(b *testing.B) {
	const nodes, functions, depth = 20_000, 4_000, 40
	r := rand.New(rand.NewPCG(1, 2))
	builder := profile.NewBuilder(nodes)
	levels := []int32{0}
	for range nodes - 1 {
		level, function := r.IntN(min(len(levels), depth)), r.IntN(functions)
		name := fmt.Sprintf("github.com/example/shop/pkg%02d.(*Service).handle%04d", function%50, function)
		at := builder.Child(levels[level], builder.Name(name))
		builder.Add(at, 1+r.Int64N(1e9))
		levels = append(levels[:level+1], at)
	}
	tree := builder.Tree()
	b.ReportAllocs()
	for b.Loop() {
		frames := data.Frames{dataframe.Flamegraph(tree, dataframe.Unit{ID: "ns", Divisor: 1})}
		raw, err := frames.MarshalArrow()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(raw[0])), "frame-bytes")
		b.ReportMetric(float64(len(tree.Nodes)), "nodes")
	}
}
