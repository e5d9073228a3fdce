package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
)

// Sets that are collected by column, in pieces, are those that Prometheus' own
// functions make of labels.
func TestLabelSetsAreSortedLabels(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for n := range 300 {
		names, values, missing := 1+r.IntN(9), 1+r.IntN(1<<r.IntN(13)), r.IntN(4)
		var want []labels.Labels
		c := labelindex.SetCollector{}
		for range 1 + r.IntN(4) {
			chunk := labelindex.SetChunk{Rows: r.IntN(200)}
			sets := make([]labels.ScratchBuilder, chunk.Rows)
			for name := range names {
				if missing > 0 && r.IntN(5) == 0 {
					continue // none of the chunk has it
				}
				column := labelindex.SetColumn{Name: fmt.Sprint("n", name)}
				index := map[string]uint32{}
				for row := range chunk.Rows {
					if r.IntN(6) < missing {
						column.Of = append(column.Of, 0)
						continue
					}
					v := fmt.Sprint(r.IntN(values))
					if index[v] == 0 {
						column.Values = append(column.Values, v)
						index[v] = uint32(len(column.Values))
					}
					column.Of = append(column.Of, index[v])
					sets[row].Add(column.Name, v)
				}
				if r.IntN(2) == 0 { // as from disk
					sorted := slices.Sorted(slices.Values(column.Values))
					for i, v := range column.Of {
						if v != 0 {
							at, _ := slices.BinarySearch(sorted, column.Values[v-1])
							column.Of[i] = uint32(at) + 1
						}
					}
					column.Values = sorted
				}
				if len(column.Values) > 0 {
					chunk.Columns = append(chunk.Columns, column)
				}
			}
			for i := range sets {
				if ls := sets[i].Labels(); !ls.IsEmpty() {
					want = append(want, ls)
				}
			}
			c.Chunks = append(c.Chunks, chunk)
			c.Rows += chunk.Rows
		}
		slices.SortFunc(want, labels.Compare)
		want = slices.CompactFunc(want, labels.Equal)
		got := c.Sets()
		require.Equal(t, len(want), got.Len(), n)
		bytes := int64(0)
		for i, ls := range got.All() {
			require.Equal(t, want[i].String(), ls.String())
			ls.Range(func(l labels.Label) { bytes += int64(len(l.Name) + len(l.Value)) })
		}
		require.Equal(t, bytes, got.Bytes())
	}
}
