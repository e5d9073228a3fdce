package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// startHeld runs a command that is held, and returns its output and exit code. held is
// called each time that the command is stopped.
func startHeld(t *testing.T, held func(pid int), command ...string) (output string, code int) {
	requireKernel(t)
	t.Helper()
	var out bytes.Buffer
	c, err := prepare(Options{SessionOptions: SessionOptions{Selection: Selection{Command: command}}, Stdout: &out, Stderr: &out})
	require.NoError(t, err)
	require.True(t, c.hold)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	require.NoError(t, c.start(newMembers(Selection{Command: command}, nil).start, held))
	code = c.Wait()
	return out.String(), code
}

// TestHeldCommand checks with the kernel's list of mappings that a command is held at
// exec and with its libraries loaded, and that it runs as always afterwards.
func TestHeldCommand(t *testing.T) {
	var maps []string
	out, code := startHeld(t, func(pid int) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
		require.NoError(t, err)
		maps = append(maps, string(data))
	}, "sh", "-c", "grep TracerPid /proc/self/status; exit 7")
	require.Equal(t, 7, code)
	require.Equal(t, "TracerPid:\t0\n", out)
	require.Len(t, maps, 2)
	require.NotContains(t, maps[0], "/libc")
	require.Contains(t, maps[1], "/libc", "the libraries are loaded")
}

// TestHeldCommandGetsSignals checks that a command that is held ends by signals as any
// other.
func TestHeldCommandGetsSignals(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		for stop := range 2 {
			calls := 0
			_, code := startHeld(t, func(pid int) {
				if calls++; calls == stop+1 {
					require.NoError(t, unix.Kill(pid, sig))
				}
			}, "sh", "-c", "exit 0")
			require.Equal(t, 128+int(sig), code, "%v at stop %d", sig, stop)
		}
	}
}

// TestHeldScript checks that a script, whose interpreter is what the kernel starts, is held too.
func TestHeldScript(t *testing.T) {
	name := t.TempDir() + "/script"
	require.NoError(t, os.WriteFile(name, []byte("#!/bin/sh\necho \"$1\"\n"), 0o755))
	stops := 0
	out, code := startHeld(t, func(int) { stops++ }, name, "word")
	require.Zero(t, code)
	require.Equal(t, "word\n", out)
	require.Equal(t, 2, stops)
}

// build compiles a program in C, or a library with -shared.
func build(t *testing.T, source string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/program.c", []byte(source), 0o600))
	out, err := exec.Command("cc", append(flags, "-o", dir+"/program", dir+"/program.c")...).CombinedOutput()
	require.NoError(t, err, "gcc and libc6-dev are needed: %s", out)
	return dir + "/program"
}

// TestHeldPrograms checks that programs of every kind run as always when they are held:
// their output and exit code, and that nothing traces them.
func TestHeldPrograms(t *testing.T) {
	const hello = "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 3; }"
	const tracer = `#include <stdio.h>
#include <sys/ptrace.h>
int main(void) { puts(ptrace(PTRACE_TRACEME, 0, 0, 0) ? "traced already" : "hello"); return 3; }`
	// Exits at once, without a library.
	const bare = `void _start(void) { __asm__ volatile("syscall" : : "a"(231), "D"(3)); }`
	const bare32 = `void _start(void) { __asm__ volatile("int $0x80" : : "a"(1), "b"(3)); }`
	// The shells' way of starting a program: exec at once, many times.
	const again = `#include <stdlib.h>
#include <stdio.h>
#include <unistd.h>
int main(int n, char **v) {
	char count[16];
	int left = n > 1 ? atoi(v[1]) : 20;
	if (!left) { puts("hello"); return 3; }
	sprintf(count, "%d", left - 1);
	execl("/proc/self/exe", v[0], count, NULL);
	return 1;
}`
	if runtime.GOARCH != "amd64" { // some are in its machine language
		return
	}
	dir := t.TempDir()
	script := func(name, text string) string {
		require.NoError(t, os.WriteFile(dir+"/"+name, []byte(text), 0o755))
		return dir + "/" + name
	}
	pie := build(t, hello, "-fPIE", "-pie")
	unreadable := build(t, hello)
	require.NoError(t, os.Chmod(unreadable, 0o111))
	for _, c := range []struct {
		name    string
		command []string
		stops   int
		output  string
	}{
		{"position independent", []string{pie}, 2, "hello\n"},
		{"at a fixed address", []string{build(t, hello, "-no-pie")}, 2, "hello\n"},
		{"static", []string{build(t, hello, "-static")}, 1, "hello\n"},
		{"static, position independent", []string{build(t, hello, "-static-pie")}, 1, "hello\n"},
		{"without a library", []string{build(t, bare, "-static", "-nostdlib", "-nostartfiles", "-ffreestanding")}, 1, ""},
		{"32 bits", []string{build(t, bare32, "-m32", "-static", "-nostdlib", "-nostartfiles", "-ffreestanding")}, 1, ""},
		{"not readable", []string{unreadable}, 2, "hello\n"},
		{"executes itself", []string{build(t, again)}, 2, "hello\n"},
		{"traces itself", []string{build(t, tracer)}, 2, "hello\n"},
		{"by the dynamic linker", []string{"/lib64/ld-linux-x86-64.so.2", pie}, 1, "hello\n"},
		{"script of a script", []string{script("outer", "#!"+script("inner", "#!/bin/sh\necho hello\nexit 3\n")+"\n")}, 2, "hello\n"},
		{"shell that executes", []string{"sh", "-c", "exec " + pie}, 2, "hello\n"},
		{"under strace", []string{"strace", "-f", "-o", dir + "/trace", pie}, 2, "hello\n"},
		{"under gdb", []string{"gdb", "-q", "-batch", "-return-child-result", "-ex", "run > " + dir + "/out", "-ex", "python print('hello')", pie}, 2, "hello\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			stops := 0
			out, code := startHeld(t, func(int) { stops++ }, c.command...)
			require.Equal(t, 3, code, out)
			require.Contains(t, out, c.output)
			require.Equal(t, c.stops, stops)
		})
	}
}

