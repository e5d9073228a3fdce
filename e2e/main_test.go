package e2e

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain leaves the tests of this package out with -short: they run for minutes,
// as root and on a machine that is not busy otherwise.
func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("e2e: left out by -short")
		return
	}
	os.Exit(m.Run())
}
