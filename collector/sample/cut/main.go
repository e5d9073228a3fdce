//go:build linux && (amd64 || arm64)

// Cut counts stacks that are cut, by program and by reason, for large programs
// of many kinds under load: a browser, Node.js, a JVM, CPython with native
// modules, PostgreSQL and compilers, those that are installed. It prints a
// Markdown table.
//
// Usage, as root:
//
//	go run ./collector/sample/cut [-seconds 20] [-frequency 49] [-python python3] [load...]
package main

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flameline/flameline/collector/sample"
	"github.com/flameline/flameline/collector/symbolize"
	"github.com/flameline/flameline/collector/target"
	"github.com/flameline/flameline/pkg/profile"
)

//go:embed load
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

func main() {
	seconds := flag.Int("seconds", 20, "how long each load runs")
	frequency := flag.Int("frequency", 49, "samples per second and CPU")
	python := flag.String("python", "python3", "the interpreter, which may have NumPy")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *seconds, *frequency, *python, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "cut:", err)
		os.Exit(1)
	}
}

// run samples the loads with these names, or all of them.
func run(ctx context.Context, seconds, frequency int, python string, names []string) (err error) {
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
	counts := &counts{byLoad: map[string]map[string]int64{}}
	symbols := symbolize.New(symbolize.Options{Logger: log})
	defer symbols.Close()
	source, err := sample.Start(ctx, sample.Options{
		Appender: counts, Symbolizer: symbols, Targets: target.New(target.Options{Logger: log}),
		FrequencyHz: frequency, Interval: time.Second, Logger: log, Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	for _, l := range loads {
		if len(names) > 0 && !slices.Contains(names, l.name) {
			continue
		}
		own, err := os.MkdirTemp(dir, "")
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "sh", "-c", l.command)
		cmd.Dir = own
		cmd.Env = append(os.Environ(), fmt.Sprint("S=", seconds), "D="+filepath.Join(dir, "load"), "T="+own,
			"PYTHON="+python, "OTEL_SERVICE_NAME="+l.name)
		if out, err := cmd.CombinedOutput(); err != nil && ctx.Err() == nil && !strings.HasPrefix(l.command, "timeout") {
			fmt.Fprintf(os.Stderr, "%s: %v: %s\n", l.name, err, out[max(0, len(out)-400):])
		}
	}
	if err := source.Close(); err != nil {
		return err
	}
	counts.print()
	return ctx.Err()
}

// counts adds up CPU time by load and by how its stacks end; "" if they are whole.
type counts struct {
	mu     sync.Mutex
	byLoad map[string]map[string]int64
}

// Append counts the stacks of profiles.
func (c *counts) Append(_ context.Context, ps []profile.Profile) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range ps {
		by := c.byLoad[p.Labels.Get("service_name")]
		if by == nil {
			by = map[string]int64{}
			c.byLoad[p.Labels.Get("service_name")] = by
		}
		for _, s := range p.Pprof.Sample {
			lines := p.Pprof.Location[s.LocationId[len(s.LocationId)-1]-1].Line
			root := p.Pprof.StringTable[p.Pprof.Function[lines[len(lines)-1].FunctionId-1].Name]
			reason, cut := strings.CutPrefix(root, "[stack incomplete: ")
			if !cut {
				reason = ""
			}
			by[strings.TrimSuffix(reason, "]")] += s.Value[0]
		}
	}
	return nil
}

// print prints what was counted.
func (c *counts) print() {
	fmt.Println("| program | CPU time | cut | of it for each reason |")
	fmt.Println("|---|---|---|---|")
	for _, l := range loads {
		by := c.byLoad[l.name]
		var total int64
		for _, n := range by {
			total += n
		}
		if total == 0 {
			continue
		}
		percent := func(n int64) string { return fmt.Sprintf("%.2f %%", 100*float64(n)/float64(total)) }
		reasons := slices.SortedFunc(maps.Keys(by), func(a, b string) int { return cmp.Compare(by[b], by[a]) })
		var parts []string
		for _, r := range reasons {
			if r != "" {
				parts = append(parts, r+" "+percent(by[r]))
			}
		}
		fmt.Printf("| %s | %.1f s | %s | %s |\n", l.name, float64(total)/1e9, percent(total-by[""]), strings.Join(parts, ", "))
	}
}
