package symbolize

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flameline/flameline/collector/funcname"
)

// Bounds on perf maps. A compiler that writes for days makes large ones.
const (
	maxPerfMapBytes   = 64 << 20
	maxPerfMapEntries = 1 << 20
	maxPerfMaps       = 256

	// A map that grew is read again after a miss, but not more often than
	// this and not for more than a twentieth of the time.
	perfMapInterval = time.Second
	perfMapShare    = 20
)

// perfMaps holds the perf maps of processes. It is safe for concurrent use.
type perfMaps struct {
	procRoot string
	maxBytes int64

	mu    sync.Mutex
	maps  map[int]*perfMap // by PID
	bytes int64
}

// A perfMap is the map of one process as last read.
type perfMap struct {
	table *table // nil: there is no usable map
	bytes int64
	info  os.FileInfo // of the file as read
	next  time.Time   // not read again before
	used  time.Time
}

func (p *perfMaps) lookup(pid int, addr uint64) ([]Line, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	m := p.maps[pid]
	if m != nil {
		m.used = now
		if lines, ok := p.find(m, addr); ok {
			return lines, resultOK
		}
		if now.Before(m.next) {
			return nil, missResult(m)
		}
	}
	m = p.reload(pid, m)
	if lines, ok := p.find(m, addr); ok {
		return lines, resultOK
	}
	return nil, missResult(m)
}

func missResult(m *perfMap) string {
	if m.table == nil {
		return resultNoTable
	}
	return resultNoFunc
}

func (p *perfMaps) find(m *perfMap, addr uint64) ([]Line, bool) {
	if m.table == nil {
		return nil, false
	}
	lines, grown, ok := m.table.lookup(addr, Short, func(symbol string, style Style) string {
		return strings.ToValidUTF8(funcname.Demangle(symbol, style), "\uFFFD")
	})
	m.bytes += grown
	p.bytes += grown
	return lines, ok
}

// reload reads the map of a process if it changed. The caller holds mu.
func (p *perfMaps) reload(pid int, old *perfMap) *perfMap {
	begin := time.Now()
	m := &perfMap{used: begin}
	f, info, err := p.open(pid)
	if err == nil {
		defer f.Close()
		if old != nil && old.info != nil && os.SameFile(info, old.info) && info.Size() == old.info.Size() && info.ModTime().Equal(old.info.ModTime()) {
			old.next = begin.Add(perfMapInterval)
			return old
		}
		m.info = info
		if t, err := readPerfMap(f); err == nil {
			m.table, m.bytes = t, t.bytes()
		}
	}
	m.next = time.Now().Add(max(perfMapInterval, perfMapShare*time.Since(begin)))
	if old != nil {
		p.bytes -= old.bytes
	}
	if p.maps == nil {
		p.maps = map[int]*perfMap{}
	}
	p.maps[pid] = m
	p.bytes += m.bytes
	p.trim(m)
	return m
}

// trim drops the maps used least lately, but never keep. The caller holds mu.
func (p *perfMaps) trim(keep *perfMap) {
	for p.bytes > p.maxBytes || len(p.maps) > maxPerfMaps {
		oldest, found := 0, false
		for pid, m := range p.maps {
			if m != keep && (!found || m.used.Before(p.maps[oldest].used)) {
				oldest, found = pid, true
			}
		}
		if !found {
			return
		}
		p.bytes -= p.maps[oldest].bytes
		delete(p.maps, oldest)
	}
}

// expire drops maps not used since a time.
func (p *perfMaps) expire(since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pid, m := range p.maps {
		if m.used.Before(since) {
			p.bytes -= m.bytes
			delete(p.maps, pid)
		}
	}
}

func (p *perfMaps) size() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

// open opens the perf map of a process, which names it by the PID that it has
// in its own namespace. As perf does, it refuses a map that belongs neither to
// the process' user nor to root: /tmp is anyone's.
func (p *perfMaps) open(pid int) (*os.File, os.FileInfo, error) {
	dir := path.Join(p.procRoot, strconv.Itoa(pid))
	status, err := os.ReadFile(path.Join(dir, "status"))
	if err != nil {
		return nil, nil, err
	}
	f, err := openIn(path.Join(dir, "root"), fmt.Sprintf("tmp/perf-%d.map", namespacePID(status, pid)))
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !sameOwner(f, dir) {
		err = errors.New("read perf map: belongs to another user")
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// namespacePID returns the PID that a process has in its innermost namespace,
// from its status file.
func namespacePID(status []byte, pid int) int {
	for line := range bytes.Lines(status) {
		rest, ok := bytes.CutPrefix(line, []byte("NSpid:"))
		if !ok {
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) == 0 {
			break
		}
		if n, err := strconv.Atoi(string(fields[len(fields)-1])); err == nil {
			return n
		}
	}
	return pid
}

// readPerfMap reads lines of START SIZE NAME, the numbers in hexadecimal. A
// later line wins where lines overlap: code was replaced. Malformed lines are
// passed over, the last one may be half written.
func readPerfMap(r io.Reader) (*table, error) {
	var (
		spans []span
		blob  []byte
		names = map[string]uint32{}
		lines = bufio.NewScanner(io.LimitReader(r, maxPerfMapBytes))
	)
	lines.Buffer(nil, maxSymbolName)
	for lines.Scan() && len(spans) < maxPerfMapEntries {
		startText, rest, _ := strings.Cut(lines.Text(), " ")
		sizeText, name, _ := strings.Cut(rest, " ")
		start, err1 := strconv.ParseUint(strings.TrimPrefix(startText, "0x"), 16, 64)
		size, err2 := strconv.ParseUint(strings.TrimPrefix(sizeText, "0x"), 16, 32)
		name = strings.TrimSpace(name)
		if err1 != nil || err2 != nil || size == 0 || start+size < start || name == "" || strings.IndexByte(name, 0) >= 0 {
			continue
		}
		if len(name) > maxFunctionName {
			name = name[:maxFunctionName]
		}
		pos, ok := names[name]
		if !ok {
			pos = uint32(len(blob))
			names[strings.Clone(name)] = pos
			blob = append(append(blob, name...), 0)
		}
		spans = append(spans, span{start: start, end: start + size, name: pos, priority: uint32(len(spans))})
	}
	if len(spans) == 0 {
		return nil, errNoSymbols
	}
	return newTable(flatten(spans), blob), nil
}
