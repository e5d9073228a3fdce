package doctor

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flameline/flameline/collector/sample"
	"github.com/flameline/flameline/collector/symbolize"
	"github.com/flameline/flameline/collector/untrusted"
)

// A runtimeFound is an interpreter or a virtual machine in a process.
type runtimeFound struct {
	name    string // of sample.Runtimes
	version string // "" if it cannot be found out
	file    string // that it was recognised by
	problem string // why it cannot be unwound although the version is known
}

// Names of runtimes' files. Of version numbers the first group is the version.
var (
	pythonFile   = regexp.MustCompile(`^(?:lib)?python(\d\.\d+)(?:t|d|m|dm)?(?:\.so.*)?$`)
	rubyLibrary  = regexp.MustCompile(`^libruby(?:-[^/]*)?\.so\.(\d+\.\d+)`)
	phpFile      = regexp.MustCompile(`^(?:libphp|php(?:-cgi|-fpm)?)(\d+\.\d+)?(?:\.so)?$`)
	perlFile     = regexp.MustCompile(`^(?:perl|libperl\.so(?:\.(\d+\.\d+))?[^/]*)$`)
	perlLibraryV = regexp.MustCompile(`/perl[^/]*/(5\.\d+)(?:\.\d+)?/`)
	dotnetFile   = regexp.MustCompile(`/(\d+\.\d+)\.\d+[^/]*/libcoreclr\.so$`)
	beamFile     = regexp.MustCompile(`/erts-(\d+)[^/]*/bin/beam(?:\.[a-z]+)?$`)
	nodeFile     = regexp.MustCompile(`^(?:node|nodejs|nsolid)\d*$|^libnode\.so(?:\.\d+)?$`)
	luajitFile   = regexp.MustCompile(`^(?:luajit[^/]*|libluajit[^/]*\.so.*)$`)
	javaVersion  = regexp.MustCompile(`(?m)^JAVA_VERSION="?([0-9._]+)`)
)

// v8Version are the variables with the version of V8.
const (
	v8Major = "_ZN2v88internal7Version6major_E"
	v8Minor = "_ZN2v88internal7Version6minor_E"
)

// findRuntimes finds the runtimes in a process.
func findRuntimes(pid int, m *mappings) (all []runtimeFound) {
	add := func(r runtimeFound) {
		same := func(o runtimeFound) bool { return o.name == r.name }
		if i := slices.IndexFunc(all, same); i < 0 {
			all = append(all, r)
		} else if all[i].version == "" {
			all[i] = r
		}
	}
	for i, f := range m.files {
		name := base(f.path)
		group := func(re *regexp.Regexp, s string) (string, bool) {
			g := re.FindStringSubmatch(s)
			if g == nil {
				return "", false
			}
			return g[len(g)-1], true
		}
		if v, ok := group(pythonFile, name); ok {
			add(pythonIn(pid, f, v, m))
		} else if v, ok := group(rubyLibrary, name); ok || name == "ruby" {
			add(runtimeFound{name: "Ruby", version: v, file: f.path})
		} else if v, ok := group(phpFile, name); ok {
			add(runtimeFound{name: "PHP", version: v, file: f.path})
		} else if v, ok := group(perlFile, name); ok {
			if v == "perl" || v == "" {
				v = perlVersion(m)
			}
			add(runtimeFound{name: "Perl", version: v, file: f.path})
		} else if v, ok := group(dotnetFile, f.path); ok {
			add(runtimeFound{name: ".NET", version: v, file: f.path})
		} else if v, ok := group(beamFile, f.path); ok {
			// Since OTP 21 with ERTS 10 both count up together.
			if erts, err := strconv.Atoi(v); err == nil && erts >= 10 {
				v = strconv.Itoa(erts + 11)
				if erts >= 11 {
					v = strconv.Itoa(erts + 12)
				}
			}
			add(runtimeFound{name: "Erlang/OTP", version: v, file: f.path})
		} else if name == "libjvm.so" {
			add(runtimeFound{name: "JVM", version: jdkVersion(pid, f.path), file: f.path})
		} else if nodeFile.MatchString(name) {
			add(runtimeFound{name: "V8", version: nodeVersion(pid, f), file: f.path})
		} else if luajitFile.MatchString(name) {
			add(runtimeFound{name: "LuaJIT", file: f.path})
		} else if i == 0 {
			if v := goVersion(pid, f); v != "" {
				add(runtimeFound{name: "Go", version: v, file: f.path})
			}
		}
	}
	return all
}

// pythonIn returns the interpreter in a file.
func pythonIn(pid int, f *mappedFile, version string, m *mappings) runtimeFound {
	r := runtimeFound{name: "CPython", version: version, file: f.path}
	name := base(f.path)
	if strings.HasSuffix(strings.SplitN(name, ".so", 2)[0], "t") {
		r.problem = "the build without the global interpreter lock (free-threaded) keeps its state in another way"
	}
	if strings.HasPrefix(name, "lib") {
		return r
	}
	for _, other := range m.files {
		if o := base(other.path); strings.HasPrefix(o, "libpython") && pythonFile.MatchString(o) {
			return r // the program is a shell around it
		}
	}
	if i, err := symbolize.Inspect("/proc", f.binary(pid)); err == nil && !i.Exported && !i.Symbols {
		r.problem = "it is stripped of the symbols by which its state is found (_PyRuntime)"
	}
	return r
}

