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
	"github.com/flameline/flameline/collector/untrusted"
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

// perfMapBudget is what reading a perf map may cost.
var perfMapBudget = untrusted.Budget{Bytes: 2 * maxPerfMapBytes, Time: 4 * time.Second}

// perfMaps holds the perf maps of processes. It is safe for concurrent use. Its
// lock is not held while a map is read.
type perfMaps struct {
	procRoot string
	maxBytes int64
	guard    untrusted.Guard
	report   func(pid int, err error) // of maps that cannot be read; nil for none

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
	begin := time.Now()
	m := p.maps[pid]
	if m == nil {
		m = &perfMap{}
		p.put(pid, m)
	}
	m.used = begin
	if lines, ok := p.find(m, addr); ok {
		p.mu.Unlock()
		return lines, resultOK
	}
	if begin.Before(m.next) {
		defer p.mu.Unlock()
		return nil, missResult(m)
	}
	// Nobody else reads it meanwhile.
	m.next = begin.Add(time.Hour)
	info := m.info
	p.mu.Unlock()

	read, err := untrusted.Do(&p.guard, func() (*perfMap, error) { return p.load(pid, info) })
	if err != nil {
		read = &perfMap{}
		if p.report != nil {
			p.report(pid, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	next := now.Add(max(perfMapInterval, perfMapShare*now.Sub(begin)))
	if read == nil { // as it was
		m.next = next
		return nil, missResult(m)
	}
	read.used, read.next = now, next
	p.put(pid, read)
	p.trim(read)
	if lines, ok := p.find(read, addr); ok {
		return lines, resultOK
	}
	return nil, missResult(read)
}

// put replaces the map of a process. The caller holds mu.
func (p *perfMaps) put(pid int, m *perfMap) {
	if old := p.maps[pid]; old != nil {
		p.bytes -= old.bytes
	}
	if p.maps == nil {
		p.maps = map[int]*perfMap{}
	}
	p.maps[pid] = m
	p.bytes += m.bytes
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
	lines, grown, ok := m.table.lookup(addr, Templates, func(symbol string, style Style) string {
		return strings.ToValidUTF8(funcname.Demangle(symbol, style), "\uFFFD")
	})
	m.bytes += grown
	p.bytes += grown
	return lines, ok
}

// load reads the map of a process, nil if it is the file that was read before.
// Without a map, or with one that has no functions, it returns one without a
// table; an error says that the file is at fault.
func (p *perfMaps) load(pid int, before os.FileInfo) (*perfMap, error) {
	f, info, err := p.open(pid)
	if err != nil {
		if untrusted.Reason(err) != "" {
			return nil, err
		}
		return &perfMap{}, nil
	}
	defer f.Close()
	if before != nil && os.SameFile(info, before) && info.Size() == before.Size() && info.ModTime().Equal(before.ModTime()) {
		return nil, nil
	}
	m := &perfMap{info: info}
	r := untrusted.NewReader(f, info.Size(), perfMapBudget)
	t, err := readPerfMap(io.NewSectionReader(r, 0, r.Size()))
	switch {
	case err == nil:
		m.table, m.bytes = t, t.bytes()
	case untrusted.Reason(err) != "":
		return nil, err
	}
	return m, nil
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
	status, err := os.ReadFile(path.Join(dir, "status")) // the kernel's, of a few KB
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
	// What is no line of text ends the map; what came before it counts. An error
	// of reading is one.
	if err := lines.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
		return nil, err
	}
	if len(spans) == 0 {
		return nil, errNoSymbols
	}
	return newTable(flatten(spans), blob), nil
}
