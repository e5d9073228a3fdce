package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"

	"github.com/flameline/flameline/collector/record"
	"github.com/flameline/flameline/collector/render"
	"github.com/flameline/flameline/collector/sample"
)

// Defaults of one-shot tools.
const (
	recordTime      = 30 * time.Second
	recordFrequency = 99 // Hz; no multiple of the usual rates of timers
)

// selectionFlags are the flags that choose processes.
type selectionFlags struct {
	comm, container, cgroup string
	lists                   []string
	all, subprocesses       bool
}

// declare adds the flags to a command. whose names what --subprocesses is about, all
// what is said of -a.
func (s *selectionFlags) declare(c *kingpin.CmdClause, whose, all string) {
	c.Flag("pid", "Processes by their numbers, with commas between them.").Short('p').PlaceHolder("PID[,PID]").StringsVar(&s.lists)
	c.Flag("all", all).Short('a').BoolVar(&s.all)
	c.Flag("comm", "Processes whose name (comm of ps) matches a regular expression, also those that begin later.").PlaceHolder("RE").StringVar(&s.comm)
	c.Flag("container", "Processes in the container with this ID, or beginning of an ID.").PlaceHolder("ID").StringVar(&s.container)
	c.Flag("cgroup", "Processes in a control group or below it, such as /system.slice/nginx.service.").PlaceHolder("PATH").StringVar(&s.cgroup)
	c.Flag("subprocesses", "Of "+whose+": their child processes too, and theirs.").BoolVar(&s.subprocesses)
}

// selection reads the flags.
func (s *selectionFlags) selection(command []string) (sel record.Selection, err error) {
	sel = record.Selection{All: s.all, Container: s.container, Command: command, Subprocesses: s.subprocesses}
	if len(s.lists) > 0 {
		if sel.PIDs, err = record.ParsePIDs(s.lists); err != nil {
			return sel, fmt.Errorf("-p: %w", err)
		}
	}
	if s.comm != "" {
		if sel.Comm, err = regexp.Compile(s.comm); err != nil {
			return sel, fmt.Errorf("--comm: %w", err)
		}
	}
	if s.cgroup != "" {
		sel.CGroup = record.CleanCGroup(s.cgroup)
	}
	return sel, sel.Check()
}

// A seconds is a flag's duration, such as 30s, 1m30s, or 30 for seconds. It implements
// kingpin.Value.
type seconds time.Duration

// Set reads a duration.
func (s *seconds) Set(text string) error {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		text = strconv.FormatFloat(n, 'f', -1, 64) + "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a time such as 30s, 1m30s, or 30 for seconds", strings.TrimSuffix(text, "s"))
	}
	*s = seconds(d)
	return nil
}

// String returns the duration.
func (s *seconds) String() string { return time.Duration(*s).String() }

// recordCommand is `flameline record` and its flags.
type recordCommand struct {
	clause *kingpin.CmdClause
	selectionFlags
	duration         seconds
	frequency        int
	event            string
	output, to       string
	outputSet        bool
	include, exclude []string
	threads, quiet   bool
	user             string
	command          []string
}

func newRecordCommand(app *kingpin.Application) *recordCommand {
	r := &recordCommand{clause: app.Command("record", "Sample processes, or a command, and write a flame graph or a profile. Needs no service and no store, but Linux and root, or the capabilities that flameline doctor names. "+
		"Exit codes: 0 recorded, 1 failed, 2 invalid arguments, 3 no samples, 4 sampling is not possible here; with COMMAND its own, or 125 if flameline failed, 126 if it cannot be executed, 127 if there is none.")}
	c := r.clause
	r.declare(c, "-p and COMMAND", "All processes, and the kernel.")
	c.Flag("duration", "How long, such as 30s or 30; by default 30s, or with COMMAND until it ends.").Short('d').PlaceHolder("TIME").SetValue(&r.duration)
	c.Flag("frequency", "Samples per second and CPU.").Short('F').Default(strconv.Itoa(recordFrequency)).IntVar(&r.frequency)
	c.Flag("event", "What is sampled: "+strings.Join(record.Events, ", ")+".").Short('e').Default(record.Events[0]).EnumVar(&r.event, record.Events...)
	c.Flag("output", "File to write; its extension says the format: .svg, .html, .folded, .pb.gz (pprof), .speedscope.json, .json (Firefox Profiler). - is the standard output. "+
		"By default a new .svg in this directory.").Short('o').PlaceHolder("FILE").IsSetByUser(&r.outputSet).StringVar(&r.output)
	c.Flag("to", "Format, if the extension does not say it: "+strings.Join(render.Formats, ", ")+".").PlaceHolder("FORMAT").StringVar(&r.to)
	c.Flag("include", "Keep only stacktraces with a function or file that matches; may be repeated.").PlaceHolder("RE").StringsVar(&r.include)
	c.Flag("exclude", "Leave out stacktraces with a function or file that matches; may be repeated.").PlaceHolder("RE").StringsVar(&r.exclude)
	c.Flag("threads", "Tell threads apart: a frame at the root for each.").BoolVar(&r.threads)
	c.Flag("user", "Who runs COMMAND; by default the user who called sudo.").PlaceHolder("NAME").StringVar(&r.user)
	c.Flag("quiet", "Say nothing but errors.").Short('q').BoolVar(&r.quiet)
	c.Arg("command", "Command to start and to sample until it ends, after --: flameline record -o cpu.svg -- COMMAND ARGUMENTS.").StringsVar(&r.command)
	return r
}

