package build

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// A prerequisite is a command that tests run, or a file that they read, with Debian's
// package of it.
type prerequisite struct {
	commands []string // one of them is enough
	files    []string // instead of commands: one of them is enough
	variable string   // environment variable that may name the command
	debian   []string
}

var prerequisites = []prerequisite{
	{commands: []string{"git"}, debian: []string{"git"}},
	// The race detector and load programs.
	{commands: []string{"cc"}, debian: []string{"gcc", "libc6-dev"}},
	{commands: []string{"g++"}, debian: []string{"g++"}},
	// Debug files as Debian's packages have them.
	{commands: []string{"dwz"}, debian: []string{"dwz"}},
	// Load programs.
	{commands: []string{"python3"}, debian: []string{"python3"}},
	{commands: []string{"pip3"}, debian: []string{"python3-pip"}},
	{commands: []string{"java"}, debian: []string{"default-jdk-headless"}},
	{commands: []string{"javac"}, debian: []string{"default-jdk-headless"}},
	{commands: []string{"mvn"}, debian: []string{"maven"}},
	// Profilers of native code, and their own tools.
	{commands: []string{"google-pprof"}, debian: []string{"google-perftools"}},
	{files: []string{"/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4", "/usr/lib/aarch64-linux-gnu/libtcmalloc.so.4"}, debian: []string{"google-perftools"}},
	{files: []string{"/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", "/usr/lib/aarch64-linux-gnu/libjemalloc.so.2"}, debian: []string{"libjemalloc2"}},
	{commands: []string{"jeprof"}, debian: []string{"libjemalloc-dev"}},
	{files: []string{"/usr/include/gperftools/heap-profiler.h"}, debian: []string{"libgoogle-perftools-dev"}},
	{files: []string{"/usr/include/jemalloc/jemalloc.h"}, debian: []string{"libjemalloc-dev"}},
	// Programs that trace others.
	{commands: []string{"strace"}, debian: []string{"strace"}},
	{commands: []string{"gdb"}, debian: []string{"gdb"}},
	// Generated eBPF objects.
	{commands: []string{"clang"}, debian: []string{"clang"}},
	{commands: []string{"llvm-strip"}, debian: []string{"llvm"}},
	{files: []string{"/usr/include/bpf/bpf_helpers.h"}, debian: []string{"libbpf-dev"}},
	// Programs for arm64.
	{commands: []string{"qemu-aarch64"}, debian: []string{"qemu-user"}},
	// What Flameline is compared with, and the browser.
	{commands: []string{"prometheus"}, variable: "PROMETHEUS_BIN", debian: []string{"prometheus"}},
	{commands: []string{"promtool"}, debian: []string{"prometheus"}},
	{commands: []string{"chromium", "chromium-browser", "google-chrome"}, variable: "CHROMIUM_BIN", debian: []string{"chromium"}},
}

func (p prerequisite) here() bool {
	if p.variable != "" && os.Getenv(p.variable) != "" {
		return true
	}
	return slices.ContainsFunc(p.commands, func(name string) bool {
		_, err := exec.LookPath(name)
		return err == nil
	}) || slices.ContainsFunc(p.files, func(name string) bool {
		_, err := os.Stat(name)
		return err == nil
	})
}

// name returns the prerequisite's first name, for messages.
func (p prerequisite) name() string {
	return append(slices.Clone(p.commands), p.files...)[0]
}

// Prerequisites checks that what the tests run is installed. As root on Debian it
// installs what is missing; elsewhere its error names it.
func Prerequisites(ctx context.Context) error {
	for _, name := range []string{"node", "npm"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s is not on PATH: install Node.js 20 or newer", name)
		}
	}
	return installMissing(ctx, prerequisites)
}

// installMissing installs what is missing of some prerequisites, or returns an error that
// names it.
func installMissing(ctx context.Context, needed []prerequisite) error {
	var missing, packages []string
	for _, p := range needed {
		if !p.here() {
			missing = append(missing, p.name())
			packages = append(packages, p.debian...)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if !CanInstall() {
		return fmt.Errorf("missing: %s; install them, or run this as root on Debian to install them automatically", strings.Join(missing, ", "))
	}
	slices.Sort(packages)
	return Install(ctx, slices.Compact(packages)...)
}

// CanInstall reports whether Install works: as root, with apt-get.
func CanInstall() bool {
	_, err := exec.LookPath("apt-get")
	return err == nil && os.Geteuid() == 0
}

// Install installs Debian packages.
func Install(ctx context.Context, packages ...string) error {
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	if err := runEnv(ctx, env, "apt-get", "update", "--quiet"); err != nil {
		return err
	}
	args := append([]string{"install", "--yes", "--quiet", "--no-install-recommends"}, packages...)
	return runEnv(ctx, env, "apt-get", args...)
}
