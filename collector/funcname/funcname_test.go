package funcname

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestPushed(t *testing.T) {
	for name, want := range map[string]string{
		"_ZN4shop8checkoutEi": "shop::checkout",
		"__ZN6duckdb13TaskScheduler14ExecuteForeverEPNSt3__16atomicIbEE":                "duckdb::TaskScheduler::ExecuteForever",
		"_ZN5tokio7runtime4task7harness20Harness$LT$T$C$S$GT$4poll17h0123456789abcdefE": "tokio::runtime::task::harness::Harness<T,S>::poll",
		"__ZN4core3fmt9Formatter3pad17h0123456789abcdefE":                               "core::fmt::Formatter::pad",
		"_ZN4core3fmt9Formatter3pad17h0123456789abcdefE.llvm.123456789":                 "core::fmt::Formatter::pad",
		"_RNvCs1234_7mycrate3foo":                               "mycrate::foo",
		"__RNvCs1234_7mycrate3foo":                              "mycrate::foo",
		"_ZNSt6vectorIiSaIiEE9push_backERKi":                    "std::vector<int, std::allocator<int> >::push_back",
		"_ZN3BoxIdE4spinEv":                                     "Box<double>::spin",
		"_ZN3BoxIfE4spinEv":                                     "Box<float>::spin",
		"_Z3runIdET_S0_":                                        "run<double>",
		"_RINvCs1234_7mycrate3foolE":                            "mycrate::foo::<i32>",
		"_ZN4shop8checkoutEi.isra.0.cold":                       "shop::checkout",
		"_ZN4shop8checkoutEi_[i]":                               "shop::checkout_[i]",
		"_ZN4shop8checkoutEi+0x1f":                              "shop::checkout+0x1f",
		"_ZN4shop8checkoutEi (/usr/lib/libshop.so)":             "shop::checkout (/usr/lib/libshop.so)",
		"libjvm.so._ZN10JavaThread3runEv":                       "libjvm.so.JavaThread::run",
		"libjvm.so`_ZN10JavaThread3runEv+0x14":                  "libjvm.so`JavaThread::run+0x14",
		"___ZN4shop8checkoutEi_block_invoke":                    "invocation function for block in shop::checkout",
		"tokio::task::poll::h0123456789abcdef":                  "tokio::task::poll",
		"tokio::task::poll::h0123456789abcdef_[k]":              "tokio::task::poll_[k]",
		"tokio::task::poll::h0123456789abcdef+0x2a":             "tokio::task::poll+0x2a",
		"<alloc::vec::Vec<T> as Drop>::drop::hfedcba9876543210": "<alloc::vec::Vec<T> as Drop>::drop",

		// Names that are none of these stay.
		"":                                  "",
		"_":                                 "_",
		"_Z":                                "_Z",
		"_ZN":                               "_ZN",
		"_Zebra.cold":                       "_Zebra.cold",
		"__Rust_thing":                      "__Rust_thing",
		"__libc_start_main":                 "__libc_start_main",
		"_start":                            "_start",
		"main.(*order).validate":            "main.(*order).validate",
		"foo::h0123456789abcdeg":            "foo::h0123456789abcdeg",
		"foo::h0123456789ABCDEF":            "foo::h0123456789ABCDEF",
		"foo::h0123":                        "foo::h0123",
		"::h0123456789abcdef":               "::h0123456789abcdef",
		"do_syscall_64_[k]":                 "do_syscall_64_[k]",
		"com.example._ZNothing.run":         "com.example._ZNothing.run",
		"java.lang.Thread.run_[j] deadbeef": "java.lang.Thread.run_[j] deadbeef",
	} {
		require.Equal(t, want, Pushed(name), name)
	}
}

// FuzzPushed checks that names stay short and UTF-8, and that a name that was
// made plain is not changed again.
func FuzzPushed(f *testing.F) {
	for _, s := range []string{
		"_ZN4shop8checkoutEi", "__ZN4shop8checkoutEi_[k]", "_RNvCs1234_7mycrate3foo", "a::h0123456789abcdef", "lib.so._ZN1aEv",
		"_Z1fI" + strings.Repeat("S_", 60) + "E",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Pushed(s)
		if len(got) > len(s)+2*MaxBytes {
			t.Fatalf("%d bytes became %d", len(s), len(got))
		}
		if utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Fatalf("%q is not UTF-8", got)
		}
	})
}

func BenchmarkPushed(b *testing.B) {
	for name, s := range map[string]string{
		"go":        "example.org/service/package1.(*Type17).Method42",
		"c++":       "_ZN6duckdb13TaskScheduler14ExecuteForeverEPNSt3__16atomicIbEE",
		"rust":      "_ZN5tokio7runtime4task7harness20Harness$LT$T$C$S$GT$4poll17h0123456789abcdefE",
		"hostile":   "_Z1f" + strings.Repeat("N1a", 2000) + "E",
		"pointers":  "_Z1f" + strings.Repeat("P", 8000) + "i",
		"nested":    "_Z1f" + strings.Repeat("1aI", 2500) + "i" + strings.Repeat("E", 2500),
		"v0":        "_R" + strings.Repeat("Nv", 2000) + "C1a" + strings.Repeat("1b", 2000),
		"functions": "_Z1f" + strings.Repeat("PFv", 2000) + "i" + strings.Repeat("E", 2000),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				Pushed(s)
			}
		})
	}
}
