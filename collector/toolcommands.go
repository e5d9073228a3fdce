package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/mattn/go-isatty"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/fold"
	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/collector/render"
	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/tools"
	"github.com/flameline/flameline/collector/web"
	"github.com/flameline/flameline/pkg/timeexpr"
)

// toolCommands are the commands for files: `flameline convert`, `diff`, `import` and
// `export`, and their flags.
type toolCommands struct {
	convert, diff, imports, export *kingpin.CmdClause

	in, out, to, title, kind string
	read                     tools.ReadOptions
	all                      bool

	sides                   [2]string
	from, until             string
	rightFrom, rightUntil   string
	server, httpConfig      string
	normalize, perSecond    bool
	elided                  bool
	top                     int
	files, labels           []string
	service, storePath      string
	importFrom, importUntil string
	sampleRate              int64
	query                   string
	stdin                   io.Reader
}

func newToolCommands(app *kingpin.Application) *toolCommands {
	t := &toolCommands{stdin: os.Stdin}
	formats := strings.Join(render.Formats, ", ")

	t.convert = app.Command("convert", "Write a profile of any format in another format. Needs no server.")
	t.convert.Arg("file", "File to read; - is the standard input, which is the default.").Default("-").StringVar(&t.in)
	t.outputFlags(t.convert, formats+"; by default the extension decides, else folded", "the file's name")
	t.inputFlags(t.convert)
	perf := &t.read.Perf
	for _, f := range []struct {
		name, help string
		to         *bool
	}{
		{"pid", "For the output of perf script: append the process ID to the command.", &perf.PID},
		{"tid", "For the output of perf script: append process and thread ID to the command.", &perf.TID},
		{"kernel", "For the output of perf script: append _[k] to functions of the kernel.", &perf.Kernel},
		{"jit", "For the output of perf script: append _[j] to functions of a just-in-time compiler.", &perf.JIT},
		{"addrs", "For the output of perf script: show the addresses of functions without a symbol.", &perf.Addrs},
	} {
		t.convert.Flag(f.name, f.help).BoolVar(f.to)
	}
	t.convert.Flag("all", "For the output of perf script: --kernel and --jit.").BoolVar(&t.all)
	t.convert.Flag("event-filter", "For the output of perf script: the event whose samples are read; that of the first sample by default.").
		PlaceHolder("EVENT").StringVar(&perf.Event)
	t.convert.Flag("max-calls", "For the output of perf script: bound of the different calls in stacktraces, each of which takes up to 80 bytes of memory.").
		Default(fmt.Sprint(fold.DefaultMaxCalls)).IntVar(&perf.MaxCalls)

	t.diff = app.Command("diff", "Compare two profiles: files, or selectors of a server, such as 'process_cpu:cpu:nanoseconds:cpu:nanoseconds{service_name=\"cart\"}'.")
	t.diff.Arg("left", "The profile before.").Required().StringVar(&t.sides[0])
	t.diff.Arg("right", "The profile after.").Required().StringVar(&t.sides[1])
	t.outputFlags(t.diff, strings.Join(tools.DiffOutputs, ", ")+"; table on a terminal, else folded with two numbers, which flamegraph.pl draws", "the names of the files, or the selectors")
	t.inputFlags(t.diff)
	t.serverFlags(t.diff)
	t.diff.Flag("right-from", "Start of the right selector's range; --from by default.").PlaceHolder("TIME").StringVar(&t.rightFrom)
	t.diff.Flag("right-until", "End of the right selector's range; --until by default.").PlaceHolder("TIME").StringVar(&t.rightUntil)
	t.diff.Flag("normalize", "Scale the left profile to the total of the right one, to compare shares.").Short('n').BoolVar(&t.normalize)
	t.diff.Flag("per-second", "Scale the left profile to the duration of the right one, to compare rates.").BoolVar(&t.perSecond)
	t.diff.Flag("elided", "Show only the calls that are in the left profile and not in the right one.").BoolVar(&t.elided)
	t.diff.Flag("top", "Number of functions in the table; 0 for all.").Default("40").IntVar(&t.top)

	t.imports = app.Command("import", "Store files on a server or in a store.")
	t.imports.Arg("file", "Files to read, of any format that convert reads; - is the standard input.").Required().StringsVar(&t.files)
	t.imports.Flag("server", "Address of the server.").Default("http://" + config.Default().Web.ListenAddress).StringVar(&t.server)
	t.imports.Flag("http.config.file", "File with credentials and TLS settings, with the keys of Prometheus' HTTP client configuration.").
		PlaceHolder("FILE").StringVar(&t.httpConfig)
	t.imports.Flag("storage.path", "Store the profiles in the store in this directory, which no service may have open, instead of sending them to a server.").
		PlaceHolder("DIR").StringVar(&t.storePath)
	t.imports.Flag("service", "Label service_name; by default the file's name up to its first dot.").PlaceHolder("NAME").StringVar(&t.service)
	t.imports.Flag("label", "Label of the profiles, name=value; can be given several times.").Short('l').PlaceHolder("NAME=VALUE").StringsVar(&t.labels)
	t.imports.Flag("from", "When the profile begins, for files that do not say, such as now-1h.").PlaceHolder("TIME").StringVar(&t.importFrom)
	t.imports.Flag("until", "When the profile ends, for files that do not say; now by default.").PlaceHolder("TIME").StringVar(&t.importUntil)
	t.imports.Flag("sample-rate", "Samples per second, for files that count samples of CPU time: folded stacks, and perf script without periods.").Default(fmt.Sprint(ingest.DefaultSampleRate)).Int64Var(&t.sampleRate)
	t.inputFlags(t.imports)

	t.export = app.Command("export", "Write the profiles of a selector on a server, merged, to a file.")
	t.export.Arg("selector", "Profile type and labels, such as 'process_cpu:cpu:nanoseconds:cpu:nanoseconds{service_name=\"cart\"}'.").Required().StringVar(&t.query)
	t.outputFlags(t.export, formats+"; by default the extension decides, else folded", "the selector")
	t.serverFlags(t.export)
	return t
}

