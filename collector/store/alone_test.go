package store

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

const aloneTest = "FLAMELINE_TEST_ALONE"

// alone runs a test that measures memory in a process of its own, where no other test
// has left anything. It reports whether this is that process; in the other one the
// test has passed or failed by then.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneTest) == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v", "-test.short="+shortFlag())
	cmd.Env = append(os.Environ(), aloneTest+"="+t.Name())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name(), "the test did not run")
	t.Logf("%s", out)
	return false
}

func shortFlag() string {
	if testing.Short() {
		return "true"
	}
	return "false"
}
