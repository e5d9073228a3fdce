package ingest

import (
	"bytes"
	"encoding/binary"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// legacyProfiles are profiles in the formats from before profile.proto.
var legacyProfiles = map[string]string{
	"heap": `heap profile:      6:  3072 [     6:  3072] @ heapprofile
     2:  1024 [     2:  1024] @ 0x400101 0x400201
     4:  2048 [     4:  2048] @ 0x400301

MAPPED_LIBRARIES:
00400000-00500000 r-xp 00000000 08:01 1234 /usr/bin/app
`,
	"growth": `heap profile: 1: 1048576 [ 1: 1048576] @ growthz
 1: 1048576 [ 1: 1048576] @ 0x400101 0x400201
`,
	"jemalloc": `heap_v2/1
  t*: 3: 1536 [0: 0]
  t0: 2: 1024 [0: 0]
  t1: 1: 512 [0: 0]
@ 0x400101 0x400201
  t*: 2: 1024 [0: 0]
  t0: 2: 1024 [0: 0]
@ 0x400301
  t*: 1: 512 [0: 0]
  t1: 1: 512 [0: 0]

MAPPED_LIBRARIES:
00400000-00500000 r-xp 00000000 08:01 1234 /usr/bin/app
`,
	"jemalloc with sums": `heap_v2/1
  t*: 1: 512 [4: 2048]
@ 0x400101
  t*: 1: 512 [4: 2048]
`,
	"contention": `--- contentionz 1 ---
cycles/second=1000000000
sampling period=1
ms since reset=1000
discarded samples=0
  7 2 @ 0x400101 0x400201
`,
	"goroutines": "goroutine profile: total 3\n" +
		"2 @ 0x437aae 0x400201\n#\t0x437aae\tmain.work+0x2e\t/src/main.go:17\n#\t0x400201\tmain.main+0x1f\t/src/main.go:9\n\n" +
		"1 @ 0x400301\n#\t0x400301\truntime.gcBgMarkWorker+0x1\t/go/src/runtime/mgc.go:1\n\n",
	"threads": "--- threadz 1 ---\n\n--- Thread 7f794ab90940 (name: main/14748) stack: ---\n  PC: 0x400101: work\n    0x400201\n--- Thread 7f794ab90941 (name: b/14749) stack: ---\n  [same as previous thread]\n--- Memory map: ---\n  00400000-00500000: /usr/bin/app\n",
}

// oldCPU is a CPU profile of gperftools, in words of that size.
func oldCPU(size int, order binary.ByteOrder) []byte {
	var b []byte
	for _, w := range []uint64{
		0, 3, 0, 10_000, 0, // a sample each 10 ms
		3, 2, 0x400101, 0x400201,
		1, 1, 0x400301,
		0, 1, 0,
	} {
		var word [8]byte
		order.PutUint64(word[:], w)
		if size == 4 {
			order.PutUint32(word[:], uint32(w))
		}
		b = append(b, word[:size]...)
	}
	return append(b, "00400000-00500000 r-xp 00000000 08:01 1234 /usr/bin/app\n"...)
}

// What `go tool pprof` opens besides profile.proto is read with its types and
// addresses.
func TestPprofReadsOlderFormats(t *testing.T) {
	bodies := map[string][]byte{
		"CPU of 64 bits":    oldCPU(8, binary.LittleEndian),
		"CPU of 32 bits":    oldCPU(4, binary.LittleEndian),
		"CPU of big endian": oldCPU(8, binary.BigEndian),
	}
	for name, text := range legacyProfiles {
		bodies[name] = []byte(text)
	}
	heap := []string{"0x400200;0x400100 [2 1024]", "0x400300 [4 2048]"}
	cpu := []string{"0x400200;0x400101 [3 30000000]", "0x400301 [1 10000000]"}
	for name, want := range map[string]struct {
		types  string
		stacks []string
	}{
		"CPU of 64 bits":     {"samples/count cpu/nanoseconds", cpu},
		"CPU of 32 bits":     {"samples/count cpu/nanoseconds", cpu},
		"CPU of big endian":  {"samples/count cpu/nanoseconds", cpu},
		"heap":               {"objects/count space/bytes", heap},
		"growth":             {"objects/count space/bytes", []string{"0x400200;0x400100 [1 1048576]"}},
		"jemalloc":           {"objects/count space/bytes", []string{"0x400200;0x400100 [2 1024]", "0x400300 [1 512]"}},
		"jemalloc with sums": {"alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes", []string{"0x400100 [4 2048 1 512]"}},
		"contention":         {"contentions/count delay/nanoseconds", []string{"0x400200;0x400100 [2 7]"}},
		"goroutines":         {"goroutine/count", []string{"main.main;main.work [2]", "runtime.gcBgMarkWorker [1]"}},
		"threads":            {"thread/count", []string{"0x400200;0x400101 [2]"}},
	} {
		t.Run(name, func(t *testing.T) {
			body := bodies[name]
			require.NotNil(t, body)
			for _, b := range [][]byte{body, gzipped(t, body)} {
				r := &Report{}
				p, size, err := Pprof(b, Limits{MaxProfileBytes: 4096, MaxSamples: 10, MaxSymbols: 100, MaxStackDepth: 4, MaxLabels: 4, Report: r})
				require.NoError(t, err)
				require.Equal(t, len(body), size)
				var types []string
				for _, st := range p.SampleType {
					types = append(types, p.StringTable[st.Type]+"/"+p.StringTable[st.Unit])
				}
				require.Equal(t, want.types, strings.Join(types, " "))
				require.Equal(t, want.stacks, shownStacks(p))
				require.Empty(t, r.String())
				require.NoError(t, check(p, Limits{}))
			}
		})
	}
}

// Go's goroutines as text are those of its protobuf.
func TestPprofReadsGoroutinesAsText(t *testing.T) {
	var text bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&text, 1))
	p, _, err := Pprof(text.Bytes(), Limits{})
	require.NoError(t, err)
	require.Contains(t, strings.Join(shownStacks(p), "\n"), "testing.(*T).Run")
	require.Contains(t, strings.Join(shownStacks(p), "\n"), "collector/ingest.TestPprofReadsGoroutinesAsText;runtime/pprof.(*Profile).WriteTo")
}

func TestPprofRefusesBrokenOlderFormats(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		l    Limits
		want string
	}{
		"cut heap":      {"heap profile: 6: 3072 [6: 3072] @ heapprofile\n 2: 10", Limits{}, "pprof: parsing profile: "},
		"unknown heap":  {"heap profile: 6: 3072 [6: 3072] @ other\n", Limits{}, "pprof: parsing profile: "},
		"cut CPU":       {string(oldCPU(8, binary.LittleEndian)[:60]), Limits{}, "pprof: parsing profile: "},
		"samples":       {legacyProfiles["heap"], Limits{MaxSamples: 1}, "pprof: sample: more than 1 samples (limits.max_samples)"},
		"addresses":     {legacyProfiles["heap"], Limits{MaxSymbols: 2}, "pprof: more than 2 addresses (limits.max_symbols)"},
		"words":         {string(oldCPU(8, binary.LittleEndian)), Limits{MaxSymbols: 2}, "(8 for each of limits.max_symbols)"},
		"all goroutine": {"goroutine 1 [running]:\nmain.main()\n", Limits{}, "pprof: this is a list of Go's goroutines"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Pprof([]byte(tc.in), tc.l)
			require.ErrorContains(t, err, tc.want)
		})
	}
}
