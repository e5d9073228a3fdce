//go:build linux

// Overhead measures what the collector costs: its CPU time and memory at 19 and
// 99 Hz, and beside it, in the same minutes, those of perf record -F 99 -a -g,
// while every CPU is busy. With -switches it measures what profiles of waiting threads
// and of page faults cost, beside a load that leaves the CPU that often, instead. It
// prints a Markdown table.
//
// Usage, as root:
//
//	go run ./collector/sample/overhead [-duration 2m] [-switches 5000]
//
// It builds the collector and a load program into a directory of its own, and
// leaves nothing behind. Time in interrupts is accounted to whatever was
// interrupted, so what the eBPF programs take is measured apart, by the
// kernel's own statistics.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

func main() {
	duration := flag.Duration("duration", 2*time.Minute, "how long to measure")
	warmUp := flag.Duration("warm-up", 30*time.Second, "how long to wait until all have started")
	port := flag.Int("port", 4290, "first of two TCP ports to listen on")
	switches := flag.Int("switches", 0, "switches per second of the load; 0 measures CPU samples")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, *duration, *warmUp, *port, *switches); err != nil {
		fmt.Fprintln(os.Stderr, "overhead:", err)
		os.Exit(1)
	}
}

// A subject is a program that is measured.
type subject struct {
	name    string
	command []string
	cmd     *exec.Cmd
	before  usage
	after   usage
	peak    int64 // bytes resident
}

func run(ctx context.Context, duration, warmUp time.Duration, port, switches int) (err error) {
	dir, err := os.MkdirTemp("", "flameline-overhead")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	collector, load := filepath.Join(dir, "flameline"), filepath.Join(dir, "load")
	source := "native/burn.c"
	if switches > 0 {
		source = "wait/switches.c"
	}
	for _, build := range [][]string{
		{"go", "build", "-o", collector, "./collector"},
		{"cc", "-O2", "-fomit-frame-pointer", "-pthread", "-o", load, "collector/sample/testdata/" + source},
	} {
		if out, err := exec.CommandContext(ctx, build[0], build[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(build, " "), err, out)
		}
	}
	serve := func(frequency, port int, ebpfConfig ...string) []string {
		name := filepath.Join(dir, strconv.Itoa(port))
		text := "ebpf:\n  enabled: true\n"
		for _, ln := range ebpfConfig {
			text += "  " + ln + "\n"
		}
		err = errors.Join(err, os.WriteFile(name+".yml", []byte(text), 0o600))
		return []string{
			collector, "serve", "--ebpf.frequency", strconv.Itoa(frequency), "--log.level", "warn",
			"--config.file", name + ".yml", "--storage.path", name,
			"--web.listen-address", "127.0.0.1:" + strconv.Itoa(port),
		}
	}
	subjects := []*subject{
		{name: "flameline serve, 19 Hz", command: serve(19, port)},
		{name: "with `off_cpu`", command: serve(19, port+1, "off_cpu: {enabled: true}")},
		{name: "with `page_faults`", command: serve(19, port+2, "page_faults: {enabled: true}")},
	}
	loadArguments := []string{strconv.Itoa(switches), strconv.Itoa(int((duration + warmUp).Seconds()) * 2)}
	loadProcesses := 1
	if switches == 0 {
		subjects = []*subject{
			{name: "flameline serve, 19 Hz", command: serve(19, port)},
			{name: "flameline serve, 99 Hz", command: serve(99, port+1)},
			{name: "perf record -F 99 -a -g", command: []string{"perf", "record", "-q", "-F", "99", "-e", "cpu-clock", "-a", "-g", "-o", filepath.Join(dir, "perf.data")}},
		}
		loadArguments, loadProcesses = loadArguments[1:], runtime.NumCPU()
	}
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return fmt.Errorf("enable statistics of eBPF programs (are you root?): %w", err)
	}
	defer stats.Close()

	var loads []*exec.Cmd
	defer func() {
		for _, c := range loads {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}()
	for range loadProcesses {
		c := exec.CommandContext(ctx, load, loadArguments...)
		if err := c.Start(); err != nil {
			return fmt.Errorf("start load: %w", err)
		}
		loads = append(loads, c)
	}
	for _, s := range subjects {
		s.cmd = exec.CommandContext(ctx, s.command[0], s.command[1:]...)
		s.cmd.Stderr = os.Stderr
		if err := s.cmd.Start(); err != nil {
			return fmt.Errorf("start %s: %w", s.name, err)
		}
		defer s.end(&err)
	}
	fmt.Fprintf(os.Stderr, "warming up for %v, then measuring for %v\n", warmUp, duration)
	if err := sleep(ctx, warmUp); err != nil {
		return err
	}
	if err := measure(ctx, subjects, duration); err != nil {
		return err
	}
	return report(subjects, duration, switches, filepath.Join(dir, "perf.data"))
}

