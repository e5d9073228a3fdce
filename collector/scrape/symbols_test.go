package scrape

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/ingest"
)

// A nativeTarget serves a heap profile and the functions at its addresses as gperftools
// does.
type nativeTarget struct {
	mu       sync.Mutex
	profile  string
	symbols  map[uint64]string
	hook     func(w http.ResponseWriter, r *http.Request) bool // may answer for symbols
	requests []string                                          // for symbols: "GET", or the body
}

func (n *nativeTarget) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !strings.HasSuffix(r.URL.Path, "/symbol") {
		fmt.Fprint(w, n.profile)
		return
	}
	body, _ := io.ReadAll(r.Body)
	if r.Method == http.MethodGet {
		body = []byte("GET")
	}
	n.requests = append(n.requests, string(body))
	if n.hook != nil && n.hook(w, r) {
		return
	}
	fmt.Fprintln(w, "num_symbols: 1")
	for word := range strings.SplitSeq(string(body), "+") {
		if a, err := strconv.ParseUint(word, 0, 64); err == nil {
			fmt.Fprintf(w, "%#x\t%s\n", a, n.symbols[a])
		}
	}
}

// asked returns the requests for symbols since the last call.
func (n *nativeTarget) asked() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := n.requests
	n.requests = nil
	return out
}

func (n *nativeTarget) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

// nativeConfig is a job of heap profiles at a path.
func nativeConfig(server, path string) Config {
	c := config("native", strings.TrimPrefix(server, "http://"), 15*time.Second)
	off := false
	c.ProfilingConfig.PprofConfig.ProcessCPU.Enabled = &off
	c.ProfilingConfig.PprofConfig.Memory = Pprof{Enabled: on(), Path: path}
	return c
}

// A nativeLoop is the loop of a job's only profile, with what it gives its appender and
// logs.
type nativeLoop struct {
	*loop
	a   *appender
	log bytes.Buffer
}

func newNativeLoop(t *testing.T, c Config) *nativeLoop {
	t.Helper()
	n := &nativeLoop{a: newAppender()}
	m, err := New(Options{
		Appender: n.a,
		Decode: func(body []byte) (*googlev1.Profile, error) {
			p, _, err := ingest.Pprof(body, ingest.Limits{MaxProfileBytes: 32 << 20})
			return p, err
		},
		Name: func(p *googlev1.Profile, name func(uint64) string) {
			ingest.NameAddresses(p, name, ingest.Limits{})
		},
		Logger: slog.New(slog.NewTextHandler(&n.log, nil)),
	})
	require.NoError(t, err)
	j, err := m.newJob(c)
	require.NoError(t, err)
	n.loop = j.targets[0].loops[0]
	return n
}

// pulled returns the profiles of one scrape.
func (n *nativeLoop) pulled(t *testing.T) (out []*googlev1.Profile) {
	t.Helper()
	require.NoError(t, n.scrape(context.Background(), time.Now(), 0))
	n.a.mu.Lock()
	defer n.a.mu.Unlock()
	for _, p := range n.a.profiles {
		out = append(out, p.Pprof)
	}
	n.a.profiles = nil
	return out
}

// stacks returns the stacktraces of a profile, root first, with their values.
func stacks(p *googlev1.Profile) (out []string) {
	at := map[uint64]string{}
	functions := map[uint64]string{}
	for _, f := range p.Function {
		functions[f.Id] = p.StringTable[f.Name]
	}
	for _, l := range p.Location {
		at[l.Id] = fmt.Sprintf("%#x", l.Address)
		for _, line := range l.Line {
			at[l.Id] = functions[line.FunctionId]
		}
	}
	for _, s := range p.Sample {
		var frames []string
		for _, id := range slices.Backward(s.LocationId) {
			frames = append(frames, at[id])
		}
		out = append(out, fmt.Sprint(strings.Join(frames, ";"), " ", s.Value))
	}
	return out
}

const (
	nativeMaps = "\nMAPPED_LIBRARIES:\n00400000-00500000 r-xp 00000000 08:01 1234 /usr/bin/app\n"
	nativeHeap = "heap profile: 6: 3072 [6: 3072] @ heapprofile\n" +
		" 2: 1024 [2: 1024] @ 0x400901 0x400101 0x400201\n" +
		" 4: 2048 [4: 2048] @ 0x400301\n" + nativeMaps
)

func nativeSymbols() map[uint64]string {
	return map[uint64]string{0x400900: "tc_malloc", 0x400100: "_ZN4shop6basket4fillEi", 0x400200: "main", 0x400300: "idle"}
}

