package target

import (
	"bytes"
	"strconv"
	"strings"
)

// A cgroup is the information that a control group's path gives about a process.
type cgroup struct {
	container string // full ID of the innermost container, "" if none
	unit      string // systemd service without suffix and instance, "" if none
}

// parseCgroup reads /proc/PID/cgroup, of version 1, 2 or both: lines of
// HIERARCHY:CONTROLLERS:PATH.
func parseCgroup(data []byte) cgroup {
	var best cgroup
	bestRank := -1
	for line := range bytes.Lines(data) {
		parts := strings.SplitN(strings.TrimRight(string(line), "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		found := parseCgroupPath(parts[2])
		// A container in any hierarchy takes precedence: on hosts with both versions,
		// the version 2 path may show only the container runtime's own unit.
		rank := 0
		switch {
		case found.container != "":
			rank = 4
		case found.unit == "":
			continue
		case parts[1] == "name=systemd":
			rank = 3
		case parts[1] == "":
			rank = 2
		}
		if rank > bestRank {
			best, bestRank = found, rank
		}
	}
	return best
}

// parseCgroupPath finds the container and the unit in a path. A unit above the container
// is the container runtime's, one within it the process'.
func parseCgroupPath(path string) cgroup {
	var c cgroup
	for component := range strings.SplitSeq(path, "/") {
		if id := containerID(component); id != "" {
			c = cgroup{container: id}
			continue
		}
		if unit, isUnit := serviceUnit(component); isUnit {
			c.unit = unit
		}
	}
	return c
}

// containerID finds the ID in one component of a control group path, such as
//
//	<id>                                     docker, containerd, kubepods
//	docker-<id>.scope  cri-containerd-<id>.scope  crio-<id>.scope
//	libpod-<id>.scope  libpod-<id>  nerdctl-<id>.scope
//	kubepods-burstable-pod<uid>.slice:cri-containerd:<id>
//	<task>-<number>                          Amazon ECS
//	lxc.payload.<name>
//
// where an ID has 64 hexadecimal digits, 32 on ECS. The monitors beside
// containers (crio-conmon-<id>.scope) are not in them.
func containerID(component string) string {
	if name, ok := strings.CutPrefix(component, "lxc.payload."); ok {
		return name
	}
	name := strings.TrimSuffix(component, ".scope")
	if strings.Contains(name, "conmon-") {
		return ""
	}
	id := name[strings.LastIndexAny(name, "-:")+1:]
	if len(id) == 64 && isHex(id) {
		return id
	}
	if task, number, ok := strings.Cut(name, "-"); ok && len(task) == 32 && isHex(task) && len(number) >= 6 && strings.Trim(number, "0123456789") == "" {
		return name
	}
	return ""
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// serviceUnit returns the name of a systemd service, without suffix and instance:
// php-fpm@8.2.service is php-fpm. The manager of a user (user@1000.service) does not
// count, since the user's own programs run below it.
func serviceUnit(component string) (name string, ok bool) {
	name, ok = strings.CutSuffix(component, ".service")
	if !ok || name == "" {
		return "", false
	}
	name, _, isInstance := strings.Cut(name, "@")
	if isInstance && name == "user" || name == "" {
		return "", false
	}
	return unescapeUnit(name), true
}

// unescapeUnit decodes systemd's \x2d.
func unescapeUnit(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if strings.HasPrefix(s[i:], `\x`) && i+4 <= len(s) {
			if b, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				out.WriteByte(byte(b))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
