//go:build linux && (amd64 || arm64)

package sample

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

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
	// maxMapLines bounds the mappings that are read to find one.
	maxMapLines = 16 << 10
)

// placeOf is the function placeOf with a bound on its time.
func (s *Source) placeOf(pid uint32, l leaf) place {
	if l.Status == buildIDValid {
		return placeOf(pid, l)
	}
	p, err := untrusted.Do(&s.maps, func() (place, error) { return placeOf(pid, l), nil })
	if err != nil {
		return place{offset: l.Offset}
	}
	return p
}

// placeOf finds the file of a leaf. The kernel gives a build ID where it can;
// otherwise (Go programs have theirs where it does not look) the process'
// mappings tell, if it still runs.
func placeOf(pid uint32, l leaf) place {
	if l.Status == buildIDValid {
		return place{buildID: hex.EncodeToString(l.BuildID[:]), offset: l.Offset}
	}
	p := place{offset: l.Offset}
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return p
	}
	defer maps.Close()
	for s, n := bufio.NewScanner(maps), 0; s.Scan() && n < maxMapLines; n++ {
		if found, ok := parseMapping(s.Text(), l.Offset); ok {
			return found
		}
	}
	return p
}

// parseMapping reads a line of /proc/PID/maps and returns the place in the file
// that an address is mapped from, false if it is in no file or another mapping.
func parseMapping(ln string, addr uint64) (place, bool) {
	f := strings.Fields(ln)
	if len(f) < 6 {
		return place{}, false
	}
	from, to, _ := strings.Cut(f[0], "-")
	major, minor, _ := strings.Cut(f[3], ":")
	var n [6]uint64
	for i, text := range []string{from, to, f[2], major, minor} {
		v, err := strconv.ParseUint(text, 16, 64)
		if err != nil {
			return place{}, false
		}
		n[i] = v
	}
	inode, err := strconv.ParseUint(f[4], 10, 64)
	if err != nil || inode == 0 || addr < n[0] || addr >= n[1] {
		return place{}, false
	}
	return place{
		file:   fileKey{device: n[3]<<8 + n[4], inode: inode},
		name:   f[5][strings.LastIndexByte(f[5], '/')+1:],
		offset: addr - n[0] + n[2],
	}, true
}
