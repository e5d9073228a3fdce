package ingest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// An allocator's functions count for their caller once they have names, and names are
// those of the source.
func TestNameAddresses(t *testing.T) {
	text := strings.Replace(legacyProfiles["heap"], "@ 0x400101 0x400201", "@ 0x400901 0x400101 0x400201", 1)
	for name, tc := range map[string]struct {
		l      Limits
		names  map[uint64]string
		stacks []string
		report string
	}{
		"all": {Limits{},
			map[uint64]string{0x400900: "tc_malloc", 0x400100: "_ZN4shop6basket4fillEi", 0x400200: "main", 0x400300: "_ZN4shop6basket4fillEi"},
			[]string{"main;shop::basket::fill [2 1024]", "shop::basket::fill [4 2048]"}, ""},
		"some": {Limits{}, map[uint64]string{0x400200: "main"},
			[]string{"main;0x400100;0x400900 [2 1024]", "0x400300 [4 2048]"}, ""},
		"none": {Limits{}, nil,
			[]string{"0x400200;0x400100;0x400900 [2 1024]", "0x400300 [4 2048]"}, ""},
		"long": {Limits{MaxSymbolBytes: 64}, map[uint64]string{0x400200: strings.Repeat("m", 65), 0x400300: "new"},
			[]string{"0x400200;0x400100;0x400900 [2 1024]", "new [4 2048]"}, "skipped name of an address, longer than limits.max_symbol_bytes (1)"},
		"not UTF-8": {Limits{}, map[uint64]string{0x400300: "a\xffb"},
			[]string{"0x400200;0x400100;0x400900 [2 1024]", "a\uFFFDb [4 2048]"}, "corrected string that was not UTF-8 (1)"},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, err := Pprof([]byte(text), Limits{})
			require.NoError(t, err)
			r := &Report{}
			tc.l.Report = r
			NameAddresses(p, func(a uint64) string { return tc.names[a] }, tc.l)
			require.Equal(t, tc.stacks, shownStacks(p))
			require.Equal(t, tc.report, r.String())
			require.NoError(t, check(p, Limits{}))
		})
	}
}

func TestNameAddressesKeepsWithinSymbols(t *testing.T) {
	p, _, err := Pprof([]byte(legacyProfiles["heap"]), Limits{})
	require.NoError(t, err)
	used := len(p.SampleType) + len(p.Mapping) + len(p.Location) + len(p.StringTable)
	r := &Report{}
	NameAddresses(p, func(a uint64) string { return map[uint64]string{0x400100: "a", 0x400200: "b"}[a] }, Limits{MaxSymbols: used + 3, Report: r})
	require.Len(t, p.Function, 1)
	require.Equal(t, "skipped name of an address, beyond limits.max_symbols (1)", r.String())
}

// Of jemalloc's profiles the allocator's own frames are dropped too.
func TestNameAddressesOfJemalloc(t *testing.T) {
	for entry, dropped := range map[string]bool{
		"malloc": true, "_rjem_je_malloc_default": true, "je_prof_backtrace": true, "prof_tctx_create": true,
		"__rust_alloc_zeroed": true, "_RNvCs1234_7___rustc12___rust_alloc": true, "alloc::alloc::alloc": true,
		"_ZN80_$LT$tikv_jemallocator..Jemalloc$u20$as$u20$core..alloc..global..GlobalAlloc$GT$5alloc17h0123456789abcdefE": true,
		"_ZN63_$LT$alloc..alloc..Global$u20$as$u20$core..alloc..Allocator$GT$8allocate17h0123456789abcdefE":               true,
		"prof_report": false, "my_malloc": false, "Global::init": false,
	} {
		p, _, err := Pprof([]byte(legacyProfiles["jemalloc"]), Limits{})
		require.NoError(t, err)
		NameAddresses(p, func(a uint64) string { return map[uint64]string{0x400100: entry, 0x400200: "main"}[a] }, Limits{})
		stack, _, _ := strings.Cut(shownStacks(p)[0], " [")
		if dropped {
			require.Equal(t, "main", stack, entry)
		} else {
			require.Equal(t, "main;"+entry, stack, entry)
		}
	}
}
