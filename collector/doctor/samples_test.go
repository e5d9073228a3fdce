package doctor

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

func TestSampled(t *testing.T) {
	gap := func(reason string, n int64) profile.Gap { return profile.Gap{Reason: reason, Value: [2]int64{n}} }
	r := &Report{Works: true}
	r.Sampled(200, profile.Gaps{
		Unnamed: []profile.Gap{gap("libx.so", 30), gap("JIT code", 20), gap("Python", 1)},
		Cut:     []profile.Gap{gap("no unwind information", 4)},
	})
	require.True(t, r.Works)
	require.Equal(t, []Check{
		{"samples", Warn, "of 200 samples 25.5 % have functions without a name, and 2 % lack callers", ""},
		{"unnamed", Note, "15 % of the samples, in libx.so", `see the file's line "symbols" above`},
		{"unnamed", Note, "10 % of the samples, in JIT code", `have the program write a perf map, see "jit" above`},
		{"unnamed", Note, "0.5 % of the samples, in Python", ""},
		{"cut", Note, "2 % of the samples: no unwind information", "build that code without -fno-asynchronous-unwind-tables, or with -fno-omit-frame-pointer"},
	}, r.Checks)

	r = &Report{}
	r.Sampled(0, profile.Gaps{})
	require.Equal(t, Note, r.Checks[0].Status)
	r = &Report{}
	r.Sampled(1000, profile.Gaps{Cut: []profile.Gap{gap("new process", 9)}})
	require.Equal(t, OK, r.Checks[0].Status, "less than one percent")
}
