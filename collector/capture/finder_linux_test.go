package capture

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/target"
	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
)

// A service that a script starts just before the capture runs another program at first.
func TestFindsServiceThatStarts(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 0.3; exec env OTEL_SERVICE_NAME=capture-finder-test sleep 60")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r, err := Limits{}.parse(&flamelinev1.CaptureRequest{LabelSelector: `{service_name="capture-finder-test"}`, Duration: 1000})
	require.NoError(t, err)
	targets := target.New(target.Options{})
	targets.Raw(cmd.Process.Pid, target.Hint{}) // the shell's labels are known
	pids, err := newFinder(targets, &r).all(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int{cmd.Process.Pid}, pids)
}
