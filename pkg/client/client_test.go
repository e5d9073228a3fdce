package client_test

import (
	"fmt"
	"testing"

	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// The comparison of two selections with five nodes, as a Pyroscope server answered it; in
// milliseconds instead of nanoseconds.
func TestDiffOfPyroscope(t *testing.T) {
	c := serve(t, refusing{diff: &querierv1.FlameGraphDiff{
		Names: []string{"total", "main.main", "other", "main.handle", "main.work", "main.save", "syscall.write"},
		Total: 4240, MaxSelf: 880, LeftTicks: 1960, RightTicks: 2280,
		Levels: []*querierv1.Level{
			{Values: []int64{0, 1960, 0, 0, 2280, 0, 0}},
			{Values: []int64{0, 1880, 0, 0, 2200, 0, 1, 0, 80, 80, 0, 80, 80, 2}},
			{Values: []int64{0, 880, 880, 0, 880, 880, 3, 0, 760, 160, 0, 1080, 160, 4, 0, 240, 240, 0, 240, 240, 2}},
			{Values: []int64{1040, 0, 0, 1040, 520, 0, 5, 0, 600, 600, 0, 400, 400, 2}},
			{Values: []int64{1040, 0, 0, 1040, 520, 520, 6}},
		},
	}})
	tree, err := c.Diff(t.Context(), selection, selection, nil)
	require.NoError(t, err)
	require.False(t, tree.Functions)
	var got []string
	tree.Walk(func(level int, n *profile.DiffNode, name string) {
		got = append(got, fmt.Sprintf("%d %s %d/%d self %d/%d rest %v", level, name, n.Total, n.TotalRight, n.Self, n.SelfRight, tree.IsRest(n)))
	})
	require.Equal(t, []string{
		"0 total 1960/2280 self 0/0 rest false",
		"1 main.main 1880/2200 self 0/0 rest false",
		"2 main.handle 880/880 self 880/880 rest false",
		"2 main.work 760/1080 self 160/160 rest false",
		"3 main.save 0/520 self 0/0 rest false",
		"4 syscall.write 0/520 self 0/520 rest false",
		"3 other 600/400 self 600/400 rest true",
		"2 other 240/240 self 240/240 rest true",
		"1 other 80/80 self 80/80 rest true",
	}, got)
}