// outputFlags declares the flags about what is written. title is the default title.
func (t *toolCommands) outputFlags(c *kingpin.CmdClause, formats, title string) {
	c.Flag("output", "File to write; its extension says the format, such as .svg, .html, .folded, .pb.gz (pprof). The standard output by default.").Short('o').PlaceHolder("FILE").StringVar(&t.out)
	c.Flag("to", "Format to write: "+formats+".").PlaceHolder("FORMAT").StringVar(&t.to)
	c.Flag("title", "Title of pictures and pages; by default "+title+".").PlaceHolder("TEXT").StringVar(&t.title)
}

func (t *toolCommands) inputFlags(c *kingpin.CmdClause) {
	c.Flag("input", "Format to read: "+strings.Join(tools.Inputs, ", ")+" (perf is the text of perf script); by default the file's content decides.").PlaceHolder("FORMAT").StringVar(&t.read.Input)
	if c != t.imports {
		byDefault := "by default the one that go tool pprof shows."
		if c == t.diff {
			byDefault = "by default the one that go tool pprof shows, or one that both sides have."
		}
		c.Flag("type", "Sample type to show, where a file has several, such as cpu or memory:alloc_space; "+byDefault).PlaceHolder("TYPE").StringVar(&t.kind)
	}
}

func (t *toolCommands) serverFlags(c *kingpin.CmdClause) {
	c.Flag("server", "Address of the server that answers selectors.").Default("http://" + config.Default().Web.ListenAddress).StringVar(&t.server)
	c.Flag("http.config.file", "File with credentials and TLS settings, with the keys of Prometheus' HTTP client configuration.").
		PlaceHolder("FILE").StringVar(&t.httpConfig)
	c.Flag("from", "Start of a selector's range: now-1h, a date, a Unix time.").Default("now-1h").StringVar(&t.from)
	c.Flag("until", "End of a selector's range.").Default("now").StringVar(&t.until)
}

// command returns the function that runs a command, nil if the command is not one of
// these.
func (t *toolCommands) command(name string) func(ctx context.Context, stdout, stderr io.Writer) error {
	switch name {
	case t.convert.FullCommand():
		return t.runConvert
	case t.diff.FullCommand():
		return t.runDiff
	case t.imports.FullCommand():
		return t.runImport
	case t.export.FullCommand():
		return t.runExport
	}
	return nil
}

func (t *toolCommands) runConvert(ctx context.Context, stdout, stderr io.Writer) error {
	read, end := t.reading(stderr)
	defer end()
	if f, ok := t.stdin.(*os.File); ok && t.in == "-" && isatty.IsTerminal(f.Fd()) {
		return &tools.UsageError{Err: errors.New("convert: no file, and the standard input is a terminal")}
	}
	p := &read.Perf
	if t.all {
		p.Kernel, p.JIT = true, true
	}
	read.PerfGiven = p.PID || p.TID || p.Kernel || p.JIT || p.Addrs || p.Event != ""
	return tools.Convert(ctx, tools.ConvertOptions{
		Read: read, In: t.in, Type: t.kind, Title: t.title, Out: t.output(stdout), Note: noteTo(stderr),
	})
}