// TestHeldLibraries checks programs whose libraries do more than load: one forks, one runs
// another program, one ends the process, one kills it, and one stops it.
func TestHeldLibraries(t *testing.T) {
	program := build(t, "#include <stdio.h>\n#include <sys/wait.h>\nint main(void) { int s = 0; wait(&s); printf(\"%d \", s); return 3; }")
	for _, c := range []struct {
		name, constructor string
		output            string
		code              int
	}{
		{"forks", "fork()", "0 768 ", 3},
		{"forks by vfork", "if (!vfork()) _exit(4)", "1024 ", 3},
		{"starts another program", `unsetenv("LD_PRELOAD"), execl("/bin/sh", "sh", "-c", "echo hello; exit 5", NULL)`, "hello\n", 5},
		{"exits", "_exit(6)", "", 6},
		{"dies", "*(volatile int *)0 = 1", "", 128 + int(unix.SIGSEGV)},
		{"traps", "raise(SIGTRAP)", "", 128 + int(unix.SIGTRAP)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("LD_PRELOAD", build(t, "#include <signal.h>\n#include <stdlib.h>\n#include <unistd.h>\n"+
				"__attribute__((constructor)) static void begin(void) { "+c.constructor+"; }", "-shared", "-fPIC"))
			out, code := startHeld(t, func(int) {}, program)
			require.Equal(t, c.code, code)
			require.Equal(t, c.output, out)
		})
	}
}

// TestHeldTooLong checks that a process which has not reached its program in time is
// stopped, and that a limit which is not reached does nothing.
func TestHeldTooLong(t *testing.T) {
	requireKernel(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, c := range []struct {
		command []string
		limit   time.Duration
		stopped bool
	}{
		{[]string{"sleep", "1000"}, time.Millisecond, true},
		{[]string{"true"}, time.Hour, false},
	} {
		cmd := exec.Command(c.command[0], c.command[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
		require.NoError(t, cmd.Start())
		_, ok := stopOf(cmd.Process.Pid)
		require.True(t, ok)
		require.NoError(t, unix.PtraceCont(cmd.Process.Pid, 0))
		why, stopped := stopWithin(cmd.Process.Pid, c.limit)
		require.Equal(t, c.stopped, stopped)
		if stopped {
			require.Equal(t, wakeUp, why.signal())
			require.NoError(t, unix.Kill(cmd.Process.Pid, unix.SIGKILL))
		}
		_ = cmd.Wait() // it was killed, or its exit code is not of interest
	}
}

// TestHeldStopped checks that a process which is stopped as by the terminal while it is
// held stays so until it is continued, and is not lost.
func TestHeldStopped(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGTSTP, unix.SIGCONT, unix.SIGINT} {
		for stop := range 2 {
			calls := 0
			out, code := startHeld(t, func(pid int) {
				if calls++; calls != stop+1 {
					return
				}
				require.NoError(t, unix.Kill(pid, sig))
				go func() {
					for { // until it is stopped by no tracer, or has ended
						s, err := stateOf(pid)
						if err != nil || s.state != 't' {
							break
						}
						time.Sleep(time.Millisecond)
					}
					_ = unix.Kill(pid, unix.SIGCONT)
				}()
			}, "sh", "-c", "echo hello; exit 3")
			if sig == unix.SIGINT {
				require.Equal(t, 128+int(sig), code)
				continue
			}
			require.Equal(t, 3, code, "%v at stop %d", sig, stop)
			require.Equal(t, "hello\n", out)
		}
	}
}

// TestGainsRights checks that a command is not held that would lose rights by that.
func TestGainsRights(t *testing.T) {
	name := t.TempDir() + "/program"
	require.NoError(t, os.WriteFile(name, nil, 0o755))
	require.False(t, gainsRights(name))
	require.NoError(t, os.Chmod(name, 0o755|os.ModeSetuid))
	require.True(t, gainsRights(name))
	require.True(t, gainsRights(name+".missing"), "what is not known is not held")
}

func TestEntryOf(t *testing.T) {
	vector := func(numbers ...uint64) (b []byte) {
		for _, n := range numbers {
			b = binary.NativeEndian.AppendUint64(b, n)
		}
		return b
	}
	at, ok := entryOf(vector(3, 64, auxBase, 0x7f0000000000, auxEntry, 0x401000, 0, 0))
	require.True(t, ok)
	require.EqualValues(t, 0x401000, at)
	_, ok = entryOf(vector(auxBase, 0, auxEntry, 0x401000))
	require.False(t, ok, "a static program")
	_, ok = entryOf(vector(auxBase, 0x7f0000000000, auxEntry))
	require.False(t, ok, "cut")
	_, ok = entryOf([]byte(strings.Repeat("\xff", 15)))
	require.False(t, ok)
}
