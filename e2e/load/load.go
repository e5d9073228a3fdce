// Package load builds the load programs in its folders: small services whose profile is
// known, because each measures the CPU time of its hot functions and shows it on
// /metrics.
//
// Starting and stopping them is left to package proc.
package load

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/flameline/flameline/e2e/proc"
)

// A Program is one load program.
type Program struct {
	// Service is its name in metrics and profiles.
	Service  string
	Language string
	// Address is where it serves /metrics unless told otherwise.
	Address string
	// Hot are the functions that it measures.
	Hot []Function

	needs []string // commands that building and running it takes
	// build makes it from the folder src into the file or folder out, and
	// returns the command to run.
	build func(ctx context.Context, src, out string) ([]string, error)
}

// A Function is a hot function of a program.
type Function struct {
	// Name is what flame graphs show. Its last part, after the last dot, is
	// the value of the label "function" of the program's metric
	// load_function_cpu_seconds_total.
	Name string
	// Callers are functions above it, outermost first. Other functions may be between
	// them, and those of the runtime and the C library above.
	Callers []string
}

// Metric returns the value of the label "function".
func (f Function) Metric() string {
	return f.Name[strings.LastIndex(f.Name, ".")+1:]
}

// Programs returns all load programs, the order service first.
func Programs() []Program {
	return []Program{
		{
			Service: "order", Language: "Go", Address: "127.0.0.1:4051",
			Hot: []Function{
				{Name: "main.validateOrder", Callers: []string{"runtime.goexit", "net/http.(*conn).serve", "main.(*server).handleOrder"}},
				{Name: "main.priceOrder", Callers: []string{"runtime.goexit", "net/http.(*conn).serve", "main.(*server).handleOrder"}},
			},
			needs: []string{"go"},
			build: func(ctx context.Context, src, out string) ([]string, error) {
				return []string{out}, run(ctx, src, "go", "build", "-o", out, ".")
			},
		},
		{
			Service: "invoice", Language: "Python", Address: "127.0.0.1:4052",
			Hot: []Function{
				{Name: "compute_tax", Callers: []string{"Thread._bootstrap", "Thread._bootstrap_inner", "Invoices.run", "Invoices.write_invoice"}},
				{Name: "format_lines", Callers: []string{"Thread._bootstrap", "Thread._bootstrap_inner", "Invoices.run", "Invoices.write_invoice"}},
			},
			needs: []string{"python3"},
			build: func(_ context.Context, src, _ string) ([]string, error) {
				return []string{"python3", filepath.Join(src, "invoice.py")}, nil
			},
		},
		{
			Service: "render", Language: "Node", Address: "127.0.0.1:4053",
			Hot: []Function{
				{Name: "renderTemplate", Callers: []string{"processTimers", "listOnTimeout", "work", "renderPage"}},
				{Name: "minify", Callers: []string{"processTimers", "listOnTimeout", "work", "renderPage"}},
			},
			needs: []string{"node"},
			build: func(_ context.Context, src, _ string) ([]string, error) {
				return []string{"node", filepath.Join(src, "render.js")}, nil
			},
		},
		{
			Service: "search", Language: "Java", Address: "127.0.0.1:4054",
			Hot: []Function{
				{Name: "Search.scoreDocuments", Callers: []string{"java.lang.Thread.run", "Search.work", "Search.answerQuery"}},
				{Name: "Search.highlight", Callers: []string{"java.lang.Thread.run", "Search.work", "Search.answerQuery"}},
			},
			needs: []string{"java", "javac"},
			build: func(ctx context.Context, src, out string) ([]string, error) {
				return []string{"java", "-Xmx64m", "-cp", out, "Search"},
					run(ctx, src, "javac", "-d", out, "Search.java")
			},
		},
		{
			Service: "thumbnail", Language: "C", Address: "127.0.0.1:4055",
			Hot: []Function{
				{Name: "scale_rows", Callers: []string{"work", "make_thumbnail"}},
				{Name: "sharpen", Callers: []string{"work", "make_thumbnail"}},
			},
			needs: []string{"cc"},
			build: func(ctx context.Context, src, out string) ([]string, error) {
				return []string{out},
					run(ctx, src, "cc", "-O2", "-fomit-frame-pointer", "-pthread", "-o", out, "thumbnail.c")
			},
		},
	}
}

// Missing names the first command that the program needs and this machine does
// not have, or "".
func (p Program) Missing() string {
	for _, command := range p.needs {
		if _, err := exec.LookPath(command); err != nil {
			return command
		}
	}
	return ""
}

// Build builds the program of the repository at root into the folder dir and
// describes how to start it so that it serves /metrics on address. Further
// arguments are the program's own flags.
func (p Program) Build(ctx context.Context, root, dir, address string, args ...string) (proc.Spec, error) {
	src, err := filepath.Abs(filepath.Join(root, "e2e", "load", p.Service))
	if err != nil {
		return proc.Spec{}, fmt.Errorf("build load program %s: %w", p.Service, err)
	}
	out, err := filepath.Abs(filepath.Join(dir, p.Service))
	if err != nil {
		return proc.Spec{}, fmt.Errorf("build load program %s: %w", p.Service, err)
	}
	command, err := p.build(ctx, src, out)
	if err != nil {
		return proc.Spec{}, fmt.Errorf("build load program %s: %w", p.Service, err)
	}
	return proc.Spec{
		Name: p.Service,
		Args: append(append(command, "--listen", address), args...),
		Env:  []string{"OTEL_SERVICE_NAME=" + p.Service},
		Log:  out + ".log",
	}, nil
}

// run runs a build step in dir; the error holds what it printed.
func run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", name, err), errors.New(strings.TrimSpace(string(out))))
	}
	return nil
}
