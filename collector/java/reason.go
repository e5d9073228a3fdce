package java

import (
	"errors"
	"fmt"
)

// A Reason names in one word why a JVM is not recorded, as the value of a metric's label.
type Reason string

// Reasons why a JVM is not recorded.
const (
	OptedOut       Reason = "opted_out"       // FLAMELINE_JAVA=off
	AttachDisabled Reason = "attach_disabled" // -XX:+DisableAttachMechanism, or no handler for SIGQUIT
	Permission     Reason = "permission"      // of this process
	OtherProfiler  Reason = "other_profiler"  // somebody else's async-profiler is loaded
	OtherRecording Reason = "other_recording" // somebody else's flight recording runs
	OtherCollector Reason = "other_collector" // another flameline has attached
	NoFolder       Reason = "folder"          // no private folder in the JVM's /tmp
	NoAnswer       Reason = "no_answer"       // the JVM does not answer
	Refused        Reason = "refused"         // the JVM answers that it cannot
	BadRecording   Reason = "recording"       // the recording cannot be read or stored
	TooMany        Reason = "too_many"        // more JVMs than MaxProcesses
)

// An Error is why a JVM is not recorded. The text says what to do where that is known.
type Error struct {
	Reason Reason
	Err    error
}

// Error returns the text.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// because returns an error with a reason.
func because(r Reason, format string, args ...any) error {
	return &Error{r, fmt.Errorf(format, args...)}
}

// reasonOf returns the reason of an error, or the other one if it has none.
func reasonOf(err error, other Reason) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return other
}
