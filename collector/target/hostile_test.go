package target

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// procOf writes the files of a process below a directory.
func procOf(t *testing.T, root, pid string, files map[string][]byte) {
	t.Helper()
	dir := filepath.Join(root, pid)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for name, data := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
}

var plainStat = []byte("7 (shop) S 1 7 7 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 100 1 1 1 1 1 1 1 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 1 1 1 1 1 1 1 0\n")

// TestLabelsOfSilentProcess puts a pipe, which nobody writes to, into the place of a
// process' command line. What is known of the process serves; others are read as ever,
// and the process is not read again.
func TestLabelsOfSilentProcess(t *testing.T) {
	root := t.TempDir()
	procOf(t, root, "7", map[string][]byte{"stat": plainStat, "cgroup": []byte("0::/\n"), "environ": nil})
	fifo := filepath.Join(root, "7", "cmdline")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	procOf(t, root, "8", map[string][]byte{"stat": plainStat, "cgroup": []byte("0::/\n"), "environ": nil, "cmdline": []byte("/bin/other\x00")})
	var log bytes.Buffer
	r := New(Options{ProcRoot: root, Node: "n", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	r.reading.Limit = 50 * time.Millisecond
	// The pipe's reader ends with the test.
	defer func() {
		w, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0)
		require.NoError(t, err)
		w.Close()
		for r.reading.Waiting() > 0 {
			time.Sleep(time.Millisecond)
		}
	}()
	for range 3 {
		ls := r.Labels(7, Hint{Comm: "shop", Exe: "/srv/shop"})
		require.Equal(t, "shop", ls.Get(LabelService))
	}
	require.Equal(t, 1.0, testutil.ToFloat64(r.bad.WithLabelValues("timeout")))
	require.Contains(t, log.String(), "pid=7")
	require.Equal(t, "other", r.Labels(8, Hint{}).Get(LabelService))
}

// TestLabelsOfGarbage gives a process files of megabytes and of random bytes.
func TestLabelsOfGarbage(t *testing.T) {
	root := t.TempDir()
	garbage := bytes.Repeat([]byte("\xff\x1b[31m\n\x00\x80=,;%zz"), 1<<20)
	for name, files := range map[string]map[string][]byte{
		"environ": {"stat": plainStat, "environ": append([]byte("OTEL_SERVICE_NAME=\x1b[2J\xffshop\n\x00"), garbage...)},
		"cmdline": {"stat": plainStat, "cmdline": garbage},
		"zeros":   {"stat": plainStat, "cmdline": make([]byte, 16<<20)},
		"java":    {"stat": plainStat, "cmdline": append([]byte("java\x00"), bytes.Repeat([]byte("-cp\x00"), 1<<20)...)},
		"commas":  {"stat": plainStat, "environ": []byte("OTEL_RESOURCE_ATTRIBUTES=" + strings.Repeat("service.name=a%41,", 1<<20))},
		"cgroup":  {"stat": plainStat, "cgroup": bytes.Repeat([]byte("0::/"+strings.Repeat("a", 64)+"/"), 1<<18)},
		"stat":    {"stat": append(append([]byte("7 (\x1b]0;x\x07) "), bytes.Repeat([]byte(") "), 1<<20)...), plainStat...)},
	} {
		procOf(t, root, "9", map[string][]byte{"cgroup": nil, "environ": nil, "cmdline": nil})
		procOf(t, root, "9", files)
		r := New(Options{ProcRoot: root, Node: "n"})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		ls := r.Labels(9, Hint{Comm: "c"})
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(48<<20), name)
		require.NotEmpty(t, ls.Get(LabelService), name)
		ls.Range(func(l labels.Label) {
			require.LessOrEqual(t, len(l.Value), maxLabelValue, name)
			require.True(t, utf8.ValidString(l.Value), name)
			require.False(t, strings.ContainsFunc(l.Value, unicode.IsControl), "%s: %q", name, l.Value)
		})
	}
}
