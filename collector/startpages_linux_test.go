package main

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The pages of the program leave its resident memory, and it works on.
func TestDropStartPages(t *testing.T) {
	resident := func() int {
		status, err := os.ReadFile("/proc/self/status")
		require.NoError(t, err)
		_, after, _ := strings.Cut(string(status), "RssFile:")
		kib, err := strconv.Atoi(strings.Fields(after)[0])
		require.NoError(t, err)
		return kib
	}
	before := resident()
	require.NoError(t, dropStartPages())
	require.Less(t, resident(), before*3/4)
}