func TestNativeHeap(t *testing.T) {
	for name, tc := range map[string]struct {
		profile, types string
		path, symbol   string
		want           []string
	}{
		"gperftools": {nativeHeap, "objects space", "/pprof/heap", "/pprof/symbol",
			[]string{"main;shop::basket::fill [2 1024]", "idle [4 2048]"}},
		"jemalloc": {"heap_v2/1\n  t*: 6: 3072 [0: 0]\n@ 0x400901 0x400101 0x400201\n  t*: 2: 1024 [0: 0]\n  t0: 2: 1024 [0: 0]\n@ 0x400301\n  t*: 4: 2048 [0: 0]\n" + nativeMaps,
			"objects space", "/debug/pprof/heap", "/debug/pprof/symbol",
			[]string{"main;shop::basket::fill [2 1024]", "idle [4 2048]"}},
	} {
		t.Run(name, func(t *testing.T) {
			target := &nativeTarget{profile: tc.profile, symbols: nativeSymbols()}
			server := httptest.NewServer(target)
			defer server.Close()
			l := newNativeLoop(t, nativeConfig(server.URL, tc.path))
			require.Equal(t, server.URL+tc.symbol, l.symbols.url.String())
			ps := l.pulled(t)
			require.Len(t, ps, 1)
			require.Equal(t, strings.Fields(tc.types), typesOf(ps[0]))
			require.Zero(t, ps[0].DurationNanos, "a state")
			require.Equal(t, tc.want, stacks(ps[0]))
			require.Equal(t, []string{"GET", "0x400900+0x400100+0x400200+0x400300"}, target.asked())
			require.Equal(t, tc.want, stacks(l.pulled(t)[0]))
			require.Empty(t, target.asked(), "names are known")
			require.Empty(t, l.log.String())
		})
	}
}

// Names belong to a process: the next one has other mappings.
func TestSymbolsOfAnotherProcess(t *testing.T) {
	target := &nativeTarget{profile: nativeHeap, symbols: nativeSymbols()}
	server := httptest.NewServer(target)
	defer server.Close()
	l := newNativeLoop(t, nativeConfig(server.URL, "/pprof/heap"))
	l.pulled(t)
	target.asked()

	target.set(func() { // a library is loaded
		target.profile = strings.Replace(nativeHeap, "@ 0x400301", "@ 0x600301", 1) + "00600000-00700000 r-xp 00000000 08:01 5678 /usr/lib/lib.so\n"
		target.symbols[0x600300] = "lib_init"
	})
	require.Equal(t, []string{"main;shop::basket::fill [2 1024]", "lib_init [4 2048]"}, stacks(l.pulled(t)[0]))
	require.Equal(t, []string{"0x600300"}, target.asked())

	target.set(func() { // another program
		target.profile = strings.Replace(nativeHeap, "00400000-00500000", "00400000-00501000", 1)
		target.symbols[0x400300] = "busy"
	})
	require.Equal(t, []string{"main;shop::basket::fill [2 1024]", "busy [4 2048]"}, stacks(l.pulled(t)[0]))
	require.Len(t, target.asked(), 2)

	// After a failed scrape the process may be another one with the same mappings.
	target.set(func() { target.symbols[0x400300] = "again" })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.Error(t, l.scrape(ctx, time.Now(), 0))
	require.Equal(t, []string{"main;shop::basket::fill [2 1024]", "again [4 2048]"}, stacks(l.pulled(t)[0]))
}

