package query

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

func TestGapNotices(t *testing.T) {
	gap := func(reason string, left, right int64) profile.Gap {
		return profile.Gap{Reason: reason, Value: [2]int64{left, right}}
	}
	g := profile.Gaps{
		Unnamed: []profile.Gap{gap("a.so", 100, 0), gap("b.so", 50, 0), gap("c.so", 30, 0), gap("JIT code", 20, 0), gap("d.so", 5, 0)},
		Cut:     []profile.Gap{gap("stack too deep", 9, 200)},
	}
	left := gapNotices(g, 0, 1000)
	require.Len(t, left, 1, "less than one percent is cut")
	require.Contains(t, left[0].Text, "20.5 % of the total is of stacktraces with functions that have no name (a.so 10 %, b.so 5 %, c.so 3 %, others 2.5 %).")
	right := gapNotices(g, 1, 1000)
	require.Len(t, right, 1)
	require.Contains(t, right[0].Text, "20 % of the total is of stacktraces that lack callers (stack too deep 20 %).")
	require.Empty(t, gapNotices(g, 0, 0))
	require.Empty(t, gapNotices(profile.Gaps{}, 0, 1000))
}
