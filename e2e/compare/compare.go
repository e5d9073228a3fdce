//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/flameline/flameline/e2e/compare/dataset"
)

// A comparison is one run. It is used by one goroutine.
type comparison struct {
	options
	set     *dataset.Set
	start   time.Time  // of the data set, a full minute
	servers [2]*server // ours and the peer
	ready   *readyServer
	results *Results
}

// The servers by their place in every pair.
const (
	ours = iota
	peer
)

// run measures everything that the options ask for. Results are nil if it
// failed before the first figure.
func run(ctx context.Context, o options) (_ *Results, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	c := &comparison{options: o, ready: newReadyServer()}
	defer c.ready.stop()
	if o.data != "" {
		c.set, err = dataset.Read(o.data)
	} else {
		c.set, err = dataset.Generate(o.generate)
	}
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "flameline-compare-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	defer c.stop()
	if c.servers[ours], err = startOurs(ctx, o, dir); err != nil {
		return nil, err
	}
	if c.servers[peer], err = startPeer(ctx, o, dir); err != nil {
		return nil, err
	}
	// The data set ends just now: servers refuse what is old.
	c.start = time.Now().Add(-c.set.Length).Truncate(time.Minute)
	c.results = &Results{
		Ours: c.servers[ours].describe(), Peer: c.servers[peer].describe(),
		Machine: machine(), CPUs: runtime.NumCPU(), Data: c.set.Origin, Began: time.Now().UTC().Truncate(time.Second), Compressed: o.compressed,
	}
	before, err := readLoad()
	if err != nil {
		return nil, err
	}
	used := c.used()
	err = c.phases(ctx)
	after, loadErr := readLoad()
	c.results.OthersPercent = after.othersSince(before, c.used()-used)
	return c.results, errors.Join(err, loadErr)
}

// phases runs the phases in order. Those that change the servers' state permanently come
// last.
func (c *comparison) phases(ctx context.Context) error {
	for _, phase := range []struct {
		name string
		run  func(context.Context) error
		skip bool
	}{
		{"push", c.push, false},
		{"queries", c.queries, false},
		{"cold queries", c.cold, c.coldRuns == 0},
		{"long ranges", c.long, !c.replicate},
	} {
		if phase.skip {
			continue
		}
		c.say("%s", phase.name)
		if err := phase.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", phase.name, err)
		}
	}
	return nil
}

// say prints progress.
func (c *comparison) say(format string, args ...any) {
	fmt.Fprintf(c.progress, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}

// each runs a function for both servers, in alternating order.
func (c *comparison) each(turn int, f func(which int, s *server) error) error {
	for i := range c.servers {
		which := (i + turn) % len(c.servers)
		if err := f(which, c.servers[which]); err != nil {
			return fmt.Errorf("%s: %w", c.servers[which].name, err)
		}
	}
	return nil
}

// used returns the CPU time of both servers and of this process.
func (c *comparison) used() time.Duration {
	sum := selfCPU()
	for _, s := range c.servers {
		sum += s.retired + s.cpu()
	}
	return sum
}

func (c *comparison) stop() {
	for _, s := range c.servers {
		if s != nil && s.process != nil {
			s.process.Stop(stopGrace)
		}
	}
}
