package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/java"
	"github.com/flameline/flameline/collector/sample"
	"github.com/flameline/flameline/collector/symbolize"
	"github.com/flameline/flameline/collector/target"
)

// A process is what is known of the process that is looked at.
type process struct {
	*Report
	pid      int
	status   map[string]string // of /proc/PID/status
	args     []string
	environ  []byte
	mappings *mappings
	foreign  bool // its root is not ours
}

// Process checks whether a process can be profiled, and what of its stacktraces will be
// missing or without names.
func Process(pid int) *Report {
	r := &Report{Works: true, PID: pid}
	p := &process{Report: r, pid: pid, status: map[string]string{}}
	text, err := readProc(pid, "status", maxSmall)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.add("process", Fail, fmt.Sprintf("there is no process %d", pid), "ps -e shows the processes; in a container run with --pid=host")
		return r
	case err != nil:
		r.add("process", Fail, err.Error(), "run as root")
		return r
	}
	for ln := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(ln, ":"); ok {
			p.status[name] = strings.TrimSpace(value)
		}
	}
	if !p.identity() {
		return r
	}
	p.place()
	if !p.access() {
		return r
	}
	p.args = arguments(pid)
	p.environ, _ = readProc(pid, "environ", maxSmall)
	found := findRuntimes(pid, p.mappings)
	for _, f := range found {
		status, text, fix := f.judge()
		r.add("runtime", status, text, fix)
		switch f.name {
		case "JVM":
			p.jvm()
		case "V8":
			p.node()
		}
	}
	p.binaries(found)
	p.jit(found)
	p.allocations()
	return r
}

// identity says what the process is, and reports whether there is more to look at.
func (p *process) identity() bool {
	exe, exeErr := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid))
	what := fmt.Sprintf("%s%s, %s, user %s", p.status["Name"], program(exe, exeErr), threads(p.status["Threads"]), firstField(p.status["Uid"]))
	switch group, _ := strconv.Atoi(p.status["Tgid"]); {
	case group != p.pid:
		p.add("process", Fail, fmt.Sprintf("%d is a thread of process %d", p.pid, group), fmt.Sprintf("look at process %d; record --threads tells its threads apart", group))
		return false
	case strings.HasPrefix(p.status["State"], "Z"):
		p.add("process", Fail, "it has ended, and its parent has not asked for its exit status", "choose another one")
		return false
	case p.status["Kthread"] == "1" || errors.Is(exeErr, fs.ErrNotExist) && p.status["VmSize"] == "":
		p.add("process", OK, p.status["Name"]+" is a thread of the kernel: its stacktraces have kernel functions only", "")
		return false
	case strings.HasPrefix(p.status["State"], "T"), strings.HasPrefix(p.status["State"], "t"):
		p.add("process", Note, what+", stopped", fmt.Sprintf("there are no samples until it goes on: kill -CONT %d", p.pid))
	default:
		p.add("process", OK, what, "")
	}
	return true
}

// program names a process' executable, or says that its name cannot be read.
func program(exe string, err error) string {
	switch {
	case err == nil && exe != "":
		return " (" + exe + ")"
	case errors.Is(err, fs.ErrPermission):
		return " (its executable may not be read)"
	}
	return ""
}

func threads(n string) string {
	if n == "1" {
		return "1 thread"
	}
	return n + " threads"
}

func firstField(s string) string {
	f := strings.Fields(s)
	if len(f) == 0 {
		return "?"
	}
	return f[0]
}

// place says in which container the process is.
func (p *process) place() {
	var own, root unix.Stat_t
	p.foreign = unix.Stat("/", &own) == nil && unix.Stat(fmt.Sprintf("/proc/%d/root/", p.pid), &root) == nil && (own.Dev != root.Dev || own.Ino != root.Ino)
	data, _ := readProc(p.pid, "cgroup", maxSmall)
	inside := ""
	if ns := strings.Fields(p.status["NSpid"]); len(ns) > 1 {
		inside = fmt.Sprintf("; inside it is process %s, and flameline takes %d", ns[len(ns)-1], p.pid)
	}
	if id := target.ContainerID(data); id != "" {
		p.add("container", OK, id[:min(12, len(id))]+": files are read through its root"+inside, "")
	} else if p.foreign || inside != "" {
		p.add("container", OK, "it has a root or a PID namespace of its own"+inside, "")
	}
}

