package java

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
)

const (
	// answerTimeout bounds one command. A JVM answers at a safepoint, so not during a
	// long collection of garbage.
	answerTimeout = 20 * time.Second
	// listenTimeout bounds how long a JVM may take until it listens.
	listenTimeout = 6 * time.Second
	// poll is the time between two looks for the socket.
	poll = 50 * time.Millisecond
	// maxArgument bounds an argument, as HotSpot does, in bytes.
	maxArgument = 1024
)

// An attachment sends commands to a JVM by HotSpot's attach protocol: over a socket in
// the JVM's /tmp, which the JVM opens when it gets SIGQUIT while a certain file exists.
// It is used by one goroutine.
type attachment struct {
	*process
	guard *untrusted.Guard
	tmp   *os.File
	// signalled says that SIGQUIT was sent. It is sent once, since a JVM that does not
	// take it as a request prints the stacktraces of its threads.
	signalled bool
}

// command sends a command with up to three arguments and returns the JVM's answer.
// Errors are *Error.
func (a *attachment) command(ctx context.Context, name string, args ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	conn, err := a.connect(ctx)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // the read fails then
	defer stop()
	request := []byte("1\x00" + name + "\x00")
	for i := range 3 {
		if i < len(args) {
			if len(args[i]) > maxArgument {
				return answer{}, because(Refused, "command %s: an argument of %d bytes is longer than %d", name, len(args[i]), maxArgument)
			}
			request = append(request, args[i]...)
		}
		request = append(request, 0)
	}
	if _, err := conn.Write(request); err != nil {
		return answer{}, because(NoAnswer, "send %s to the JVM: %w", name, err)
	}
	reply, err := readAnswer(conn)
	if err != nil {
		if e := context.Cause(ctx); e != nil {
			err = e
		}
		return answer{}, because(NoAnswer, "command %s: %w", name, err)
	}
	return reply, nil
}

// connect connects to the JVM, which is made to listen if it does not.
func (a *attachment) connect(ctx context.Context) (net.Conn, error) {
	conn, err := a.dial(ctx)
	if err == nil || !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ECONNREFUSED) {
		return conn, err
	}
	if a.signalled {
		return nil, because(NoAnswer, "the JVM does not listen for tools (%w), and SIGQUIT is not sent twice; was it started with -XX:+DisableAttachMechanism?", err)
	}
	return a.listen(ctx)
}

// listen makes the JVM listen, and connects to it.
func (a *attachment) listen(ctx context.Context) (net.Conn, error) {
	trigger := ".attach_pid" + strconv.Itoa(a.inner)
	fd, err := openIn(a.tmp, trigger, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	switch {
	case errors.Is(err, unix.EEXIST): // another tool's that attaches now, or was left
	case err != nil:
		return nil, because(NoFolder, "create %s/%s: %w", a.tmp.Name(), trigger, err)
	default:
		defer func() { _ = unix.Unlinkat(int(a.tmp.Fd()), trigger, 0) }() // the JVM may have done it
		err := unix.Fchown(fd, a.uid, a.gid)
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return nil, because(NoFolder, "give %s/%s to user %d: %w", a.tmp.Name(), trigger, a.uid, err)
		}
	}
	if err := a.signal(); err != nil {
		return nil, err
	}
	for until := time.Now().Add(listenTimeout); ; {
		conn, err := a.dial(ctx)
		if err == nil || !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ECONNREFUSED) {
			return conn, err
		}
		if time.Now().After(until) {
			return nil, because(NoAnswer, "the JVM does not listen for tools %v after it was asked to; was it started with -XX:+DisableAttachMechanism?", listenTimeout)
		}
		select {
		case <-ctx.Done():
			return nil, because(NoAnswer, "wait for the JVM to listen: %w", context.Cause(ctx))
		case <-time.After(poll):
		}
	}
}

// signal sends SIGQUIT, which would end a process that does not handle it. So it goes to
// the process by a descriptor, not by a PID that may be another's by now, and only if
// the process is still this JVM, has a handler, and has HotSpot's thread for it.
func (a *attachment) signal() error {
	fd, err := unix.PidfdOpen(a.pid, 0)
	if err != nil {
		return because(NoAnswer, "process %d: %w", a.pid, err)
	}
	defer unix.Close(fd)
	now, err := inspect(a.guard, a.pid)
	switch {
	case err != nil:
		return because(NoAnswer, "process %d: %w", a.pid, err)
	case now.start != a.start:
		return because(NoAnswer, "process %d has ended: %w", a.pid, os.ErrNotExist)
	case !now.quit:
		return a.deaf()
	}
	a.signalled = true
	if err := unix.PidfdSendSignal(fd, unix.SIGQUIT, nil, 0); err != nil {
		return because(Permission, "send SIGQUIT to process %d: %w", a.pid, err)
	}
	return nil
}

