//go:build mage

// Every task of this repository: `go tool mage -l` lists them.
package main

import (
	"context"
	"os"
	"runtime"
	"syscall"

	"github.com/magefile/mage/mg"

	"github.com/flameline/flameline/build"
)

// Demo builds everything and starts it with load programs on this machine; Ctrl-C stops all of it.
func Demo(ctx context.Context) error {
	mg.CtxDeps(ctx, Build)
	if err := build.Go(ctx, "bin/demo", "./e2e/demo"); err != nil {
		return err
	}
	// The demo replaces this process (exec), so that Ctrl-C reaches it and this command
	// ends only after everything that the demo started.
	return syscall.Exec("bin/demo", []string{"bin/demo"}, os.Environ())
}

// Test installs what the tests need and runs all of them: Go, TypeScript, linters, kernel, plugin, browser.
func Test(ctx context.Context) error {
	if err := build.WithoutCgo(); err != nil {
		return err
	}
	s := build.Sections{}
	s.Must(ctx, "prerequisites", build.Prerequisites)
	s.Must(ctx, "build", func(ctx context.Context) error { return buildAll(ctx) })
	s.Run(ctx, "generated code", build.CheckGenerated)
	s.Run(ctx, "lint Go", lintGo)
	s.Run(ctx, "lint TypeScript", npm("run", "lint"))
	s.Run(ctx, "check types", npm("run", "typecheck"))
	s.Run(ctx, "unit tests of TypeScript", npm("run", "test"))
	s.Run(ctx, "Go tests", build.GoTests)
	s.Run(ctx, "other systems", build.OtherSystems)
	s.Run(ctx, "kernel tests", build.KernelTests)
	s.Run(ctx, "end-to-end tests", build.EndToEndTests)
	s.Run(ctx, "browser tests", npm("run", "e2e"))
	return s.Result()
}

// Build builds the collector, the plugin for this machine and the built-in page.
func Build(ctx context.Context) error {
	s := build.Sections{}
	s.Must(ctx, "build", func(ctx context.Context) error { return buildAll(ctx) })
	return s.Result()
}

func buildAll(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		build.Packages,
		npm("run", "build"),
		npm("run", "build:page"), // before the collector, which embeds it
		Collector,
		Plugin,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Collector builds bin/flameline, with the page that was built last.
func Collector(ctx context.Context) error {
	return build.Go(ctx, "bin/flameline", "./collector")
}

// Plugin builds the backend of the Grafana plugin for this machine.
func Plugin(ctx context.Context) error {
	return build.PluginBackend(ctx, runtime.GOOS, runtime.GOARCH)
}

// PluginAll builds the backend of the Grafana plugin for every system that Grafana runs on.
func PluginAll(ctx context.Context) error {
	for _, target := range [][2]string{
		{"linux", "amd64"}, {"linux", "arm64"}, {"linux", "arm"},
		{"darwin", "amd64"}, {"darwin", "arm64"}, {"windows", "amd64"},
	} {
		if err := build.PluginBackend(ctx, target[0], target[1]); err != nil {
			return err
		}
	}
	return nil
}

// Generate writes the generated code anew.
func Generate(ctx context.Context) error {
	return build.Run(ctx, "go", "generate", "./...")
}

// Lint runs the linters of Go and TypeScript.
func Lint(ctx context.Context) error {
	s := build.Sections{}
	s.Must(ctx, "packages", build.Packages)
	s.Run(ctx, "lint Go", lintGo)
	s.Run(ctx, "lint TypeScript", npm("run", "lint"))
	s.Run(ctx, "check types", npm("run", "typecheck"))
	return s.Result()
}

// E2e builds everything and runs the end-to-end tests and those in a browser.
func E2e(ctx context.Context) error {
	if err := build.WithoutCgo(); err != nil {
		return err
	}
	s := build.Sections{}
	s.Must(ctx, "prerequisites", build.Prerequisites)
	s.Must(ctx, "build", func(ctx context.Context) error { return buildAll(ctx) })
	s.Run(ctx, "end-to-end tests", build.EndToEndTests)
	s.Run(ctx, "browser tests", npm("run", "e2e"))
	return s.Result()
}

// Bench runs the Go benchmarks; BENCH selects some of them by a regular expression.
func Bench(ctx context.Context) error {
	return build.Bench(ctx)
}

// Compare compares the collector with the server at BENCH_PEER, see docs/benchmarks.md; BENCH_FLAGS are further flags of e2e/compare.
func Compare(ctx context.Context) error {
	mg.CtxDeps(ctx, Collector)
	return build.Compare(ctx)
}

// VM boots kernels of Debian's packages in qemu and runs the sampler's smoke test there, see e2e/vm; VM_KERNELS names other packages or .deb files.
func VM(ctx context.Context) error {
	return build.VM(ctx)
}

// Fuzz runs every fuzz test for a while: FUZZTIME each, 20s by default.
func Fuzz(ctx context.Context) error {
	return build.Fuzz(ctx)
}

// Clean removes what was built.
func Clean() error {
	return build.Clean()
}

func lintGo(ctx context.Context) error {
	return build.Run(ctx, "go", "tool", "-modfile=.ci/tools/go.mod", "golangci-lint", "run", "--allow-parallel-runners", "./...")
}

func npm(args ...string) func(context.Context) error {
	return func(ctx context.Context) error { return build.Run(ctx, "npm", args...) }
}
