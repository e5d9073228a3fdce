package target

import (
	"cmp"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
)

const (
	// maxLabelValue bounds label values, in bytes.
	maxLabelValue = 512
	// shortID is the length of a container ID as tools display it.
	shortID = 12
	unknown = "unknown"
)

// labels returns the labels of a process. configured is the service name from its
// environment, "" if there is none.
func (r *Resolver) labels(p process, configured string) labels.Labels {
	comm := p.comm
	if p.kernel {
		comm = kernelThread(comm)
	}
	b := labels.NewScratchBuilder(5)
	add := func(name, value string) {
		if value = labelValue(value); value != "" {
			b.Add(name, value)
		}
	}
	add(LabelService, r.service(p, configured))
	add(LabelComm, cmp.Or(labelValue(comm), commOf(p.exe), unknown))
	add(LabelExe, p.exe)
	add(LabelContainer, p.cgroup.container)
	b.Add(LabelNode, r.node)
	b.Sort()
	return b.Labels()
}

// service chooses the service name, in the order that the package comment gives.
func (r *Resolver) service(p process, configured string) string {
	if p.kernel {
		return KernelService
	}
	for _, name := range []func() string{
		func() string { return configured },
		func() string { return p.cgroup.unit },
		func() string { return r.containerName(p.cgroup.container) },
		func() string { return program(p.exe, p.args) },
		func() string { return p.comm },
	} {
		if s := labelValue(name()); s != "" {
			return s
		}
	}
	return unknown
}

// containerName returns a container's name, or its short ID if the name is unknown.
func (r *Resolver) containerName(id string) string {
	if id == "" {
		return ""
	}
	if r.o.ContainerName != nil {
		if name := r.o.ContainerName(id); name != "" {
			return name
		}
	}
	if len(id) == 64 {
		return id[:shortID]
	}
	return id
}

// kernelThread returns the name of a kernel thread without the CPU or number that
// distinguishes threads of the same kind: kworker/0:1-events is kworker, ksoftirqd/3 is
// ksoftirqd. Interrupt threads keep the device.
func kernelThread(comm string) string {
	if strings.HasPrefix(comm, "irq/") {
		return comm
	}
	name, _, _ := strings.Cut(comm, "/")
	return name
}

// commOf returns the name that the kernel gives a process when it starts an
// executable: at most 15 bytes of the base name.
func commOf(exe string) string {
	name := path.Base(exe)
	if name == "." || name == "/" {
		return ""
	}
	return labelValue(name[:min(len(name), 15)])
}

// executableName returns the base name of an executable's path.
func executableName(exe string) string {
	name := path.Base(strings.TrimSuffix(exe, " (deleted)"))
	if name == "." || name == "/" {
		return ""
	}
	return strings.TrimPrefix(name, "memfd:")
}

// labelValue makes a string valid as a label value: UTF-8 of bounded length, without
// control characters, which terminals interpret, and without surrounding white space.
func labelValue(s string) string {
	// Longer input is cut first, since the result is shorter in any case.
	s = s[:min(len(s), 4*maxLabelValue)]
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > maxLabelValue {
		end := maxLabelValue
		for !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	return strings.TrimSpace(s)
}
