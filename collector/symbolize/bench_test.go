package symbolize

import (
	"os"
	"testing"
)

// BenchmarkReadTable reads the symbols of a static C program, some 2,000
// functions.
func BenchmarkReadTable(b *testing.B) {
	path := compile(b, "gcc", "shape.c", "-O2", "-static")
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.ReportAllocs()
	for b.Loop() {
		table, err := readTable(whole(b, f), Binary{}, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(table.bytes())/float64(len(table.starts)), "B/range")
	}
}

// BenchmarkLookup looks up addresses that were seen before, the usual case.
func BenchmarkLookup(b *testing.B) {
	path := compile(b, "gcc", "shape.c", "-O2", "-static")
	s := New(Options{})
	defer s.Close()
	s.Add(FileID{1}, Binary{Path: path})
	symbols := nm(b, path)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s.Lookup(FileID{1}, symbols[i%len(symbols)].addr)
		i++
	}
}

// BenchmarkLines looks up 20 addresses of a C++ program with lines and inlined calls, of
// which nothing is known before.
func BenchmarkLines(b *testing.B) {
	path := compile(b, "g++", "shape.cc", "-g", "-O2")
	if own := os.Getenv("BENCH_BINARY"); own != "" {
		path = own
	}
	symbols := nm(b, path)
	var addrs []uint64
	for i := range 20 {
		addrs = append(addrs, symbols[i*len(symbols)/20].addr)
	}
	b.ReportAllocs()
	for b.Loop() {
		s := New(Options{})
		s.Add(FileID{1}, Binary{Path: path})
		s.LookupAll(FileID{1}, addrs)
		s.Close()
	}
}
