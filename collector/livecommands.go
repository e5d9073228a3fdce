package main

import (
	"context"
	"io"

	"github.com/alecthomas/kingpin/v2"
)

// liveCommands are the one-shot tools that look at what runs: `flameline record`, `top`,
// `doctor`, and `capture`, which has a server do it.
type liveCommands struct {
	record  *recordCommand
	top     *topCommand
	doctor  *doctorCommand
	capture *captureCommand
}

func newLiveCommands(app *kingpin.Application) *liveCommands {
	return &liveCommands{newRecordCommand(app), newTopCommand(app), newDoctorCommand(app), newCaptureCommand(app)}
}

// command returns the function that runs a command, nil if the command is not one of
// these.
func (l *liveCommands) command(name string) func(ctx context.Context, stdout, stderr io.Writer) error {
	switch name {
	case l.record.clause.FullCommand():
		return l.record.run
	case l.top.clause.FullCommand():
		return l.top.run
	case l.doctor.clause.FullCommand():
		return l.doctor.run
	case l.capture.clause.FullCommand():
		return l.capture.run
	}
	return nil
}
