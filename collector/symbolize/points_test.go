package symbolize

import (
	"debug/elf"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// TestNamesOfSingleAddresses checks that a table of some addresses has what the whole one
// has there, for programs of compilers and for symbols at random: with and without sizes,
// over one another, at one address, markers, and labels that name nothing.
func TestNamesOfSingleAddresses(t *testing.T) {
	programs := map[string]string{
		"C":        compile(t, "gcc", "shape.c", "-O2", "-pie"),
		"C static": compile(t, "gcc", "shape.c", "-O2", "-static"),
		"C++":      compile(t, "g++", "shape.cc", "-O1"),
	}
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 8 {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "m.s"), []byte(randomSymbols(random)))
		run(t, dir, "gcc", "-nostdlib", "-shared", "-o", "m", "m.s")
		programs[fmt.Sprintf("random %d", n)] = filepath.Join(dir, "m")
	}
	for name, path := range programs {
		t.Run(name, func(t *testing.T) {
			f, err := os.Open(path)
			require.NoError(t, err)
			defer f.Close()
			want, err := readTable(whole(t, f), Binary{}, nil)
			require.NoError(t, err)
			var places []uint64
			for _, s := range nm(t, path) {
				places = append(places, s.addr, s.addr-1, s.addr+1, s.addr+s.size, s.addr+s.size-1)
			}
			file, err := elf.NewFile(f)
			require.NoError(t, err)
			for _, sec := range file.Sections {
				if sec.Flags&elf.SHF_EXECINSTR != 0 {
					places = append(places, sec.Addr, sec.Addr+sec.Size/2, sec.Addr+sec.Size-1, sec.Addr+sec.Size)
				}
			}
			refused := 0
			for range 300 {
				addrs := make([]uint64, 1+random.IntN(30))
				for i := range addrs {
					addrs[i] = places[random.IntN(len(places))]
				}
				got, err := readTableAt(whole(t, f), addrs)
				if err != nil {
					require.ErrorIs(t, err, errWhole)
					refused++
					continue
				}
				for _, addr := range addrs {
					require.Equal(t, nameAt(want, addr), nameAt(got, addr), "%#x of %#x", addr, addrs)
				}
			}
			if strings.HasPrefix(name, "random") { // labels with a size, which compilers do not make
				require.Less(t, refused, 290)
			} else {
				require.Zero(t, refused)
			}
		})
	}
}

// nameAt returns the name at an address as it is in the symbol table.
func nameAt(t *table, addr uint64) string {
	name, ok := t.find(addr)
	if !ok {
		return "none"
	}
	return t.raw(name)
}

// randomSymbols returns a program in assembly with symbols at random places.
func randomSymbols(random *rand.Rand) string {
	const size = 4096
	var b strings.Builder
	fmt.Fprintf(&b, "\t.text\n\t.fill 64, 1, 0x90\nbase:\n\t.fill %d, 1, 0x90\n", size)
	names := []string{"f%d", "f%d", "f%d", "f%d.cold", "__f%d", "$x.%d", "$d.%d", "__start_%d", "go:text%d"}
	at := 0
	for i := range 200 {
		name := `"` + fmt.Sprintf(names[random.IntN(len(names))], i) + `"`
		if random.IntN(3) > 0 {
			at = random.IntN(size)
		}
		fmt.Fprintf(&b, "\t.set %s, base + %d\n", name, at)
		if random.IntN(2) == 0 {
			fmt.Fprintf(&b, "\t.type %s, @function\n", name)
		}
		if random.IntN(3) == 0 {
			fmt.Fprintf(&b, "\t.size %s, %d\n", name, random.IntN(200))
		}
		if random.IntN(2) == 0 {
			fmt.Fprintf(&b, "\t.globl %s\n", name)
		}
	}
	return b.String()
}

// TestLookupAll names addresses without a table until a binary has been asked for often,
// and goes on so if the table would fill the cache.
func TestLookupAll(t *testing.T) {
	path := compile(t, "gcc", "shape.c", "-O2", "-static")
	symbols := nm(t, path)
	for _, large := range []bool{false, true} {
		options := Options{}
		if large {
			options.CacheBytes = 1
		}
		s := New(options)
		s.Add(FileID{1}, Binary{Path: path})
		for n := range 3 * maxPasses {
			addrs := []uint64{symbols[n].addr, 1, symbols[n+1].addr}
			found := s.LookupAll(FileID{1}, addrs)
			require.Len(t, found, len(addrs))
			require.Nil(t, found[1])
			single, ok := New(options).lookupOnce(t, path, addrs[0])
			require.True(t, ok)
			require.Equal(t, single, found[0])
			require.NotNil(t, found[2])
		}
		require.Equal(t, 1.0, testutil.ToFloat64(s.metrics.builds.WithLabelValues("ok")), "tables built")
		require.Nil(t, s.LookupAll(FileID{2}, []uint64{1})[0], "an unknown binary")
		require.NoError(t, s.Close())
	}
}

// lookupOnce looks up an address of a file and closes the symbolizer.
func (s *Symbolizer) lookupOnce(t *testing.T, path string, addr uint64) ([]Line, bool) {
	t.Helper()
	defer s.Close()
	s.Add(FileID{1}, Binary{Path: path})
	return s.Lookup(FileID{1}, addr)
}

// BenchmarkNames names 20 addresses of a static C program: by its whole table, and without.
func BenchmarkNames(b *testing.B) {
	path := compile(b, "gcc", "shape.c", "-O2", "-static")
	if own := os.Getenv("BENCH_BINARY"); own != "" {
		path = own
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	symbols := nm(b, path)
	var addrs []uint64
	for i := range 20 {
		addrs = append(addrs, symbols[i*len(symbols)/20].addr)
	}
	b.Run("table", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := readTable(whole(b, f), Binary{}, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("addresses", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := readTableAt(whole(b, f), addrs); err != nil {
				b.Fatal(err)
			}
		}
	})
}
