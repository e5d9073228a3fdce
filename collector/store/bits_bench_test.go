package store

import (
	"math/rand/v2"
	"testing"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
	"github.com/flameline/flameline/collector/store/internal/rowcodec"
)

// BenchmarkRow decodes and adds rows of 450 of 20,000 nodes, as of a CPU profile
// of 10 s, whole or in part, and of 5,000 with larger values, as of an hour.
func BenchmarkRow(b *testing.B) {
	for name, c := range map[string]struct {
		nodes int
		mean  float64
		until int64 // of 10 s
	}{"profile": {450, 1, 0}, "part of a profile": {450, 1, 4000}, "hour": {5000, 300, 0}} {
		b.Run(name, func(b *testing.B) {
			r := rand.New(rand.NewPCG(2, 2))
			var values [][]byte
			for range 32 {
				in := rowcodec.Row{Totals: make([]int64, 2), Values: make([][]int64, 2)}
				for n := range uint32(20000) {
					if r.IntN(20000) < c.nodes {
						v := int64(1 + r.ExpFloat64()*c.mean)
						in.Nodes = append(in.Nodes, n)
						in.Values[0] = append(in.Values[0], v)
						in.Values[1] = append(in.Values[1], v*1e7)
					}
				}
				values = append(values, append(in.Append(nil), make([]byte, 8)...))
			}
			sums := make([]int64, 20000)
			var p rowcodec.PackedRow
			var tmp rowcodec.Scratch
			b.ResetTimer()
			count := 0
			for i := range b.N {
				v := values[i%len(values)]
				if err := p.Decode(v[:len(v)-8]); err != nil {
					b.Fatal(err)
				}
				var err error
				if c.until != 0 {
					p.Duration = 10_000
					_, err = p.AddShare(bitpack.Sums{Values: sums}, 1, 1, rowcodec.Clip{Lo: 0, Hi: c.until}, 1, &tmp)
				} else {
					err = p.AddTo(bitpack.Sums{Values: sums}, 1, 1, &tmp)
				}
				if err != nil {
					b.Fatal(err)
				}
				count += p.Count
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(count), "ns/node")
		})
	}
}
