package main

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/store"
	"github.com/flameline/flameline/collector/target"
	"github.com/flameline/flameline/pkg/profile"
)

// burster uses the CPU in the first 200 ms of every second.
const burster = `package main

import "time"

func main() {
	for {
		now := time.Now()
		if now.Nanosecond() >= 200e6 {
			time.Sleep(now.Truncate(time.Second).Add(time.Second).Sub(now))
		}
	}
}
`

// A program that is busy at the start of every second is seen there in the heat map of the
// store, and nowhere else.
func TestLiveSampleTimes(t *testing.T) {
	requireSampling(t)
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "flameline-burster")
	require.NoError(t, os.WriteFile(source, []byte(burster), 0o600))
	out, err := exec.Command("go", "build", "-o", program, source).CombinedOutput()
	require.NoError(t, err, string(out))
	run := exec.Command(program)
	require.NoError(t, run.Start())
	defer func() {
		require.NoError(t, run.Process.Kill())
		require.Error(t, run.Wait())
	}()

	db, err := store.Open(t.TempDir(), store.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	srv := server.New(server.Options{})
	log := &lockedBuffer{}
	c := config.EBPF{Enabled: config.True, Frequency: 97, Interval: config.Duration(time.Second), SampleTimes: true}
	s := newSampler(c, db, target.New(target.Options{}), &srv.Health, &keptSymbols{}, slog.New(slog.NewTextHandler(log, nil)), prometheus.NewRegistry())
	require.NoError(t, s.run(t.Context()))
	defer func() { require.NoError(t, s.Close()) }()

	matchers, err := profile.ParseSelector(`{service_name="flameline-burster"}`)
	require.NoError(t, err)
	typ, err := profile.ParseType("process_cpu:cpu:nanoseconds:cpu:nanoseconds")
	require.NoError(t, err)
	end := time.Now().Truncate(time.Second).UnixMilli() + time.Hour.Milliseconds()
	request := store.OffsetsRequest{
		Selection: store.Selection{Type: typ, Matchers: matchers, Start: end - 2*time.Hour.Milliseconds(), End: end},
		Step:      time.Second, Rows: 10,
	}
	var found *store.Offsets
	require.Eventually(t, func() bool {
		found, err = db.Offsets(t.Context(), request)
		return err != nil || len(found.Columns) >= 10
	}, 2*time.Minute, 100*time.Millisecond, "there are no offsets:\n%s", log)
	require.NoError(t, err)
	require.Zero(t, found.Untimed)
	var rows [10]float64
	var all float64
	for _, column := range found.Columns {
		for row, v := range column.Values {
			rows[row] += float64(v) / 1e9
			all += float64(v) / 1e9
		}
	}
	t.Logf("CPU time by tenths of the second: %.2f", rows)
	busy := rows[0] + rows[1]
	// Where the CPUs are busy, a burst may begin late; it ends in time.
	require.Greater(t, busy, 0.9*all, "CPU time by tenths of the second: %s", strings.TrimSpace(log.String()))
	require.Greater(t, busy, 0.3, "the program had no CPU")
}
