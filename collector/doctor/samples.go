package doctor

import (
	"fmt"
	"strings"

	"github.com/flameline/flameline/pkg/profile"
)

// maxGaps bounds the reasons of which there is a line each.
const maxGaps = 5

// Sampled adds what samples of a process lack: names of functions, by module or language,
// and callers, by reason. The gaps are in samples.
func (r *Report) Sampled(samples int64, g profile.Gaps) {
	if samples == 0 {
		r.add("samples", Note, "there were none: it did not run", "sample for longer, or while it has work")
		return
	}
	share := func(n int64) string { return fmt.Sprintf("%.3g %%", 100*float64(n)/float64(samples)) }
	unnamed, cut := profile.Sum(g.Unnamed)[0], profile.Sum(g.Cut)[0]
	status := OK
	if unnamed*100 >= samples || cut*100 >= samples {
		status = Warn
	}
	r.add("samples", status, fmt.Sprintf("of %d samples %s have functions without a name, and %s lack callers", samples, share(unnamed), share(cut)), "")
	for i, gap := range g.Unnamed {
		if i == maxGaps {
			break
		}
		fix := "see the file's line \"symbols\" above"
		switch {
		case gap.Reason == "JIT code":
			fix = "have the program write a perf map, see \"jit\" above"
		case gap.Reason == "unknown module" || !strings.Contains(gap.Reason, "."):
			fix = ""
		}
		r.add("unnamed", Note, fmt.Sprintf("%s of the samples, in %s", share(gap.Value[0]), gap.Reason), fix)
	}
	for i, gap := range g.Cut {
		if i == maxGaps {
			break
		}
		r.add("cut", Note, fmt.Sprintf("%s of the samples: %s", share(gap.Value[0]), gap.Reason), cutFix(gap.Reason))
	}
}

// cutFix says what helps against stacktraces that are cut for a reason, "" if nothing is
// known.
func cutFix(reason string) string {
	for _, known := range []struct{ part, fix string }{
		{"not known yet", "it had just begun, or mapped further code: sample for longer"},
		{"new process", "it had just begun: sample for longer"},
		{"no unwind information", "build that code without -fno-asynchronous-unwind-tables, or with -fno-omit-frame-pointer"},
		{"unnamed memory", "have the just-in-time compiler keep frame pointers"},
		{"32-bit", "use a 64-bit build"},
		{"too deep", "the unwinder stops at some hundred frames: nothing helps but less recursion"},
	} {
		if strings.Contains(reason, known.part) {
			return known.fix
		}
	}
	return ""
}
