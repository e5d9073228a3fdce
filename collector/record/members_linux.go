package record

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/target"
)

// Labels of the profiles that a Session hands on, beside those of threads, which
// package sample names.
const (
	LabelPID  = "pid"
	LabelComm = target.LabelComm
)

// members decide which processes are in a selection, and are the sampler's source
// of labels.
type members struct {
	selection Selection
	family    *family // nil if children are not followed

	// starting is held for writing while a process starts that is in the selection
	// by its number: nobody is told that it is not, before the number is known.
	starting sync.RWMutex

	mu   sync.Mutex
	pids map[int]bool // chosen by number
	seen map[int]bool // of which there are samples
	off  int64        // lookups of processes that are not in the selection
}

func newMembers(s Selection, f *family) *members {
	m := &members{selection: s, family: f, pids: map[int]bool{}, seen: map[int]bool{}}
	for _, pid := range s.PIDs {
		m.pids[pid] = true
		if f != nil {
			f.addAll(pid)
		}
	}
	return m
}

// start starts a process and adds it.
func (m *members) start(process func() (pid int, err error)) error {
	m.starting.Lock()
	defer m.starting.Unlock()
	pid, err := process()
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.pids[pid] = true
	m.mu.Unlock()
	if m.family != nil {
		m.family.add(pid)
	}
	return nil
}

// Labels returns a process' number and name, and no labels if it is not in the
// selection.
func (m *members) Labels(pid int, hint target.Hint) labels.Labels {
	m.starting.RLock()
	defer m.starting.RUnlock()
	name := commOf(pid)
	if name == "" && m.family != nil {
		name = m.family.name(pid)
	}
	name = cmp.Or(name, hint.Comm)
	if name == "" && hint.Exe != "" {
		name = hint.Exe[strings.LastIndexByte(hint.Exe, '/')+1:]
	}
	in := m.has(pid, name, hint.ContainerID)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !in {
		m.off++
		return labels.EmptyLabels()
	}
	m.seen[pid] = true
	return labels.FromStrings(LabelPID, strconv.Itoa(pid), LabelComm, cmp.Or(name, "?"))
}

// includes reports whether a process that runs is in the selection.
func (m *members) includes(pid int) bool {
	m.starting.RLock()
	defer m.starting.RUnlock()
	return m.has(pid, commOf(pid), "")
}

// has reports whether a process is in the selection. The container is what is
// known of a process that has ended.
func (m *members) has(pid int, name, container string) bool {
	switch s := m.selection; {
	case s.All:
		return true
	case s.Comm != nil:
		return s.Comm.MatchString(name)
	case s.Container != "":
		if data, err := readProc(pid, "cgroup"); err == nil {
			container = cmp.Or(target.ContainerID(data), container)
		}
		return strings.HasPrefix(container, s.Container)
	case s.CGroup != "":
		data, err := readProc(pid, "cgroup")
		return err == nil && inCGroup(data, s.CGroup)
	case m.family != nil:
		return m.family.has(pid)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pids[pid]
}

// now lists the processes that are in the selection at the moment; none of them
// for All.
func (m *members) now() []int {
	if m.selection.All {
		return nil
	}
	pids, _ := allPIDs()
	return slices.DeleteFunc(pids, func(pid int) bool { return !m.has(pid, commOf(pid), "") })
}

// first lists the processes in the selection, those that have used the most CPU time
// first, as they are the likeliest to use more; of all processes only those that have used
// any.
func (m *members) first() []int {
	pids := m.now()
	if m.selection.All {
		pids, _ = allPIDs()
	}
	ticks := make(map[int]uint64, len(pids))
	for _, pid := range pids {
		if s, err := stateOf(pid); err == nil {
			ticks[pid] = s.ticks
		}
	}
	if m.selection.All {
		pids = slices.DeleteFunc(pids, func(pid int) bool { return ticks[pid] == 0 })
	}
	slices.SortStableFunc(pids, func(a, b int) int { return cmp.Compare(ticks[b], ticks[a]) })
	return pids
}

// withoutPython reports whether the processes are known by their numbers, and none of them
// has CPython mapped. One that loads it later, as a plug-in, has the functions of the
// interpreter in its stacktraces.
func (m *members) withoutPython() bool {
	s := m.selection
	return len(s.PIDs) > 0 && !s.Subprocesses && !slices.ContainsFunc(s.PIDs, mapsPython)
}

// measured returns the processes whose waits and page faults are to be measured, with the
// children that they start, given those of now: nil for all.
func (m *members) measured(now []int) []int {
	switch s := m.selection; {
	case len(s.PIDs) > 0:
		return now
	case len(s.Command) > 0:
		return []int{os.Getpid()} // whose child the command will be
	}
	return nil
}

// containers lists the containers that run, as the first 12 digits of their IDs.
func containers() (ids []string) {
	pids, _ := allPIDs()
	for _, pid := range pids {
		if data, err := readProc(pid, "cgroup"); err == nil {
			if id := target.ContainerID(bytes.TrimSpace(data)); id != "" {
				ids = append(ids, id[:min(12, len(id))])
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// check returns an error if nothing can match the selection now.
func (m *members) check() error {
	s := m.selection
	for _, pid := range s.PIDs {
		if err := checkPID(pid); err != nil {
			return err
		}
	}
	switch {
	case s.Container != "":
		if len(m.now()) > 0 {
			return nil
		}
		running := "no process here runs in one"
		if ids := containers(); len(ids) > 0 {
			running = "running are " + strings.Join(ids[:min(len(ids), 10)], ", ")
			if len(ids) > 10 {
				running += fmt.Sprintf(" and %d others", len(ids)-10)
			}
		}
		return fmt.Errorf("no container has an ID that begins with %s (%s); give the ID as `docker ps --no-trunc` or `crictl ps` shows it", s.Container, running)
	case s.CGroup != "" && !cgroupExists(s.CGroup):
		return fmt.Errorf("there is no control group %s: give its path below %s, such as /system.slice/nginx.service", s.CGroup, cgroupRoot)
	}
	return nil
}

// cpuTicks is the CPU time that processes have used, in clock ticks.
func cpuTicks(pids []int) (ticks uint64) {
	for _, pid := range pids {
		if s, err := stateOf(pid); err == nil {
			ticks += s.ticks
		}
	}
	return ticks
}
