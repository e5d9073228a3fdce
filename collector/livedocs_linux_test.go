package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Every command that docs/tools.md says to type for what runs works. Processes,
// containers and control groups in it are real ones; recordings are shorter.
func TestLiveToolsPage(t *testing.T) {
	requireSampling(t)
	page, err := os.ReadFile("../docs/tools.md")
	require.NoError(t, err)
	dir := toolFiles(t)
	busy := exec.Command(buildBurnC(t, dir), "10000", "0.5")
	require.NoError(t, busy.Start())
	t.Cleanup(func() { _ = busy.Process.Kill(); _ = busy.Wait() })
	group := makeCGroup(t)
	require.NoError(t, os.WriteFile(filepath.Join(group.dir, "cgroup.procs"), []byte(pidOf(busy)), 0o600))
	for name, text := range map[string]string{
		"app.sh": "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done\n",
		"app.py": "print(sum(i * i for i in range(3_000_000)))\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	place := strings.NewReplacer(`\|`, "|", "PID", pidOf(busy), "CONTAINER", filepath.Base(group.path)[:12], "/system.slice/nginx.service", group.path)
	ran, seen, lines := map[string]int{}, map[string]bool{}, []string{}
	for row := range strings.Lines(string(page)) {
		cells := regexp.MustCompile(`[^\\]\| `).Split(row, -1)
		code := regexp.MustCompile("^`(flameline (record|top|doctor)[^`]*)`([^|`]*)\\|$").FindStringSubmatch(strings.TrimSpace(cells[len(cells)-1]))
		if code == nil {
			continue
		}
		line := place.Replace(code[1])
		line = regexp.MustCompile(` -d (10|30)\b`).ReplaceAllString(line, " -d 0.7")
		if code[2] == "top" {
			line += " --once"
		}
		if strings.Contains(code[3], "Ctrl-C") {
			line = interrupted + line
		}
		ran[code[2]]++
		if same := outputName.ReplaceAllString(line, "-o FILE"); !seen[same] {
			seen[same] = true
			lines = append(lines, line)
		}
	}
	t.Run("lines", func(t *testing.T) {
		for _, line := range lines {
			t.Run(line, func(t *testing.T) {
				t.Parallel()
				runLiveLine(t, dir, line)
			})
		}
	})
	require.Greater(t, ran["record"], 20)
	require.Greater(t, ran["top"], 3)
	require.Greater(t, ran["doctor"], 2)
	require.NoError(t, busy.Process.Signal(syscall.Signal(0)), "the process that was looked at goes on")
}

// outputName matches the name of a line's output without its extension, by which alone
// many lines differ.
var outputName = regexp.MustCompile(`-o [^-.\s][^.\s]*`)

// interrupted begins a line that is ended by a signal, as Ctrl-C does.
const interrupted = "timeout -s INT 10 "

// runLiveLine runs a line in a folder of its own, which has the programs of another, and
// looks at what it writes.
func runLiveLine(t *testing.T, programs, line string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"bin", "app.sh", "app.py"} {
		require.NoError(t, os.Symlink(filepath.Join(programs, name), filepath.Join(dir, name)))
	}
	began := time.Now()
	exit, stdout, stderr := shell(t, dir, line)
	t.Logf("%v: %s", time.Since(began).Round(time.Millisecond), stderr)
	if strings.HasPrefix(line, interrupted) {
		require.Equal(t, 124, exit, "timeout's own, as it has sent the signal")
	} else {
		require.Zero(t, exit, stderr)
	}
	file := regexp.MustCompile(`-o (\S+)`).FindStringSubmatch(line)
	if file == nil || file[1] == "-" {
		require.NotEmpty(t, stdout)
		return
	}
	b, err := os.ReadFile(filepath.Join(dir, file[1]))
	require.NoError(t, err)
	require.NoError(t, looksLike(file[1], b))
}
