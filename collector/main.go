// Command flameline is the collector service and its tools. This package
// parses flags and wires the stages together; what they do is theirs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"

	"github.com/flameline/flameline/collector/record"
)

func main() {
	os.Exit(run(untilSignal(), os.Args[1:], os.Stdout, os.Stderr))
}

// untilSignal returns a context that the first SIGINT or SIGTERM ends, which shuts the
// command down. One more, after record.SameSignal, ends the program at once.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		time.Sleep(record.SameSignal)
		signal.Stop(signals)
	}()
	return ctx
}

// run parses the arguments, runs one command and returns the exit code: 2 for invalid
// arguments, 1 if the command failed, or the code of an exitError.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if version.Version == "" {
		version.Version = moduleVersion()
	}
	app := kingpin.New("flameline", "Continuous profiling: sample every process with eBPF, store the profiles, serve Pyroscope's API.")
	app.HelpFlag.Short('h')
	app.Version(version.Print("flameline"))
	app.UsageWriter(stdout)
	serve := newServeCommand(app)
	store := newStoreCommands(app)
	files := newToolCommands(app)
	symbols := newSymbolsCommands(app)
	live := newLiveCommands(app)

	// --help and --version end the program in here.
	var command string
	err := live.record.misplaced(args)
	if err == nil {
		command, err = app.Parse(args)
	}
	if err != nil {
		var number *strconv.NumError
		if errors.As(err, &number) {
			err = fmt.Errorf("%q is not a number that is possible here", number.Num)
		}
		_, _ = fmt.Fprintf(stderr, "flameline: %v; try --help\n", err)
		return 2
	}
	if run := store.command(command); run != nil {
		err = run(ctx, stdout, stderr)
	} else if run := files.command(command); run != nil {
		err = run(ctx, stdout, stderr)
	} else if run := symbols.command(command); run != nil {
		err = run(ctx, stdout, stderr)
	} else if run := live.command(command); run != nil {
		err = run(ctx, stdout, stderr)
	} else {
		err = serve.run(ctx, stderr)
	}
	if err == nil {
		return 0
	}
	code, message := codeOf(err)
	if message {
		_, _ = fmt.Fprintf(stderr, "flameline: %v\n", err)
	}
	return code
}

// moduleVersion returns the module's version, for builds such as go install's whose
// linker was not given one.
func moduleVersion() string {
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
		return bi.Main.Version
	}
	return "devel"
}