// What a target answers about its symbols, and whether it does, costs no profile.
func TestSymbolsOfBadServers(t *testing.T) {
	addresses := []string{"0x400200;0x400100;0x400900 [2 1024]", "0x400300 [4 2048]"}
	post := func(answer func(w http.ResponseWriter, r *http.Request)) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				answer(w, r)
			}
			return r.Method == http.MethodPost
		}
	}
	for name, tc := range map[string]struct {
		hook   func(w http.ResponseWriter, r *http.Request) bool
		stacks []string
		logged string // "" means nothing
	}{
		"absent":    {func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true }, addresses, ""},
		"no symbol": {func(w http.ResponseWriter, _ *http.Request) bool { fmt.Fprint(w, "num_symbols: 0"); return true }, addresses, ""},
		"a page":    {func(w http.ResponseWriter, _ *http.Request) bool { fmt.Fprint(w, "<html>"); return true }, addresses, ""},
		"broken": {post(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "out of order", http.StatusInternalServerError)
		}), addresses,
			"server answered 500 Internal Server Error: out of order"},
		"slow": {post(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), addresses, "deadline exceeded"},
		"hangs up": {post(func(w http.ResponseWriter, _ *http.Request) { c, _, _ := w.(http.Hijacker).Hijack(); c.Close() }),
			addresses, "EOF"},
		"huge": {post(func(w http.ResponseWriter, _ *http.Request) { io.CopyN(w, zeros{}, maxSymbolAnswer+1) }), addresses, "larger than 8388608 bytes"},
		"strange": {post(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "0x1\tother\n0x400200\tfirst\n0x400200\tsecond\n0x400300\t"+strings.Repeat("x", 1<<20)+"\n0x400100\t\xff\xfe\n")
		}), []string{"first;\uFFFD;0x400900 [2 1024]", "0x400300 [4 2048]"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := &nativeTarget{profile: nativeHeap, symbols: nativeSymbols(), hook: tc.hook}
			server := httptest.NewServer(target)
			defer server.Close()
			c := nativeConfig(server.URL, "/pprof/heap")
			if name == "slow" {
				c.ScrapeTimeout = model.Duration(time.Second)
			}
			l := newNativeLoop(t, c)
			require.Equal(t, tc.stacks, stacks(l.pulled(t)[0]))
			require.NotEmpty(t, target.asked())
			require.Equal(t, tc.stacks, stacks(l.pulled(t)[0]))
			require.Empty(t, target.asked(), "a target is not asked again at once")
			if tc.logged == "" {
				require.Empty(t, l.log.String())
				return
			}
			require.Contains(t, l.log.String(), "resolve addresses at "+server.URL+"/pprof/symbol: ")
			require.Contains(t, l.log.String(), tc.logged)
			require.Equal(t, 1, strings.Count(l.log.String(), "level=WARN"))

			// Later the target is well again.
			target.set(func() { target.hook = nil })
			l.symbols.again = time.Time{}
			require.Equal(t, []string{"main;shop::basket::fill [2 1024]", "idle [4 2048]"}, stacks(l.pulled(t)[0]))
		})
	}
}

// CPU profiles of gperftools have the addresses of callers after their calls, and those
// of the leaf as they are.
func TestNativeCPU(t *testing.T) {
	var cpu bytes.Buffer
	for _, word := range []uint64{0, 3, 0, 10_000, 0, 3, 2, 0x400100, 0x400201, 1, 2, 0x400300, 0x400101, 0, 1, 0} {
		require.NoError(t, binary.Write(&cpu, binary.LittleEndian, word))
	}
	cpu.WriteString("00400000-00500000 r-xp 00000000 08:01 1234 /usr/bin/app\n")
	target := &nativeTarget{profile: cpu.String(), symbols: nativeSymbols()}
	server := httptest.NewServer(target)
	defer server.Close()
	c := nativeConfig(server.URL, "")
	c.ProfilingConfig.PprofConfig = PprofConfig{ProcessCPU: Pprof{Path: "/pprof/profile"}}
	l := newNativeLoop(t, c)
	require.NoError(t, l.scrape(context.Background(), time.Now(), 5*time.Second))
	p := l.a.next(t, nameCPU).Pprof
	require.Equal(t, []string{"samples", "cpu"}, typesOf(p))
	require.Equal(t, []string{"main;shop::basket::fill [3 30000000]", "shop::basket::fill;idle [1 10000000]"}, stacks(p))
	require.Positive(t, p.DurationNanos)
}

func TestSymbolConfig(t *testing.T) {
	target := &nativeTarget{profile: nativeHeap, symbols: nativeSymbols()}
	server := httptest.NewServer(target)
	defer server.Close()
	c := nativeConfig(server.URL, "/heap")
	c.ProfilingConfig.PathPrefix = "/internal"
	c.ProfilingConfig.SymbolConfig.Path = "/names/symbol"
	c.Params = map[string][]string{"token": {"x"}, "seconds": {"1"}}
	l := newNativeLoop(t, c)
	require.Equal(t, server.URL+"/internal/names/symbol?token=x", l.symbols.url.String())
	require.Equal(t, "idle [4 2048]", stacks(l.pulled(t)[0])[1])

	target.set(func() {
		target.hook = func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true }
	})
	l = newNativeLoop(t, c)
	l.pulled(t)
	require.Contains(t, l.log.String(), "404 Not Found", "the path was configured")

	off := false
	c.ProfilingConfig.SymbolConfig.Enabled = &off
	l = newNativeLoop(t, c)
	require.Equal(t, "0x400300 [4 2048]", stacks(l.pulled(t)[0])[1])

	c.ProfilingConfig.SymbolConfig.Path = "symbol"
	require.ErrorContains(t, c.Validate(), `profiling_config.symbol_config.path: "symbol" does not begin with /`)
}

