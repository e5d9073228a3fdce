package symdb

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/cockroachdb/swiss"

	"github.com/flameline/flameline/collector/store/internal/storetest"
)

// A tableKind is a way to find the number of a key, for BenchmarkLookup.
type tableKind struct {
	name string
	make func() (get func(uint64) (uint32, bool), put func(uint64, uint32))
}

// tableKinds are for keys that are a hash, or two numbers.
var tableKinds = []tableKind{
	{"pairs", func() (func(uint64) (uint32, bool), func(uint64, uint32)) {
		var t Pairs
		return t.GetPrint, func(k uint64, n uint32) { t.AddPrint(k, n) }
	}},
	{"map", func() (func(uint64) (uint32, bool), func(uint64, uint32)) {
		t := map[uint64]uint32{}
		return func(k uint64) (uint32, bool) { v, ok := t[k]; return v, ok }, func(k uint64, v uint32) { t[k] = v }
	}},
	{"cockroachdb-swiss", func() (func(uint64) (uint32, bool), func(uint64, uint32)) {
		t := swiss.New[uint64, uint32](0)
		return t.Get, t.Put
	}},
}

// textKinds are for texts that stand in a dictionary.
func textKinds(texts []string) []tableKind {
	return []tableKind{
		{"pairs", func() (func(uint64) (uint32, bool), func(uint64, uint32)) {
			var t Pairs
			get := func(k uint64) (uint32, bool) {
				n, ok := t.GetPrint(HashText(texts[k]))
				return n, ok && texts[n-1] == texts[k]
			}
			return get, func(k uint64, n uint32) { t.AddPrint(HashText(texts[k]), n) }
		}},
		{"map", func() (func(uint64) (uint32, bool), func(uint64, uint32)) {
			t := map[string]uint32{}
			return func(k uint64) (uint32, bool) { v, ok := t[texts[k]]; return v, ok }, func(k uint64, v uint32) { t[texts[k]] = v }
		}},
		{"cockroachdb-swiss", func() (func(uint64) (uint32, bool), func(uint64, uint32)) {
			t := swiss.New[string, uint32](0)
			return func(k uint64) (uint32, bool) { return t.Get(texts[k]) }, func(k uint64, v uint32) { t.Put(texts[k], v) }
		}},
	}
}

// BenchmarkLookup compares Pairs with Go's map and with the one
// that Pebble uses: keys that are there, in random order, keys that are not, and a
// table that grows from nothing, with its memory in bytes for each key.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{20_000, 2_000_000} {
		random := rand.New(rand.NewPCG(1, 2))
		prints, calls := make([]uint64, 2*n), make([]uint64, 2*n)
		for i := range prints {
			prints[i] = random.Uint64()
			calls[i] = uint64(random.IntN(i+1))<<32 | uint64(i%40_000) // of caller and function
		}
		for _, kind := range tableKinds {
			benchLookup(b, fmt.Sprintf("hashes=%d/%s", n, kind.name), kind, prints)
		}
		for _, kind := range tableKinds {
			benchLookup(b, fmt.Sprintf("calls=%d/%s", n, kind.name), kind, calls)
		}
	}
	texts, keys := make([]string, 400_000), make([]uint64, 400_000)
	for i := range texts {
		texts[i], keys[i] = fmt.Sprintf("example.org/service/package%d.(*Type%d).Method%d", i%40, i%300, i), uint64(i)
	}
	for _, kind := range textKinds(texts) {
		benchLookup(b, fmt.Sprintf("texts=%d/%s", len(texts)/2, kind.name), kind, keys)
	}
}

// benchLookup puts the first half of the keys into a table.
func benchLookup(b *testing.B, name string, kind tableKind, keys []uint64) {
	there, missing := keys[:len(keys)/2], keys[len(keys)/2:]
	fill := func() (get func(uint64) (uint32, bool)) {
		get, put := kind.make()
		for i, k := range there {
			put(k, uint32(i)+1)
		}
		return get
	}
	before := storetest.HeapInUse()
	get := fill()
	bytes := float64(storetest.HeapInUse()-before) / float64(len(there))
	order := rand.New(rand.NewPCG(3, 4)).Perm(len(there))
	for lookup, keys := range map[string][]uint64{"hit": there, "miss": missing} {
		b.Run(name+"/"+lookup, func(b *testing.B) {
			i := 0
			for b.Loop() {
				get(keys[order[i]])
				if i++; i == len(order) {
					i = 0
				}
			}
		})
	}
	b.Run(name+"/grow", func(b *testing.B) {
		for b.Loop() {
			fill()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(there)), "ns/key")
		b.ReportMetric(bytes, "B/key")
	})
	runtime.KeepAlive(get)
}
