//go:build linux

// Compare compares Flameline with another server that speaks Pyroscope's API: in one
// run, with the same profiles and the same queries, to both servers in turn, so that
// other load on the machine affects both. It prints Markdown tables and writes them and
// JSON to files.
//
// Usage, with an empty server that was started for it:
//
//	go run ./e2e/compare -peer http://127.0.0.1:4041 -peer-pid PID -peer-data DIR
//
// Without -url it starts bin/flameline on a directory of its own. CPU, memory and page
// cache are read from Linux's /proc, of servers on this machine.
//
// Building and configuring the other server is left to the caller.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/flameline/flameline/e2e/compare/dataset"
)

// options are the values of the flags.
type options struct {
	data          string // folder; "" generates
	generate      dataset.Options
	binary        string
	config        string
	ours, peer    target
	concurrency   int
	slices        int
	warmUp, runs  int
	coldRuns      int
	settle        time.Duration
	settleMax     time.Duration
	compressed    bool
	replicate     bool
	replicateDays int
	replicateStep time.Duration
	out           string
	progress      io.Writer
}

// target is where a server is, and what of it can be measured. Only url is
// needed, or restart in place of pid.
type target struct {
	name    string
	url     string
	tenant  string // X-Scope-OrgID
	pid     int
	data    string // directory
	restart string // shell command
}

func (o *options) register(f *flag.FlagSet) {
	f.StringVar(&o.data, "data", "", "folder of gzip'd pprof files with a manifest.jsonl, instead of generated profiles")
	f.IntVar(&o.generate.Services, "services", 20, "services to generate")
	f.IntVar(&o.generate.Pods, "pods", 3, "pods of each service to generate")
	f.IntVar(&o.generate.Minutes, "minutes", 60, "minutes to generate, a profile of 10 s after the other")
	f.StringVar(&o.binary, "flameline", "bin/flameline", "program to start as our server")
	f.StringVar(&o.config, "config", "", "configuration file of our server; path, address, retention and eBPF are set by flags")
	f.StringVar(&o.ours.url, "url", "", "our server, if it runs already and holds nothing yet")
	f.IntVar(&o.ours.pid, "pid", 0, "process ID of our server, with -url")
	f.StringVar(&o.ours.data, "our-data", "", "directory of our server, with -url")
	f.StringVar(&o.peer.url, "peer", "", "the other server, such as http://127.0.0.1:4041")
	f.IntVar(&o.peer.pid, "peer-pid", 0, "process ID of the other server")
	f.StringVar(&o.peer.data, "peer-data", "", "directory where the other server keeps its files")
	f.StringVar(&o.peer.name, "peer-name", "peer", "what tables call the other server")
	f.StringVar(&o.peer.tenant, "peer-tenant", "", "tenant, sent to the other server as X-Scope-OrgID")
	f.StringVar(&o.peer.restart, "peer-restart", "", "command that runs the other server in the foreground, for cold queries: -peer-pid gets SIGTERM before; what it started is stopped at the end")
	f.IntVar(&o.concurrency, "concurrency", 32, "pushes at the same time")
	f.IntVar(&o.slices, "slices", 12, "parts of the data set, each of which is pushed to one server and then to the other")
	f.IntVar(&o.warmUp, "warm-up", 2, "runs of a query that are not counted")
	f.IntVar(&o.runs, "runs", 20, "runs of a query that are counted")
	f.IntVar(&o.coldRuns, "cold-runs", 5, "runs of a cold query, each after a restart; 0 for none")
	f.DurationVar(&o.settle, "settle", time.Minute, "after a push, wait until the size on disk is the same for so long")
	f.DurationVar(&o.settleMax, "settle-max", 15*time.Minute, "but no longer than this")
	f.BoolVar(&o.compressed, "compressed", false, "ask for answers in gzip, as a client behind a proxy does")
	f.BoolVar(&o.replicate, "replicate", false, "at last, repeat one service's profiles over -replicate-days and query them")
	f.IntVar(&o.replicateDays, "replicate-days", 30, "days of -replicate")
	f.DurationVar(&o.replicateStep, "replicate-step", time.Minute, "time between two profiles of a pod with -replicate")
	f.StringVar(&o.out, "out", "", "file for the tables, such as results.md; JSON goes beside it, and the runs of both servers for benchstat")
}

// check returns an error for invalid options.
func (o *options) check() error {
	switch {
	case o.peer.url == "":
		return errors.New("-peer is missing: the address of a server that speaks Pyroscope's API")
	case o.concurrency < 1, o.slices < 1, o.runs < 1, o.warmUp < 0, o.coldRuns < 0:
		return errors.New("-concurrency, -slices and -runs must be at least 1, -warm-up and -cold-runs at least 0")
	case o.replicate && (o.replicateDays < 1 || o.replicateStep < time.Second):
		return errors.New("-replicate-days must be at least 1, -replicate-step at least 1s")
	}
	return nil
}

func main() {
	o := options{progress: os.Stderr}
	o.register(flag.CommandLine)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := run(ctx, o)
	if r != nil { // what was measured before an error is worth having
		err = errors.Join(err, write(r, o.out))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// write prints the tables, and writes them and JSON when there is a file.
func write(r *Results, out string) error {
	text := r.Markdown()
	fmt.Print(text)
	if out == "" {
		return nil
	}
	asJSON, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	base := strings.TrimSuffix(out, filepath.Ext(out))
	for _, file := range []struct{ name, text string }{
		{out, text}, {base + ".json", string(asJSON)},
		{base + ".ours.txt", r.Benchmark(ours)}, {base + ".peer.txt", r.Benchmark(peer)},
	} {
		if err := os.WriteFile(file.name, []byte(file.text), 0o644); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
	}
	return nil
}
