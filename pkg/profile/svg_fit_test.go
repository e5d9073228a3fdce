package profile

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLongNamesLoseTheirPathFirst(t *testing.T) {
	for name, want := range map[string]string{
		"github.com/example/shop/cart.(*Server).Price":  "cart.(*Server).Price",
		"/usr/lib/libc.so.6+0x1234":                     "libc.so.6+0x1234",
		"shop.Map[github.com/example/shop.Item].Get":    "shop.Map[github.com/exa…",
		"operator/(Matrix const&, Matrix const&) const": "operator/(Matrix const&…",
		"main.work": "main.work",
		"java/util/concurrent/ForkJoinPool.runWorkerQueue": "ForkJoinPool.runWorkerQ…",
	} {
		require.Equal(t, want, fit(name, 1, 24), name)
	}
}
