package java

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
)

const (
	// Bounds of what is read of a process, in bytes, and of its threads.
	maxMaps    = 16 << 20
	maxEnviron = 8 << 20
	maxSmall   = 256 << 10
	maxThreads = 20_000

	// signalThread is the name of HotSpot's thread that answers SIGQUIT, as the kernel
	// cuts it.
	signalThread = "Signal Dispatch"
)

// A process is a HotSpot JVM as procfs shows it.
type process struct {
	pid, inner int    // its PID here, and in its own PID namespace
	start      uint64 // clock ticks after boot; tells it from a later process with its PID
	uid, gid   int    // effective
	groups     []int  // supplementary
	quit       bool   // a signal handler for SIGQUIT is installed, and HotSpot's thread for it is there
	profilers  []string
	args       []string
	environ    []byte
}

// errNoJVM says that a process is not a HotSpot JVM.
var errNoJVM = errors.New("not a HotSpot JVM")

// inspect reads what there is to know of a process. It returns errNoJVM for a process
// that is none. Part of procfs is in the memory of the process, which may not answer.
func inspect(guard *untrusted.Guard, pid int) (*process, error) {
	return untrusted.Do(guard, func() (*process, error) { return inspectNow(pid) })
}

func inspectNow(pid int) (*process, error) {
	p := &process{pid: pid}
	var err error
	if p.start, err = startOf(pid); err != nil {
		return nil, err
	}
	maps, err := readProc(pid, "maps", maxMaps)
	if err != nil {
		return nil, err
	}
	if !p.mappings(maps) {
		return nil, errNoJVM
	}
	if err := p.readStatus(); err != nil {
		return nil, err
	}
	if p.environ, err = readProc(pid, "environ", maxEnviron); err != nil {
		return nil, err
	}
	cmdline, err := readProc(pid, "cmdline", maxEnviron)
	if err != nil {
		return nil, err
	}
	p.args = strings.Split(string(cmdline), "\x00")
	p.quit = p.quit && hasThread(pid, signalThread)
	if start, err := startOf(pid); err != nil || start != p.start {
		return nil, fmt.Errorf("process %d has ended: %w", pid, fs.ErrNotExist)
	}
	return p, nil
}