func (t *toolCommands) runDiff(ctx context.Context, stdout, stderr io.Writer) error {
	read, end := t.reading(stderr)
	defer end()
	o := tools.DiffOptions{
		Read: read, Sides: t.sides, Type: t.kind, Title: t.title, Normalize: t.normalize, PerSecond: t.perSecond,
		Elided: t.elided, Top: t.top, Out: t.output(stdout), Note: noteTo(stderr),
	}
	var err error
	if o.Server, err = tools.NewServer(t.server, t.httpConfig); err != nil {
		return err
	}
	now := time.Now()
	if o.Ranges[0], err = tools.ParseRange(t.from, t.until, now); err != nil {
		return err
	}
	rightFrom, rightUntil := t.rightFrom, t.rightUntil
	if rightFrom == "" {
		rightFrom = t.from
	}
	if rightUntil == "" {
		rightUntil = t.until
	}
	if o.Ranges[1], err = tools.ParseRange(rightFrom, rightUntil, now); err != nil {
		return fmt.Errorf("right: %w", err)
	}
	return tools.Diff(ctx, o)
}

func (t *toolCommands) runImport(ctx context.Context, _, stderr io.Writer) (err error) {
	if t.sampleRate < 1 {
		return &exitError{exitUsage, fmt.Errorf("--sample-rate: %d is not a number of samples per second", t.sampleRate)}
	}
	read, end := t.reading(stderr)
	defer end()
	o := tools.ImportOptions{
		Read: read, Files: t.files, Service: t.service, SampleRate: t.sampleRate, Note: noteTo(stderr),
		Done: func(text string) { fmt.Fprintf(stderr, "%s\n", text) },
	}
	if o.Labels, err = tools.ParseLabels(t.labels); err != nil {
		return err
	}
	now := time.Now()
	for _, f := range []struct {
		name, text string
		end        bool
		to         *time.Time
	}{{"--from", t.importFrom, false, &o.From}, {"--until", t.importUntil, true, &o.Until}} {
		if f.text == "" {
			continue
		}
		if *f.to, err = timeexpr.Parse(f.text, now, f.end); err != nil {
			return &tools.UsageError{Err: fmt.Errorf("%s: %w", f.name, err)}
		}
	}
	if t.storePath == "" {
		if o.Server, err = tools.NewServer(t.server, t.httpConfig); err != nil {
			return err
		}
		return tools.Import(ctx, o)
	}
	c := config.Default()
	c.Storage.Path = t.storePath
	logger := promslog.New(&promslog.Config{Writer: stderr, Level: warnings()})
	srv := server.New(server.Options{Logger: logger, Limits: serverLimits(c)})
	_, _, closeStore, err := openStore(c, srv, &keptSymbols{}, logger, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	o.Server = tools.NewLocalServer(web.InProcess(srv))
	return errors.Join(tools.Import(ctx, o), closeStore())
}

func (t *toolCommands) runExport(ctx context.Context, stdout, _ io.Writer) error {
	o := tools.ExportOptions{Query: t.query, Title: t.title, Out: t.output(stdout)}
	var err error
	if o.Server, err = tools.NewServer(t.server, t.httpConfig); err != nil {
		return err
	}
	if o.Range, err = tools.ParseRange(t.from, t.until, time.Now()); err != nil {
		return err
	}
	return tools.Export(ctx, o)
}

func (t *toolCommands) output(stdout io.Writer) tools.Output {
	return tools.Output{File: t.out, To: t.to, Stdout: stdout, Terminal: isTerminal(stdout)}
}

// reading returns how files are read, and a function to call at the end. What was read
// is shown on a terminal, once a second.
func (t *toolCommands) reading(stderr io.Writer) (tools.ReadOptions, func()) {
	// kingpin gives an argument that is a dash as an empty one.
	for _, name := range append(pointers(t.files), &t.in, &t.sides[0], &t.sides[1]) {
		if *name == "" {
			*name = "-"
		}
	}
	o := t.read
	o.Stdin = t.stdin
	if !isTerminal(stderr) {
		return o, func() {}
	}
	shown := time.Now()
	said := false
	o.Progress = func(bytes int64) {
		if now := time.Now(); now.Sub(shown) >= time.Second {
			shown, said = now, true
			fmt.Fprintf(stderr, "\rread %.1f MiB ", float64(bytes)/(1<<20))
		}
	}
	return o, func() {
		if said {
			fmt.Fprintf(stderr, "\r%30s\r", "")
		}
	}
}

func pointers(s []string) (out []*string) {
	for i := range s {
		out = append(out, &s[i])
	}
	return out
}

func noteTo(stderr io.Writer) func(string) {
	return func(text string) { fmt.Fprintf(stderr, "flameline: note: %s\n", text) }
}

func warnings() *promslog.Level {
	l := promslog.NewLevel()
	_ = l.Set("warn") // a known level
	return l
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
