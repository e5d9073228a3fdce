package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/sample"
)

// System checks what the machine and our own privileges allow.
func System() *Report {
	r := &Report{Works: true}
	for _, c := range sample.Requirements() {
		r.requirement(c)
	}
	r.otherUsers()
	r.rates()
	r.namespaces()
	r.btf()
	r.tracing()
	r.sysctls()
	r.tracefs()
	r.memlock()
	r.pmu()
	r.lockdown()
	r.cgroups()
	r.containers()
	r.others()
	r.runtimes()
	return r
}

// found says what a requirement that is met consists of.
var found = map[string]func() string{
	"kernel":         func() string { return "Linux " + kernelRelease() + " on " + runtime.GOARCH },
	"capabilities":   func() string { return "all that sampling needs are there" },
	"ebpf":           func() string { return "programs and maps can be loaded" },
	"perf_events":    func() string { return "CPU timers can be opened" },
	"kernel_symbols": func() string { return "addresses are readable: kernel functions have names" },
}

func (r *Report) requirement(c sample.Requirement) {
	if err := c.Check(); err != nil {
		what, fix := remedy(err)
		r.add(c.Name, Fail, what, fix)
		return
	}
	text := "as needed"
	if f := found[c.Name]; f != nil {
		text = f()
	}
	r.add(c.Name, OK, text, "")
}

// remedy returns what is wrong and, behind the last colon of a requirement's error, what to
// do about it.
func remedy(err error) (what, fix string) {
	what = err.Error()
	if i := strings.LastIndex(what, ": "); i >= 0 {
		return what[:i], what[i+2:]
	}
	return what, ""
}

// otherUsers checks what is needed for whole stacktraces of processes of other users.
func (r *Report) otherUsers() {
	if err := sample.CheckOtherUsers(); err != nil {
		what, fix := remedy(err)
		r.add("other_users", Warn, what, fix)
		return
	}
	r.add("other_users", OK, "the binaries of all processes can be opened", "")
}

// tickRate is the most timer ticks in a second that the sampler asks for at the
// frequencies of its tools.
const tickRate = 700

// rates checks the kernel's bounds on timers, which it lowers by itself when handling them
// takes long.
func (r *Report) rates() {
	rate, err := strconv.Atoi(sysctl("kernel/perf_event_max_sample_rate"))
	switch {
	case err != nil:
	case rate < tickRate:
		r.add("sample_rate", Fail, fmt.Sprintf("kernel.perf_event_max_sample_rate is %d Hz, timers need up to %d", rate, tickRate),
			"sysctl -w kernel.perf_event_max_sample_rate=100000")
	default:
		r.add("sample_rate", OK, fmt.Sprintf("up to %d Hz", rate), "")
	}
}

// initialPIDNamespace is the inode of the first PID namespace.
const initialPIDNamespace = 0xEFFFFFFC

// namespaces checks that process IDs are those that the kernel reports.
func (r *Report) namespaces() {
	var st unix.Stat_t
	switch err := unix.Stat("/proc/self/ns/pid", &st); {
	case err != nil:
		r.add("pid_namespace", Warn, fmt.Sprintf("cannot be read: %v", err), "mount procfs at /proc")
	case st.Ino != initialPIDNamespace:
		r.add("pid_namespace", Fail, "processes have other numbers here than on the host, so their files cannot be found",
			"run the container in the host's PID namespace: docker run --pid=host, hostPID: true in Kubernetes")
	default:
		r.add("pid_namespace", OK, "the host's", "")
	}
}

func (r *Report) btf() {
	if info, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		r.add("btf", Note, "this kernel has no type information (/sys/kernel/btf/vmlinux)",
			"CPU sampling does not need it; for others use a kernel with CONFIG_DEBUG_INFO_BTF")
	} else {
		r.add("btf", OK, fmt.Sprintf("%d kB of type information", info.Size()>>10), "")
	}
}

// tracing checks the programs that off-CPU sampling attaches to the scheduler.
func (r *Report) tracing() {
	for _, p := range []struct {
		t    ebpf.ProgramType
		name string
	}{{ebpf.RawTracepoint, "raw_tracepoints"}, {ebpf.TracePoint, "tracepoints"}} {
		switch err := features.HaveProgramType(p.t); {
		case err == nil:
			r.add(p.name, OK, "programs can be attached to kernel events (off-CPU time, ended processes)", "")
		case errors.Is(err, ebpf.ErrNotSupported):
			r.add(p.name, Warn, "this kernel has no such programs", "CPU sampling works; off-CPU sampling needs CONFIG_BPF_EVENTS")
		default:
			r.add(p.name, Warn, fmt.Sprintf("cannot be checked: %v", err), "run as root")
		}
	}
}

// sysctls are settings that decide who may profile what.
func (r *Report) sysctls() {
	paranoid := sysctl("kernel/perf_event_paranoid")
	perfmon := hasCapability(unix.CAP_PERFMON) || hasCapability(unix.CAP_SYS_ADMIN)
	switch {
	case paranoid == "":
		r.add("perf_event_paranoid", Warn, "not there", "use a kernel with CONFIG_PERF_EVENTS")
	case perfmon:
		r.add("perf_event_paranoid", OK, paranoid+", which does not bind this process: it has CAP_PERFMON", "")
	default:
		r.add("perf_event_paranoid", Warn, paranoid+", and this process lacks CAP_PERFMON", "run as root, or grant CAP_PERFMON")
	}
	switch kptr := sysctl("kernel/kptr_restrict"); kptr {
	case "0", "1":
		r.add("kptr_restrict", OK, kptr+": privileged processes see the addresses of kernel functions", "")
	case "2":
		r.add("kptr_restrict", Warn, "2: nobody sees the addresses of kernel functions", "sysctl -w kernel.kptr_restrict=1")
	}
	if v := sysctl("kernel/unprivileged_bpf_disabled"); v != "" {
		r.add("unprivileged_bpf", OK, "kernel.unprivileged_bpf_disabled is "+v+"; CAP_BPF is enough", "")
	}
	switch v := sysctl("kernel/yama/ptrace_scope"); {
	case v == "3":
		r.add("ptrace_scope", Warn, "3: no process may read another one", "reboot without kernel.yama.ptrace_scope=3")
	case v != "" && v != "0":
		r.add("ptrace_scope", OK, v+"; CAP_SYS_PTRACE is enough", "")
	}
	if v := sysctl("net/core/bpf_jit_enable"); v == "0" {
		r.add("bpf_jit", Warn, "eBPF programs are interpreted, which makes samples dear", "sysctl -w net.core.bpf_jit_enable=1")
	}
}

