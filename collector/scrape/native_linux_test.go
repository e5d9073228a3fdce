package scrape

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"
)

// A nativeProgram is a running program of testdata.
type nativeProgram struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader

	mu      sync.Mutex
	symbols map[string][]nativeSymbol // of a file, by address
}

type nativeSymbol struct {
	address, size uint64
	name          string
}

// compileNative compiles a program of testdata.
func compileNative(t *testing.T, source string, compiler ...string) string {
	t.Helper()
	src, err := os.ReadFile(filepath.Join("testdata", source+".txt"))
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), source)
	require.NoError(t, os.WriteFile(file, src, 0o644))
	binary := strings.TrimSuffix(file, filepath.Ext(file))
	// The unwinder of gperftools follows frame pointers.
	args := append([]string{"-O1", "-fno-omit-frame-pointer", "-fno-builtin", "-o", binary, file}, compiler[1:]...)
	out, err := exec.Command(compiler[0], args...).CombinedOutput()
	require.NoError(t, err, "Debian's packages are libgoogle-perftools-dev and libjemalloc-dev: %s", out)
	return binary
}

// startNative starts a program.
func startNative(t *testing.T, binary, variable string, args ...string) *nativeProgram {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), variable)
	cmd.Stderr = io.Discard
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return &nativeProgram{t: t, cmd: cmd, in: in, out: bufio.NewReader(out), symbols: map[string][]nativeSymbol{}}
}

// do has the program do a command, and returns its answer.
func (n *nativeProgram) do(command string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := fmt.Fprintln(n.in, command); err != nil {
		return nil, err
	}
	line, err := n.out.ReadString('\n')
	if err != nil {
		return nil, err
	}
	size, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return nil, err
	}
	answer := make([]byte, size)
	_, err = io.ReadFull(n.out, answer)
	return answer, err
}

// must does a command that has no answer.
func (n *nativeProgram) must(command string, args ...any) {
	n.t.Helper()
	answer, err := n.do(fmt.Sprintf(command, args...))
	require.NoError(n.t, err)
	require.Empty(n.t, string(answer))
}

// symbolHandler answers as gperftools' /pprof/symbol: with the names that nm has for the
// files that the process maps.
func (n *nativeProgram) symbolHandler(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, "num_symbols: 1")
	body, _ := io.ReadAll(r.Body)
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", n.cmd.Process.Pid))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	for word := range strings.SplitSeq(string(body), "+") {
		if a, err := strconv.ParseUint(word, 0, 64); err == nil {
			fmt.Fprintf(w, "%s\t%s\n", word, n.nameOf(string(maps), a))
		}
	}
}

// nameOf returns the symbol at an address of the process.
func (n *nativeProgram) nameOf(maps string, address uint64) string {
	bases := map[string]uint64{}
	for line := range strings.Lines(maps) {
		fields := strings.Fields(line)
		if len(fields) < 6 || !strings.HasPrefix(fields[5], "/") {
			continue
		}
		var start, end uint64
		fmt.Sscanf(fields[0], "%x-%x", &start, &end)
		file := fields[5]
		if _, ok := bases[file]; !ok {
			bases[file] = start
		}
		if start <= address && address < end {
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.symbols[file] == nil {
				n.symbols[file] = nmSymbols(file)
			}
			symbols := n.symbols[file]
			i, found := slices.BinarySearchFunc(symbols, address-bases[file], func(s nativeSymbol, a uint64) int { return cmp.Compare(s.address, a) })
			if !found {
				i--
			}
			if i >= 0 && address-bases[file] < symbols[i].address+symbols[i].size {
				return symbols[i].name
			}
		}
	}
	return "??"
}

// nmSymbols returns the functions of a file, by address.
func nmSymbols(file string) []nativeSymbol {
	out := []nativeSymbol{}
	for _, option := range []string{"--defined-only", "--dynamic"} {
		text, _ := exec.Command("nm", "--print-size", option, file).Output()
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) == 4 && strings.ContainsAny(fields[2], "TtWwi") {
				var s nativeSymbol
				fmt.Sscanf(fields[0]+" "+fields[1], "%x %x", &s.address, &s.size)
				s.name, _, _ = strings.Cut(fields[3], "@")
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, func(a, b nativeSymbol) int {
		return cmp.Or(cmp.Compare(a.address, b.address), cmp.Compare(a.name, b.name))
	})
	return slices.CompactFunc(out, func(a, b nativeSymbol) bool { return a.address == b.address })
}

