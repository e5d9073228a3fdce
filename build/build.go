package build

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// WithoutCgo has Go programs built without cgo, as what ships is, so that tests and linters
// use what was compiled for that. The race detector needs cgo all the same.
func WithoutCgo() error {
	return os.Setenv("CGO_ENABLED", "0")
}

// Packages installs the npm packages of package-lock.json if they are not installed.
func Packages(ctx context.Context) error {
	lock, err := os.Stat("package-lock.json")
	if err != nil {
		return fmt.Errorf("find npm packages: %w", err)
	}
	// npm writes this file last.
	if have, err := os.Stat("node_modules/.package-lock.json"); err == nil && !have.ModTime().Before(lock.ModTime()) {
		return nil
	}
	return Run(ctx, "npm", "ci", "--no-audit", "--no-fund")
}

// Go builds a program of this module, with its version.
func Go(ctx context.Context, out, pkg string) error {
	flags, err := versionFlags(ctx)
	if err != nil {
		return err
	}
	return runEnv(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-ldflags", flags, "-o", out, pkg)
}

// PluginBackend builds the plugin's backend for a system.
func PluginBackend(ctx context.Context, goos, goarch string) error {
	flags, err := versionFlags(ctx)
	if err != nil {
		return err
	}
	env := []string{"CGO_ENABLED=0", "GOOS=" + goos, "GOARCH=" + goarch}
	return runEnv(ctx, env, "go", "build", "-ldflags", flags, "-o", pluginPath(goos, goarch), "./pkg")
}

// pluginPath returns the path at which Grafana expects the backend.
func pluginPath(goos, goarch string) string {
	path := fmt.Sprintf("dist/gpx_flameline_%s_%s", goos, goarch)
	if goos == "windows" {
		path += ".exe"
	}
	return path
}

// versionFlags returns the linker flags that set a program's version: that of
// package.json, and the commit if git knows it.
func versionFlags(ctx context.Context) (string, error) {
	var manifest struct{ Version string }
	text, err := os.ReadFile("package.json")
	if err == nil {
		err = json.Unmarshal(text, &manifest)
	}
	if err != nil {
		return "", fmt.Errorf("read version: %w", err)
	}
	const pkg = "github.com/prometheus/common/version."
	flags := []string{"-X", pkg + "Version=" + manifest.Version}
	if _, err := os.Stat(".git"); err == nil {
		revision, err := output(ctx, "git", "rev-parse", "HEAD")
		if err != nil {
			return "", err
		}
		flags = append(flags, "-X", pkg+"Revision="+revision)
	}
	return strings.Join(flags, " "), nil
}

// Clean removes built files, but not the npm packages.
func Clean() error {
	remove := []string{"bin", "dist", "coverage", "test-results", "playwright-report"}
	built, err := filepath.Glob("collector/web/dist/*")
	if err != nil {
		return fmt.Errorf("find built page: %w", err)
	}
	for _, path := range append(remove, built...) {
		if filepath.Base(path) == ".gitkeep" {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("clean: %w", err)
		}
	}
	return nil
}
