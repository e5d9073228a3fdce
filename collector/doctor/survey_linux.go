package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/flameline/flameline/collector/target"
)

// maxSurvey bounds the processes that are looked at for runtimes.
const maxSurvey = 2000

func allPIDs() (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// countContainers counts the processes in containers.
func countContainers() (n int) {
	for _, pid := range allPIDs() {
		if data, err := readProc(pid, "cgroup", maxSmall); err == nil && target.ContainerID(data) != "" {
			n++
		}
	}
	return n
}

// others finds other profilers that run: each takes time for its samples.
func (r *Report) others() {
	own, _ := os.Readlink("/proc/self/exe")
	var flamelines, profilers []string
	for _, pid := range allPIDs() {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || pid == os.Getpid() {
			continue
		}
		exe = strings.TrimSuffix(exe, " (deleted)")
		switch name := filepath.Base(exe); {
		case exe == own || name == "flameline":
			flamelines = append(flamelines, strconv.Itoa(pid))
		case slices.Contains([]string{"perf", "alloy", "parca-agent", "ebpf-profiler", "otelcol-ebpf-profiler", "bpftrace", "pyroscope"}, name):
			profilers = append(profilers, fmt.Sprintf("%s (%d)", name, pid))
		}
	}
	switch {
	case len(flamelines) > 0:
		r.add("other_flameline", Note, "flameline runs already, as process "+strings.Join(flamelines, ", "),
			"recording beside it works; each samples on its own, and costs CPU time for both")
	case len(profilers) > 0:
		r.add("other_profilers", Note, strings.Join(profilers, ", ")+" may sample too", "recording beside them works, and costs CPU time for both")
	}
}

// runtimes lists the interpreters and virtual machines of all processes.
func (r *Report) runtimes() {
	type group struct {
		found runtimeFound
		pids  []int
	}
	var groups []*group
	pids := allPIDs()
	for _, pid := range pids[:min(len(pids), maxSurvey)] {
		if pid == os.Getpid() {
			continue
		}
		m, err := readMappings(pid)
		if err != nil {
			continue
		}
		for _, f := range findRuntimes(pid, m) {
			i := slices.IndexFunc(groups, func(g *group) bool {
				return g.found.name == f.name && g.found.version == f.version && g.found.problem == f.problem
			})
			if i < 0 {
				groups = append(groups, &group{found: f})
				i = len(groups) - 1
			}
			groups[i].pids = append(groups[i].pids, pid)
		}
	}
	for _, g := range groups {
		status, found, fix := g.found.judge()
		where := fmt.Sprintf(" (process %d", g.pids[0])
		if n := len(g.pids) - 1; n > 0 {
			where += fmt.Sprintf(" and %d more", n)
		}
		r.add("runtime", status, found+where+")", fix)
	}
}
