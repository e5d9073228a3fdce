package debuginfo

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// program compiles a program with a build ID and returns its debug file.
func program(t testing.TB, id string) []byte {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x.c"), []byte("int main(void) { return 0; }\n"), 0o600))
	for _, args := range [][]string{
		{"gcc", "-g", "-Wl,--build-id=0x" + id, "-o", "x", "x.c"},
		{"objcopy", "--only-keep-debug", "x", "x.debug"},
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "x.debug"))
	require.NoError(t, err)
	return data
}

// A files server is debuginfod's HTTP interface.
type files struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte // by build ID
	asked []string
	hang  bool // answers begin and do not end
}

func serve(t *testing.T) *files {
	f := &files{files: map[string][]byte{}}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/buildid/"), "/debuginfo")
		f.mu.Lock()
		f.asked = append(f.asked, id)
		data, ok := f.files[id]
		hang := f.hang
		f.mu.Unlock()
		switch {
		case hang:
			_, _ = w.Write([]byte("\x7fELF"))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case !ok:
			http.NotFound(w, r)
		default:
			_, _ = w.Write(data)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *files) requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

func newClient(t *testing.T, o Options) (*Client, chan string) {
	t.Helper()
	arrived := make(chan string, 10)
	o.Arrived = func(id string) { arrived <- id }
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	c, err := NewClient(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c, arrived
}

// settled waits until nothing is wanted any more.
func (c *Client) settled(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.wanted) == 0
	}, 20*time.Second, time.Millisecond)
}

func (c *Client) result(name string) float64 {
	return testutil.ToFloat64(c.fetches.WithLabelValues(name))
}

const (
	idA = "aa00000000000000000000000000000000000001"
	idB = "bb00000000000000000000000000000000000002"
	idC = "cc00000000000000000000000000000000000003"
)

func TestClient(t *testing.T) {
	empty, full := serve(t), serve(t)
	full.files[idA] = program(t, idA)
	reg := prometheus.NewRegistry()
	c, arrived := newClient(t, Options{URLs: []string{empty.URL, full.URL + "/"}, Registerer: reg})
	_, err := c.Open(strings.ToUpper(idA))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Equal(t, idA, <-arrived)
	f, err := c.Open(idA)
	require.NoError(t, err)
	defer f.Close()
	got, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	require.Equal(t, full.files[idA], got)
	require.EqualValues(t, len(got), testutil.ToFloat64(c.bytes))

	// What no server has is asked for once.
	for range 5 {
		_, err = c.Open(idB)
		require.ErrorIs(t, err, os.ErrNotExist)
		c.settled(t)
	}
	require.Equal(t, 2, empty.requests())
	require.Equal(t, 2, full.requests())
	require.Equal(t, 1.0, c.result("missing"))
	require.Equal(t, 1.0, c.result("ok"))

	// The next client has what this one fetched.
	next, _ := newClient(t, Options{URLs: []string{empty.URL}, Dir: c.o.Dir})
	again, err := next.Open(idA)
	require.NoError(t, err)
	require.NoError(t, again.Close())

	_, err = c.Open("../../etc/passwd")
	require.ErrorContains(t, err, "build ID")
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// TestClientRefuses has servers whose answers are not kept.
func TestClientRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		data []byte
		hang bool
		max  int64
	}{
		"another build": {data: program(t, idB)},
		"no ELF file":   {data: []byte("<html>")},
		"too large":     {data: program(t, idA), max: 1000},
		"no end":        {hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t)
			server.files[idA], server.hang = test.data, test.hang
			c, _ := newClient(t, Options{URLs: []string{server.URL}, MaxFileBytes: test.max, Timeout: 500 * time.Millisecond})
			_, err := c.Open(idA)
			require.ErrorIs(t, err, os.ErrNotExist)
			require.Eventually(t, func() bool { return c.result("error") == 1 }, 20*time.Second, time.Millisecond)
			left, err := os.ReadDir(c.o.Dir)
			require.NoError(t, err)
			require.Empty(t, left)
			_, err = c.Open(idA)
			require.ErrorIs(t, err, os.ErrNotExist)
			c.settled(t)
			require.Equal(t, 1, server.requests(), "it is not asked again at once")
		})
	}
}

// TestClientKeepsWithinBytes drops the file that was not used for longest.
func TestClientKeepsWithinBytes(t *testing.T) {
	server := serve(t)
	for _, id := range []string{idA, idB, idC} {
		server.files[id] = program(t, id)
	}
	size := int64(len(server.files[idA]))
	c, arrived := newClient(t, Options{URLs: []string{server.URL}, MaxBytes: 2*size + size/2})
	old := time.Now().Add(-time.Hour)
	for _, id := range []string{idA, idB} {
		_, _ = c.Open(id)
		require.Equal(t, id, <-arrived)
		require.NoError(t, os.Chtimes(c.path(id), old, old))
	}
	f, err := c.Open(idA) // used, so it stays
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, _ = c.Open(idC)
	require.Equal(t, idC, <-arrived)
	require.FileExists(t, c.path(idA))
	require.NoFileExists(t, c.path(idB))
	require.FileExists(t, c.path(idC))
}

// TestClientCloses ends a fetch that does not.
func TestClientCloses(t *testing.T) {
	server := serve(t)
	server.hang = true
	c, err := NewClient(Options{URLs: []string{server.URL}, Dir: t.TempDir()})
	require.NoError(t, err)
	_, err = c.Open(idA)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Eventually(t, func() bool { return server.requests() == 1 }, 20*time.Second, time.Millisecond)
	require.NoError(t, c.Close())
}

func TestCheckURL(t *testing.T) {
	require.NoError(t, CheckURL("https://debuginfod.example.org"))
	for _, s := range []string{"", "debuginfod.example.org", "ftp://x", "http://", ":"} {
		require.Error(t, CheckURL(s), s)
	}
	_, err := NewClient(Options{URLs: []string{"x"}, Dir: t.TempDir()})
	require.Error(t, err)
}
