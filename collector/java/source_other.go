//go:build !linux

package java

import (
	"context"
	"errors"
)

// A Source records the JVMs of this machine, which it can on Linux only.
type Source struct{}

// New returns an error: JVMs are found in Linux's procfs.
func New(Options) (*Source, error) {
	return nil, errors.New("java.enabled: JVMs can be recorded on Linux only")
}

// Run returns at once.
func (*Source) Run(context.Context) {}
