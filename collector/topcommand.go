package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"

	"github.com/flameline/flameline/collector/record"
	"github.com/flameline/flameline/collector/sample"
	"github.com/flameline/flameline/collector/top"
	"github.com/flameline/flameline/pkg/profile"
)

// topCommand is `flameline top` and its flags.
type topCommand struct {
	clause *kingpin.CmdClause
	selectionFlags
	every     seconds
	frequency int
	times     int
	once      bool
	rows      int
	order     string
}

func newTopCommand(app *kingpin.Application) *topCommand {
	t := &topCommand{every: seconds(2 * time.Second)}
	t.clause = app.Command("top", "Show which functions use the CPU, of every language: own and total time, on a terminal or as text. Needs Linux and root, or the capabilities that flameline doctor names. "+
		"Exit codes: 0, 1 failed, 2 invalid arguments, 3 no samples, 4 sampling is not possible here.")
	c := t.clause
	t.declare(c, "-p", "All processes, and the kernel; the default.")
	c.Flag("interval", "Time between two updates, such as 2s or 2.").Short('i').PlaceHolder("2s").SetValue(&t.every)
	c.Flag("frequency", "Samples per second and CPU.").Short('F').Default(strconv.Itoa(recordFrequency)).IntVar(&t.frequency)
	c.Flag("iterations", "Print this many updates as text, and end.").Short('n').PlaceHolder("N").IntVar(&t.times)
	c.Flag("once", "The same as -n 1.").BoolVar(&t.once)
	c.Flag("rows", "Functions of each update that is printed as text.").Default("20").IntVar(&t.rows)
	c.Flag("sort", "Order: "+strings.Join(top.Orders, ", ")+" (all: since the beginning).").Default(top.Orders[0]).EnumVar(&t.order, top.Orders...)
	return t
}

// options checks the flags.
func (t *topCommand) options() (o record.SessionOptions, err error) {
	if len(t.lists) == 0 && t.comm == "" && t.container == "" && t.cgroup == "" {
		t.all = true
	}
	if o.Selection, err = t.selection(nil); err != nil {
		return o, err
	}
	o.FrequencyHz = t.frequency
	switch every := time.Duration(t.every); {
	case t.frequency < 1 || t.frequency > sample.MaxFrequency:
		return o, fmt.Errorf("-F: %d is not between 1 and %d samples per second", t.frequency, sample.MaxFrequency)
	case t.times < 0 || t.rows < 1:
		return o, errors.New("-n and --rows: give a number above 0")
	case every < time.Second:
		return o, fmt.Errorf("-i: %v is less than 1s", every)
	}
	if t.once {
		t.times = 1
	}
	return o, nil
}

func (t *topCommand) run(ctx context.Context, stdout, stderr io.Writer) error {
	o, err := t.options()
	if err != nil {
		return &exitError{exitUsage, err}
	}
	// The screen is of the terminal that is the standard output.
	text := t.times > 0 || !isTerminal(stdout)
	status := newStatusLine(stderr, text)
	o.Logger = promslog.New(&promslog.Config{Writer: io.Discard})
	several := !o.Selection.One()
	table := top.NewTable(several)
	status.show("loading the unwinder into the kernel")
	session, err := record.Start(ctx, o, func(ps []profile.Profile) {
		table.Add(ps, func(p profile.Profile) string { return p.Labels.Get(record.LabelComm) })
	})
	status.clear()
	if err != nil {
		return samplingError(err)
	}
	viewCtx, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	go func() {
		select {
		case <-session.Failed():
			failed(errors.New("sampling has ended: the unwinder broke down"))
		case <-viewCtx.Done():
		}
	}()
	view := &top.View{
		Table: table, Title: "flameline top: " + o.Selection.String(), Processes: several,
		Every: time.Duration(t.every), Began: session.Began(), Ended: session.Ended(),
	}
	for i, name := range top.Orders {
		if name == t.order {
			view.Order = top.Order(i)
		}
	}
	shown := errors.New("text")
	if !text {
		if shown = view.Screen(viewCtx); shown != nil {
			fmt.Fprintf(stderr, "flameline: %v: text follows; -n sets how often\n", shown)
		}
	}
	if shown != nil {
		err = view.Batch(viewCtx, stdout, t.times, t.rows)
	}
	if cause := context.Cause(viewCtx); err == nil && ctx.Err() == nil && cause != nil {
		err = cause
	}
	ended := false
	select {
	case <-session.Ended():
		ended = true
	default:
	}
	err = errors.Join(err, session.Close())
	if errors.Is(err, syscall.EPIPE) {
		return nil // whoever read it has read enough
	}
	if ended && err == nil {
		fmt.Fprintf(stderr, "flameline: %s has ended\n", o.Selection)
	}
	return err
}
