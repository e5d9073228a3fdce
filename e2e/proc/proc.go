// Package proc starts programs, each in a process group of its own, and stops them with
// everything that they have started. The demo and the end-to-end tests use it.
//
// The choice of programs, and checking that they are ready, are left to callers.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Spec describes a program to start.
type Spec struct {
	Name string   // for messages
	Args []string // the program and its arguments
	Env  []string // added to this process' environment
	Dir  string   // working directory; "" is this process' own
	Log  string   // file that takes standard output and error; it is truncated
	// User and Group are whom the program runs as; 0 is this process' own.
	User, Group uint32
}

// A Process is a running program. Its methods are safe for concurrent use.
type Process struct {
	spec Spec
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// Start starts the program. When this process dies, however it dies, the
// program is killed where the system can do that (Linux).
func Start(s Spec) (*Process, error) {
	if len(s.Args) == 0 {
		return nil, fmt.Errorf("start %s: no program", s.Name)
	}
	p := &Process{spec: s, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The parent-death signal is sent when the starting thread ends, so
		// this goroutine keeps its thread until the program is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	return p, nil
}

func (p *Process) start() error {
	p.cmd = exec.Command(p.spec.Args[0], p.spec.Args[1:]...)
	p.cmd.Dir = p.spec.Dir
	p.cmd.Env = append(os.Environ(), p.spec.Env...)
	p.cmd.SysProcAttr = attributes()
	if p.spec.User != 0 {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: p.spec.User, Gid: p.spec.Group}
	}
	if p.spec.Log == "" {
		return p.cmd.Start()
	}
	log, err := os.Create(p.spec.Log)
	if err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	defer log.Close() // the program has its own copy
	p.cmd.Stdout, p.cmd.Stderr = log, log
	return p.cmd.Start()
}

// Name returns the name in Spec.
func (p *Process) Name() string { return p.spec.Name }

// PID returns the program's process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends the program a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Err returns how the program ended, with the end of its log. It is nil while the
// program runs, and if it ended by itself with status 0.
func (p *Process) Err() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("%s ended: %w%s", p.spec.Name, p.err, p.tail())
}

// tail returns the last lines of the log, indented, on lines of their own.
func (p *Process) tail() string {
	const size = 2000
	f, err := os.Open(p.spec.Log)
	if err != nil {
		return ""
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > size {
		// A short read from the start is as good when this fails.
		_, _ = f.Seek(-size, io.SeekEnd)
	}
	b, err := io.ReadAll(io.LimitReader(f, size))
	b = bytes.TrimSpace(b)
	if err != nil || len(b) == 0 {
		return ""
	}
	return "; its log ends:\n    " + string(bytes.ReplaceAll(b, []byte("\n"), []byte("\n    ")))
}

// Stop sends SIGTERM to the program and its group, and SIGKILL after the grace period.
// It returns when the program has ended.
func (p *Process) Stop(grace time.Duration) {
	signalGroup(p.PID(), syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
	}
	// Also what the program has left behind.
	signalGroup(p.PID(), syscall.SIGKILL)
	<-p.done
}

// Await calls check twice a second until it returns nil. It gives up when ctx
// ends, with check's last error, or when the program does.
func (p *Process) Await(ctx context.Context, check func(context.Context) error) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", p.spec.Name, err)
		case <-p.done:
			return errors.Join(fmt.Errorf("%s ended before it was ready", p.spec.Name), p.Err())
		}
	}
}

// Answers returns a check for Await: url answers with status 200.
func Answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // the status says enough without it
			return fmt.Errorf("%s: %s: %s", url, resp.Status, bytes.TrimSpace(text))
		}
		return nil
	}
}

// FreeAddress returns preferred, a host:port, or the same host with a free
// port when that one is taken.
func FreeAddress(preferred string) (string, error) {
	l, err := net.Listen("tcp", preferred)
	if err != nil {
		host, _, splitErr := net.SplitHostPort(preferred)
		if splitErr != nil {
			return "", fmt.Errorf("address %s: %w", preferred, splitErr)
		}
		if l, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
			return "", fmt.Errorf("find a free port: %w", err)
		}
	}
	address := l.Addr().String()
	return address, l.Close()
}
