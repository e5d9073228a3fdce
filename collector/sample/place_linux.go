//go:build linux && (amd64 || arm64)

package sample

import (
	"bufio"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/ebpf-profiler/process"

	"github.com/flameline/flameline/collector/untrusted"
)

// A place is where in a file a thread was.
type place struct {
	buildID string  // in hexadecimal; "" if not known
	file    fileKey // zero if not known
	name    string  // base name of the file; "" if not known
	offset  uint64  // in the file, or the address in memory if no file is known
}

const (
	// mapsTimeout is how long reading the mappings of a process may take. They are
	// locked while the process waits for a file system that does not answer.
	mapsTimeout = time.Second
	// maxMapLines bounds the mappings that are read to find code.
	maxMapLines = 16 << 10
)

// A codeMapping is a part of a file that a process has mapped as code.
type codeMapping struct {
	span
	offset uint64  // of the start, in the file
	file   fileKey // zero for the kernel's shared object
	path   string  // as the process sees it
}

// codeMappings reads what code a process has mapped, by rising addresses. There is none
// if the process has ended, or if that takes too long.
func (s *Source) codeMappings(pid uint32) []codeMapping {
	ms, _ := untrusted.Do(&s.maps, func() ([]codeMapping, error) { return readCodeMappings(int(pid)) })
	return ms
}

// readCodeMappings is codeMappings without a bound on its time.
func readCodeMappings(pid int) (ms []codeMapping, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for s, n := bufio.NewScanner(f), 0; s.Scan() && n < maxMapLines; n++ {
		if m, ok := parseCodeMapping(s.Text()); ok {
			ms = append(ms, m)
		}
	}
	return ms, nil
}

// parseCodeMapping reads a line of /proc/PID/maps, false if it is not code of a file.
func parseCodeMapping(ln string) (m codeMapping, ok bool) {
	f := strings.Fields(ln)
	if len(f) < 6 || len(f[1]) < 3 || f[1][2] != 'x' {
		return m, false
	}
	from, to, _ := strings.Cut(f[0], "-")
	major, minor, _ := strings.Cut(f[3], ":")
	var n [5]uint64
	for i, text := range []string{from, to, f[2], major, minor} {
		v, err := strconv.ParseUint(text, 16, 64)
		if err != nil {
			return m, false
		}
		n[i] = v
	}
	inode, err := strconv.ParseUint(f[4], 10, 64)
	if err != nil || n[0] >= n[1] {
		return m, false
	}
	m = codeMapping{span: span{n[0], n[1]}, offset: n[2], path: strings.Join(f[5:], " ")}
	if m.path == "[vdso]" {
		m.path = process.VdsoPathName
		return m, true
	}
	m.file = fileKey{device: n[3]<<8 + n[4], inode: inode}
	return m, inode != 0
}

// find returns the mapping that an address is in.
func find(ms []codeMapping, addr uint64) (codeMapping, bool) {
	i, _ := slices.BinarySearchFunc(ms, addr, func(m codeMapping, addr uint64) int {
		if m.end <= addr {
			return -1
		}
		return 1
	})
	if i == len(ms) || addr < ms[i].start {
		return codeMapping{}, false
	}
	return ms[i], true
}

// at returns the place of an address.
func (m codeMapping) at(addr uint64) place {
	return place{
		file:   m.file,
		name:   m.path[strings.LastIndexByte(m.path, '/')+1:],
		offset: addr - m.start + m.offset,
	}
}

// raw returns the mapping in the form of the unwinder's library.
func (m codeMapping) raw() process.RawMapping {
	return process.RawMapping{
		Vaddr: m.start, Length: m.end - m.start, Flags: elf.PF_R | elf.PF_X, FileOffset: m.offset,
		Device: m.file.device, Inode: m.file.inode, Path: m.path,
	}
}

// placeOf finds the file of a leaf. The kernel gives a build ID where it can; otherwise
// (Go programs have theirs where it does not look) the process' mappings tell.
func placeOf(l leaf, ms []codeMapping) place {
	if l.Status == buildIDValid {
		return place{buildID: hex.EncodeToString(l.BuildID[:]), offset: l.Offset}
	}
	if m, ok := find(ms, l.Offset); ok {
		return m.at(l.Offset)
	}
	return place{offset: l.Offset}
}
