package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/collector/symbolize"
)

const (
	// vdsoMapping is a mapping that every process has, at a random address.
	vdsoMapping = "[vdso]"
	// maxMapsBytes bounds what is read of a process' /proc/PID/maps.
	maxMapsBytes = 8 << 20
	// localRetry is how long processes are not searched again for one that was missing.
	localRetry = time.Minute
	// maxLocal bounds the processes, and those missing, that are remembered.
	maxLocal = 1024
)

// localSymbols finds the functions at addresses of scraped native profiles whose process
// runs on this machine, in the files that the process maps. The process is known by its
// mappings, which are at random addresses. It is safe for concurrent use.
type localSymbols struct {
	procRoot string
	symbols  *symbolize.Symbolizer

	mu        sync.Mutex
	processes map[string]*localProcess // by mappings
}

// A localProcess is a process that has a profile's mappings.
type localProcess struct {
	pid      int       // 0 if there is none
	searched time.Time // when it was looked for
	segments map[uint64][]symbolize.Segment
}

// A localMapping is a file that a process maps.
type localMapping struct {
	start, end, offset uint64
	path               string
}

func newLocalSymbols(procRoot string, symbols *symbolize.Symbolizer) *localSymbols {
	return &localSymbols{procRoot: procRoot, symbols: symbols, processes: map[string]*localProcess{}}
}

// lookup returns a function that returns the name of the function at an address, "" if it
// is unknown; nil if the profile's process does not run here.
func (s *localSymbols) lookup(p *googlev1.Profile) func(address uint64) string {
	var files, checked []localMapping
	vdso := false
	for _, m := range p.Mapping {
		l := localMapping{m.MemoryStart, m.MemoryLimit, m.FileOffset, p.StringTable[m.Filename]}
		switch {
		case l.path == vdsoMapping:
			vdso = true
			checked = append(checked, l)
		case strings.HasPrefix(l.path, "/"):
			files = append(files, l)
			checked = append(checked, l)
		}
	}
	if !vdso || len(files) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	process := s.process(checked)
	if process.pid == 0 {
		return nil
	}
	return func(address uint64) string {
		for _, m := range files {
			if m.start <= address && address < m.end {
				return s.name(process, m, address)
			}
		}
		return ""
	}
}

// process returns the process with mappings, which may be missing. The caller holds mu.
func (s *localSymbols) process(mappings []localMapping) *localProcess {
	var text strings.Builder
	for _, m := range mappings {
		fmt.Fprintf(&text, "%x %s\n", m.start, m.path)
	}
	sum := sha256.Sum256([]byte(text.String()))
	key := string(sum[:])
	known := s.processes[key]
	if known != nil && known.pid != 0 && s.has(known.pid, mappings) {
		return known
	}
	if known != nil && known.pid == 0 && time.Since(known.searched) < localRetry {
		return known
	}
	found := &localProcess{searched: time.Now(), segments: map[uint64][]symbolize.Segment{}}
	entries, _ := os.ReadDir(s.procRoot)
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && s.has(pid, mappings) {
			found.pid = pid
			break
		}
	}
	if len(s.processes) >= maxLocal {
		clear(s.processes)
	}
	s.processes[key] = found
	return found
}

// has reports whether a process has mappings.
func (s *localSymbols) has(pid int, mappings []localMapping) bool {
	f, err := os.Open(filepath.Join(s.procRoot, strconv.Itoa(pid), "maps"))
	if err != nil {
		return false
	}
	defer f.Close()
	type place struct {
		start uint64
		path  string
	}
	missing := map[place]bool{}
	for _, m := range mappings {
		missing[place{m.start, m.path}] = true
	}
	lines := bufio.NewScanner(io.LimitReader(f, maxMapsBytes))
	for lines.Scan() && len(missing) > 0 {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 {
			continue
		}
		start, _, _ := strings.Cut(fields[0], "-")
		if n, err := strconv.ParseUint(start, 16, 64); err == nil {
			delete(missing, place{n, strings.Join(fields[5:], " ")})
		}
	}
	return len(missing) == 0
}

// name returns the function at an address in a mapping of a process. The caller of
// lookup's function need not hold mu.
func (s *localSymbols) name(process *localProcess, m localMapping, address uint64) string {
	b := symbolize.Binary{Name: filepath.Base(m.path), Path: m.path, PID: process.pid, Start: m.start, End: m.end}
	sum := sha256.Sum256(fmt.Appendf(nil, "scraped %d %x %s", process.pid, m.start, m.path))
	id := symbolize.FileID(sum[:16])
	s.mu.Lock()
	segments, known := process.segments[m.start]
	s.mu.Unlock()
	if !known {
		// A file that cannot be read has no segments, and is not tried again.
		segments, _ = symbolize.Segments(s.procRoot, b)
		s.symbols.Add(id, b)
		s.mu.Lock()
		process.segments[m.start] = segments
		s.mu.Unlock()
	}
	offset := address - m.start + m.offset
	for _, seg := range segments {
		if offset-seg.Offset >= seg.Size { // also below it
			continue
		}
		if lines, ok := s.symbols.Lookup(id, offset-seg.Offset+seg.Address); ok && len(lines) > 0 {
			return lines[len(lines)-1].Function // that inlined the others
		}
	}
	return ""
}