// heapHandler answers with the command's answer, or with the file that the command has
// written.
func (n *nativeProgram) heapHandler(command, file string, zipped bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		body, err := n.do(command)
		if err == nil && file != "" {
			body, err = os.ReadFile(file)
		}
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case zipped:
			z := gzip.NewWriter(w)
			z.Write(body)
			z.Close()
		default:
			w.Write(body)
		}
	}
}

// self returns the value of a function's own samples, by column.
func self(p *googlev1.Profile, function string, column int) (sum int64) {
	for i, stack := range stacks(p) {
		frames, _, _ := strings.Cut(stack, " [")
		if strings.HasSuffix(";"+frames, ";"+function) {
			sum += p.Sample[i].Value[column]
		}
	}
	return sum
}

// columnOf returns the column of a sample type, and the profile that has it.
func columnOf(t *testing.T, ps []*googlev1.Profile, typ string) (*googlev1.Profile, int) {
	t.Helper()
	for _, p := range ps {
		if i := slices.Index(typesOf(p), typ); i >= 0 {
			return p, i
		}
	}
	require.Fail(t, "no sample type", typ)
	return nil, 0
}

// perlPprof returns the bytes of each function according to gperftools' own tool.
func perlPprof(t *testing.T, n *nativeProgram, binary string) map[string]int64 {
	t.Helper()
	heap, err := n.do("heap")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "heap")
	require.NoError(t, os.WriteFile(file, heap, 0o644))
	text, err := exec.Command("google-pprof", "--text", "--show_bytes", binary, file).Output()
	require.NoError(t, err)
	out := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 6 {
			out[fields[5]], _ = strconv.ParseInt(fields[0], 10, 64)
		}
	}
	return out
}

const (
	nativeObjects = 2 << 20 // of 64 bytes
	nativeBytes   = nativeObjects * 64
)

// What tcmalloc samples of a program is what the program has allocated, by function.
func TestScrapeTcmalloc(t *testing.T) {
	t.Parallel()
	binary := compileNative(t, "tcmalloc.cc", "g++", "-ltcmalloc")
	n := startNative(t, binary, "TCMALLOC_SAMPLE_PARAMETER=8192")
	mux := http.NewServeMux()
	mux.HandleFunc("/pprof/heap", n.heapHandler("heap", "", false))
	mux.HandleFunc("/pprof/growth", n.heapHandler("growth", "", false))
	mux.HandleFunc("/pprof/symbol", n.symbolHandler)
	server := httptest.NewServer(mux)
	defer server.Close()
	l := newNativeLoop(t, nativeConfig(server.URL, "/pprof/heap"))
	n.must("keep %d", nativeObjects)

	// The sampled heap: a state.
	ps := l.pulled(t)
	require.Len(t, ps, 1)
	require.Equal(t, []string{"objects", "space"}, typesOf(ps[0]))
	total := names(ps[0], 1)
	for _, function := range []string{"shop::keep", "shop::fill", "main"} {
		// Some versions of tcmalloc sample up to an eighth less than they say.
		require.InEpsilon(t, nativeBytes, total[function], 0.2, function)
	}
	require.InEpsilon(t, total["shop::keep"], perlPprof(t, n, binary)["shop::keep"], 0.001)
	require.Equal(t, total["shop::keep"], self(ps[0], "shop::keep", 1))
	require.InEpsilon(t, total["shop::keep"]/64, self(ps[0], "shop::keep", 0), 0.01) // rounded for each sample
	require.Zero(t, total["tc_malloc"], "the allocator's own frames are dropped")

	// What made the heap larger.
	c := nativeConfig(server.URL, "")
	c.ProfilingConfig.PprofConfig.Memory.Enabled = nil
	c.ProfilingConfig.PprofConfig.Growth.Enabled = on()
	g := newNativeLoop(t, c)
	ps = g.pulled(t)
	require.Len(t, ps, 1)
	require.Equal(t, "growth", g.labels.Get("__name__"))
	grown := names(ps[0], 1)["shop::keep"]
	require.GreaterOrEqual(t, grown, int64(nativeBytes))
	require.Less(t, grown, int64(3*nativeBytes), "each sampled object takes a page")
	require.Empty(t, l.log.String()+g.log.String())
}