// access checks that the files of the process can be read, and reads its mappings.
func (p *process) access() bool {
	m, err := readMappings(p.pid)
	if err == nil {
		_, err = os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid))
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		p.add("access", Fail, "permission denied: its mappings cannot be read", "run as root, or grant CAP_SYS_PTRACE and CAP_CHECKPOINT_RESTORE; as its own user a process that is not dumpable cannot be read either")
		return false
	case err != nil:
		p.add("access", Fail, fmt.Sprintf("its mappings cannot be read: %v", err), "look again: it may have ended")
		return false
	case len(m.files) == 0:
		p.add("access", Fail, "it maps no code", "it is just beginning or ending: look again")
		return false
	}
	p.mappings = m
	p.add("access", OK, fmt.Sprintf("%d files with code can be read", len(m.files)), "")
	return true
}

// jvm checks the options of a JVM.
func (p *process) jvm() {
	options := slices.Clone(p.args)
	for _, name := range []string{"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS"} {
		options = append(options, strings.Fields(variable(p.environ, name))...)
	}
	has := func(option string) bool { return slices.Contains(options, option) }
	obstacle := java.Check(p.pid)
	switch {
	case strings.EqualFold(variable(p.environ, java.OptOut), "off"):
		p.add("jvm_attach", Note, java.OptOut+"=off: the java: source leaves it alone; CPU sampling does not attach and works", "start it without that variable")
	case has("-XX:+DisableAttachMechanism"):
		p.add("jvm_attach", Warn, "-XX:+DisableAttachMechanism: tools cannot be attached (jcmd, async-profiler, allocation profiles); CPU sampling does not attach and works", "start it without that option")
	case os.Geteuid() != 0 && strconv.Itoa(os.Geteuid()) != firstField(p.status["Uid"]):
		p.add("jvm_attach", Warn, "it belongs to user "+firstField(p.status["Uid"])+": a JVM takes orders from its own user and root only; CPU sampling does not attach", "run as that user or root")
	case obstacle != nil:
		p.add("jvm_attach", Warn, fmt.Sprintf("the java: source cannot record it: %v; CPU sampling does not attach and works", obstacle), "")
	case p.foreign:
		p.add("jvm_attach", OK, fmt.Sprintf("in a container: tools attach through /proc/%d/root/tmp", p.pid), "")
	default:
		p.add("jvm_attach", OK, "tools can be attached; CPU sampling does not need it", "")
	}
	if has("-XX:+DebugNonSafepoints") {
		p.add("jvm_inlining", OK, "-XX:+DebugNonSafepoints: inlined calls are shown where they happen", "")
	} else {
		p.add("jvm_inlining", Note, "HotSpot keeps inlined calls of compiled methods only at safepoints: some paths end at the method that inlined the rest",
			"start it with -XX:+UnlockDiagnosticVMOptions -XX:+DebugNonSafepoints")
	}
}

// node checks the options of Node.js.
func (p *process) node() {
	options := append(slices.Clone(p.args), strings.Fields(variable(p.environ, "NODE_OPTIONS"))...)
	for _, o := range options {
		if strings.HasPrefix(strings.ReplaceAll(o, "_", "-"), "--perf-basic-prof") {
			p.add("v8_inlining", OK, o+": a perf map is written too; inlined calls stay without frames of their own", "")
			return
		}
	}
	p.add("v8_inlining", Note, "V8 keeps no record of inlined calls: functions that the optimizer has inlined are part of their caller",
		"--no-turbo-inlining shows them, and slows the program down")
}

