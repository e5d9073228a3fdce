package fold

import (
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// perfScript writes the text of perf script for a program of 20,000 functions with 3,000
// different call paths, each frame at several addresses, as a large C++ service has it.
func perfScript(samples int) []byte {
	r := rand.New(rand.NewSource(1))
	type function struct {
		address        int64
		symbol, module string
	}
	modules := []string{"/usr/bin/server", "/usr/lib/x86_64-linux-gnu/libc.so.6", "[kernel.kallsyms]", "/usr/lib/libserver.so.1.2"}
	functions := make([]function, 20_000)
	for i := range functions {
		symbol := fmt.Sprintf("lib_function_%d", i)
		if i%3 > 0 {
			symbol = fmt.Sprintf("ns%d::Class%d<int>::method_%d(std::string const&, int)", r.Intn(50), r.Intn(400), i)
		}
		functions[i] = function{r.Int63n(1 << 36), symbol, modules[r.Intn(len(modules))]}
	}
	paths := make([][]int, 3000)
	for i := range paths {
		paths[i] = make([]int, 8+r.Intn(37))
		for k := range paths[i] {
			paths[i][k] = r.Intn(len(functions))
		}
	}
	var b bytes.Buffer
	for n := range samples {
		fmt.Fprintf(&b, "server 100/%d [%03d] %.6f:   10101010 cycles:P: \n", 100+r.Intn(16), r.Intn(8), 1000+float64(n)/1000)
		for depth, i := range paths[r.Intn(len(paths))] {
			offset := r.Intn(8) * 4
			if depth < 3 { // the leaf is anywhere, callers are at their calls
				offset = r.Intn(4096)
			}
			f := functions[i]
			fmt.Fprintf(&b, "\t%16x %s+0x%x (%s)\n", f.address+int64(offset), f.symbol, offset, f.module)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func BenchmarkPerf(b *testing.B) {
	text := perfScript(10_000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		s, err := Perf(bytes.NewReader(text), Options{Kernel: true})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.WriteFolded(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkInferno is what BenchmarkPerf has to beat: inferno-collapse-perf on one thread
// (cargo install inferno), named by INFERNO_COLLAPSE_PERF. Its time includes the start of
// the process.
func BenchmarkInferno(b *testing.B) {
	program := os.Getenv("INFERNO_COLLAPSE_PERF")
	if program == "" {
		b.Fatal("INFERNO_COLLAPSE_PERF names no program")
	}
	text := perfScript(10_000)
	file := filepath.Join(b.TempDir(), "perf.txt")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if err := exec.Command(program, "-n", "1", "--kernel", file).Run(); err != nil {
			b.Fatal(err)
		}
	}
}
