package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/tools/go/packages"
)

// packagePaths lists the packages of this module for which a function of their path is true.
func packagePaths(ctx context.Context, which func(path string) bool) ([]string, error) {
	all, err := output(ctx, "go", "list", "./...")
	if err != nil {
		return nil, err
	}
	var selected []string
	for path := range strings.FieldsSeq(all) {
		if which(path) {
			selected = append(selected, path)
		}
	}
	return selected, nil
}

// Tests that sample the kernel or compare CPU times run one package at a time with
// nothing else running, since a busy machine changes their results. samplesKernel
// selects the packages of the sampler, which are such as a whole.
func samplesKernel(path string) bool {
	return strings.Contains(path+"/", "/collector/sample/")
}

func endToEnd(path string) bool { return strings.Contains(path+"/", "/e2e/") }

// commands is the package whose tests run the commands. Those that sample the machine have
// names that match liveTests.
const (
	commands  = "/collector"
	liveTests = "^TestLive"
)

// GoTests runs the short tests of all packages with the race detector, with which they
// take up to ten times as long, and then without it those that were left out or shortened.
// Tests that need a quiet machine have targets of their own.
func GoTests(ctx context.Context) error {
	short, err := packagePaths(ctx, func(path string) bool { return !endToEnd(path) })
	if err != nil {
		return err
	}
	if err := runEnv(ctx, []string{"CGO_ENABLED=1"}, "go", append([]string{"test", "-race", "-short", "-timeout=20m"}, short...)...); err != nil {
		return err
	}
	dirs, err := output(ctx, "go", append([]string{"list", "-f={{.ImportPath}} {{.Dir}}"}, short...)...)
	if err != nil {
		return err
	}
	var pkgs, tests []string
	for line := range strings.Lines(dirs) {
		path, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		long, err := longTests(dir)
		if err != nil {
			return err
		}
		if len(long) > 0 && !samplesKernel(path) {
			pkgs, tests = append(pkgs, path), append(tests, long...)
		}
	}
	run := "-run=^(" + strings.Join(tests, "|") + ")$"
	return Run(ctx, "go", append([]string{"test", "-timeout=20m", run, "-skip=" + liveTests}, pkgs...)...)
}

// measuredTests runs tests that compare what the kernel measures on a machine that others
// use too. At most a few that fail are run once more, since one unlucky second in 40
// minutes is no fault; they are printed and stay in the table of durations, so that a test
// which fails once a week is seen. Each is worth a look: it may be the product that fails.
func measuredTests(ctx context.Context, env, pkgs []string, flags ...string) error {
	dir, err := os.MkdirTemp("", "flameline-tests-")
	if err != nil {
		return fmt.Errorf("make directory of report: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	report := filepath.Join(dir, "repeated")
	err = runEnv(ctx, env, "go", append([]string{
		"tool", "-modfile=.ci/tools/go.mod", "gotestsum", "--format=standard-quiet",
		"--rerun-fails=1", "--rerun-fails-max-failures=3", "--rerun-fails-run-root-test", "--rerun-fails-report=" + report,
		"--packages=" + strings.Join(pkgs, " "), "--", "-count=1",
	}, flags...)...)
	lines, readErr := os.ReadFile(report) // there is none if no test was run again
	if readErr != nil && !errors.Is(readErr, os.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("read report of repeated tests: %w", readErr))
	}
	for line := range strings.Lines(string(lines)) {
		fmt.Fprint(watched(ctx, os.Stdout), "repeated ", line)
	}
	return err
}

// KernelTests runs the tests of the sampler and of the commands that use it, without the
// race detector: a sampler that is ten times slower cannot keep up.
func KernelTests(ctx context.Context) error {
	live, err := packagePaths(ctx, func(path string) bool { return strings.HasSuffix(path, commands) })
	if err != nil {
		return err
	}
	pkgs, err := packagePaths(ctx, samplesKernel)
	if err != nil {
		return err
	}
	return errors.Join(
		measuredTests(ctx, nil, live, "-timeout=20m", "-run="+liveTests),
		measuredTests(ctx, nil, pkgs, "-timeout=20m", "-p=1"),
	)
}

// EndToEndTests tests the built programs: the load programs under the sampler, the
// plugin over its protocol, and both against Prometheus. Tests that are parallel wait for
// programs most of the time.
func EndToEndTests(ctx context.Context) error {
	collector, err := filepath.Abs("bin/flameline")
	if err != nil {
		return fmt.Errorf("find collector: %w", err)
	}
	plugin, err := filepath.Abs(pluginPath(runtime.GOOS, runtime.GOARCH))
	if err != nil {
		return fmt.Errorf("find plugin: %w", err)
	}
	pkgs, err := packagePaths(ctx, endToEnd)
	if err != nil {
		return err
	}
	env := []string{"FLAMELINE_BIN=" + collector, "FLAMELINE_PLUGIN_BIN=" + plugin}
	return measuredTests(ctx, env, pkgs, "-timeout=30m", "-p=1", "-parallel=8")
}

// OtherSystems checks that everything except the eBPF source compiles for other systems,
// and the plugin for Windows. Nothing of it runs, so only the types are checked, of all
// dependencies too, which takes a fraction of the time of a build.
func OtherSystems(ctx context.Context) error {
	return errors.Join(
		checkTypes(ctx, "darwin", "arm64", "./..."),
		checkTypes(ctx, "windows", "amd64", "./pkg/..."),
	)
}

// checkTypes parses packages and their dependencies as they are for a system, checks their
// types, and prints what is wrong.
func checkTypes(ctx context.Context, goos, goarch, pattern string) error {
	fmt.Printf("+ check the types of %s for %s/%s\n", pattern, goos, goarch)
	loaded, err := packages.Load(&packages.Config{
		Context: ctx,
		Mode:    packages.LoadAllSyntax,
		Env:     append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch),
	}, pattern)
	if err != nil {
		return fmt.Errorf("load %s: %w", pattern, err)
	}
	if n := packages.PrintErrors(loaded); n > 0 {
		return fmt.Errorf("%s for %s/%s: %d errors", pattern, goos, goarch, n)
	}
	if len(loaded) == 0 {
		return fmt.Errorf("%s for %s/%s: no packages", pattern, goos, goarch)
	}
	return nil
}

// Bench runs the Go benchmarks, or those that match BENCH.
func Bench(ctx context.Context) error {
	match := os.Getenv("BENCH")
	if match == "" {
		match = "."
	}
	return Run(ctx, "go", "test", "-p=1", "-run=^$", "-bench="+match, "-benchmem", "-timeout=1h", "./...")
}

// Compare compares bin/flameline with the server at BENCH_PEER.
func Compare(ctx context.Context) error {
	peer := os.Getenv("BENCH_PEER")
	if peer == "" {
		return errors.New("BENCH_PEER is not set: the address of a server that speaks Pyroscope's API and holds nothing yet")
	}
	args := []string{"run", "./e2e/compare", "-peer", peer}
	return Run(ctx, "go", append(args, strings.Fields(os.Getenv("BENCH_FLAGS"))...)...)
}