// allocations says whether the process' allocator reports sampled allocations.
func (p *process) allocations() {
	files, err := sample.AllocProbes(p.pid)
	if err != nil {
		p.add("allocations", Note, fmt.Sprintf("whether it has the probes otel_memory:alloc and otel_memory:free cannot be read: %v", err), "")
		return
	}
	if len(files) == 0 {
		p.add("allocations", Note, "its allocator does not report sampled allocations: no file that it maps has the probe otel_memory:alloc", sample.HowToGetAllocProbes)
		return
	}
	for i, f := range files {
		name := base(f.Path)
		switch {
		case i == maxListed:
			p.add("allocations", Note, fmt.Sprintf("%d more files have the probe otel_memory:alloc", len(files)-i), "")
			return
		case f.NotReadable != nil:
			p.add("allocations", Warn, fmt.Sprintf("%s: its probes cannot be used: %v", name, f.NotReadable), "")
		case f.Frees == 0:
			p.add("allocations", OK, name+" has the probe otel_memory:alloc, and not otel_memory:free: record -e alloc shows what is allocated, and takes all of it for in use",
				"build it with tracking of frees (live-heap) for the memory in use")
		default:
			p.add("allocations", OK, name+" has the probes otel_memory:alloc and otel_memory:free: record -e alloc shows what is allocated and what is in use", "")
		}
	}
}

// maxListed bounds the binaries of which there is a line each.
const maxListed = 5

// binaries checks names and unwind tables of the process' binaries, the larger first.
func (p *process) binaries(found []runtimeFound) {
	files := slices.Clone(p.mappings.files)
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid))
	exe = strings.TrimSuffix(exe, " (deleted)")
	slices.SortStableFunc(files, func(a, b *mappedFile) int {
		switch {
		case a.path == exe:
			return -1
		case b.path == exe:
			return 1
		case a.size > b.size:
			return -1
		case a.size < b.size:
			return 1
		}
		return 0
	})
	named, listed, unlisted := 0, 0, 0
	for _, f := range files {
		i, err := symbolize.Inspect("/proc", f.binary(p.pid))
		switch {
		case err != nil:
			p.add("symbols", Warn, fmt.Sprintf("%s cannot be read: %v", f.path, err), "")
			continue
		case !i.Wide:
			p.add("program", Fail, f.path+" is a 32-bit program, which cannot be unwound", "use a 64-bit build")
			return
		}
		if !i.EHFrame && !i.Go {
			p.add("unwinding", Warn, f.path+" has no unwind information (.eh_frame): stacktraces may end in it, below frames such as [unknown]",
				"build it without -fno-asynchronous-unwind-tables, or with -fno-omit-frame-pointer")
		}
		if i.Named() {
			named++
			continue
		}
		if listed++; listed > maxListed {
			unlisted++
			continue
		}
		what := base(f.path) + " is stripped"
		if i.Exported {
			what += ": only exported functions have names"
		} else {
			what += ": its functions are shown as " + base(f.path) + "+0xADDRESS"
		}
		status := Warn
		if f.path != exe && i.Exported {
			status = Note
		}
		if isInterpreterOf(found, f.path) && i.Exported {
			status = Note
		}
		p.add("symbols", status, what, p.debugSymbols(f.path, i))
	}
	if unlisted > 0 {
		p.add("symbols", Note, fmt.Sprintf("%d more libraries are stripped", unlisted), "")
	}
	p.add("symbols", OK, fmt.Sprintf("%d of %d files with code have names for all functions", named, len(files)), "")
}

func isInterpreterOf(found []runtimeFound, file string) bool {
	return slices.ContainsFunc(found, func(f runtimeFound) bool { return f.file == file && f.name != "Go" })
}

// jit checks code that is in no file.
func (p *process) jit(found []runtimeFound) {
	if p.mappings.anonymous == 0 {
		return
	}
	known := slices.ContainsFunc(found, func(f runtimeFound) bool {
		return slices.Contains([]string{"JVM", "V8", ".NET", "LuaJIT", "Erlang/OTP", "PHP"}, f.name)
	})
	size := fmt.Sprintf("%d kB of code in no file", p.mappings.anonymous>>10)
	inside := strconv.Itoa(p.pid)
	if ns := strings.Fields(p.status["NSpid"]); len(ns) > 0 {
		inside = ns[len(ns)-1]
	}
	_, err := symbolize.ReadIn("/proc", p.pid, "/tmp/perf-"+inside+".map", 1)
	switch {
	case known:
		p.add("jit", OK, size+", of a compiler that the unwinder knows", "")
	case err == nil:
		p.add("jit", OK, size+", named by /tmp/perf-"+inside+".map", "")
	default:
		p.add("jit", Warn, size+", of a compiler that the unwinder does not know: it is shown as [JIT code]", "have the program write /tmp/perf-"+inside+".map, and keep frame pointers in that code")
	}
}