// end stops a subject the way its users do.
func (s *subject) end(err *error) {
	_ = s.cmd.Process.Signal(unix.SIGINT)
	var exit *exec.ExitError
	if e := s.cmd.Wait(); e != nil && !errors.As(e, &exit) {
		*err = errors.Join(*err, fmt.Errorf("%s: %w", s.name, e))
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// measure reads the subjects' usage at both ends and their memory in between.
func measure(ctx context.Context, subjects []*subject, duration time.Duration) error {
	var err error
	for _, s := range subjects {
		if s.before, err = usageOf(s.cmd.Process.Pid); err != nil {
			return fmt.Errorf("%s has ended early: %w", s.name, err)
		}
	}
	for end := time.Now().Add(duration); time.Now().Before(end); {
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
		for _, s := range subjects {
			if s.after, err = usageOf(s.cmd.Process.Pid); err != nil {
				return fmt.Errorf("%s has ended early: %w", s.name, err)
			}
			s.peak = max(s.peak, s.after.resident)
		}
	}
	return nil
}

// ownPrograms are the eBPF programs that the kernel calls, by the 15 bytes of their names
// that it keeps. Their time has that of the unwinder, which they pass on to.
var ownPrograms = map[string]bool{
	"gate": true, "off_cpu_switch": true, "off_cpu_wakeup": true, "off_cpu_new": true, "off_cpu_unwind": true,
	"page_fault": true, "page_alloc": true, "oom_victim": true,
}

// ebpfTime returns the run time of our eBPF programs that a process has loaded.
func ebpfTime(pid int) (sum time.Duration, err error) {
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		return 0, err
	}
	counted := map[ebpf.ProgramID]bool{} // links name their programs too
	for _, path := range infos {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // closed meanwhile
		}
		_, rest, ok := strings.Cut(string(text), "prog_id:")
		if !ok {
			continue
		}
		var id ebpf.ProgramID
		if _, err := fmt.Sscan(rest, &id); err != nil {
			return 0, fmt.Errorf("parse %s: %w", path, err)
		}
		if counted[id] {
			continue
		}
		counted[id] = true
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // unloaded meanwhile
		}
		info, err := p.Info()
		if err != nil || !ownPrograms[info.Name] {
			p.Close()
			continue
		}
		st, err := p.Stats()
		p.Close()
		if err != nil {
			return 0, fmt.Errorf("statistics of %s: %w", info.Name, err)
		}
		sum += st.Runtime
	}
	return sum, nil
}

// A usage is what a process has used so far.
type usage struct {
	cpu          time.Duration // of all threads that run still, precise
	user, system time.Duration // of all threads, in ticks
	ebpf         time.Duration // in its eBPF programs
	resident     int64         // bytes
	anonymous    int64         // bytes
}

// usageOf reads the usage of a process.
func usageOf(pid int) (u usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return u, fmt.Errorf("parse /proc/%d/stat", pid)
	}
	const tick = time.Second / 100
	for i, d := range []*time.Duration{&u.user, &u.system} {
		n, err := strconv.ParseInt(fields[11+i], 10, 64)
		if err != nil {
			return u, fmt.Errorf("parse /proc/%d/stat: %w", pid, err)
		}
		*d = time.Duration(n) * tick
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return u, err
	}
	for _, th := range threads {
		var ns int64
		if text, err := os.ReadFile(th); err == nil {
			if _, err := fmt.Sscan(string(text), &ns); err != nil {
				return u, fmt.Errorf("parse %s: %w", th, err)
			}
		}
		u.cpu += time.Duration(ns)
	}
	if u.ebpf, err = ebpfTime(pid); err != nil {
		return u, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for ln := range strings.Lines(string(status)) {
		for name, to := range map[string]*int64{"VmRSS:": &u.resident, "RssAnon:": &u.anonymous} {
			if rest, ok := strings.CutPrefix(ln, name); ok {
				if _, err := fmt.Sscanf(rest, "%d kB", to); err != nil {
					return u, fmt.Errorf("parse /proc/%d/status: %w", pid, err)
				}
				*to *= 1024
			}
		}
	}
	return u, nil
}

// report prints the table.
func report(subjects []*subject, duration time.Duration, switches int, perfData string) error {
	var uname syscall.Utsname
	if err := syscall.Uname(&uname); err != nil {
		return fmt.Errorf("read kernel version: %w", err)
	}
	release := ""
	for _, c := range uname.Release {
		if c == 0 {
			break
		}
		release += string(rune(c))
	}
	loadavg, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return fmt.Errorf("read load: %w", err)
	}
	percent := func(d time.Duration) string { return fmt.Sprintf("%.2f %%", 100*d.Seconds()/duration.Seconds()) }
	mebi := func(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<19)>>20) }
	load := "all busy"
	if switches > 0 {
		load = fmt.Sprintf("%d switches a second of the load", switches)
	}
	fmt.Printf("%d CPUs, %s; Linux %s; %v; load average at the end %s\n\n",
		runtime.NumCPU(), load, release, duration, strings.Join(strings.Fields(string(loadavg))[:3], " "))
	fmt.Println("| | CPU, of one core | of it user | of it kernel | in eBPF programs | resident, end | resident, peak | anonymous |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, s := range subjects {
		user, system := s.after.user-s.before.user, s.after.system-s.before.system
		gate := "n/a"
		if s.after.ebpf > 0 {
			gate = percent(s.after.ebpf - s.before.ebpf)
		}
		fmt.Printf("| %s | %s | %s | %s | %s | %s | %s | %s |\n", s.name, percent(max(user+system, s.after.cpu-s.before.cpu)), percent(user), percent(system),
			gate, mebi(s.after.resident), mebi(s.peak), mebi(s.after.anonymous))
	}
	if info, err := os.Stat(perfData); err == nil {
		fmt.Printf("\nperf wrote %s to disk meanwhile.\n", mebi(info.Size()))
	}
	return nil
}
