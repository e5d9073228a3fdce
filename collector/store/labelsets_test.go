package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// Sets that are collected by column, in pieces, are those that Prometheus' own
// functions make of labels.
func TestLabelSetsAreSortedLabels(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for n := range 300 {
		names, values, missing := 1+r.IntN(9), 1+r.IntN(1<<r.IntN(13)), r.IntN(4)
		var want []labels.Labels
		c := setCollector{}
		for range 1 + r.IntN(4) {
			chunk := setChunk{rows: r.IntN(200)}
			sets := make([]labels.ScratchBuilder, chunk.rows)
			for name := range names {
				if missing > 0 && r.IntN(5) == 0 {
					continue // none of the chunk has it
				}
				column := setColumn{name: fmt.Sprint("n", name)}
				index := map[string]uint32{}
				for row := range chunk.rows {
					if r.IntN(6) < missing {
						column.of = append(column.of, 0)
						continue
					}
					v := fmt.Sprint(r.IntN(values))
					if index[v] == 0 {
						column.values = append(column.values, v)
						index[v] = uint32(len(column.values))
					}
					column.of = append(column.of, index[v])
					sets[row].Add(column.name, v)
				}
				if r.IntN(2) == 0 { // as from disk
					sorted := slices.Sorted(slices.Values(column.values))
					for i, v := range column.of {
						if v != 0 {
							at, _ := slices.BinarySearch(sorted, column.values[v-1])
							column.of[i] = uint32(at) + 1
						}
					}
					column.values = sorted
				}
				if len(column.values) > 0 {
					chunk.columns = append(chunk.columns, column)
				}
			}
			for i := range sets {
				if ls := sets[i].Labels(); !ls.IsEmpty() {
					want = append(want, ls)
				}
			}
			c.chunks = append(c.chunks, chunk)
			c.rows += chunk.rows
		}
		slices.SortFunc(want, labels.Compare)
		want = slices.CompactFunc(want, labels.Equal)
		got := c.sets()
		require.Equal(t, len(want), got.Len(), n)
		bytes := int64(0)
		for i, ls := range got.All() {
			require.Equal(t, want[i].String(), ls.String())
			ls.Range(func(l labels.Label) { bytes += int64(len(l.Name) + len(l.Value)) })
		}
		require.Equal(t, bytes, got.bytes())
	}
}
