package doctor

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/flameline/flameline/collector/symbolize"
	"github.com/flameline/flameline/collector/untrusted"
)

// debugSymbols says how to get the symbols of a stripped file.
func (p *process) debugSymbols(file string, i *symbolize.Inspection) string {
	var ways []string
	release, _ := symbolize.ReadIn("/proc", p.pid, "/etc/os-release", maxSmall)
	pkg := ""
	if !p.foreign {
		pkg = debianPackage("/var/lib/dpkg/info", file)
	}
	switch id := distribution(release); {
	case pkg != "" && id == "ubuntu":
		ways = append(ways, fmt.Sprintf("apt install %s-dbgsym (from ddebs.ubuntu.com)", pkg))
	case pkg != "":
		ways = append(ways, fmt.Sprintf("apt install %s-dbgsym (from the suite -debug)", pkg))
	case !isPackaged(file):
		ways = append(ways, "build it without -s and strip")
	case id == "debian" || id == "ubuntu":
		ways = append(ways, fmt.Sprintf("install the -dbgsym package of what `dpkg -S %s` names", file))
	case id == "fedora" || id == "rhel" || id == "centos" || id == "rocky" || id == "almalinux":
		ways = append(ways, fmt.Sprintf("dnf debuginfo-install $(rpm -qf %s)", file))
	case id == "alpine":
		ways = append(ways, fmt.Sprintf("apk add the -dbg package of what `apk info --who-owns %s` names", file))
	}
	if len(i.BuildID) > 2 {
		ways = append(ways, fmt.Sprintf("put the debug file of build ID %s at /usr/lib/debug/.build-id/%s/%s.debug (debuginfod-find debuginfo %s)", i.BuildID, i.BuildID[:2], i.BuildID[2:], i.BuildID),
			"have the service fetch it (symbols.debuginfod_urls), or send it (flameline symbols upload FILE), which also names what is stored")
	}
	return strings.Join(ways, ", or ")
}

// isPackaged reports whether a path is where distributions put their files.
func isPackaged(file string) bool {
	return (strings.HasPrefix(file, "/usr/") && !strings.HasPrefix(file, "/usr/local/")) || strings.HasPrefix(file, "/lib") || strings.HasPrefix(file, "/bin/") || strings.HasPrefix(file, "/sbin/")
}

// distribution returns the ID of /etc/os-release.
func distribution(release []byte) string {
	for ln := range strings.Lines(string(release)) {
		if id, ok := strings.CutPrefix(ln, "ID="); ok {
			return strings.Trim(strings.TrimSpace(id), `"'`)
		}
	}
	return ""
}

// Bounds of dpkg's lists of files.
const (
	maxLists    = 20000
	maxListSize = 32 << 20
)

// debianPackage returns the package that a file belongs to, from the lists of dpkg; "" if none
// has it. A file may be listed without /usr, which is a link on newer systems.
func debianPackage(dir, file string) string {
	names := [][]byte{[]byte(file)}
	if real, err := filepath.EvalSymlinks(file); err == nil && real != file {
		names = append(names, []byte(real))
	}
	for _, name := range names {
		if short, ok := bytes.CutPrefix(name, []byte("/usr")); ok {
			names = append(names, short)
		} else {
			names = append(names, append([]byte("/usr"), name...))
		}
	}
	lists, _ := filepath.Glob(path.Join(dir, "*.list"))
	for _, list := range lists[:min(len(lists), maxLists)] {
		if listHas(list, names) {
			pkg, _, _ := strings.Cut(strings.TrimSuffix(path.Base(list), ".list"), ":")
			return pkg
		}
	}
	return ""
}

// listHas reports whether a list of files has one of some names.
func listHas(list string, names [][]byte) bool {
	f, err := os.Open(list)
	if err != nil {
		return false
	}
	defer f.Close()
	if size, err := untrusted.SizeOf(f); err != nil || size > maxListSize {
		return false
	}
	for s := bufio.NewScanner(f); s.Scan(); {
		for _, name := range names {
			if bytes.Equal(s.Bytes(), name) {
				return true
			}
		}
	}
	return false
}