// gperftools' heap profiler counts every allocation; of these counters the growth is
// stored.
func TestScrapeHeapProfiler(t *testing.T) {
	t.Parallel()
	binary := compileNative(t, "tcmalloc.cc", "g++", "-ltcmalloc")
	n := startNative(t, binary, "TCMALLOC_SAMPLE_PARAMETER=0")
	mux := http.NewServeMux()
	mux.HandleFunc("/pprof/heap", n.heapHandler("heap", "", false))
	mux.HandleFunc("/pprof/symbol", n.symbolHandler)
	server := httptest.NewServer(mux)
	defer server.Close()
	l := newNativeLoop(t, nativeConfig(server.URL, "/pprof/heap"))
	n.must("start")
	n.must("keep 1000")
	n.must("churn 500")

	ps := l.pulled(t)
	require.Len(t, ps, 1, "no growth is known yet")
	state, column := columnOf(t, ps, "inuse_space")
	require.EqualValues(t, 64_000, self(state, "shop::keep", column))
	require.Zero(t, self(state, "shop::churn", column))
	n.must("churn 10000")
	n.must("keep 2000")
	ps = l.pulled(t)
	flow, column := columnOf(t, ps, "alloc_space")
	require.EqualValues(t, 640_000, self(flow, "shop::churn", column))
	require.EqualValues(t, 128_000, self(flow, "shop::keep", column))
	require.Positive(t, flow.DurationNanos)
	state, column = columnOf(t, ps, "inuse_space")
	require.EqualValues(t, 192_000, self(state, "shop::keep", column))
	require.Zero(t, state.DurationNanos)
}

// jemalloc's dump has the same answers, as text or compressed.
func TestScrapeJemalloc(t *testing.T) {
	t.Parallel()
	binary := compileNative(t, "jemalloc.c", "gcc", "-ljemalloc")
	dump := filepath.Join(t.TempDir(), "heap")
	n := startNative(t, binary, "MALLOC_CONF=prof:true,prof_accum:true,lg_prof_sample:13", dump)
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/heap", n.heapHandler("heap", dump, false))
	mux.HandleFunc("/zipped/heap", n.heapHandler("heap", dump, true))
	mux.HandleFunc("/debug/pprof/symbol", n.symbolHandler)
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, path := range []string{"/debug/pprof/heap", "/zipped/heap"} {
		c := nativeConfig(server.URL, path)
		c.ProfilingConfig.SymbolConfig.Path = "/debug/pprof/symbol"
		l := newNativeLoop(t, c)
		before := map[string]int64{}
		if ps := l.pulled(t); len(ps) > 0 {
			before = names(ps[0], 1) // objects and space, or inuse_*
			if len(ps[0].SampleType) == 4 {
				before = names(ps[0], 3)
			}
		}
		n.must("keep %d", nativeObjects)
		n.must("churn %d", nativeObjects)
		ps := l.pulled(t)
		state, column := columnOf(t, ps, "inuse_space")
		for _, function := range []string{"keep", "fill"} {
			require.InEpsilon(t, nativeBytes, names(state, column)[function]-before[function], 0.05, function)
		}
		require.Less(t, names(state, column)["churn"], int64(nativeBytes/100))
		if before["keep"] == 0 {
			continue // the first dump is without counters
		}
		flow, column := columnOf(t, ps, "alloc_space")
		for _, function := range []string{"churn", "keep"} {
			require.InEpsilon(t, nativeBytes, names(flow, column)[function], 0.05, function)
		}
		require.Empty(t, l.log.String())
	}
}
