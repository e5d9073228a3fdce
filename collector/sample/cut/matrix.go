//go:build linux && (amd64 || arm64)

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// runMatrix samples the rows with these names, or all of them, one after the other.
func runMatrix(ctx context.Context, o options, names []string) error {
	rows := matrix(o.pythons)
	if len(names) > 0 {
		rows = slices.DeleteFunc(rows, func(r row) bool { return !slices.Contains(names, r.name) })
	}
	var missing []string
	used := map[string]time.Duration{} // CPU time
	return sampled(ctx, o, func(dir string, _ *stacks) error {
		for _, r := range rows {
			if lacks := r.lacks(); lacks != "" {
				missing = append(missing, fmt.Sprintf("%s (no %s)", r.name, lacks))
				continue
			}
			var err error
			if used[r.name], err = o.runRow(ctx, dir, r); ctx.Err() != nil {
				return ctx.Err()
			} else if err != nil {
				missing = append(missing, fmt.Sprintf("%s (%v)", r.name, err))
				delete(used, r.name)
			}
		}
		return nil
	}, func(s *stacks) {
		if o.verbose {
			for service, by := range s.byService {
				fmt.Fprintf(os.Stderr, "service %s: %.2f s\n", service, float64(sumOf(by))/1e9)
			}
		}
		fmt.Println("| program | CPU time | sampled | new | whole | in its functions | of these right | cut |")
		fmt.Println("|---|---|---|---|---|---|---|---|")
		for _, r := range rows {
			if cpu, ran := used[r.name]; ran {
				printRow(r, cpu, s.byService[r.name], o.verbose)
			}
		}
		if len(missing) > 0 {
			fmt.Printf("\nLeft out: %s.\n", strings.Join(missing, "; "))
		}
	})
}

// runRow builds and runs a row's program, and returns the CPU time that it used.
func (o options) runRow(ctx context.Context, dir string, r row) (time.Duration, error) {
	cmd, err := o.command(ctx, dir, "testdata", r.name, r.run)
	if err != nil {
		return 0, err
	}
	if r.build != "" {
		build := exec.CommandContext(ctx, "sh", "-c", r.build)
		build.Dir, build.Env = cmd.Dir, append(slices.Clone(cmd.Env), "OTEL_SERVICE_NAME=build")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build: %w: %s", err, out[max(0, len(out)-400):])
		}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("run: %w: %s", err, out[max(0, len(out)-400):])
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// lacks returns the first of a row's needs that is missing; "" if it has all.
func (r row) lacks() string {
	for _, need := range r.needs {
		if strings.HasPrefix(need, "/") {
			if found, err := filepath.Glob(need); err == nil && len(found) > 0 {
				continue
			}
		} else if _, err := exec.LookPath(need); err == nil {
			continue
		}
		return need
	}
	return ""
}

func printRow(r row, used time.Duration, byStack map[string]int64, verbose bool) {
	v := judge(r.chain, byStack)
	rest := v.total - v.early
	in, right := "-", "-"
	if len(r.chain) > 0 {
		in, right = percent(v.known, rest), percent(v.right, v.known)
	}
	fmt.Printf("| %s | %.1f s | %s | %s | %s | %s | %s | %s |\n", r.name, used.Seconds(), percent(v.total, used.Nanoseconds()),
		percent(v.early, v.total), percent(v.whole, rest), in, right, sharesOf(v.cut, rest))
	if !verbose {
		return
	}
	if v.known == 0 {
		v.wrong = byStack
	}
	for _, stack := range largestFirst(v.wrong)[:min(4, len(v.wrong))] {
		fmt.Fprintf(os.Stderr, "%s: %s %s\n", r.name, percent(v.wrong[stack], rest), strings.ReplaceAll(stack, "\n", ";"))
	}
}
