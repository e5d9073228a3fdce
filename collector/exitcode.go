package main

import (
	"errors"

	"github.com/flameline/flameline/collector/tools"
)

// Exit codes beside 0 and 1 (the command failed).
const (
	exitUsage        = 2   // invalid arguments
	exitNoSamples    = 3   // nothing was sampled, and nothing written
	exitNotPermitted = 4   // sampling is not possible here
	exitOwnFault     = 125 // of `record -- COMMAND`: what failed is not the command
	exitCannotRun    = 126 // of `record -- COMMAND`: the command cannot be executed
	exitNotFound     = 127 // of `record -- COMMAND`: there is no such command
)

// An exitError ends the program with a code of its own. Err may be nil: then nothing
// is said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// codeOf returns the exit code of an error, and whether there is a message to show.
func codeOf(err error) (code int, message bool) {
	var e *exitError
	if errors.As(err, &e) {
		return e.code, e.err != nil
	}
	var usage *tools.UsageError
	if errors.As(err, &usage) {
		return exitUsage, true
	}
	return 1, true
}
