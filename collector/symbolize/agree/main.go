//go:build linux

// Agree compares the lines and inlined calls that the symbolizer finds in a large
// program or library with those of addr2line, at random addresses of its functions,
// and measures what they cost.
//
// Usage:
//
//	go run ./collector/symbolize/agree [-root DIR] [-debug FILE] [-tool addr2line] [-n 4000] [-batch 200] [-v] BINARY
//
// BINARY is a path in the root directory, where its debug file is looked for too.
// addr2line, or llvm-addr2line, reads FILE, by default the binary.
package main

import (
	"bufio"
	"cmp"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flameline/flameline/collector/funcname"
	"github.com/flameline/flameline/collector/symbolize"
)

type options struct {
	root, debug, inflate string
	tool                 string
	addresses, batch     int
	verbose              bool
}

func main() {
	var o options
	flag.StringVar(&o.root, "root", "/", "root directory of the binary")
	flag.StringVar(&o.debug, "debug", "", "file that addr2line reads")
	flag.StringVar(&o.tool, "tool", "addr2line", "addr2line or llvm-addr2line")
	flag.StringVar(&o.inflate, "inflate", os.TempDir(), "directory for compressed DWARF; empty for memory")
	flag.IntVar(&o.addresses, "n", 4000, "addresses")
	flag.IntVar(&o.batch, "batch", 200, "addresses that are looked up at once")
	flag.BoolVar(&o.verbose, "v", false, "print addresses that differ")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(o, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(o options, binary string) error {
	debug := cmp.Or(o.debug, filepath.Join(o.root, binary))
	addrs, dwarf, err := addresses(debug, o.addresses)
	if err != nil {
		return err
	}
	proc, err := os.MkdirTemp("", "agree")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(proc) }()
	root, err := filepath.Abs(o.root)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(filepath.Join(proc, "7"), 0o700), os.Symlink(root, filepath.Join(proc, "7/root"))); err != nil {
		return err
	}
	fmt.Printf("%s: %d MiB of DWARF, %d addresses\n", binary, dwarf>>20, len(addrs))
	var found [][]symbolize.Line
	for _, noLines := range []bool{true, false} {
		if found, err = lookup(o, proc, binary, addrs, noLines); err != nil {
			return err
		}
	}
	begin := time.Now()
	want, err := addr2line(o.tool, debug, addrs)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %.1f s\n", o.tool, time.Since(begin).Seconds())
	compare(addrs, found, want, o.verbose)
	return nil
}

// addresses returns random addresses of functions of a file, and the bytes of its DWARF,
// uncompressed.
func addresses(name string, n int) (addrs []uint64, dwarf uint64, err error) {
	f, err := elf.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	for _, s := range f.Sections {
		if strings.HasPrefix(s.Name, ".debug_") {
			dwarf += s.Size
		}
	}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, 0, fmt.Errorf("read symbols of %s: %w", name, err)
	}
	var functions []elf.Symbol
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Size > 0 && s.Section != elf.SHN_UNDEF {
			functions = append(functions, s)
		}
	}
	if len(functions) == 0 {
		return nil, 0, fmt.Errorf("%s has no functions", name)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range n {
		s := functions[random.IntN(len(functions))]
		addrs = append(addrs, s.Value+random.Uint64N(s.Size))
	}
	return addrs, dwarf, nil
}

// lookup looks up addresses in batches, as the sampler does, and prints what that cost.
func lookup(o options, proc, binary string, addrs []uint64, noLines bool) (found [][]symbolize.Line, err error) {
	reg := prometheus.NewRegistry()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	s := symbolize.New(symbolize.Options{
		Logger: log, ProcRoot: proc, NoLines: noLines, Registerer: reg, InflateDir: o.inflate, Style: symbolize.Short,
	})
	defer s.Close()
	s.Add(symbolize.FileID{1}, symbolize.Binary{Path: binary, PID: 7})
	runtime.GC()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // the peak begins anew
		return nil, err
	}
	before, used := status("VmRSS"), cpu()
	begin := time.Now()
	var first time.Duration
	for rest := addrs; len(rest) > 0; {
		n := min(len(rest), o.batch)
		batch := s.LookupAll(symbolize.FileID{1}, rest[:n])
		for range 60 { // a read that takes long goes on, and is looked for again
			if noLines || slices.ContainsFunc(batch, func(lines []symbolize.Line) bool { return len(lines) > 0 && lines[0].Line > 0 }) {
				break
			}
			time.Sleep(time.Second)
			batch = s.LookupAll(symbolize.FileID{1}, rest[:n])
		}
		found, rest = append(found, batch...), rest[n:]
		if first == 0 {
			first = time.Since(begin)
		}
	}
	what := "functions and lines"
	if noLines {
		what = "functions"
	}
	fmt.Printf("%s: %.2f s for the first %d addresses, %.2f s for all, %.2f s of CPU time; %d MiB kept, %d MiB of memory more at most\n",
		what, first.Seconds(), o.batch, time.Since(begin).Seconds(), (cpu() - used).Seconds(), int(gauge(reg, "flameline_symbolize_bytes"))>>20, (status("VmHWM")-before)>>10)
	return found, nil
}

