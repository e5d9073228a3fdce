//go:build !linux

package record

import (
	"context"
	"time"

	"github.com/flameline/flameline/collector/sample"
	"github.com/flameline/flameline/pkg/profile"
)

// Labels of the profiles that a Session hands on.
const (
	LabelPID  = "pid"
	LabelComm = "comm"
)

// A Session samples processes, which on this system is not possible.
type Session struct{}

// Start returns the error of sample.Supported.
func Start(context.Context, SessionOptions, func([]profile.Profile)) (*Session, error) {
	return nil, sample.Supported()
}

// Follow does nothing.
func (*Session) Follow(int) {}

// Began returns no time.
func (*Session) Began() time.Time { return time.Time{} }

// Ended is never closed.
func (*Session) Ended() <-chan struct{} { return nil }

// Failed is never closed.
func (*Session) Failed() <-chan struct{} { return nil }

// Close does nothing.
func (*Session) Close() error { return nil }

// A Command is the process that a recording has started.
type Command struct{}

// Wait returns 0.
func (*Command) Wait() int { return 0 }

// Run returns the error of sample.Supported.
func Run(context.Context, Options) (*Recording, *Command, error) {
	return nil, nil, sample.Supported()
}

func isHierarchy(string) bool { return false }
