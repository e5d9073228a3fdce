//go:build linux && (amd64 || arm64)

// Cut counts stacks that are cut, by program and by reason, for large programs
// of many kinds under load: a browser, Node.js, a JVM, CPython with native
// modules, PostgreSQL and compilers, those that are installed. It prints a
// Markdown table. With -matrix it runs small programs of all languages instead,
// whose functions are known, and says which share of the samples has them all.
//
// Usage, as root:
//
//	go run ./collector/sample/cut [-seconds 20] [-frequency 49] [-python python3] [load...]
//	go run ./collector/sample/cut -matrix -seconds 6 -frequency 199 [-pythons DIR] [-v] [row...]
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flameline/flameline/collector/sample"
	"github.com/flameline/flameline/collector/symbolize"
	"github.com/flameline/flameline/collector/target"
)

//go:embed load testdata
var files embed.FS

// loads are shell commands, run with the seconds in $S, files in $D and $T for
// a directory of their own, which is the working directory.
var loads = []struct{ name, command string }{
	{"Chromium", `timeout $S chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir=$T --remote-debugging-port=0 file://$D/page.html`},
	{"Node.js", `node $D/server.js $S`},
	{"Node.js, 3 s each", `for i in $(seq $((S / 3))); do node $D/server.js 3; done`},
	{"JVM", `java $D/Load.java $S`},
	{"CPython", `$PYTHON $D/native.py $S`},
	{"PostgreSQL", `chmod 777 $T; B=$(ls -d /usr/lib/postgresql/*/bin | tail -1); su postgres -c "$B/initdb -D $T/db -A trust && $B/pg_ctl -D $T/db -w -o '-k $T -p 5999 -c listen_addresses=' -l $T/log start && ` +
		`$B/pgbench -h $T -p 5999 -i -s 5 postgres && $B/pgbench -h $T -p 5999 -c 4 -T $S postgres; $B/pg_ctl -D $T/db -m immediate stop"`},
	{"g++", `end=$(($(date +%s) + S)); while [ $(date +%s) -lt $end ]; do timeout $S g++ -std=c++17 -O2 -g -c $D/templates.cc -o out.o; done`},
	{"clang++", `end=$(($(date +%s) + S)); while [ $(date +%s) -lt $end ]; do timeout $S clang++ -std=c++17 -O2 -c $D/templates.cc -o out.o; done`},
	{"gcc, 50 ms each", `end=$(($(date +%s) + S)); while [ $(date +%s) -lt $end ]; do gcc -O2 -c $D/small.c -o out.o; done`},
}

type options struct {
	seconds, frequency int
	python             string
	pythons            string // directory with versions of CPython
	verbose            bool
}

func main() {
	var o options
	flag.IntVar(&o.seconds, "seconds", 20, "how long each load runs")
	flag.IntVar(&o.frequency, "frequency", 49, "samples per second and CPU")
	flag.StringVar(&o.python, "python", "python3", "the interpreter, which may have NumPy")
	flag.StringVar(&o.pythons, "pythons", filepath.Join(os.Getenv("HOME"), ".pyenv/versions"), "directory with versions of CPython, for -matrix")
	asMatrix := flag.Bool("matrix", false, "run the matrix of small programs instead of the loads")
	flag.BoolVar(&o.verbose, "v", false, "print the largest stacks that are not as expected, for -matrix")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	do := run
	if *asMatrix {
		do = runMatrix
	}
	if err := do(ctx, o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "cut:", err)
		os.Exit(1)
	}
}

// run samples the loads with these names, or all of them.
func run(ctx context.Context, o options, names []string) error {
	return sampled(ctx, o, func(dir string, s *stacks) error {
		for _, l := range loads {
			if len(names) > 0 && !slices.Contains(names, l.name) {
				continue
			}
			cmd, err := o.command(ctx, dir, "load", l.name, l.command)
			if err != nil {
				return err
			}
			if out, err := cmd.CombinedOutput(); err != nil && ctx.Err() == nil && !strings.HasPrefix(l.command, "timeout") {
				fmt.Fprintf(os.Stderr, "%s: %v: %s\n", l.name, err, out[max(0, len(out)-400):])
			}
		}
		return nil
	}, (*stacks).print)
}

// sampled calls do with a directory that has the files, while all is sampled, and then
// print.
func sampled(ctx context.Context, o options, do func(dir string, s *stacks) error, print func(s *stacks)) (err error) {
	dir, err := os.MkdirTemp("", "cut")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.CopyFS(dir, files); err != nil {
		return fmt.Errorf("write loads: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s := &stacks{byService: map[string]map[string]int64{}}
	symbols := symbolize.New(symbolize.Options{Logger: log})
	defer symbols.Close()
	source, err := sample.Start(ctx, sample.Options{
		Appender: s, Symbolizer: symbols, Targets: target.New(target.Options{Logger: log}),
		FrequencyHz: o.frequency, Interval: time.Second, Logger: log, Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	if err := errors.Join(do(dir, s), source.Close()); err != nil {
		return err
	}
	print(s)
	return ctx.Err()
}

// command returns a shell command whose processes have a name of their own, in a new
// directory in dir.
func (o options) command(ctx context.Context, dir, files, name, command string) (*exec.Cmd, error) {
	own, err := os.MkdirTemp(dir, "")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Dir = own
	cmd.Env = append(os.Environ(), fmt.Sprint("S=", o.seconds), "D="+filepath.Join(dir, files), "T="+own,
		"PYTHON="+o.python, "OTEL_SERVICE_NAME="+name)
	return cmd, nil
}

// print prints what was counted.
func (s *stacks) print() {
	fmt.Println("| program | CPU time | cut | of it for each reason |")
	fmt.Println("|---|---|---|---|")
	for _, l := range loads {
		var total int64
		cut := map[string]int64{}
		for stack, n := range s.byService[l.name] {
			total += n
			if reason := cutReason(stack); reason != "" {
				cut[reason] += n
			}
		}
		if total > 0 {
			fmt.Printf("| %s | %.1f s | %s | %s |\n", l.name, float64(total)/1e9, percent(sumOf(cut), total), sharesOf(cut, total))
		}
	}
}
