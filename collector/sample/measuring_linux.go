//go:build linux && (amd64 || arm64)

package sample

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"go.opentelemetry.io/ebpf-profiler/tracer"
)

// A measurer measures something besides CPU time, by eBPF programs of its own.
type measurer interface {
	start() error
	follow() error // attaches to CPUs that came online
	// take returns the windows that ended until a time in Unix ns.
	take(now time.Time, until int64) []*tally
	detach() error // ends measuring; take returns what was measured
	free()         // unloads the programs
}

// measuring is what measurers have in common.
type measuring struct {
	what     string // is measured, for errors
	interval time.Duration
	log      *slog.Logger
	metrics  *metrics
	entry    *entry
	events   *cpuEvents
	links    []link.Link
	counts   counts
	stop     chan struct{}  // closed by detach
	running  sync.WaitGroup // what ends when stop is closed
}

func newMeasuring(what string, o Options, m *metrics) measuring {
	return measuring{what: what, interval: o.Interval, log: o.Logger, metrics: m, stop: make(chan struct{})}
}

// load loads programs into objects, which use the unwinder as the gate does, through an
// entry of their own. prepare is called before; it may be nil.
func (c *measuring) load(
	ctx context.Context, t *tracer.Tracer, g *gate, set *processSet, name, unit string,
	read func() (*ebpf.CollectionSpec, error), prepare func(*ebpf.CollectionSpec) error, objects any,
) (err error) {
	if c.entry, err = newEntry(ctx, t, name, unit); err != nil {
		return err
	}
	spec, err := read()
	if err != nil {
		return fmt.Errorf("read programs for %s: %w", c.what, err)
	}
	shared, err := g.share(spec, set)
	if err != nil {
		return err
	}
	if prepare != nil {
		if err := prepare(spec); err != nil {
			return fmt.Errorf("set programs for %s: %w", c.what, err)
		}
	}
	if err := spec.LoadAndAssign(objects, shared); err != nil {
		return fmt.Errorf("load programs for %s: %w", c.what, err)
	}
	return nil
}

// join has programs that were loaded call the unwinder.
func (c *measuring) join(unwinder *ebpf.Map) error {
	if err := unwinder.Put(uint32(0), c.entry.program); err != nil {
		return fmt.Errorf("join programs for %s and unwinder: %w", c.what, err)
	}
	return nil
}

// set passes settings on to the programs.
func (c *measuring) set(to *ebpf.Map, settings any) error {
	if err := to.Put(uint32(0), settings); err != nil {
		return fmt.Errorf("set programs for %s: %w", c.what, err)
	}
	return nil
}

// attach attaches programs to their tracepoints.
func (c *measuring) attach(programs ...*ebpf.Program) error {
	for _, p := range programs {
		l, err := link.AttachTracing(link.TracingOptions{Program: p})
		if err != nil {
			return fmt.Errorf("attach programs for %s to tracepoints: %w", c.what, err)
		}
		c.links = append(c.links, l)
	}
	return nil
}

func (c *measuring) follow() error { return c.events.start() }

// unlink takes the programs off their tracepoints and events.
func (c *measuring) unlink() error {
	var errs []error
	for _, l := range c.links {
		errs = append(errs, l.Close())
	}
	c.links = nil
	return errors.Join(append(errs, c.events.Close())...)
}

// end waits for what runs, which may look at the programs one more time, and takes them
// off. What they have reported is read by finish.
func (c *measuring) end(finish func() error) error {
	close(c.stop)
	c.running.Wait()
	return errors.Join(c.unlink(), finish())
}
