package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// forwarded are the signals that are passed on to a command.
var forwarded = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2}

// timerSlack is how late the kernel may wake up this program's threads, in ns, as it was
// started. The sampler makes it longer for a thread, from which others inherit it.
var timerSlack, _ = unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)

// A Command is the process that a recording has started. Signals that this process
// gets are passed on to it until it ends: SIGINT and SIGQUIT not when the terminal
// sent them, which it does to both. A second SIGINT, SIGTERM or SIGQUIT ends the recording
// and sends the command SIGTERM, a third SIGKILL.
type Command struct {
	cmd      *exec.Cmd
	build    func() (*exec.Cmd, error) // makes cmd
	hold     bool                      // before the command's first instruction, if possible
	signals  chan os.Signal
	exited   chan struct{}
	insisted chan struct{} // closed by the second signal

	mu   sync.Mutex
	code int
}

// prepare finds the command and its user.
func prepare(o Options) (*Command, error) {
	name := o.Selection.Command[0]
	path, err := exec.LookPath(name)
	if err != nil && !errors.Is(err, exec.ErrDot) {
		e := &CommandError{Name: name, Err: err, NotFound: errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist)}
		var pathError *exec.Error
		if errors.As(err, &pathError) {
			e.Err = pathError.Err
		}
		return nil, e
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, &CommandError{Name: name, Err: err}
	}
	who, err := commandUser(o.User)
	if err != nil {
		return nil, err
	}
	build := func() (*exec.Cmd, error) {
		cmd := exec.Command(path, o.Selection.Command[1:]...)
		cmd.Args[0] = name
		cmd.Stdin, cmd.Stdout, cmd.Stderr = o.Stdin, o.Stdout, o.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		if who == nil {
			return cmd, nil
		}
		return cmd, runAs(cmd, who)
	}
	cmd, err := build()
	if err != nil {
		return nil, err
	}
	// Holding a command would count as a wait of its.
	hold := !o.Event.offCPU() && !gainsRights(path)
	return &Command{cmd: cmd, build: build, hold: hold, signals: make(chan os.Signal, 16), exited: make(chan struct{}), insisted: make(chan struct{})}, nil
}

// commandUser returns who a command runs as; nil is the user of this process.
func commandUser(name string) (*user.User, error) {
	if name != "" {
		u, err := user.Lookup(name)
		if err != nil {
			if _, number := strconv.Atoi(name); number == nil {
				u, err = user.LookupId(name)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("--user: %w", err)
		}
		if u.Uid == strconv.Itoa(os.Geteuid()) {
			return nil, nil
		}
		return u, nil
	}
	id := os.Getenv("SUDO_UID")
	if os.Geteuid() != 0 || id == "" || id == "0" {
		return nil, nil
	}
	u, err := user.LookupId(id)
	if err != nil {
		return nil, fmt.Errorf("find the user who called sudo: %w; --user root runs the command as root", err)
	}
	return u, nil
}

// runAs has a command run as a user, with that user's groups and home directory.
func runAs(cmd *exec.Cmd, who *user.User) error {
	uid, err1 := strconv.ParseUint(who.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(who.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("user %s: %w", who.Username, err)
	}
	c := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	groups, err := who.GroupIds()
	if err != nil {
		return fmt.Errorf("groups of user %s: %w", who.Username, err)
	}
	for _, g := range groups {
		if n, err := strconv.ParseUint(g, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(n))
		}
	}
	cmd.SysProcAttr.Credential = c
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "SUDO_") || slices.Contains([]string{"HOME", "USER", "LOGNAME", "MAIL"}, name)
	}), "HOME="+who.HomeDir, "USER="+who.Username, "LOGNAME="+who.Username)
	return nil
}

// start starts the command, and passes signals on to it from then on. If the command is
// held, started is called before its first instruction. The caller is locked to its
// thread.
func (c *Command) start(add func(start func() (pid int, err error)) error, held func(pid int)) error {
	signal.Notify(c.signals, forwarded...)
	stopped := false
	err := add(func() (pid int, err error) {
		if stopped, err = c.launch(); err != nil {
			return 0, err
		}
		return c.cmd.Process.Pid, nil
	})
	if err != nil {
		signal.Stop(c.signals)
		return &CommandError{Name: c.cmd.Args[0], Err: err, NotFound: errors.Is(err, fs.ErrNotExist)}
	}
	go c.forward()
	if stopped {
		holdUntilLoaded(c.cmd.Process.Pid, held)
	}
	go func() {
		_ = c.cmd.Wait() // the exit code has it
		c.mu.Lock()
		c.code = exitCode(c.cmd.ProcessState)
		c.mu.Unlock()
		close(c.exited)
	}()
	return nil
}

// launch starts the process, and reports whether it is stopped before its first
// instruction.
func (c *Command) launch() (stopped bool, err error) {
	if timerSlack > 0 {
		// The command inherits it from this thread.
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0); err != nil {
			return false, fmt.Errorf("set timer slack: %w", err)
		}
	}
	if c.hold {
		c.cmd.SysProcAttr.Ptrace = true
		if err := c.cmd.Start(); err == nil {
			return true, nil
		}
		// Tracing may be forbidden here. If it is not, the next try has the same error.
		if c.cmd, err = c.build(); err != nil {
			return false, err
		}
	}
	return false, c.cmd.Start()
}

// exitCode is that of a shell: 128 and the signal's number for a command that a signal
// has ended.
func exitCode(s *os.ProcessState) int {
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return s.ExitCode()
}

// forward passes signals on.
func (c *Command) forward() {
	stops := 0
	var last os.Signal
	var lastTime time.Time
	for {
		select {
		case <-c.exited:
			signal.Stop(c.signals)
			return
		case sig := <-c.signals:
			stop := sig == unix.SIGINT || sig == unix.SIGTERM || sig == unix.SIGQUIT
			if stop {
				if sig == last && time.Since(lastTime) < SameSignal {
					continue
				}
				last, lastTime = sig, time.Now()
				stops++
			}
			switch {
			case stop && stops == 2:
				close(c.insisted)
				sig = unix.SIGTERM
			case stop && stops > 2:
				sig = unix.SIGKILL
			case (sig == unix.SIGINT || sig == unix.SIGQUIT) && inForeground():
				continue
			}
			_ = c.cmd.Process.Signal(sig)
		}
	}
}

// inForeground reports whether the terminal sends its signals to this process, and so to
// the command.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// Wait waits until the command has ended and returns its exit code: 128 and the signal's
// number if a signal has ended it.
func (c *Command) Wait() int {
	<-c.exited
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.code
}
