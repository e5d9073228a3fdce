package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/flameline/flameline/collector/capture"
	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/render"
	"github.com/flameline/flameline/collector/tools"
	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
)

// captureCommand is `flameline capture` and its flags.
type captureCommand struct {
	clause *kingpin.CmdClause

	selector, event    string
	server, httpConfig string
	duration           time.Duration
	frequency          int
	out, to, title     string
	quiet              bool
}

func newCaptureCommand(app *kingpin.Application) *captureCommand {
	c := &captureCommand{clause: app.Command("capture", "Have a server and its agents sample the processes with some labels harder for a while.")}
	f := c.clause
	f.Arg("selector", "Labels of processes, such as '{service_name=\"order\"}'; '{}' is all processes.").Required().StringVar(&c.selector)
	f.Flag("duration", "How long: up to 10m.").Short('d').Default(recordTime.String()).DurationVar(&c.duration)
	f.Flag("frequency", "CPU samples per second and CPU: up to 1000.").Short('F').Default(fmt.Sprint(capture.DefaultFrequency)).IntVar(&c.frequency)
	f.Flag("event", "What is sampled: "+strings.Join(tools.CaptureEvents(), ", ")+".").Short('e').Default("cpu").StringVar(&c.event)
	f.Flag("server", "Address of the server.").Default("http://" + config.Default().Web.ListenAddress).StringVar(&c.server)
	f.Flag("http.config.file", "File with credentials and TLS settings, with the keys of Prometheus' HTTP client configuration.").
		PlaceHolder("FILE").StringVar(&c.httpConfig)
	f.Flag("output", "File to write the profile to as well; - is the standard output.").Short('o').PlaceHolder("FILE").StringVar(&c.out)
	f.Flag("to", "Format to write: "+strings.Join(render.Formats, ", ")+"; by default the extension decides.").PlaceHolder("FORMAT").StringVar(&c.to)
	f.Flag("title", "Title of pictures and pages; by default the selector.").PlaceHolder("TEXT").StringVar(&c.title)
	f.Flag("quiet", "Say nothing but errors and the link.").Short('q').BoolVar(&c.quiet)
	return c
}

func (c *captureCommand) run(ctx context.Context, stdout, stderr io.Writer) error {
	if c.duration < capture.MinDuration || c.duration > capture.MaxDuration {
		return &tools.UsageError{Err: fmt.Errorf("-d: %v is not within %v and %v", c.duration, capture.MinDuration, capture.MaxDuration)}
	}
	if c.frequency < 1 || c.frequency > capture.MaxFrequency {
		return &tools.UsageError{Err: fmt.Errorf("-F: %d is not within 1 and %d samples per second", c.frequency, capture.MaxFrequency)}
	}
	status := newStatusLine(stderr, c.quiet)
	o := tools.CaptureOptions{
		Selector: c.selector, Duration: c.duration, Frequency: c.frequency, Event: c.event, Title: c.title,
	}
	if c.out != "" || c.to != "" {
		o.Out = &tools.Output{File: c.out, To: c.to, Stdout: stdout, Terminal: isTerminal(stdout)}
	}
	var err error
	if o.Server, err = tools.NewServer(c.server, c.httpConfig); err != nil {
		return err
	}
	said := false
	o.Progress = func(p *flamelinev1.Capture) {
		if !said {
			status.say(fmt.Sprintf("%s: %s; Ctrl-C ends it", p.Id, matching(p)))
			said = true
		}
		status.show(captureText(p, c.duration))
	}
	done, err := tools.Capture(ctx, o)
	status.clear()
	if err != nil {
		return err
	}
	for _, n := range done.Nodes {
		status.say(nodeText(n))
	}
	links := stdout
	if o.Out != nil && (c.out == "" || c.out == "-") {
		links = stderr // the standard output has the profile
	} else if o.Out != nil {
		status.say("wrote " + c.out)
	}
	for _, l := range done.Links {
		fmt.Fprintln(links, l)
	}
	return nil
}

// matching says who does a capture.
func matching(c *flamelinev1.Capture) string {
	processes, agents := int64(0), int64(0)
	for _, n := range c.Nodes {
		processes += n.Processes
		if n.Agent {
			agents++
		}
	}
	text := counted(processes, "process") + " of the server's machine"
	if agents > 0 {
		text += ", and " + counted(agents, "agent") + " that will look for theirs"
	}
	return text
}

// captureText is what a terminal shows meanwhile.
func captureText(c *flamelinev1.Capture, of time.Duration) string {
	var sum, processes, nodes int64
	began := int64(0)
	for _, n := range c.Nodes {
		processes += n.Processes
		if n.Started == 0 {
			continue
		}
		nodes++
		if began == 0 || n.Started < began {
			began = n.Started
		}
		for _, k := range n.Counts {
			sum += k.Count
		}
	}
	if began == 0 {
		return "loading the unwinder into the kernel"
	}
	elapsed := min(max(time.Since(time.UnixMilli(began)), 0), of)
	return fmt.Sprintf("capturing %s of %s: %s, %s on %s", shortTime(elapsed), shortTime(of), counted(sum, "sample"), counted(processes, "process"), counted(nodes, "node"))
}

// nodeText says how a capture went on a machine.
func nodeText(n *flamelinev1.CaptureNode) string {
	what := map[flamelinev1.CaptureKind]string{
		flamelinev1.CaptureKind_CAPTURE_KIND_OFF_CPU:     "wait",
		flamelinev1.CaptureKind_CAPTURE_KIND_PAGE_FAULTS: "page",
		flamelinev1.CaptureKind_CAPTURE_KIND_ALLOC:       "allocated object",
	}
	text := fmt.Sprintf("%s: %s", tools.Printable(n.Node), strings.ReplaceAll(capture.StateName(n.State), "_", " "))
	if n.Reason != "" {
		text += ": " + tools.Printable(n.Reason)
	}
	for i, k := range n.Counts {
		sep := ", "
		if i == 0 {
			sep = "; "
		}
		name := what[k.Kind]
		if name == "" {
			name = "CPU sample"
		}
		text += sep + counted(k.Count, name)
	}
	if n.Processes > 0 {
		text += " of " + counted(n.Processes, "process")
	}
	return text
}
