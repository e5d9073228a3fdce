package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"

	"github.com/flameline/flameline/collector/doctor"
	"github.com/flameline/flameline/collector/record"
	"github.com/flameline/flameline/pkg/profile"
)

// doctorCommand is `flameline doctor` and its flags.
type doctorCommand struct {
	clause *kingpin.CmdClause
	pid    int
	sample seconds
	json   bool
}

func newDoctorCommand(app *kingpin.Application) *doctorCommand {
	d := &doctorCommand{clause: app.Command("doctor", "Say what of this system, or of a process, works for profiling, what does not, and what to change. "+
		"Exit codes: 0 all that is needed works, 1 something does not, 2 invalid arguments.")}
	d.clause.Flag("pid", "Look at a process: its permissions, interpreters, symbols and unwind tables.").Short('p').PlaceHolder("PID").IntVar(&d.pid)
	d.clause.Flag("sample", "With --pid: sample the process for a time, such as 5s, and say which share of the samples lacks names or callers, and why.").PlaceHolder("TIME").SetValue(&d.sample)
	d.clause.Flag("json", "Write JSON.").BoolVar(&d.json)
	return d
}

func (d *doctorCommand) run(ctx context.Context, stdout, _ io.Writer) error {
	var r *doctor.Report
	switch {
	case d.pid < 0:
		return &exitError{exitUsage, fmt.Errorf("--pid: %d is not a process ID", d.pid)}
	case d.sample > 0 && d.pid == 0:
		return &exitError{exitUsage, errors.New("--sample: needs the --pid of a process")}
	case d.pid > 0:
		r = doctor.Process(d.pid)
		if d.sample > 0 && r.Works {
			if err := d.sampleInto(ctx, r); err != nil {
				return err
			}
		}
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

// sampleInto samples the process and adds what its samples lack.
func (d *doctorCommand) sampleInto(ctx context.Context, r *doctor.Report) error {
	rec, _, err := record.Run(ctx, record.Options{
		SessionOptions: record.SessionOptions{
			Selection: record.Selection{PIDs: []int{d.pid}}, FrequencyHz: recordFrequency,
			Logger: promslog.New(&promslog.Config{Writer: io.Discard}),
		},
		Duration: time.Duration(d.sample),
	})
	switch {
	case errors.Is(err, record.ErrNoSamples):
		r.Sampled(0, profile.Gaps{})
		return nil
	case err != nil:
		return samplingError(err)
	}
	r.Sampled(rec.Samples, rec.Tree(record.SampleCount).Gaps())
	return nil
}