// misplaced returns an error if the arguments of the program have a command with flags
// that is not after --, as in `flameline record sh -c true`: record would take the flags
// of the command for its own.
func (r *recordCommand) misplaced(args []string) error {
	if len(args) == 0 || args[0] != r.clause.FullCommand() {
		return nil
	}
	takesValue := map[string]bool{}
	for _, f := range r.clause.Model().Flags {
		takesValue["--"+f.Name] = !f.IsBoolFlag()
		if f.Short != 0 {
			takesValue["-"+string(f.Short)] = !f.IsBoolFlag()
		}
	}
	command, flag := 0, false // where the command is; whether a flag follows
	for i := 1; i < len(args); i++ {
		switch a := args[i]; {
		case a == "--", a == "--help", a == "-h":
			return nil
		case len(a) < 2 || a[0] != '-':
			if command == 0 {
				command = i
			}
		case command > 0:
			flag = true
		case consumesNext(a, takesValue):
			i++
		}
	}
	if !flag {
		return nil
	}
	own := append(slices.Clone(args[:command]), "--")
	return fmt.Errorf("commands go after --: flameline %s", strings.Join(append(own, args[command:]...), " "))
}

// consumesNext reports whether the next argument is the value of a flag: of --name, or of
// the last letter of -abc.
func consumesNext(flag string, takesValue map[string]bool) bool {
	if strings.HasPrefix(flag, "--") {
		return takesValue[flag]
	}
	for i, letter := range flag[1:] {
		if takesValue["-"+string(letter)] {
			return 1+i+utf8.RuneLen(letter) == len(flag) // else the rest is the value
		}
	}
	return false
}

// options reads the flags, and where to write to.
func (r *recordCommand) options() (o record.Options, out *outputFile, err error) {
	if o.Selection, err = r.selection(r.command); err != nil {
		return o, nil, err
	}
	if r.frequency < 1 || r.frequency > sample.MaxFrequency {
		return o, nil, fmt.Errorf("-F: %d is not between 1 and %d samples per second", r.frequency, sample.MaxFrequency)
	}
	o.FrequencyHz, o.Threads, o.User, o.Event = r.frequency, r.threads, r.user, record.Event(r.event)
	o.Duration = time.Duration(r.duration)
	if o.Duration == 0 && len(r.command) == 0 {
		o.Duration = recordTime
	}
	if r.user != "" && len(r.command) == 0 {
		return o, nil, errors.New("--user goes with a command")
	}
	if o.Include, err = compile("--include", r.include); err != nil {
		return o, nil, err
	}
	if o.Exclude, err = compile("--exclude", r.exclude); err != nil {
		return o, nil, err
	}
	if r.outputSet && r.output == "" {
		r.output = "-" // which kingpin takes for a flag without a name
	}
	out, err = newOutputFile(r.output, r.to)
	return o, out, err
}

func compile(flag string, patterns []string) (res []*regexp.Regexp, err error) {
	for _, p := range patterns {
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		res = append(res, re)
	}
	return res, nil
}

// run records and writes the file.
func (r *recordCommand) run(ctx context.Context, stdout, stderr io.Writer) error {
	o, out, err := r.options()
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if err := out.check(stdout); err != nil {
		return err
	}
	status := newStatusLine(stderr, r.quiet)
	log := &promslog.Config{Writer: status, Level: promslog.NewLevel(), Format: promslog.NewFormat()}
	if err := log.Level.Set("error"); err != nil {
		return err
	}
	o.Logger = promslog.New(log)
	o.Stdin, o.Stdout, o.Stderr = os.Stdin, stdout, stderr
	if out.standard() {
		o.Stdout = stderr // stdout has the profile
	}
	o.Progress = func(p record.Progress) { status.show(progressText(p, o.Duration)) }
	o.Started = func() {
		if status.live() {
			status.show(progressText(record.Progress{}, o.Duration))
		} else {
			status.say(beginText(o))
		}
	}
	status.show("loading the unwinder into the kernel")
	rec, command, err := record.Run(ctx, o)
	status.clear()
	if err == nil {
		err = out.write(stdout, document(rec, o))
	}
	if err == nil {
		for _, text := range remarks(rec, o) {
			status.say(text)
		}
		status.say(fmt.Sprintf("%s of %s in %s: %s", counted(rec.Samples, o.Event.Counts()), rec.Name, shortTime(rec.Duration), out.written()))
	}
	return r.result(command, err)
}