func (r *Report) tracefs() {
	for _, dir := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		if _, err := os.Stat(filepath.Join(dir, "events/sched")); err == nil {
			r.add("tracefs", OK, "mounted at "+dir, "")
			return
		}
	}
	if hasCapability(unix.CAP_SYS_ADMIN) {
		r.add("tracefs", OK, "not mounted; flameline mounts it for itself", "")
		return
	}
	r.add("tracefs", Note, "not mounted: ended processes are found by looking every 15 s", "mount -t tracefs tracefs /sys/kernel/tracing")
}

func (r *Report) memlock() {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		r.add("memlock", Warn, err.Error(), "")
		return
	}
	major, minor := kernelVersion()
	switch {
	case limit.Cur == unix.RLIM_INFINITY:
		r.add("memlock", OK, "unlimited", "")
	case major > 5 || major == 5 && minor >= 11:
		r.add("memlock", OK, fmt.Sprintf("%d kB; this kernel does not count eBPF maps against it", limit.Cur>>10), "")
	case hasCapability(unix.CAP_SYS_RESOURCE):
		r.add("memlock", OK, fmt.Sprintf("%d kB; flameline may raise it", limit.Cur>>10), "")
	default:
		r.add("memlock", Fail, fmt.Sprintf("%d kB, too little for eBPF maps on this kernel", limit.Cur>>10), "ulimit -l unlimited, LimitMEMLOCK=infinity, or grant CAP_SYS_RESOURCE")
	}
}

// pmu checks the CPU's counters, which perf's event cycles needs and flameline does not.
func (r *Report) pmu() {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_HARDWARE, Config: unix.PERF_COUNT_HW_CPU_CYCLES, Bits: unix.PerfBitDisabled | unix.PerfBitExcludeKernel}
	attr.Size = uint32(unix.PERF_ATTR_SIZE_VER0)
	fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	where := ""
	if cpu, _ := os.ReadFile("/proc/cpuinfo"); strings.Contains(string(cpu), " hypervisor") {
		where = " in this virtual machine"
	}
	switch {
	case err == nil:
		_ = unix.Close(fd)
		r.add("pmu", OK, "the CPU's counters can be read (cycles)", "")
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		r.add("pmu", Note, "the CPU's counters may not be read", "flameline samples by timers, which need none")
	default:
		r.add("pmu", OK, "cycles is not supported"+where+"; flameline samples by timers (cpu-clock) and needs no counters", "")
	}
}

func (r *Report) lockdown() {
	text, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return
	}
	if strings.Contains(string(text), "[confidentiality]") {
		r.add("lockdown", Fail, "confidentiality: eBPF programs may not read memory", "boot with lockdown=integrity or without lockdown")
		return
	}
	r.add("lockdown", OK, strings.TrimSpace(string(text)), "")
}

func (r *Report) cgroups() {
	switch v := cgroupVersion(); v {
	case "":
		r.add("cgroups", Note, "not mounted: processes have no container and no systemd unit", "mount /sys/fs/cgroup, in containers of the host")
	default:
		r.add("cgroups", OK, v, "")
	}
}

func cgroupVersion() string {
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) != nil {
		return ""
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return "version 2"
	}
	if unix.Statfs("/sys/fs/cgroup/unified", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return "version 1, with version 2 beside it"
	}
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*")
	for _, dir := range dirs {
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP_SUPER_MAGIC {
			return "version 1"
		}
	}
	return ""
}

// sockets of container runtimes.
var sockets = []struct{ path, name string }{
	{"/run/docker.sock", "Docker"}, {"/run/containerd/containerd.sock", "containerd"},
	{"/run/crio/crio.sock", "CRI-O"}, {"/run/podman/podman.sock", "Podman"}, {"/run/k3s/containerd/containerd.sock", "containerd of k3s"},
}

func (r *Report) containers() {
	var names []string
	for _, s := range sockets {
		if info, err := os.Stat(s.path); err == nil && info.Mode()&os.ModeSocket != 0 {
			names = append(names, s.name)
		}
	}
	text := "no runtime's socket is here"
	if len(names) > 0 {
		text = strings.Join(names, ", ")
	}
	r.add("containers", OK, text+fmt.Sprintf("; %d processes run in containers", countContainers()), "")
}

func sysctl(name string) string {
	text, _ := os.ReadFile("/proc/sys/" + name)
	return strings.TrimSpace(string(text))
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "?"
	}
	return unix.ByteSliceToString(u.Release[:])
}

func kernelVersion() (major, minor int) {
	_, _ = fmt.Sscanf(kernelRelease(), "%d.%d", &major, &minor)
	return major, minor
}

// hasCapability reports whether this process has a capability in effect.
func hasCapability(c int) bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	return unix.Capget(&h, &d[0]) == nil && d[c/32].Effective&(1<<(c%32)) != 0
}
