package target

import (
	"bytes"
	"os"
	"path"
	"regexp"
	"strings"
)

// ContainerID returns the full ID of the innermost container that a process runs in,
// from the content of its /proc/PID/cgroup; "" if it runs in none.
func ContainerID(cgroup []byte) string {
	c := parseCgroup(cgroup)
	return c.container()
}

// runtimeMount matches the source of a file that container runtimes mount into a
// container: /var/lib/docker/containers/<id>/hostname, and
// /var/lib/kubelet/pods/<uid>/etc-hosts.
var runtimeMount = regexp.MustCompile(`(?:/containers/([0-9a-f]{64})|/pods/([0-9a-f-]{32,36}))/(?:hostname|hosts|resolv\.conf|etc-hosts|userdata/.*)$`)

// ownContainer returns the ID of the container that this process runs in and the UID of
// its pod, if a cgroup namespace hides them; "" if they are not hidden or not known.
func (p procfs) ownContainer() (id, pod string) {
	data, err := os.ReadFile(path.Join(p.root, "self", "cgroup"))
	if err != nil {
		return "", ""
	}
	if c := parseCgroup(data); c.path != "/" {
		return "", ""
	}
	mounts, err := os.ReadFile(path.Join(p.root, "self", "mountinfo"))
	if err != nil {
		return "", ""
	}
	return parseOwnMounts(mounts)
}

// parseOwnMounts finds the container and the pod of this process, whose
// /proc/self/mountinfo is given, by the files that container runtimes mount into /etc;
// "" where nothing tells.
func parseOwnMounts(mountinfo []byte) (container, pod string) {
	for line := range bytes.Lines(mountinfo) {
		// ID PARENT MAJOR:MINOR ROOT MOUNTPOINT ...
		fields := strings.Fields(string(line))
		if len(fields) < 5 || !strings.HasPrefix(fields[4], "/etc/") {
			continue
		}
		if m := runtimeMount.FindStringSubmatch(fields[3]); m != nil {
			if m[1] != "" {
				container = m[1]
			}
			if m[2] != "" {
				pod = m[2]
			}
		}
	}
	return container, pod
}