// readProc reads a file of a process in procfs; a longer one than the bound is an error.
func readProc(pid int, name string, most int64) ([]byte, error) {
	f, err := os.Open(path.Join("/proc", strconv.Itoa(pid), name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("read %s: %w of %d bytes", f.Name(), untrusted.ErrTooLarge, most)
	}
	return b, nil
}

// startOf returns when a process started, in clock ticks after boot.
func startOf(pid int) (uint64, error) {
	b, err := readProc(pid, "stat", maxSmall)
	if err != nil {
		return 0, err
	}
	return parseStart(b)
}

// parseStart reads field 22 of /proc/PID/stat, whose second field, in parentheses, may
// have any bytes.
func parseStart(b []byte) (uint64, error) {
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("stat of a process: %w", untrusted.ErrMalformed)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// mappings reads /proc/PID/maps: the profilers among the mapped files, and whether they
// include HotSpot. OpenJ9 has a libjvm.so too, and another protocol.
func (p *process) mappings(maps []byte) (hotspot bool) {
	seen := map[string]bool{}
	openJ9 := false
	for line := range bytes.Lines(maps) {
		i := bytes.IndexByte(line, '/')
		if i < 0 {
			continue
		}
		file := strings.TrimSuffix(strings.TrimRight(string(line[i:]), "\n"), " (deleted)")
		switch name := strings.ToLower(path.Base(file)); {
		case name == "libjvm.so":
			hotspot = true
		case strings.HasPrefix(name, "libj9vm"):
			openJ9 = true
		case strings.HasPrefix(name, libraryPrefix), strings.Contains(name, "asyncprofiler"), strings.Contains(name, "libjavaprofiler"):
			if !seen[file] {
				seen[file] = true
				p.profilers = append(p.profilers, file)
			}
		}
	}
	return hotspot && !openJ9
}

// readStatus reads the users, the PID and the signals of a process.
func (p *process) readStatus() error {
	b, err := readProc(p.pid, "status", maxSmall)
	if err != nil {
		return err
	}
	return p.status(b)
}

// status reads the text of /proc/PID/status.
func (p *process) status(b []byte) (err error) {
	p.uid, p.gid, p.inner, p.quit, p.groups = -1, -1, p.pid, false, nil
	number := func(fields []string, i int) int {
		if i < 0 || i >= len(fields) {
			err = errors.Join(err, untrusted.ErrMalformed)
			return 0
		}
		n, e := strconv.Atoi(fields[i])
		err = errors.Join(err, e)
		return n
	}
	for line := range bytes.Lines(b) {
		name, value, _ := strings.Cut(string(line), ":")
		fields := strings.Fields(value)
		switch name {
		case "Uid":
			p.uid = number(fields, 1)
		case "Gid":
			p.gid = number(fields, 1)
		case "Groups":
			for i := range fields {
				p.groups = append(p.groups, number(fields, i))
			}
		case "NSpid":
			p.inner = number(fields, len(fields)-1)
		case "SigCgt":
			caught, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64) // 0 means that none is
			p.quit = caught&(1<<(unix.SIGQUIT-1)) != 0
		}
	}
	if err != nil || p.uid < 0 || p.gid < 0 {
		return fmt.Errorf("status of process %d: %w", p.pid, untrusted.ErrMalformed)
	}
	return nil
}

// hasThread reports whether a process has a thread with a name.
func hasThread(pid int, name string) bool {
	dir, err := os.Open(path.Join("/proc", strconv.Itoa(pid), "task"))
	if err != nil {
		return false
	}
	defer dir.Close()
	tids, _ := dir.Readdirnames(maxThreads) // those that were read count
	for _, tid := range tids {
		comm, err := readProc(pid, path.Join("task", tid, "comm"), maxSmall)
		if err == nil && strings.TrimRight(string(comm), "\n") == name {
			return true
		}
	}
	return false
}

// threads returns the threads of the process by their numbers in its PID namespace, up
// to maxThreads.
func (p *process) threads() map[uint64]bool {
	all := map[uint64]bool{}
	dir, err := os.Open(path.Join("/proc", strconv.Itoa(p.pid), "task"))
	if err != nil {
		return all
	}
	defer dir.Close()
	tids, _ := dir.Readdirnames(maxThreads) // those that were read count
	for _, tid := range tids {
		status, err := readProc(p.pid, path.Join("task", tid, "status"), maxSmall)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(status) {
			if numbers, ok := bytes.CutPrefix(line, []byte("NSpid:")); ok {
				fields := bytes.Fields(numbers)
				if len(fields) == 0 {
					continue
				}
				if n, err := strconv.ParseUint(string(fields[len(fields)-1]), 10, 64); err == nil {
					all[n] = true
				}
			}
		}
	}
	return all
}

// variable returns a variable of the environment with which the process began.
func (p *process) variable(name string) string {
	for entry := range bytes.SplitSeq(p.environ, []byte{0}) {
		if value, ok := bytes.CutPrefix(entry, []byte(name+"=")); ok {
			return string(value)
		}
	}
	return ""
}

// option reports whether the JVM was started with an option, in its arguments or in the
// variables that the JVM and its launcher read.
func (p *process) option(name string) bool {
	options := p.args
	for _, v := range []string{"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS"} {
		options = append(options[:len(options):len(options)], strings.Fields(p.variable(v))...)
	}
	for _, o := range options {
		if o == name {
			return true
		}
	}
	return false
}

// permitted returns an *Error if the JVM must not, or cannot, be attached to.
func (p *process) permitted() error {
	switch own := os.Geteuid(); {
	case strings.EqualFold(strings.TrimSpace(p.variable(OptOut)), "off"):
		return because(OptedOut, "its environment has %s=off", OptOut)
	case p.option("-XX:+DisableAttachMechanism"):
		return because(AttachDisabled, "it was started with -XX:+DisableAttachMechanism; start it without")
	case own != 0 && own != p.uid:
		return because(Permission, "it belongs to user %d and this process to user %d: a JVM takes orders from its own user only; run flameline as that user or as root", p.uid, own)
	}
	for _, file := range p.profilers {
		if !strings.HasPrefix(file, p.folderPath()+"/"+libraryPrefix) {
			return because(OtherProfiler, "another profiler is loaded in it (%s), which would be disturbed; to have flameline record it, start it without that", file)
		}
	}
	return nil
}

// bootTicks returns the time since the boot in clock ticks, which Linux shows to
// processes as hundredths of a second.
func bootTicks() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return uint64(time.Duration(t.Nano()) / (10 * time.Millisecond))
}

// age returns how long the process has been running.
func (p *process) age() time.Duration {
	now := bootTicks()
	if now < p.start {
		return 0
	}
	return time.Duration(now-p.start) * 10 * time.Millisecond
}
