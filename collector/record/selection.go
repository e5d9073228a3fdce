package record

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// A Selection says which processes are recorded. Exactly one of PIDs, All, Comm,
// Container, CGroup and Command is set.
type Selection struct {
	PIDs      []int          // these processes, all of their threads
	All       bool           // all processes, the kernel's threads included
	Comm      *regexp.Regexp // processes whose name (/proc/PID/comm, up to 15 bytes) matches
	Container string         // processes in the container with this ID or beginning of an ID
	CGroup    string         // processes in this control group or below: a path below its root, such as /system.slice
	Command   []string       // the process of this command, which Run starts

	// Subprocesses adds the children of PIDs and Command, and theirs.
	Subprocesses bool
}

// Check returns an error that says what of a selection is missing or
// contradicts the rest.
func (s Selection) Check() error {
	n := 0
	for _, set := range []bool{len(s.PIDs) > 0, s.All, s.Comm != nil, s.Container != "", s.CGroup != "", len(s.Command) > 0} {
		if set {
			n++
		}
	}
	switch {
	case n == 0:
		return errors.New("say what to record: -p PID, -a (everything), --comm RE, --container ID, --cgroup PATH or -- COMMAND")
	case n > 1:
		return errors.New("give only one of -p, -a, --comm, --container, --cgroup and a command")
	case s.Subprocesses && len(s.PIDs) == 0 && len(s.Command) == 0:
		return errors.New("--subprocesses goes with -p or a command: the other selections choose by a property that children have or have not")
	}
	return nil
}

// One reports whether the selection is of one process.
func (s Selection) One() bool {
	return !s.Subprocesses && (len(s.PIDs) == 1 || len(s.Command) > 0)
}

// String names the selection for messages.
func (s Selection) String() string {
	switch {
	case len(s.PIDs) == 1:
		return fmt.Sprintf("process %d", s.PIDs[0])
	case len(s.PIDs) > 1:
		return fmt.Sprintf("%d processes", len(s.PIDs))
	case s.All:
		return "all processes"
	case s.Comm != nil:
		return fmt.Sprintf("processes called %s", s.Comm)
	case s.Container != "":
		return fmt.Sprintf("container %s", s.Container)
	case s.CGroup != "":
		return fmt.Sprintf("control group %s", s.CGroup)
	case len(s.Command) > 0:
		return path.Base(s.Command[0])
	}
	return "nothing"
}

// ParsePIDs reads lists of PIDs, each with commas between them, and leaves out
// what is there twice.
func ParsePIDs(lists []string) (pids []int, err error) {
	seen := map[int]bool{}
	for _, list := range lists {
		for text := range strings.SplitSeq(list, ",") {
			pid, err := strconv.Atoi(strings.TrimSpace(text))
			if err != nil || pid <= 0 {
				return nil, fmt.Errorf("%q is not a process ID: give numbers such as 4711 or 4711,4712", text)
			}
			if !seen[pid] {
				seen[pid] = true
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// CleanCGroup returns a control group's path below the root of its hierarchy:
// /sys/fs/cgroup/system.slice, system.slice/ and /system.slice are the same. Of
// version 1, and where both versions are mounted, the name of the hierarchy
// (/sys/fs/cgroup/memory) is left out.
func CleanCGroup(name string) string {
	name = path.Clean("/" + name)
	rest, ok := strings.CutPrefix(name, cgroupRoot+"/")
	if !ok {
		if name == cgroupRoot {
			return "/"
		}
		return name
	}
	first, below, _ := strings.Cut(rest, "/")
	if isHierarchy(first) {
		return "/" + below
	}
	return "/" + rest
}

// cgroupRoot is where control groups are mounted.
const cgroupRoot = "/sys/fs/cgroup"

// inCGroup reports whether a line of /proc/PID/cgroup, in any hierarchy, is of a
// control group or of one below it. The path is clean.
func inCGroup(file []byte, group string) bool {
	for ln := range strings.Lines(string(file)) {
		parts := strings.SplitN(strings.TrimSuffix(ln, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if p := parts[2]; p == group || group == "/" || strings.HasPrefix(p, group+"/") {
			return true
		}
	}
	return false
}
