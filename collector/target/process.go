package target

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
)

// maxProcFile bounds the bytes read of one file of a process. An environment may have
// megabytes, but OpenTelemetry's variables are seldom at its end.
const maxProcFile = 256 << 10

// flagKernelThread is PF_KTHREAD, in the flags of /proc/PID/stat.
const flagKernelThread = 0x00200000

var errMalformedStat = errors.New("malformed stat")

// A stat is the part of /proc/PID/stat that identifies a process. It is comparable:
// another process with the same PID has another start time, and another program in the
// same process has other addresses.
type stat struct {
	comm   string // the main thread's name
	kernel bool   // it is a kernel thread
	image  image
}

// An image identifies one execution of a program: exec changes it.
type image struct {
	start              uint64 // clock ticks after boot
	code, stack, argv0 uint64 // addresses; 0 without permission to read them
}

// parseStat reads /proc/PID/stat: PID (COMM) STATE and 49 numbers. COMM may contain any
// bytes.
func parseStat(data []byte) (stat, error) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || end < open {
		return stat{}, errMalformedStat
	}
	fields := strings.Fields(string(data[end+1:]))
	// The first field after the name is number 3 in proc(5).
	number := func(n int) uint64 {
		if n-3 >= len(fields) {
			return 0
		}
		v, _ := strconv.ParseUint(fields[n-3], 10, 64)
		return v
	}
	if len(fields) < 22-3+1 {
		return stat{}, errMalformedStat
	}
	return stat{
		comm:   string(data[open+1 : end]),
		kernel: number(9)&flagKernelThread != 0,
		image:  image{start: number(22), code: number(26), stack: number(28), argv0: number(48)},
	}, nil
}

// A process is the information that procfs gives about a process.
type process struct {
	stat
	exe     string // path, "" if unknown
	args    []string
	service resource // OpenTelemetry's attributes
	cgroup  cgroup
}

// procfs reads the files of processes.
type procfs struct{ root string }

func (p procfs) file(pid int, name string) string {
	return path.Join(p.root, strconv.Itoa(pid), name)
}

func (p procfs) read(pid int, name string) ([]byte, error) {
	f, err := os.Open(p.file(pid, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxProcFile))
}

// stat reads what identifies a process.
func (p procfs) stat(pid int) (stat, error) {
	data, err := p.read(pid, "stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(data)
}

// exe returns the path of a process' executable, "" if it cannot be read.
func (p procfs) exe(pid int) string {
	target, _ := os.Readlink(p.file(pid, "exe"))
	return strings.TrimSuffix(target, " (deleted)")
}

// process reads everything about a process. Information that may not be read is left
// empty.
func (p procfs) process(pid int) (process, error) {
	for range 3 {
		before, err := p.stat(pid)
		if err != nil {
			return process{}, err
		}
		out := process{stat: before}
		if data, err := p.read(pid, "cgroup"); err == nil {
			out.cgroup = parseCgroup(data)
		}
		if before.kernel {
			return out, nil
		}
		out.exe = p.exe(pid)
		environ, _ := p.read(pid, "environ")
		out.service = resourceFromEnviron(environ)
		// What the process says at run time takes precedence.
		published, _ := p.processContext(pid)
		for k, v := range published {
			out.service.add(k, v)
		}
		cmdline, _ := p.read(pid, "cmdline")
		out.args = parseCmdline(cmdline)
		// The process may have executed another program meanwhile.
		if after, err := p.stat(pid); err != nil {
			return process{}, err
		} else if after.image == before.image {
			return out, nil
		}
	}
	return process{}, errors.New("the process executes one program after another")
}
