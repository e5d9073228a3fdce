package scrape

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseSymbols(t *testing.T) {
	answer := strings.Join([]string{
		"num_symbols: 1",
		"0x400100\tshop::basket::fill(int, char const*)",
		"0x00400200 main\r",
		"0x400300\t??",
		"0x400400",
		"0x400500\t0x400500",
		"0x400600\t[unknown]",
		"0x400700\t(anonymous namespace)::run",
		"400800\tno prefix",
		"0x\tno digits",
		"0x123456789abcdef01\ttoo large",
		"0x400900\t" + strings.Repeat("x", maxSymbolLine),
		"",
		"<html>",
		"0x400a00\tcut",
	}, "\n")
	var got []string
	parseSymbols([]byte(answer), func(a uint64, name string) { got = append(got, fmt.Sprintf("%x=%s", a, name)) })
	require.Equal(t, []string{
		"400100=shop::basket::fill(int, char const*)", "400200=main", "400300=", "400400=", "400500=", "400600=",
		"400700=(anonymous namespace)::run", "400a00=cut",
	}, got)
}

func TestSymbolCount(t *testing.T) {
	for answer, want := range map[string]string{
		"num_symbols: 1\n":         "1 true",
		"num_symbols:0":            "0 true",
		"# x\r\nnum_symbols: 12\r": "12 true",
		"num_symbols: many":        "0 false",
		"":                         "0 false",
		"<html>":                   "0 false",
	} {
		n, ok := symbolCount([]byte(answer))
		require.Equal(t, want, fmt.Sprint(n, ok), answer)
	}
}

// FuzzParseSymbols checks that names are short, on one line, and part of the answer.
func FuzzParseSymbols(f *testing.F) {
	f.Add([]byte("num_symbols: 1\n0x400100\tmain\n0x400200 ??\n"))
	f.Add([]byte("0x\t\n0xg\n0xffffffffffffffff\t(anonymous namespace)::f\r\n0x1"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		parseSymbols(answer, func(_ uint64, name string) {
			if len(name) > maxSymbolLine || strings.Contains(name, "\n") || !strings.Contains(string(answer), name) {
				t.Fatalf("name %q", name)
			}
		})
		symbolCount(answer)
	})
}