// What the target does not name is looked up on this machine.
func TestLocalSymbols(t *testing.T) {
	target := &nativeTarget{profile: nativeHeap, symbols: map[uint64]string{0x400200: "main"}}
	server := httptest.NewServer(target)
	defer server.Close()
	l := newNativeLoop(t, nativeConfig(server.URL, "/pprof/heap"))
	here := true
	l.manager.o.Local = func(p *googlev1.Profile) func(uint64) string {
		require.Equal(t, "/usr/bin/app", p.StringTable[p.Mapping[0].Filename])
		if !here {
			return nil
		}
		return func(a uint64) string { return map[uint64]string{0x400200: "other", 0x400300: "idle"}[a] }
	}
	require.Equal(t, []string{"main;0x400100;0x400900 [2 1024]", "idle [4 2048]"}, stacks(l.pulled(t)[0]))
	target.set(func() {
		target.hook = func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true }
	})
	l.symbols.forget()
	require.Equal(t, []string{"other;0x400100;0x400900 [2 1024]", "idle [4 2048]"}, stacks(l.pulled(t)[0]))
	here = false
	require.Equal(t, []string{"0x400200;0x400100;0x400900 [2 1024]", "0x400300 [4 2048]"}, stacks(l.pulled(t)[0]))
}

// Requests are small however many addresses there are.
func TestSymbolsAreAskedForInBatches(t *testing.T) {
	const n = 3*symbolBatch + 1
	target := &nativeTarget{symbols: map[uint64]string{}}
	var text strings.Builder
	fmt.Fprintf(&text, "heap profile: 0: 0 [0: 0] @ heapprofile\n")
	for i := range uint64(n) {
		fmt.Fprintf(&text, "1: 8 [1: 8] @ %#x\n", 0x400001+i)
		target.symbols[0x400000+i] = fmt.Sprint("f", i)
	}
	target.profile = text.String() + nativeMaps
	server := httptest.NewServer(target)
	defer server.Close()
	l := newNativeLoop(t, nativeConfig(server.URL, "/pprof/heap"))
	p := l.pulled(t)[0]
	require.Len(t, p.Function, n)
	asked := target.asked()
	require.Len(t, asked, 5)
	for _, body := range asked[1:] {
		require.LessOrEqual(t, strings.Count(body, "+"), symbolBatch-1)
	}
}

// Names that come and go are no growth, nor are estimates that fall.
func TestNativeGrowth(t *testing.T) {
	target := &nativeTarget{symbols: nativeSymbols()}
	server := httptest.NewServer(target)
	defer server.Close()
	serve := func(text string) { target.set(func() { target.profile = text + nativeMaps }) }
	failing := func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	}

	serve("heap profile: 2: 200 [2: 200] @ heapprofile\n 2: 200 [2: 200] @ 0x400101\n")
	l := newNativeLoop(t, nativeConfig(server.URL, "/pprof/heap"))
	require.Equal(t, []string{"shop::basket::fill [2 200]"}, stacks(l.pulled(t)[0]))
	serve("heap profile: 2: 200 [3: 500] @ heapprofile\n 2: 200 [3: 500] @ 0x400101\n")
	ps := l.pulled(t)
	require.Len(t, ps, 1, "what the counters were is not known")
	require.Equal(t, []string{"inuse_objects", "inuse_space"}, typesOf(ps[0]))
	require.Equal(t, []string{"shop::basket::fill [2 200]"}, stacks(ps[0]))

	target.set(func() { target.hook = failing })
	l.symbols.forget()
	serve("heap profile: 3: 900 [5: 1500] @ heapprofile\n 3: 900 [5: 1500] @ 0x400101\n")
	ps = l.pulled(t)
	require.Len(t, ps, 2)
	for _, p := range ps {
		if typesOf(p)[0] == "alloc_objects" {
			require.Equal(t, []string{"0x400100 [2 1000]"}, stacks(p), "the average size has changed")
		}
	}

	target.set(func() { target.hook = nil })
	l.symbols.again = time.Time{}
	serve("heap profile: 3: 900 [6: 1600] @ heapprofile\n 3: 900 [6: 1600] @ 0x400101\n")
	for _, p := range l.pulled(t) {
		if typesOf(p)[0] == "alloc_objects" {
			require.Equal(t, []string{"shop::basket::fill [1 100]"}, stacks(p))
		}
	}

	// One object of 1 kB stands for 512; with one of 10 MB their average does for none.
	serve("heap_v2/524288\n@ 0x400101\n t*: 1: 1024 [1: 1024]\n")
	l = newNativeLoop(t, nativeConfig(server.URL, "/pprof/heap"))
	l.pulled(t)
	serve("heap_v2/524288\n@ 0x400101\n t*: 1: 1024 [2: 10001024]\n")
	for _, p := range l.pulled(t) {
		if typesOf(p)[0] == "alloc_objects" {
			require.Zero(t, p.Sample[0].Value[0])
			require.InDelta(t, 9.5e6, p.Sample[0].Value[1], 0.5e6)
		}
	}
}
