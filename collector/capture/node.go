package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/flameline/flameline/collector/sample"
	"github.com/flameline/flameline/collector/target"
	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/profile"
)

const (
	// maxRuns bounds the captures that a node remembers.
	maxRuns = 16
	// scanTimeout bounds looking for the processes that match at the start of a capture.
	scanTimeout = 3 * time.Second
)

// NodeOptions configure a Node.
type NodeOptions struct {
	Appender   sample.Appender   // required: where profiles go
	Targets    *target.Resolver  // required
	Symbolizer sample.Symbolizer // nil shows native frames as module+0xoffset
	Limits     Limits
	// Sampling returns nil if this machine is sampled, else the reason why not.
	Sampling   func() error
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil registers nothing
}

// A Node samples this machine for captures, one at a time. It is safe for concurrent use,
// and closed by the caller.
type Node struct {
	o       NodeOptions
	log     *slog.Logger
	metrics *metrics

	mu     sync.Mutex
	closed bool
	runs   []*run // the latest last
	doing  sync.WaitGroup
}

// NewNode returns a Node that does nothing until Begin.
func NewNode(o NodeOptions) *Node {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Node{o: o, log: o.Logger, metrics: newMetrics(o.Registerer)}
}

// Name is the label node of this machine's profiles.
func (n *Node) Name() string { return n.o.Targets.Node() }

// Possible returns nil if this machine is sampled, else an error that wraps ErrImpossible
// and says why not.
func (n *Node) Possible() error {
	if err := n.o.Sampling(); err != nil {
		return fmt.Errorf("%w: this machine is not sampled: %w", ErrImpossible, err)
	}
	return nil
}

// Begin starts a capture with an ID. It returns once it is known how many processes match;
// without one, nothing is loaded. The error wraps ErrBusy if another capture runs.
func (n *Node) Begin(ctx context.Context, id string, m *flamelinev1.CaptureRequest) error {
	if !profile.IsCaptureID(id) { // its profiles would be added to others
		return fmt.Errorf("%w: id: %.100q is not the ID of a capture", ErrInvalid, id)
	}
	r, err := n.o.Limits.parse(m)
	if err != nil {
		return err
	}
	if err := n.Possible(); err != nil {
		return err
	}
	c := &run{id: id, request: r, node: n}
	c.state = &flamelinev1.CaptureNode{Node: n.Name(), State: flamelinev1.CaptureState_CAPTURE_STATE_STARTING}
	runCtx, stop := context.WithCancel(context.Background())
	c.stop = stop
	if err := n.add(c); err != nil {
		stop()
		return err
	}
	scanCtx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	c.found = newFinder(n.o.Targets, &c.request)
	pids, err := c.found.all(scanCtx)
	if err == nil && len(pids) > 0 {
		c.change(func(s *flamelinev1.CaptureNode) { s.Processes = int64(len(pids)) })
		go c.do(runCtx, pids)
		return nil
	}
	defer n.doing.Done()
	c.finish(flamelinev1.CaptureState_CAPTURE_STATE_NO_MATCH, err)
	stop()
	return err
}

// add adds a run, whose doing is counted.
func (n *Node) add(c *run) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return fmt.Errorf("%w: the service is stopping", ErrImpossible)
	}
	for _, o := range n.runs {
		if !final(o.report().State) {
			return fmt.Errorf("%w: %s", ErrBusy, o.id)
		}
	}
	n.keep(c)
	n.doing.Add(1)
	return nil
}

// refuse notes that a capture failed that did not begin, for reports.
func (n *Node) refuse(id string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.ContainsFunc(n.runs, func(c *run) bool { return c.id == id }) {
		return // it began, and says so itself
	}
	n.keep(&run{id: id, stop: func() {}, state: &flamelinev1.CaptureNode{
		Node: n.Name(), State: flamelinev1.CaptureState_CAPTURE_STATE_FAILED, Reason: err.Error(),
	}})
}

// keep adds a run, and forgets the oldest of too many that has ended. The caller holds the
// lock.
func (n *Node) keep(c *run) {
	if len(n.runs) >= maxRuns {
		at := slices.IndexFunc(n.runs, func(c *run) bool { return final(c.report().State) })
		n.runs = slices.Delete(n.runs, max(at, 0), max(at, 0)+1)
	}
	n.runs = append(n.runs, c)
}

// Stop ends a capture, if it runs. What it sampled is stored, later.
func (n *Node) Stop(id string) {
	if c := n.find(id); c != nil {
		c.stop()
	}
}

func (n *Node) find(id string) *run {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := slices.IndexFunc(n.runs, func(c *run) bool { return c.id == id }); i >= 0 {
		return n.runs[i]
	}
	return nil
}

// Report returns how far a capture is, nil if it is not known. The caller owns it.
func (n *Node) Report(id string) *flamelinev1.CaptureNode {
	if c := n.find(id); c != nil {
		return c.report()
	}
	return nil
}

// reports returns how far the captures are that the node remembers.
func (n *Node) reports() (out []*flamelinev1.CaptureReport) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.runs {
		out = append(out, &flamelinev1.CaptureReport{Id: c.id, Node: c.report()})
	}
	return out
}

// Close stops the capture that runs, and returns once what it sampled was handed on.
func (n *Node) Close() {
	n.mu.Lock()
	n.closed = true
	for _, c := range n.runs {
		c.stop()
	}
	n.mu.Unlock()
	n.doing.Wait()
}

// final reports whether a capture has ended.
func final(s flamelinev1.CaptureState) bool { return s >= flamelinev1.CaptureState_CAPTURE_STATE_DONE }

// errStopped ends a capture early.
var errStopped = errors.New("stopped")

// change changes the state of a run.
func (c *run) change(fn func(s *flamelinev1.CaptureNode)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn(c.state)
}

// report returns a copy of the state.
func (c *run) report() *flamelinev1.CaptureNode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return proto.CloneOf(c.state)
}
