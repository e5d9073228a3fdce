package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/sample"
)

// binary is the program that the tests of this package run, in processes of its
// own: as it is shipped, or, with -short, the test program under another name,
// which saves linking it once more. With the race detector, the test program takes
// too much time and memory.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "flameline-test-")
	if err != nil {
		return "", err
	}
	binaryIn = dir
	// Another user has to be able to run it.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // it holds nothing but the program
		return "", err
	}
	path := filepath.Join(dir, programName)
	if testing.Short() && !raceDetector {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		program, err := os.ReadFile(self) //nolint:gosec // it is this program
		if err != nil {
			return "", err
		}
		return path, os.WriteFile(path, program, 0o755) //nolint:gosec // another user runs it
	}
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as what ships
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return path, cmd.Run()
})

// binaryIn is the directory of binary, which TestMain removes.
var binaryIn string

// programName is the name under which the test program is the collector.
const programName = "flameline"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == programName {
		main()
	}
	code := m.Run()
	_ = os.RemoveAll(binaryIn)
	os.Exit(code)
}

// requireSampling fails a test where this machine cannot be sampled. With -short
// it leaves the test out. Names of such tests begin with TestLive: continuous
// integration runs them with nothing else.
func requireSampling(t *testing.T) {
	t.Helper()
	if !strings.HasPrefix(t.Name(), "TestLive") {
		t.Fatal("this test samples the machine: its name has to begin with TestLive")
	}
	if testing.Short() {
		t.Skip("left out by -short: it samples this machine, as root")
	}
	if err := sample.Supported(); err != nil {
		t.Fatalf("this test samples the machine, which is not possible here: %v (-short leaves it out)", err)
	}
}

// A process is one run of the program.
type process struct {
	url    string
	cmd    *exec.Cmd
	log    *bytes.Buffer
	exited chan struct{}
}

// launch runs `flameline serve` on a free port, until it is stopped or the test
// ends. edit may change the command before it starts.
func launch(t *testing.T, edit func(*exec.Cmd), args ...string) *process {
	t.Helper()
	path, err := binary()
	require.NoError(t, err, "build the program")
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := lis.Addr().String()
	require.NoError(t, lis.Close())
	p := &process{url: "http://" + address, log: &bytes.Buffer{}, exited: make(chan struct{})}
	p.cmd = exec.Command(path, append([]string{"serve", "--web.listen-address", address}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if edit != nil {
		edit(p.cmd)
	}
	require.NoError(t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() { p.end(syscall.SIGKILL) })
	return p
}

// end sends a signal and waits for the exit. The log may be read after it.
func (p *process) end(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig)
	<-p.exited
}

// get returns the status and the body of a GET request, 0 if there is no
// answer.
func (p *process) get(path string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	var b bytes.Buffer
	_, _ = b.ReadFrom(resp.Body)
	return resp.StatusCode, b.String()
}

// waitReady waits until /ready answers 200.
func (p *process) waitReady(t *testing.T) {
	t.Helper()
	for {
		status, body := p.get("/ready")
		if status == http.StatusOK {
			return
		}
		select {
		case <-p.exited:
			t.Fatalf("the program ended before it was ready:\n%s", p.log)
		case <-t.Context().Done():
			t.Fatalf("not ready: %s", body)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// oneSample is a push of one profile with one sample of one function.
func oneSample(t testing.TB, service, function string, at time.Time) *pushv1.PushRequest {
	t.Helper()
	p := &googlev1.Profile{
		StringTable: []string{"", "cpu", "nanoseconds", function},
		SampleType:  []*googlev1.ValueType{{Type: 1, Unit: 2}},
		PeriodType:  &googlev1.ValueType{Type: 1, Unit: 2},
		Function:    []*googlev1.Function{{Id: 1, Name: 3}},
		Location:    []*googlev1.Location{{Id: 1, Line: []*googlev1.Line{{FunctionId: 1}}}},
		Sample:      []*googlev1.Sample{{LocationId: []uint64{1}, Value: []int64{1}}},
		TimeNanos:   at.UnixNano(), DurationNanos: 1e9,
	}
	raw, err := p.MarshalVT()
	require.NoError(t, err)
	return &pushv1.PushRequest{Series: []*pushv1.RawProfileSeries{{
		Labels:  []*typesv1.LabelPair{{Name: "__name__", Value: "process_cpu"}, {Name: "service_name", Value: service}},
		Samples: []*pushv1.RawSample{{RawProfile: raw, ID: function}},
	}}}
}
