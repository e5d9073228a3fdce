//go:build linux && (amd64 || arm64)

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestJudge(t *testing.T) {
	chain := []string{"main", "nest", "nest", "work", "?each", "burn"}
	const whole, right, known = "whole", "right", "known"
	for stack, is := range map[string][]string{
		"_start;main;nest;nest;work;burn":             {whole, known, right},
		"_start;main;nest;nest;work;ns::each;burn(x)": {whole, known, right},
		"_start;main;nest;nest;work;clock;vdso":       {whole, known, right},
		"sort+0x1;__libc_start_main;main;nest;nest":   {whole, known, right},
		"_start;main;nest;work;burn":                  {whole, known},
		"_start;main;nest;nest;burn":                  {whole, known},
		"_start;main;prepare":                         {whole},
		"start;main;nest;nest;work;burn":              {known, right},
		"[stack incomplete: stack too deep];burn":     {known},
		"[stack incomplete: new process];burn":        {"early"},
		"[stack incomplete: code not known yet];burn": {"early"},
	} {
		t.Run(stack, func(t *testing.T) {
			v := judge(chain, map[string]int64{strings.ReplaceAll(stack, ";", "\n"): 1})
			got := map[string]int64{whole: v.whole, right: v.right, known: v.known, "early": v.early}
			want := map[string]int64{whole: 0, right: 0, known: 0, "early": 0}
			for _, name := range is {
				want[name] = 1
			}
			require.Equal(t, want, got)
			require.Equal(t, int64(1), v.total)
			require.Equal(t, 1-v.whole-v.early, sumOf(v.cut))
		})
	}
}

// TestRows checks that rows have names of their own, and chains that can be told from
// other functions.
func TestRows(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range matrix("/versions") {
		require.False(t, seen[r.name], r.name)
		seen[r.name] = true
		require.NotEmpty(t, r.run, r.name)
		require.NotEqual(t, 1, len(r.chain), r.name)
	}
}
