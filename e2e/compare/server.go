//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/flameline/flameline/e2e/proc"
)

// Timeouts for a server's start and end. Servers that keep profiles in memory write them
// when they end.
const (
	startGrace = 3 * time.Minute
	stopGrace  = 5 * time.Minute
)

// A server is one of the two that are compared.
type server struct {
	target
	version string
	http    *http.Client
	command *proc.Spec    // starts it anew; nil if that is not known
	process *proc.Process // nil if somebody else started it
	retired time.Duration // CPU time of its earlier processes
}

func newServer(t target, concurrency int, command *proc.Spec) *server {
	t.url = strings.TrimRight(t.url, "/")
	return &server{target: t, command: command, http: &http.Client{
		Timeout: 5 * time.Minute,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: concurrency,
			DisableCompression:  true, // requests say what they want
		},
	}}
}

// startOurs starts our server if it is not running.
func startOurs(ctx context.Context, o options, dir string) (*server, error) {
	t := o.ours
	t.name = "flameline"
	if t.url != "" {
		s := newServer(t, o.concurrency, nil)
		return s, s.awaitReady(ctx)
	}
	address, err := proc.FreeAddress("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t.url, t.data = "http://"+address, filepath.Join(dir, "data")
	command := &proc.Spec{
		Name: t.name,
		Args: []string{
			o.binary, "serve", "--ebpf.enabled=false", "--log.level=warn", "--storage.retention=0",
			"--storage.path=" + t.data, "--web.listen-address=" + address,
		},
		Log: filepath.Join(dir, "flameline.log"),
	}
	if o.config != "" {
		command.Args = append(command.Args, "--config.file="+o.config)
	}
	s := newServer(t, o.concurrency, command)
	return s, s.start(ctx)
}

// startPeer connects to the other server, and starts it if there is a command and no
// process.
func startPeer(ctx context.Context, o options, dir string) (*server, error) {
	var command *proc.Spec
	if o.peer.restart != "" {
		command = &proc.Spec{
			Name: o.peer.name,
			Args: []string{"sh", "-c", "exec " + o.peer.restart}, // the shell's process ID becomes the server's
			Log:  filepath.Join(dir, "peer.log"),
		}
	}
	s := newServer(o.peer, o.concurrency, command)
	if command != nil && o.peer.pid == 0 {
		return s, s.start(ctx)
	}
	return s, s.awaitReady(ctx)
}

// start starts the server's program and waits until it is ready.
func (s *server) start(ctx context.Context) (err error) {
	if s.process, err = proc.Start(*s.command); err != nil {
		return err
	}
	s.pid = s.process.PID()
	return s.awaitReady(ctx)
}

// end stops the server's program by SIGTERM, also if it was not started here.
func (s *server) end(ctx context.Context) error {
	s.retired += s.cpu()
	s.http.CloseIdleConnections()
	if s.process != nil {
		s.process.Stop(stopGrace)
		s.process = nil
		return nil
	}
	if err := syscall.Kill(s.pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("end process %d: %w", s.pid, err)
	}
	for end := time.Now().Add(stopGrace); time.Now().Before(end); {
		if gone(s.pid) {
			return nil
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("process %d keeps running after SIGTERM", s.pid)
}

// awaitReady waits until the server is ready, and asks for its version.
func (s *server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startGrace)
	defer cancel()
	check := proc.Answers(s.url + "/ready")
	if s.process != nil {
		if err := s.process.Await(ctx, check); err != nil {
			return err
		}
	} else if err := check(ctx); err != nil {
		return fmt.Errorf("%s is not ready: %w", s.name, err)
	}
	s.version = s.askVersion(ctx)
	return nil
}

// buildInfo is the metric with which servers of Prometheus' kind give their version.
var buildInfo = regexp.MustCompile(`(?m)^(?:flameline|pyroscope)_build_info\{.*\}`)

// askVersion returns the version and revision in the server's metrics, as far as they
// are given.
func (s *server) askVersion(ctx context.Context) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/metrics", nil)
	if err != nil {
		return ""
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return "" // not every server has metrics
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return ""
	}
	var version []string
	for _, label := range []string{"version", "revision"} {
		value := regexp.MustCompile(`\b` + label + `="([^"]*)"`).FindSubmatch(buildInfo.Find(text))
		if value != nil && len(value[1]) > 0 && string(value[1]) != "unknown" {
			version = append(version, string(value[1]))
		}
	}
	return strings.Join(version, " ")
}

// describe returns the server's name and version.
func (s *server) describe() string { return strings.TrimSpace(s.name + " " + s.version) }

// cpu returns the CPU time of the server's process so far, 0 if it is unknown.
func (s *server) cpu() time.Duration {
	if s.pid == 0 {
		return 0
	}
	d, err := processCPU(s.pid)
	if err != nil {
		return 0 // it has ended; the next request will fail
	}
	return d
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
