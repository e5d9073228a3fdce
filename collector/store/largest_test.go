package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

func TestMaxNodesIsTruncate(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(10, 10))
	db := open(t, t.TempDir())
	for range 60 {
		var stacks []string
		for range 1 + r.IntN(8) {
			s := "main"
			for range r.IntN(7) {
				s += fmt.Sprintf(";f%d", r.IntN(6))
			}
			if r.IntN(4) == 0 {
				s += ";other"
			}
			stacks = append(stacks, fmt.Sprintf("%s %d", s, 1+r.IntN(20)))
		}
		p := folded(midnight.Add(time.Duration(1+r.IntN(1000))*time.Minute), stacks...)
		require.NoError(t, db.Append(ctx, []profile.Profile{cpu(p, labelServiceName, fmt.Sprint(r.IntN(4)))}))
	}
	for _, selector := range []string{`{}`, `{service_name="1"}`, `{service_name="none"}`} {
		whole, err := db.Tree(ctx, everything(selector), nil)
		require.NoError(t, err)
		for n := int64(1); n < 400; n += 1 + n/7 {
			sel := everything(selector)
			sel.MaxNodes = n
			got, err := db.Tree(ctx, sel, nil)
			require.NoError(t, err)
			want := whole.Truncate(n)
			require.Equal(t, draw(want), draw(got), "%s %d", selector, n)
			require.Equal(t, len(want.Nodes), len(got.Nodes))
			for i, node := range got.Nodes[1:] {
				require.LessOrEqual(t, node.Parent, int32(i))
			}
		}
	}
}
