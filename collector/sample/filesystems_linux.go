//go:build linux && (amd64 || arm64)

package sample

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/ebpf-profiler/libpf"
)

// fileSystems tell which devices belong to file systems that may not answer:
// those with a server, in another process or on another machine. It is used by
// one goroutine.
type fileSystems struct {
	remote map[uint64]bool // by device, major<<8 + minor
	asked  map[uint64]bool // devices that are in no list of mounts
	since  time.Time       // numbers of devices are used again

	silent map[uint64]time.Time // devices that did not answer, and until when they are not asked
}

// silentTime is how long a file system that did not answer is not asked again: its
// server may be back.
const silentTime = time.Minute

// isSilent reports whether a device did not answer lately.
func (s *fileSystems) isSilent(device uint64) bool {
	return time.Now().Before(s.silent[device])
}

// setSilent notes that a device did not answer.
func (s *fileSystems) setSilent(device uint64) {
	if device == unknownDevice {
		return
	}
	if s.silent == nil || len(s.silent) >= maxUnreadable {
		s.silent = map[uint64]time.Time{}
	}
	s.silent[device] = time.Now().Add(silentTime)
}

// fileSystemsAge is how long what is known of devices is used.
const fileSystemsAge = time.Minute

// remoteTypes are types of file systems with a server.
var remoteTypes = []string{"fuse", "nfs", "cifs", "smb", "9p", "ceph", "afs", "virtiofs", "lustre", "gfs", "ocfs", "orangefs", "coda", "autofs"}

// mayHang reports whether files on a device may not answer. It looks into the
// list of mounts of a process that has a file of the device mapped; listing does
// not ask the servers. A device that is not in the list counts as one that may.
func (s *fileSystems) mayHang(pid libpf.PID, device uint64) bool {
	if now := time.Now(); s.remote == nil || now.Sub(s.since) > fileSystemsAge {
		s.remote, s.asked, s.since = map[uint64]bool{}, map[uint64]bool{}, now
	}
	remote, known := s.remote[device]
	if known || s.asked[device] {
		return remote || !known
	}
	for _, name := range []string{strconv.Itoa(int(pid)), "self"} {
		mounts, err := os.Open(fmt.Sprintf("/proc/%s/mountinfo", name))
		if err != nil {
			continue
		}
		for lines, n := bufio.NewScanner(mounts), 0; lines.Scan() && n < maxMapLines; n++ {
			if d, kind, ok := parseMount(lines.Text()); ok {
				s.remote[d] = s.remote[d] || isRemote(kind)
			}
		}
		mounts.Close()
	}
	if remote, known = s.remote[device]; known {
		return remote
	}
	s.asked[device] = true
	return true
}

// parseMount reads a line of /proc/PID/mountinfo: the device is its third field,
// the type of file system the first one behind a dash.
func parseMount(ln string) (device uint64, kind string, ok bool) {
	head, tail, _ := strings.Cut(ln, " - ")
	fields := strings.Fields(head)
	kind, _, ok = strings.Cut(tail, " ")
	if !ok || len(fields) < 3 {
		return 0, "", false
	}
	majorText, minorText, _ := strings.Cut(fields[2], ":")
	major, err1 := strconv.ParseUint(majorText, 10, 32)
	minor, err2 := strconv.ParseUint(minorText, 10, 32)
	return major<<8 + minor, kind, err1 == nil && err2 == nil
}

func isRemote(kind string) bool {
	for _, r := range remoteTypes {
		if strings.HasPrefix(kind, r) {
			return true
		}
	}
	return false
}
