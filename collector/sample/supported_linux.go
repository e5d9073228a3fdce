//go:build linux && (amd64 || arm64)

package sample

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// oldestKernel is the first one with all that the unwinder and the gate need:
// ring buffers and stacks of perf events.
var oldestKernel = [2]int{5, 8}

// Supported returns nil if sampling is possible, or an error of one line that
// wraps ErrUnsupported and says what is missing and what to do about it. It
// changes nothing.
func Supported() error {
	for _, r := range Requirements() {
		if err := r.Check(); err != nil {
			return fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
	}
	return nil
}

// Requirements are what sampling needs, in the order in which one needs the
// other. Their checks change nothing.
func Requirements() []Requirement {
	return []Requirement{
		{"kernel", checkKernel},
		{"capabilities", checkCapabilities},
		{"ebpf", checkPrograms},
		{"perf_events", checkEvents},
		{"kernel_symbols", checkSymbols},
	}
}

func checkKernel() error {
	major, minor, err := kernelVersion()
	if err != nil {
		return err
	}
	if major < oldestKernel[0] || major == oldestKernel[0] && minor < oldestKernel[1] {
		return fmt.Errorf("kernel %d.%d is too old, %d.%d or newer is needed", major, minor, oldestKernel[0], oldestKernel[1])
	}
	return nil
}

// needed are the capabilities for sampling; any of each group will do.
var needed = []struct {
	purpose string
	anyOf   []int
	names   string
}{
	{"load eBPF programs", []int{unix.CAP_BPF, unix.CAP_SYS_ADMIN}, "CAP_BPF"},
	{"attach them to CPU timers", []int{unix.CAP_PERFMON, unix.CAP_SYS_ADMIN}, "CAP_PERFMON"},
	{"read other processes", []int{unix.CAP_SYS_PTRACE}, "CAP_SYS_PTRACE"},
	{"open the binaries of other processes", []int{unix.CAP_CHECKPOINT_RESTORE, unix.CAP_SYS_ADMIN}, "CAP_CHECKPOINT_RESTORE"},
	{"read kernel symbols", []int{unix.CAP_SYSLOG}, "CAP_SYSLOG"},
}

// checkCapabilities names the capabilities that are missing.
func checkCapabilities() error {
	have, err := effectiveCapabilities("/proc/self/status")
	if err != nil {
		return err
	}
	return missingCapabilities(have)
}

// missingCapabilities returns an error that names what a set of capabilities
// lacks.
func missingCapabilities(have uint64) error {
	var names, purposes []string
	for _, n := range needed {
		ok := false
		for _, c := range n.anyOf {
			ok = ok || have&(1<<c) != 0
		}
		if !ok {
			names, purposes = append(names, n.names), append(purposes, n.purpose)
		}
	}
	if names == nil {
		return nil
	}
	return fmt.Errorf("not permitted to %s: run as root or grant %s",
		strings.Join(purposes, ", "), strings.Join(names, ", "))
}

// CheckOtherUsers returns an error if the files of other users' processes cannot be opened,
// which sampling does not require: stacktraces of such processes are cut.
func CheckOtherUsers() error {
	have, err := effectiveCapabilities("/proc/self/status")
	if err != nil {
		return err
	}
	if have&(1<<unix.CAP_DAC_READ_SEARCH|1<<unix.CAP_DAC_OVERRIDE) == 0 {
		return errors.New("the binaries of other users' processes cannot be opened, so that their stacktraces are cut: run as root or grant CAP_DAC_READ_SEARCH")
	}
	return nil
}

// effectiveCapabilities reads the capabilities of a process as a bit set.
func effectiveCapabilities(status string) (uint64, error) {
	text, err := os.ReadFile(status)
	if err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	for ln := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(ln, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
			if err != nil {
				return 0, fmt.Errorf("parse capabilities in %s: %w", status, err)
			}
			return set, nil
		}
	}
	return 0, fmt.Errorf("no capabilities in %s", status)
}

// lacks reports whether this process has none of the capabilities that stand for one of
// those needed, so that its lack is why something is refused.
func lacks(capability int) bool {
	have, err := effectiveCapabilities("/proc/self/status")
	if err != nil {
		return false
	}
	for _, n := range needed {
		if slices.Contains(n.anyOf, capability) {
			return !slices.ContainsFunc(n.anyOf, func(c int) bool { return have&(1<<c) != 0 })
		}
	}
	return false
}

// kptrRestrict is the kernel's setting kernel.kptr_restrict: with 2, nobody sees addresses.
func kptrRestrict() string {
	text, _ := os.ReadFile("/proc/sys/kernel/kptr_restrict")
	return strings.TrimSpace(string(text))
}

// checkPrograms probes what the kernel lets this process load.
func checkPrograms() error {
	if err := features.HaveProgramType(ebpf.PerfEvent); err != nil {
		if errors.Is(err, ebpf.ErrNotSupported) {
			return errors.New("this kernel has no eBPF programs for perf events: enable CONFIG_BPF_SYSCALL and CONFIG_BPF_EVENTS")
		}
		if lacks(unix.CAP_BPF) {
			return errors.New("eBPF programs may not be loaded: run as root or grant CAP_BPF")
		}
		return fmt.Errorf("eBPF programs cannot be loaded (%w): allow the bpf system call (seccomp profile, lockdown mode)", err)
	}
	for _, t := range []ebpf.MapType{ebpf.RingBuf, ebpf.LPMTrie, ebpf.HashOfMaps} {
		if err := features.HaveMapType(t); err != nil {
			return fmt.Errorf("this kernel has no eBPF maps of type %v (%w): use a newer one", t, err)
		}
	}
	return nil
}

// checkEvents opens and closes a timer.
func checkEvents() error {
	cpus, err := onlineCPUs()
	if err != nil {
		return err
	}
	fd, err := openTimer(cpus[0], DefaultFrequency)
	switch {
	case err == nil:
		return unix.Close(fd)
	case errors.Is(err, unix.ENOSYS):
		return errors.New("this kernel has no perf events: enable CONFIG_PERF_EVENTS")
	case lacks(unix.CAP_PERFMON):
		return errors.New("CPU timers are not permitted: run as root or grant CAP_PERFMON")
	default:
		paranoid, _ := os.ReadFile("/proc/sys/kernel/perf_event_paranoid")
		return fmt.Errorf("CPU timers are not permitted (%w): allow the perf_event_open system call (seccomp profile) or lower kernel.perf_event_paranoid, which is %s",
			err, strings.TrimSpace(string(paranoid)))
	}
}

// checkSymbols makes sure that the kernel shows the addresses of its symbols.
func checkSymbols() error {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return fmt.Errorf("no kernel symbols (%w): enable CONFIG_KALLSYMS", err)
	}
	defer f.Close()
	// The first symbols may be at 0 by right; the first kilobytes are not.
	buf := make([]byte, 64<<10)
	n, err := f.Read(buf)
	if err != nil {
		return fmt.Errorf("read kernel symbols: %w", err)
	}
	for ln := range strings.Lines(string(buf[:n])) {
		if addr, _, ok := strings.Cut(ln, " "); ok && strings.Trim(addr, "0") != "" {
			return nil
		}
	}
	if lacks(unix.CAP_SYSLOG) && kptrRestrict() != "2" {
		return errors.New("the kernel hides the addresses of its symbols: run as root or grant CAP_SYSLOG")
	}
	return errors.New("the kernel hides the addresses of its symbols: set kernel.kptr_restrict to 1 or 0 and grant CAP_SYSLOG")
}
