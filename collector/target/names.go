package target

import (
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxLabelValue bounds label values, in bytes.
	maxLabelValue = 512
	unknown       = "unknown"
)

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
