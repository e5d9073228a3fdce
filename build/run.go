// Package build holds the steps of Magefile.go that take more than a line: building,
// installing what tests need, and running tests in sections.
//
// Magefile.go determines the steps and their order.
package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Run runs a command in the repository's root and shows what it prints.
func Run(ctx context.Context, name string, args ...string) error {
	return runEnv(ctx, nil, name, args...)
}

// runEnv is Run with further environment variables.
func runEnv(ctx context.Context, env []string, name string, args ...string) error {
	fmt.Println("+", strings.Join(append(env, append([]string{name}, args...)...), " "))
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = watched(ctx, os.Stdout), os.Stderr
	// Let the command end by itself first, so that it can stop what it started.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return nil
}

// output runs a command and returns its output without surrounding white space.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Sections runs steps under headings and records failures. Its zero value is ready to
// use.
type Sections struct {
	failed    []string
	err       error
	stopped   bool
	durations durations
}

// Run runs a step. Later steps run even if it fails.
func (s *Sections) Run(ctx context.Context, heading string, step func(context.Context) error) {
	if s.stopped || ctx.Err() != nil {
		return
	}
	fmt.Printf("\n=== %s\n", heading)
	start := time.Now()
	err := step(s.durations.watch(ctx, heading))
	took := time.Since(start).Round(time.Second)
	row := duration{section: heading, took: time.Since(start)}
	if err != nil {
		row.note = "FAILED"
	}
	s.durations.add(row)
	if err == nil {
		fmt.Printf("=== %s: passed in %s\n", heading, took)
		return
	}
	fmt.Printf("=== %s: FAILED after %s: %v\n", heading, took, err)
	s.failed = append(s.failed, heading)
	s.err = errors.Join(s.err, fmt.Errorf("%s: %w", heading, err))
}

// Must runs a step that later ones depend on.
func (s *Sections) Must(ctx context.Context, heading string, step func(context.Context) error) {
	s.Run(ctx, heading, step)
	s.stopped = s.err != nil
}

// Result prints the duration of each step and of its Go packages' tests, and the steps
// that failed.
func (s *Sections) Result() error {
	if len(s.durations.rows) > 0 {
		fmt.Printf("\n=== durations\n%s", s.durations.table())
	}
	if s.err == nil {
		return nil
	}
	fmt.Printf("\n=== failed: %s\n", strings.Join(s.failed, ", "))
	return s.err
}
