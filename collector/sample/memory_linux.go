//go:build linux && (amd64 || arm64)

package sample

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/ebpf-profiler/libpf"
)

// maxRegions bounds the mappings of a process that are read.
const maxRegions = 1 << 16

// A mapping is a range of a process' memory.
type mapping struct {
	span
	inode      string
	path       string
	executable bool
}

// anonymous reports whether no file is behind a mapping.
func (m mapping) anonymous() bool {
	return m.inode == "0" && (m.path == "" || strings.HasPrefix(m.path, "[anon:"))
}

// readMappings reads what memory a process has.
func readMappings(pid libpf.PID) ([]mapping, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, fmt.Errorf("read mappings: %w", err)
	}
	defer f.Close()
	var ms []mapping
	lines := bufio.NewScanner(f)
	for lines.Scan() && len(ms) < maxRegions {
		if m, ok := memoryMapping(lines.Text()); ok {
			ms = append(ms, m)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read mappings: %w", err)
	}
	return ms, nil
}

// memoryMapping reads a line of /proc/PID/maps.
func memoryMapping(line string) (m mapping, ok bool) {
	const inode, path = 4, 5
	fields := strings.Fields(line)
	if len(fields) <= inode || len(fields[1]) < 4 {
		return m, false
	}
	from, to, _ := strings.Cut(fields[0], "-")
	var err1, err2 error
	m.start, err1 = strconv.ParseUint(from, 16, 64)
	m.end, err2 = strconv.ParseUint(to, 16, 64)
	if err1 != nil || err2 != nil || m.end <= m.start {
		return m, false
	}
	m.executable, m.inode = fields[1][2] == 'x', fields[inode]
	if len(fields) > path {
		m.path = fields[path]
	}
	return m, true
}

// unnamedRuns returns runs of unnamed memory without holes that have code in
// them: compilers reserve a range and then change the protection of its parts.
func unnamedRuns(ms []mapping) (runs [][]mapping) {
	for from := 0; from < len(ms); {
		to := from + 1
		for to < len(ms) && ms[from].anonymous() && ms[to].anonymous() && ms[to].start == ms[to-1].end {
			to++
		}
		run := ms[from:to]
		if run[0].anonymous() && slices.ContainsFunc(run, func(m mapping) bool { return m.executable }) {
			runs = append(runs, run)
		}
		if from = to; len(runs) >= maxJITRuns {
			break
		}
	}
	return runs
}
