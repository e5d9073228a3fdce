package doctor

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/flameline/flameline/collector/symbolize"
	"github.com/flameline/flameline/collector/untrusted"
)

// Bounds of what is read of a process.
const (
	maxMapBytes = 8 << 20
	maxFiles    = 1024
	maxSmall    = 256 << 10 // of cmdline, environ and other small files
)

// guard bounds reading procfs: some of it is in a process' memory, which may be mapped from
// a file system that does not answer.
var guard = &untrusted.Guard{Limit: 2 * time.Second, Stuck: 16}

// readProc reads a file of a process in procfs.
func readProc(pid int, name string, limit int64) ([]byte, error) {
	return untrusted.Do(guard, func() ([]byte, error) {
		f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, limit))
	})
}

// A mapped file is code that a process has mapped.
type mappedFile struct {
	path       string // as the process sees it
	start, end uint64 // of its first executable mapping
	size       uint64 // bytes of executable mappings
	deleted    bool
}

// mappings are what a process maps.
type mappings struct {
	files     []*mappedFile // with code, in the order of their first mapping
	paths     []string      // of all files, without code too
	anonymous uint64        // executable bytes of no file: of a JIT compiler
}

// readMappings reads /proc/PID/maps.
func readMappings(pid int) (*mappings, error) {
	text, err := readProc(pid, "maps", maxMapBytes)
	if err != nil {
		return nil, err
	}
	return parseMappings(text), nil
}

// parseMappings parses lines of START-END PERMISSIONS OFFSET DEVICE INODE PATH. A line that
// is none of these is passed over.
func parseMappings(text []byte) *mappings {
	m := &mappings{}
	code, seen := map[string]*mappedFile{}, map[string]bool{}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		f := strings.SplitN(s.Text(), " ", 6)
		if len(f) < 5 || len(f[1]) < 4 {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 != nil || err2 != nil || end < start {
			continue
		}
		name := ""
		if len(f) == 6 {
			name = strings.TrimLeft(f[5], " ")
		}
		executable := f[1][2] == 'x'
		switch {
		case strings.HasPrefix(name, "/") && f[4] != "0":
			name, deleted := strings.CutSuffix(name, " (deleted)")
			if !seen[name] && len(seen) < maxFiles {
				seen[name] = true
				m.paths = append(m.paths, name)
			}
			if !executable || code[name] == nil && len(code) >= maxFiles {
				continue
			}
			if code[name] == nil {
				code[name] = &mappedFile{path: name, start: start, end: end, deleted: deleted}
				m.files = append(m.files, code[name])
			}
			code[name].size += end - start
		case executable && (name == "" || strings.HasPrefix(name, "[anon") || strings.HasPrefix(name, "/memfd:") || strings.HasPrefix(name, "//anon")):
			m.anonymous += end - start
		}
	}
	return m
}

// binary describes a mapped file to package symbolize.
func (f *mappedFile) binary(pid int) symbolize.Binary {
	return symbolize.Binary{Name: base(f.path), Path: f.path, PID: pid, Start: f.start, End: f.end}
}

func base(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