// perlVersion finds the version in the paths of Perl's modules.
func perlVersion(m *mappings) string {
	for _, p := range m.paths {
		if g := perlLibraryV.FindStringSubmatch(p); g != nil {
			return g[1]
		}
	}
	return ""
}

// jdkVersion reads the file release of the JDK that a libjvm.so belongs to: it is in lib or
// jre/lib, each with a folder for the kind of VM, and perhaps one for the architecture.
func jdkVersion(pid int, libjvm string) string {
	dir := path.Dir(libjvm)
	for range 5 {
		dir = path.Dir(dir)
		text, err := symbolize.ReadIn("/proc", pid, path.Join(dir, "release"), maxSmall)
		if err != nil {
			continue
		}
		if g := javaVersion.FindSubmatch(text); g != nil {
			return strings.TrimPrefix(string(g[1]), "1.")
		}
	}
	return ""
}

// nodeVersion reads the version of V8.
func nodeVersion(pid int, f *mappedFile) string {
	i, err := symbolize.Inspect("/proc", f.binary(pid), v8Major, v8Minor)
	if err != nil {
		return ""
	}
	major, ok := i.Values[v8Major]
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d.%d", major, i.Values[v8Minor])
}

// goBudget is what reading a Go program's version may cost.
var goBudget = untrusted.Budget{Bytes: 64 << 20, Time: 3 * time.Second}

// goVersion returns the version of Go that a program was built with, "" if it is no Go program.
func goVersion(pid int, f *mappedFile) string {
	version, _ := untrusted.Do(guard, func() (string, error) {
		file, err := symbolize.OpenIn("/proc", pid, f.path)
		if err != nil {
			if file, err = os.Open(fmt.Sprintf("/proc/%d/exe", pid)); err != nil {
				return "", err
			}
		}
		defer file.Close()
		size, err := untrusted.SizeOf(file)
		if err != nil {
			return "", err
		}
		r := untrusted.NewReader(file, size, goBudget)
		if _, err := untrusted.NewELF(r); err != nil {
			return "", err
		}
		info, err := buildinfo.Read(r)
		if err != nil {
			return "", err
		}
		return strings.TrimPrefix(info.GoVersion, "go"), nil
	})
	return version
}

// judge says whether a runtime can be unwound.
func (f runtimeFound) judge() (status Status, found, fix string) {
	title := f.name
	if f.version != "" {
		title += " " + f.version
	}
	known := sample.RuntimeByName(f.name)
	bounds := rangeOf(known)
	switch {
	case f.problem != "":
		return Warn, title + ": " + f.problem, "use another build; its functions are shown as those of the interpreter until then"
	case f.version == "" && (known.Min != "" || known.Max != ""):
		return Note, title + ", whose version cannot be found out", "functions have names with " + bounds
	case known.Min != "" && compareVersions(f.version, known.Min) < 0:
		return Warn, title + " is too old to be unwound: functions have names with " + bounds, "update it"
	case known.Max != "" && compareVersions(f.version, known.Max) > 0:
		return Warn, title + " is newer than this version of flameline knows: functions have names with " + bounds, "update flameline"
	}
	return OK, title + ": functions have names", ""
}

// rangeOf names the versions of a runtime that can be unwound.
func rangeOf(r *sample.Runtime) string {
	switch {
	case r.Min == "" && r.Max == "":
		return "all versions"
	case r.Max == "":
		return r.Min + " and newer"
	}
	return r.Min + " to " + r.Max
}

// compareVersions compares as many numbers as the second version has.
func compareVersions(a, b string) int {
	numbers := func(s string) (ns []int) {
		for part := range strings.SplitSeq(s, ".") {
			digits := part[:len(part)-len(strings.TrimLeft(part, "0123456789"))]
			n, err := strconv.Atoi(digits)
			if err != nil {
				break
			}
			ns = append(ns, n)
		}
		return ns
	}
	x, y := numbers(a), numbers(b)
	return slices.Compare(x[:min(len(x), len(y))], y)
}

// arguments are those of a process' command line.
func arguments(pid int) []string {
	text, _ := readProc(pid, "cmdline", maxSmall)
	if len(text) == 0 {
		return nil
	}
	var args []string
	for a := range bytes.SplitSeq(bytes.TrimSuffix(text, []byte{0}), []byte{0}) {
		args = append(args, string(a))
	}
	return args
}

// variable returns a variable of a process' environment as it was when the program began.
func variable(environ []byte, name string) string {
	for v := range bytes.SplitSeq(environ, []byte{0}) {
		if rest, ok := bytes.CutPrefix(v, []byte(name+"=")); ok {
			return string(rest)
		}
	}
	return ""
}