// socket returns the name of the socket in the JVM's /tmp.
func (p *process) socket() string { return ".java_pid" + strconv.Itoa(p.inner) }

// deaf is the error for a JVM that neither listens nor can be made to.
func (p *process) deaf() error {
	return because(AttachDisabled, "it does not listen for tools, and does not handle the signal SIGQUIT that asks for that (the program has a handler of its own, or the JVM is just starting)")
}

// dial connects to the JVM's socket. An error is unix.ENOENT or unix.ECONNREFUSED if the
// JVM does not listen, or an *Error.
func (a *attachment) dial(ctx context.Context) (net.Conn, error) {
	name := a.socket()
	// The socket is opened before it is connected to: a symbolic link would lead to a
	// socket of ours.
	fd, err := openIn(a.tmp, name, unix.O_PATH, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, err
	} else if err != nil {
		return nil, because(NoAnswer, "open %s/%s: %w", a.tmp.Name(), name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, because(NoAnswer, "%s/%s: %w", a.tmp.Name(), name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK || int(st.Uid) != a.uid {
		return nil, because(NoAnswer, "%s/%s is not a socket of user %d; remove it", a.tmp.Name(), name, a.uid)
	}
	for {
		s, err := dialAs(fd, a.uid, a.gid)
		switch {
		case err == nil:
			file := os.NewFile(uintptr(s), name)
			defer file.Close()
			conn, err := net.FileConn(file)
			if err != nil {
				return nil, because(NoAnswer, "%s/%s: %w", a.tmp.Name(), name, err)
			}
			return conn, nil
		case errors.Is(err, unix.ECONNREFUSED):
			return nil, err
		case !errors.Is(err, unix.EAGAIN): // too many others wait
			return nil, because(Permission, "connect to %s/%s as user %d: %w; for JVMs of other users this process has to be root with the capabilities SETUID and SETGID", a.tmp.Name(), name, a.uid, err)
		}
		select {
		case <-ctx.Done():
			return nil, because(NoAnswer, "connect to the JVM: %w", context.Cause(ctx))
		case <-time.After(poll):
		}
	}
}

// switching is held while a thread has another user.
var switching sync.Mutex

// dialAs connects to a socket that is open as fd, as a user and a group, since a JVM
// answers only its own. It returns the connection's descriptor.
//
// The kernel notes the effective user of the thread that connects. So one thread, which
// runs nothing else meanwhile, takes on that user and becomes itself again; if that is
// not possible, the thread ends with its goroutine. The real user stays, so the JVM's
// user can neither signal nor trace this process.
func dialAs(fd, uid, gid int) (int, error) {
	ownUser, ownGroup := os.Geteuid(), os.Getegid()
	if uid == ownUser && gid == ownGroup {
		return dial(fd)
	}
	type outcome struct {
		fd  int
		err error
	}
	done := make(chan outcome, 1)
	// One thread at a time: another one that was done would show the process to its own
	// user, while this one has that of a JVM.
	switching.Lock()
	defer switching.Unlock()
	go func() {
		runtime.LockOSThread()
		// A change of the user makes the kernel hide the whole process from its own user,
		// as it does for programs that are setuid.
		dumpable, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0) // 0 leaves it so
		s, err := dialSwitched(fd, uid, gid)
		if setEffective(ownUser, ownGroup) == nil {
			if dumpable == 1 {
				_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) // root can do without
			}
			runtime.UnlockOSThread()
		}
		done <- outcome{s, err}
	}()
	out := <-done
	return out.fd, out.err
}

func dialSwitched(fd, uid, gid int) (int, error) {
	// The group first, while the user may still change it.
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, keep, uintptr(gid), keep); e != 0 {
		return -1, fmt.Errorf("become group %d: %w", gid, e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); e != 0 {
		return -1, fmt.Errorf("become user %d: %w", uid, e)
	}
	return dial(fd)
}

// keep leaves an ID as it is, in the calls that set three.
const keep = ^uintptr(0)

// setEffective sets the effective user and group of the calling thread alone.
func setEffective(uid, gid int) error {
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); e != 0 {
		return e
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, keep, uintptr(gid), keep); e != 0 {
		return e
	}
	return nil
}

func dial(fd int) (int, error) {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := unix.Connect(s, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d", fd)}); err != nil {
		return -1, errors.Join(err, unix.Close(s))
	}
	return s, nil
}
