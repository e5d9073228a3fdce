package store

import (
	"math/rand/v2"
	"testing"

	"github.com/flameline/flameline/collector/store/internal/bitpack"
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
				in := row{totals: make([]int64, 2), values: make([][]int64, 2)}
				for n := range uint32(20000) {
					if r.IntN(20000) < c.nodes {
						v := int64(1 + r.ExpFloat64()*c.mean)
						in.nodes = append(in.nodes, n)
						in.values[0] = append(in.values[0], v)
						in.values[1] = append(in.values[1], v*1e7)
					}
				}
				values = append(values, append(in.append(nil), make([]byte, 8)...))
			}
			sums := make([]int64, 20000)
			var p packedRow
			var tmp scratch
			b.ResetTimer()
			count := 0
			for i := range b.N {
				v := values[i%len(values)]
				if err := p.decode(v[:len(v)-8]); err != nil {
					b.Fatal(err)
				}
				var err error
				if c.until != 0 {
					p.duration = 10_000
					_, err = p.addShare(bitpack.Sums{Values: sums}, 1, 1, clip{0, c.until}, 1, nil, &tmp)
				} else {
					err = p.addTo(bitpack.Sums{Values: sums}, 1, 1, &tmp)
				}
				if err != nil {
					b.Fatal(err)
				}
				count += p.count
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(count), "ns/node")
		})
	}
}