// result returns the error whose exit code is that of the run.
func (r *recordCommand) result(command *record.Command, err error) error {
	var cannot *record.CommandError
	switch {
	case errors.As(err, &cannot) && cannot.NotFound:
		return &exitError{exitNotFound, err}
	case errors.As(err, &cannot):
		return &exitError{exitCannotRun, err}
	case command != nil:
		code := command.Wait()
		if err != nil {
			code = cmp.Or(code, exitOwnFault)
		}
		if code == 0 {
			return nil
		}
		return &exitError{code, err}
	case len(r.command) > 0 && err != nil:
		return &exitError{exitOwnFault, err}
	}
	return samplingError(err)
}

// samplingError gives the usual errors of sampling their exit codes.
func samplingError(err error) error {
	switch {
	case errors.Is(err, record.ErrNoSamples):
		return &exitError{exitNoSamples, err}
	case errors.Is(err, sample.ErrUnsupported):
		return &exitError{exitNotPermitted, fmt.Errorf("%w (flameline doctor checks everything that is needed)", err)}
	}
	return err
}

// beginText says that a recording begins, and when it ends.
func beginText(o record.Options) string {
	text := "recording " + o.Selection.String()
	switch {
	case o.Duration > 0:
		text += " for " + shortTime(o.Duration)
	case len(o.Selection.Command) > 0:
		text += " until it ends"
	}
	return text
}

// progressText is what a terminal shows meanwhile.
func progressText(p record.Progress, of time.Duration) string {
	text := "recording " + shortTime(p.Elapsed)
	if of > 0 {
		text += " of " + shortTime(of)
	}
	text += ": " + counted(p.Samples, "sample")
	if p.Cut > 0 {
		text += fmt.Sprintf(", %s cut", share(p.Cut, p.Samples))
	}
	return text + "; Ctrl-C ends it"
}

// remarks are what a user should know about a recording.
func remarks(rec *record.Recording, o record.Options) (texts []string) {
	if rec.Cut > 0 {
		var reasons []string
		for _, c := range rec.Cuts() {
			reasons = append(reasons, fmt.Sprintf("%s %s", share(c.Samples, rec.Samples), c.Reason))
		}
		texts = append(texts, fmt.Sprintf("stacktraces of %s are cut: %s", share(rec.Cut, rec.Samples), strings.Join(reasons, ", ")))
	}
	if unnamed := rec.Unnamed(); unnamed*5 > rec.Samples {
		hint := "flameline doctor --pid PID says why"
		if len(o.Selection.PIDs) == 1 {
			hint = fmt.Sprintf("flameline doctor --pid %d says why", o.Selection.PIDs[0])
		}
		texts = append(texts, fmt.Sprintf("%s were in functions without a name; %s", share(unnamed, rec.Samples), hint))
	}
	if rec.LeftOut > 0 {
		texts = append(texts, fmt.Sprintf("--include and --exclude left out %s", counted(rec.LeftOut, "sample")))
	}
	if rec.Beyond > 0 {
		texts = append(texts, fmt.Sprintf("%s had stacktraces beyond the first %d different ones and are under one frame", counted(rec.Beyond, "sample"), record.MaxStacks))
	}
	if rec.Waiting > 0 {
		texts = append(texts, "not in it: "+counted(rec.Waiting, "thread")+" that waited all the time, since before the recording began")
	}
	if rec.Unseen > 0 {
		texts = append(texts, fmt.Sprintf("%s began unseen: some child processes may be missing", counted(rec.Unseen, "process")))
	}
	return texts
}

// document describes a recording for files.
func document(rec *record.Recording, o record.Options) func(render.Format) *render.Document {
	rate := ""
	if o.Event == record.CPU || o.Event == record.Wall { // others are not sampled by time
		rate = fmt.Sprintf(" at %d Hz", o.FrequencyHz)
	}
	return func(f render.Format) *render.Document {
		d := &render.Document{
			Title:    rec.Name + ": " + o.Event.Title(),
			Subtitle: fmt.Sprintf("%s, %s%s, %s", rec.Start.Format("2006-01-02 15:04:05"), shortTime(rec.Duration), rate, counted(rec.Samples, o.Event.Counts())),
			Type:     o.Event.Type(),
			Pprof:    rec.Pprof,
			Start:    rec.Start,
			Duration: rec.Duration,
		}
		which := record.SampleValue
		if f == render.Folded && o.Event == record.CPU {
			// Scripts that read folded stacks take numbers of samples.
			which = record.SampleCount
			d.Type.SampleType, d.Type.SampleUnit = "samples", "count"
		}
		d.Tree = rec.Tree(which)
		return d
	}
}