// cpu returns the CPU time that the process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// status returns a size in /proc/self/status, in KiB.
func status(name string) int {
	text, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(text), name+":")
	if fields := strings.Fields(rest); len(fields) > 0 {
		n, _ := strconv.Atoi(fields[0])
		return n
	}
	return 0
}

func gauge(reg *prometheus.Registry, name string) float64 {
	families, _ := reg.Gather()
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return 0
}

// addr2line returns what addr2line finds at addresses, innermost first.
func addr2line(tool, name string, addrs []uint64) (found [][]symbolize.Line, err error) {
	cmd := exec.Command(tool, "-a", "-i", "-f", "-e", name)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		for _, a := range addrs {
			fmt.Fprintf(in, "%#x\n", a)
		}
		in.Close()
	}()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text := lines.Text()
		if strings.HasPrefix(text, "0x") {
			found = append(found, nil)
			continue
		}
		if !lines.Scan() || len(found) == 0 {
			break
		}
		place, _, _ := strings.Cut(lines.Text(), " (") // a discriminator
		i := strings.LastIndexByte(place, ':')
		number, _ := strconv.ParseInt(place[i+1:], 10, 64)
		found[len(found)-1] = append(found[len(found)-1], symbolize.Line{Function: text, File: place[:max(i, 0)], Line: number})
	}
	if err := cmd.Wait(); err != nil {
		return nil, err
	}
	if len(found) != len(addrs) {
		return nil, fmt.Errorf("%s answered %d of %d addresses", tool, len(found), len(addrs))
	}
	return found, nil
}

// compare prints how often both agree: about all functions, files and lines at an
// address, and about the innermost function.
func compare(addrs []uint64, got, want [][]symbolize.Line, verbose bool) {
	var compared, inlined, same, innermost, lineless int
	for i, w := range want {
		if len(w) == 0 || w[0].File == "??" || w[0].Line == 0 {
			continue
		}
		compared++
		if len(w) > 1 {
			inlined++
		}
		g := got[i]
		if len(g) == 0 || g[0].Line == 0 {
			lineless++
		}
		if len(g) > 0 && lastName(g[0].Function) == lastName(w[0].Function) {
			innermost++
		} else if verbose {
			fmt.Printf("%#x: innermost\n  got  %v\n  want %v\n", addrs[i], g, w)
		}
		equal := len(g) == len(w)
		for j := 0; equal && j < len(w); j++ {
			equal = g[j].Line == w[j].Line && filepath.Base(g[j].File) == filepath.Base(w[j].File) && lastName(g[j].Function) == lastName(w[j].Function)
		}
		if equal {
			same++
		} else if verbose {
			fmt.Printf("%#x\n  got  %v\n  want %v\n", addrs[i], g, w)
		}
	}
	percent := func(n int) float64 { return 100 * float64(n) / float64(max(compared, 1)) }
	fmt.Printf("%d addresses with lines, %.1f %% with inlined calls; all the same at %.2f %%, the innermost function at %.2f %%, no line at %.2f %%\n",
		compared, percent(inlined), percent(same), percent(innermost), percent(lineless))
}

// lastName cuts the scope and the arguments off a function's name.
func lastName(name string) string {
	name = funcname.Demangle(funcname.WithoutCloneSuffix(name), funcname.Short)
	name, _, _ = strings.Cut(name, "<")
	return name[strings.LastIndex(name, ":")+1:]
}
