package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxProcFile bounds what is read of a file in procfs. The files that are read
// here are the kernel's own: none is in the memory of a process.
const maxProcFile = 64 << 10

func readProc(pid int, name string) ([]byte, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxProcFile))
}

// A processState is a part of /proc/PID/stat.
type processState struct {
	comm   string
	state  byte // R running, S waiting, D waiting for a disk, T stopped, Z ended
	parent int
	ticks  uint64 // CPU time in clock ticks of all threads
	start  uint64 // clock ticks after boot
}

// stateOf reads the state of a process.
func stateOf(pid int) (processState, error) {
	data, err := readProc(pid, "stat")
	if err != nil {
		return processState{}, err
	}
	return parseState(data)
}

// parseState reads /proc/PID/stat: PID (COMM) STATE PPID and further numbers. COMM may
// contain any bytes.
func parseState(data []byte) (processState, error) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || end < open {
		return processState{}, errors.New("malformed stat")
	}
	f := strings.Fields(string(data[end+1:]))
	if len(f) < 20 {
		return processState{}, errors.New("malformed stat")
	}
	s := processState{comm: string(data[open+1 : end]), state: f[0][0]}
	s.parent, _ = strconv.Atoi(f[1])
	user, _ := strconv.ParseUint(f[11], 10, 64)
	system, _ := strconv.ParseUint(f[12], 10, 64)
	s.ticks = user + system
	s.start, _ = strconv.ParseUint(f[19], 10, 64)
	return s, nil
}

// commOf returns a process' name, "" if it has ended.
func commOf(pid int) string {
	data, _ := readProc(pid, "comm")
	return strings.TrimSuffix(string(data), "\n")
}

// maxMapsFile bounds what is read of /proc/PID/maps.
const maxMapsFile = 16 << 20

// mapsPython reports whether a process has a file with python in its name mapped: its
// executable, library or modules. It also does if that cannot be told.
func mapsPython(pid int) bool {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return true
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxMapsFile))
	if err != nil || len(data) == maxMapsFile {
		return true
	}
	for ln := range bytes.Lines(data) {
		if i := bytes.LastIndexByte(ln, '/'); i >= 0 && bytes.Contains(ln[i:], []byte("python")) {
			return true
		}
	}
	return false
}

// allPIDs lists the processes in ascending order.
func allPIDs() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// checkPID returns an error if a PID cannot be recorded, and says what to do.
func checkPID(pid int) error {
	data, err := readProc(pid, "status")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint := ""
		if inOtherNamespace() {
			hint = "; this shell is in a PID namespace of its own, where processes have other numbers: run flameline on the host, or in a container with --pid=host"
		}
		return fmt.Errorf("there is no process %d%s", pid, hint)
	case err != nil:
		return fmt.Errorf("process %d: %w", pid, err)
	}
	group := 0
	state := byte('?')
	for ln := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(ln, ":")
		value = strings.TrimSpace(value)
		switch name {
		case "Tgid":
			group, _ = strconv.Atoi(value)
		case "State":
			if value != "" {
				state = value[0]
			}
		}
	}
	switch {
	case group != 0 && group != pid:
		return fmt.Errorf("%d is a thread of process %d: give -p %d, and --threads to tell its threads apart", pid, group, group)
	case state == 'Z' || state == 'X':
		return fmt.Errorf("process %d has ended: its parent has not asked for its exit status yet", pid)
	}
	return nil
}

// initialPIDNamespace is the inode of the first PID namespace.
const initialPIDNamespace = 0xEFFFFFFC

// inOtherNamespace reports whether this process has a PID namespace of its own.
func inOtherNamespace() bool {
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/pid", &st) == nil && st.Ino != initialPIDNamespace
}

// isHierarchy reports whether a directory below cgroupRoot is the root of a
// hierarchy, not a group: where version 2 alone is mounted there is none.
func isHierarchy(name string) bool {
	var root, dir unix.Stat_t
	return name != "" && unix.Stat(cgroupRoot, &root) == nil && unix.Stat(path.Join(cgroupRoot, name), &dir) == nil && root.Dev != dir.Dev
}

// cgroupExists reports whether a group is in any hierarchy.
func cgroupExists(group string) bool {
	names := []string{""}
	entries, _ := os.ReadDir(cgroupRoot)
	for _, e := range entries {
		if isHierarchy(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return slices.ContainsFunc(names, func(name string) bool {
		_, err := os.Stat(path.Join(cgroupRoot, name, group))
		return err == nil
	})
}
