package main

import (
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// topRow is a row of the text of `flameline top`.
var topRow = regexp.MustCompile(`(?m)^ *([0-9.]+) +([0-9.]+) +([0-9.]+) +([0-9.]+)  (.*)$`)

// topRows returns own and total per cent by function.
func topRows(t *testing.T, text string) map[string][2]float64 {
	t.Helper()
	rows := map[string][2]float64{}
	for _, m := range topRow.FindAllStringSubmatch(text, -1) {
		own, err1 := strconv.ParseFloat(m[1], 64)
		total, err2 := strconv.ParseFloat(m[2], 64)
		require.NoError(t, err1)
		require.NoError(t, err2)
		rows[m[5]] = [2]float64{own, total}
	}
	return rows
}

// Functions of each language are there with their own and total time.
func TestLiveTopLanguages(t *testing.T) {
	requireSampling(t)
	for _, b := range busies {
		t.Run(b.name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := background(t, append(b.command(t, dir), "100")...)
			time.Sleep(time.Second)
			r := runTool(t, dir, nil, "top", "-p", pidOf(cmd), "-i", "3s", "--once", "--rows", "100", "-F", "199", "--sort", "total")
			require.Zero(t, r.code)
			require.Contains(t, r.stdout, "OWN %  TOTAL %     OWN s   TOTAL s  FUNCTION")
			var turn, heavy, light [2]float64
			for name, v := range topRows(t, r.stdout) {
				switch strings.Split(name, " ")[0] {
				case b.turn:
					turn = v
				case b.heavy:
					heavy = v
				case b.light:
					light = v
				}
			}
			require.Positive(t, turn[1], r.stdout)
			require.Less(t, turn[0], 0.3*turn[1], "its own time is little")
			require.InDelta(t, 0.7, heavy[1]/(heavy[1]+light[1]), 0.1)
			require.InDelta(t, turn[1], heavy[1]+light[1], 0.1*turn[1])
			require.LessOrEqual(t, turn[1], 105.0, "one thread")
		})
	}
}

func TestLiveTopText(t *testing.T) {
	t.Parallel()
	requireSampling(t)
	dir := t.TempDir()
	busy := background(t, buildBurnC(t, dir), "100")
	r := runTool(t, dir, nil, "top", "-n", "2", "-i", "1", "--rows", "3")
	require.Zero(t, r.code)
	require.Equal(t, 2, strings.Count(r.stdout, "FUNCTION\n"))
	require.Contains(t, r.stdout, "PROCESS", "of all processes")
	require.Len(t, topRow.FindAllString(r.stdout, -1), 6)
	require.NotContains(t, r.stdout, "\x1b")
	r = runTool(t, dir, nil, "top", "--comm", "^burnc$", "--once")
	require.Contains(t, r.stdout, "burnc            burn_heavy (burnc)")
	// A reader that has seen enough.
	path, err := binary()
	require.NoError(t, err)
	out, err := exec.Command("sh", "-c", path+" top -i 1 -p "+pidOf(busy)+" | head -n 2; true").CombinedOutput()
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(out), "\n"), "%s", out)
	// The processes end.
	short := background(t, "sh", "-c", "i=0; while [ $i -lt 3000000 ]; do i=$((i+1)); done")
	r = runTool(t, dir, nil, "top", "-p", pidOf(short), "-i", "1")
	require.Zero(t, r.code)
	require.Contains(t, r.stderr, "process "+pidOf(short)+" has ended")
}

func TestTopErrors(t *testing.T) {
	for _, c := range []struct {
		code int
		text string
		args []string
	}{
		{2, "give only one of", []string{"-a", "-p", "1"}},
		{2, "is not between 1 and 1000", []string{"-F", "0"}},
		{2, "is less than 1s", []string{"-i", "0.1"}},
		{2, "give a number above 0", []string{"--iterations=-1"}},
		{2, "must be one of own,total", []string{"--sort", "x"}},
		{1, "there is no process 4194305", []string{"-p", "4194305"}},
	} {
		r := runTool(t, t.TempDir(), nil, append([]string{"top"}, c.args...)...)
		require.Equal(t, c.code, r.code, c.args)
		require.Contains(t, r.stderr, c.text)
		require.Empty(t, r.stdout)
	}
}

// On a terminal the table is drawn again and again, in the size of the terminal; keys change
// it, and each way to end it leaves the terminal as it was.
func TestLiveTopTerminal(t *testing.T) {
	t.Parallel()
	requireSampling(t)
	path, err := binary()
	require.NoError(t, err)
	busy := background(t, buildBurnC(t, t.TempDir()), "200")
	for _, end := range []string{"q", "\x03", "\x1b", "TERM"} {
		cmd := exec.Command(path, "top", "-i", "1", "-p", pidOf(busy))
		cmd.Env = append(os.Environ(), "TERM=xterm-256color")
		master, slave, err := pty.Open()
		require.NoError(t, err)
		require.NoError(t, pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 80}))
		before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		require.NoError(t, err)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
		require.NoError(t, cmd.Start())
		screen := readAll(master)
		seen := func(text string) func() bool {
			return func() bool { return strings.Contains(screen.String(), text) }
		}
		wait := func(text string) {
			t.Helper()
			require.Eventually(t, seen(text), time.Minute, 20*time.Millisecond, "%q in %q", text, screen)
		}
		wait("burn_heavy")
		wait("q quit")
		during, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		require.NoError(t, err)
		require.NotEqual(t, before, during, "keys come one by one")
		if end == "q" {
			_, err = io.WriteString(master, "T cO \x1b[B\x1b[6~")
			require.NoError(t, err)
			require.NoError(t, pty.Setsize(master, &pty.Winsize{Rows: 40, Cols: 120}))
			require.NoError(t, cmd.Process.Signal(unix.SIGWINCH))
			wait("\x1b[40;1H") // the last line is now the fortieth
		}
		if end == "TERM" {
			require.NoError(t, cmd.Process.Signal(unix.SIGTERM))
		} else {
			_, err = io.WriteString(master, end)
			require.NoError(t, err)
		}
		require.NoError(t, cmd.Wait(), "%q: %q", end, screen)
		after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		require.NoError(t, err)
		require.Equal(t, before, after, "%q leaves the terminal as it was", end)
		wait("\x1b[?1049l") // back to the screen before
		require.NoError(t, slave.Close())
		require.NoError(t, master.Close())
	}
}
