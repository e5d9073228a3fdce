package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kingpin/v2"

	"github.com/flameline/flameline/collector/doctor"
)

// doctorCommand is `flameline doctor` and its flags.
type doctorCommand struct {
	clause *kingpin.CmdClause
	pid    int
	json   bool
}

func newDoctorCommand(app *kingpin.Application) *doctorCommand {
	d := &doctorCommand{clause: app.Command("doctor", "Say what of this system, or of a process, works for profiling, what does not, and what to change. "+
		"Exit codes: 0 all that is needed works, 1 something does not, 2 invalid arguments.")}
	d.clause.Flag("pid", "Look at a process: its permissions, interpreters, symbols and unwind tables.").Short('p').PlaceHolder("PID").IntVar(&d.pid)
	d.clause.Flag("json", "Write JSON.").BoolVar(&d.json)
	return d
}

func (d *doctorCommand) run(_ context.Context, stdout, _ io.Writer) error {
	var r *doctor.Report
	switch {
	case d.pid < 0:
		return &exitError{exitUsage, fmt.Errorf("--pid: %d is not a process ID", d.pid)}
	case d.pid > 0:
		r = doctor.Process(d.pid)
	default:
		r = doctor.System()
	}
	write := r.Text
	if d.json {
		write = r.JSON
	}
	if err := write(stdout); err != nil {
		return err
	}
	if failed := r.Failed(); len(failed) > 0 {
		return fmt.Errorf("doctor: does not work: %s", strings.Join(failed, ", "))
	}
	return nil
}
