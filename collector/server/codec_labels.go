package server

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/flameline/flameline/collector/store"
)

// Field numbers of querier.v1's SeriesResponse and of types.v1's Labels and LabelPair.
const (
	fieldLabelsSet = 2
	fieldLabels    = 1
	fieldPairName  = 1
	fieldPairValue = 2
)

// appendLabelSets appends an encoded SeriesResponse. Each pair of name and value is
// encoded once, and copied into every set that has it.
func appendLabelSets(to []byte, sets *store.LabelSets) []byte {
	columns := make([]pairColumn, len(sets.Names()))
	for i, name := range sets.Names() {
		columns[i] = newPairColumn(name, sets.Values(i))
	}
	size := 0
	for i := range sets.Len() {
		_, n := setSize(columns, sets.Set(i))
		size += n
	}
	if cap(to)-len(to) < size {
		to = append(make([]byte, 0, len(to)+size), to...)
	}
	for i := range sets.Len() {
		set := sets.Set(i)
		n, _ := setSize(columns, set)
		to = protowire.AppendVarint(protowire.AppendTag(to, fieldLabelsSet, protowire.BytesType), uint64(n))
		for j, v := range set {
			if v != 0 {
				to = append(to, columns[j].pair(v)...)
			}
		}
	}
	return to
}

// setSize returns the size of a set's encoded pairs, and of the whole field that holds
// them.
func setSize(columns []pairColumn, set []uint32) (content, all int) {
	for j, v := range set {
		if v != 0 {
			content += len(columns[j].pair(v))
		}
	}
	return content, protowire.SizeTag(fieldLabelsSet) + protowire.SizeBytes(content)
}

// A pairColumn holds the encoded pairs of one label name, each as a field of Labels.
type pairColumn struct {
	data []byte
	ends []int
}

func newPairColumn(name string, values []string) (c pairColumn) {
	c.ends = make([]int, 1, len(values)+1)
	key := protowire.AppendString(protowire.AppendTag(nil, fieldPairName, protowire.BytesType), name)
	size := 0
	for _, v := range values {
		size += len(key) + len(v) + 8
	}
	c.data = make([]byte, 0, size)
	for _, v := range values {
		size := len(key) + protowire.SizeTag(fieldPairValue) + protowire.SizeBytes(len(v))
		c.data = protowire.AppendVarint(protowire.AppendTag(c.data, fieldLabels, protowire.BytesType), uint64(size))
		c.data = protowire.AppendString(protowire.AppendTag(append(c.data, key...), fieldPairValue, protowire.BytesType), v)
		c.ends = append(c.ends, len(c.data))
	}
	return c
}

// pair returns the encoded pair of a value, given the value's index plus one.
func (c *pairColumn) pair(v uint32) []byte { return c.data[c.ends[v-1]:c.ends[v]] }
