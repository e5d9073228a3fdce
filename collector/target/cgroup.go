package target

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// A cgroup is the information that a control group's path gives about a process.
type cgroup struct {
	path string // as the kernel shows it, of the hierarchy that the rest is from
	// containers are the full IDs of the containers that the process is in, the
	// innermost first; nil if there is none.
	containers []string
	pod        string // UID of the innermost Kubernetes pod, "" if none
	// unit and slice are systemd's within the innermost container, and userUnit is the
	// unit of a user's manager, with suffix and instance; "" if there is none.
	unit, userUnit, slice string
}

// container returns the ID of the innermost container, "" if there is none.
func (c *cgroup) container() string {
	if len(c.containers) == 0 {
		return ""
	}
	return c.containers[0]
}

// service returns the name of the systemd service, "" if the process belongs to none.
func (c *cgroup) service() string {
	if name, ok := serviceUnit(c.userUnit); ok {
		return name
	}
	name, _ := serviceUnit(c.unit)
	return name
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
		found := parseCgroupPath(strings.TrimSuffix(parts[2], " (deleted)"))
		// A container in any hierarchy takes precedence: on hosts with both versions,
		// the version 2 path may show only the container runtime's own unit.
		rank := 0
		switch {
		case len(found.containers) > 0:
			rank = 4
		case found.unit == "":
		case parts[1] == "name=systemd":
			rank = 3
		case parts[1] == "":
			rank = 2
		default:
			rank = 1
		}
		if rank > bestRank {
			best, bestRank = found, rank
		}
	}
	return best
}

// parseCgroupPath finds containers, the pod and the units in a path. A unit above a
// container is the container runtime's, one within it the process'.
func parseCgroupPath(path string) cgroup {
	c := cgroup{path: path}
	inUser := false
	for component := range strings.SplitSeq(path, "/") {
		if uid := podUID(component); uid != "" {
			c.pod = uid
		}
		if id := containerID(component); id != "" {
			c.containers = append(c.containers, id)
			c.unit, c.userUnit, c.slice, inUser = "", "", "", false
			continue
		}
		switch kind := component[strings.LastIndexByte(component, '.')+1:]; {
		case kind == "slice" && !inUser:
			c.slice = component
		case kind != "service" && kind != "scope":
		case inUser:
			c.userUnit = component
		default:
			c.unit = component
			inUser = kind == "service" && strings.HasPrefix(component, "user@")
		}
	}
	slices.Reverse(c.containers)
	return c
}

// podUID returns the UID of the pod that one component of a control group path is of,
// "" if it is of none:
//
//	pod<uid>                                 cgroupfs driver
//	kubepods-burstable-pod<uid>.slice        systemd driver, with _ for - in the UID
//	kubelet-kubepods-pod<uid>.slice          with --cgroup-root, as in kind
//	kubepods-pod<uid>.slice:cri-containerd:<id>
//
// where the UID is a UUID, or 32 hexadecimal digits for pods of the kubelet's own files.
func podUID(component string) string {
	name, _, _ := strings.Cut(component, ":")
	name, isSlice := strings.CutSuffix(name, ".slice")
	i := strings.LastIndex(name, "pod")
	if i < 0 || isSlice && (i == 0 || name[i-1] != '-') || !isSlice && i != 0 {
		return ""
	}
	uid := strings.ReplaceAll(name[i+len("pod"):], "_", "-")
	if plain := strings.ReplaceAll(uid, "-", ""); len(plain) != 32 || !isHex(plain) || len(uid) != 32 && len(uid) != 36 {
		return ""
	}
	return uid
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
