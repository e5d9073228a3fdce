package capture

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/profile"
)

const (
	// silence is how long an agent that does not ask counts as there; it asks every few
	// seconds. A capture that is older is not begun by agents that come.
	silence = 30 * time.Second
	// overdue is how much later than it may an agent ends a capture before it counts as
	// failed, so that another capture may begin.
	overdue = 2 * time.Minute
	// Bounds of what is remembered and of what agents say.
	maxCaptures = 100
	maxAgents   = 10_000
	maxNodes    = 50_000 // agents of all captures; the latest capture may have more
	maxReports  = 64
	maxName     = 256 // bytes
	maxReason   = 1024
	// forgetEvery is how often agents that do not ask any more are looked for.
	forgetEvery = time.Second
)

// BoardOptions configure a Board.
type BoardOptions struct {
	Node    *Node        // of the server's own machine; nil if there is none
	Allowed func() error // nil if captures are allowed, else the reason why not
	Limits  Limits
	// Now returns the time; nil is time.Now.
	Now        func() time.Time
	Registerer prometheus.Registerer // nil registers nothing
}

// A Board keeps the captures since the server started, and which agents there are. It is
// safe for concurrent use.
type Board struct {
	o BoardOptions

	mu       sync.Mutex
	agents   map[string]*agentSeen // by instance
	forgot   time.Time             // when agents were last forgotten
	captures []*posted             // the latest last
}

// An agentSeen is an agent that asked lately.
type agentSeen struct {
	node string
	last time.Time
}

// A posted capture is one that was asked for.
type posted struct {
	id      string
	request *flamelinev1.CaptureRequest
	created time.Time
	stopped time.Time                           // zero: it was not
	over    bool                                // all nodes have ended
	local   *flamelinev1.CaptureNode            // nil if the server's machine has no part in it
	agents  map[string]*flamelinev1.CaptureNode // by instance
}

// NewBoard returns an empty Board.
func NewBoard(o BoardOptions) *Board {
	if o.Now == nil {
		o.Now = time.Now
	}
	b := &Board{o: o, agents: map[string]*agentSeen{}}
	if o.Registerer != nil {
		o.Registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "flameline_capture_agents", Help: "Agents that asked for captures in the last 30 seconds.",
		}, func() float64 {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.forget(b.o.Now())
			return float64(len(b.agents))
		}))
	}
	return b
}

// Capture begins a capture here, and has agents begin it when they ask next.
func (b *Board) Capture(ctx context.Context, m *flamelinev1.CaptureRequest) (*flamelinev1.Capture, error) {
	if err := b.o.Allowed(); err != nil {
		return nil, err
	}
	r, err := b.o.Limits.parse(m)
	if err != nil {
		return nil, err
	}
	now := b.o.Now()
	c := &posted{id: newID(now), request: proto.CloneOf(m), created: now, agents: map[string]*flamelinev1.CaptureNode{}}
	c.request.Frequency, c.request.Kinds = int64(r.frequency), r.kinds
	if err := b.post(c, now); err != nil {
		return nil, err
	}
	err = b.begin(ctx, c)
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.local = nil; b.o.Node != nil {
		c.local = b.o.Node.Report(c.id)
	}
	matches := err == nil && c.local.State != flamelinev1.CaptureState_CAPTURE_STATE_NO_MATCH
	if matches || len(c.agents) > 0 {
		return c.wire(), nil
	}
	b.captures = slices.DeleteFunc(b.captures, func(o *posted) bool { return o == c })
	switch {
	case err == nil:
		err = fmt.Errorf("%w: label_selector: no process of node %s matches %s, and no agent has asked in the last %v", ErrNotFound, c.local.Node, m.LabelSelector, silence)
	case errors.Is(err, ErrImpossible):
		err = fmt.Errorf("%w, and no agent has asked in the last %v", err, silence)
	}
	return nil, err
}

// begin begins a capture on this machine.
func (b *Board) begin(ctx context.Context, c *posted) error {
	if b.o.Node == nil {
		return fmt.Errorf("%w: this machine is not sampled", ErrImpossible)
	}
	return b.o.Node.Begin(ctx, c.id, c.request)
}

// newID makes the ID of a capture.
func newID(now time.Time) string {
	var random [3]byte
	_, _ = rand.Read(random[:]) // never fails
	return profile.CapturePrefix + now.UTC().Format("20060102-150405") + "-" + hex.EncodeToString(random[:])
}

// post adds a capture for the agents that are there, unless another is under way.
func (b *Board) post(c *posted, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settle(now)
	for _, o := range b.captures {
		if !o.over {
			return fmt.Errorf("%w: %s, of %s; it can be stopped", ErrBusy, o.id, o.request.LabelSelector)
		}
	}
	for instance, a := range b.agents {
		c.agents[instance] = &flamelinev1.CaptureNode{Node: a.node, Agent: true, State: flamelinev1.CaptureState_CAPTURE_STATE_WAITING}
	}
	b.captures = append(b.captures, c)
	b.trim()
	if b.o.Node != nil {
		c.local = &flamelinev1.CaptureNode{Node: b.o.Node.Name(), State: flamelinev1.CaptureState_CAPTURE_STATE_STARTING}
	}
	return nil
}

// trim forgets the oldest of too many captures.
func (b *Board) trim() {
	nodes, keep := 0, 0
	for _, c := range slices.Backward(b.captures) {
		if nodes += len(c.agents); keep == maxCaptures || keep > 0 && nodes > maxNodes {
			break
		}
		keep++
	}
	b.captures = slices.Delete(b.captures, 0, len(b.captures)-keep)
}

// List returns the captures, the latest first; with an ID, that one.
func (b *Board) List(id string) ([]*flamelinev1.Capture, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settle(b.o.Now())
	var out []*flamelinev1.Capture
	for _, c := range slices.Backward(b.captures) {
		if id == "" || c.id == id {
			out = append(out, c.wire())
		}
	}
	if id != "" && len(out) == 0 {
		return nil, unknown(id)
	}
	return out, nil
}

func unknown(id string) error {
	return fmt.Errorf("%w: id: there is no capture %.100q since this server started", ErrNotFound, id)
}

// Stop ends a capture here, and has agents end it when they ask next.
func (b *Board) Stop(id string) (*flamelinev1.Capture, error) {
	if err := b.o.Allowed(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settle(b.o.Now())
	at := slices.IndexFunc(b.captures, func(c *posted) bool { return c.id == id })
	if at < 0 {
		return nil, unknown(id)
	}
	c := b.captures[at]
	if c.stopped.IsZero() {
		c.stopped = b.o.Now()
	}
	if b.o.Node != nil {
		b.o.Node.Stop(id)
	}
	for _, n := range c.agents {
		if n.State == flamelinev1.CaptureState_CAPTURE_STATE_WAITING {
			n.State = flamelinev1.CaptureState_CAPTURE_STATE_STOPPED
		}
	}
	return c.wire(), nil
}

// Poll answers an agent.
func (b *Board) Poll(m *flamelinev1.PollCapturesRequest) (*flamelinev1.PollCapturesResponse, error) {
	if err := b.o.Allowed(); err != nil {
		return nil, err
	}
	if err := checkPoll(m); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.o.Now()
	b.forget(now)
	if a := b.agents[m.Instance]; a != nil {
		a.last = now
	} else {
		if len(b.agents) >= maxAgents {
			return nil, fmt.Errorf("%w: %d agents are more than the server tells about captures", ErrImpossible, len(b.agents)+1)
		}
		b.agents[m.Instance] = &agentSeen{node: m.Node, last: now}
	}
	for _, r := range m.Reports {
		if c := b.find(r.Id); c != nil && c.agents[m.Instance] != nil {
			c.take(m, r.Node, now)
		}
	}
	b.settle(now)
	out := &flamelinev1.PollCapturesResponse{}
	for _, c := range b.captures {
		n := c.agents[m.Instance]
		switch {
		case !c.stopped.IsZero():
			if n != nil && !final(n.State) {
				out.Stop = append(out.Stop, c.id)
			}
			continue
		case n == nil && now.Sub(c.created) < silence:
			n = &flamelinev1.CaptureNode{Node: m.Node, Agent: true, State: flamelinev1.CaptureState_CAPTURE_STATE_WAITING}
			c.agents[m.Instance], c.over = n, false
		case n == nil:
			continue
		}
		if n.State == flamelinev1.CaptureState_CAPTURE_STATE_WAITING {
			out.Captures = append(out.Captures, &flamelinev1.Capture{Id: c.id, Request: c.request, Created: c.created.UnixMilli()})
		}
	}
	return out, nil
}

// checkPoll bounds what is kept of what an agent says.
func checkPoll(m *flamelinev1.PollCapturesRequest) error {
	switch {
	case m.Instance == "" || len(m.Instance) > maxName:
		return fmt.Errorf("%w: instance: its %d bytes are not within 1 and %d", ErrInvalid, len(m.Instance), maxName)
	case len(m.Node) > maxName:
		return fmt.Errorf("%w: node: its %d bytes are more than %d", ErrInvalid, len(m.Node), maxName)
	case len(m.Reports) > maxReports:
		return fmt.Errorf("%w: reports: %d are more than %d", ErrInvalid, len(m.Reports), maxReports)
	}
	for i, r := range m.Reports {
		n := r.GetNode()
		switch {
		case n == nil:
			return fmt.Errorf("%w: reports[%d].node: is missing", ErrInvalid, i)
		case len(n.Counts) > len(profileNames):
			return fmt.Errorf("%w: reports[%d].node.counts: %d are more than there are kinds", ErrInvalid, i, len(n.Counts))
		case n.State <= flamelinev1.CaptureState_CAPTURE_STATE_UNSPECIFIED || flamelinev1.CaptureState_name[int32(n.State)] == "":
			return fmt.Errorf("%w: reports[%d].node.state: %d is not a state", ErrInvalid, i, n.State)
		}
	}
	return nil
}

func (b *Board) find(id string) *posted {
	for _, c := range b.captures {
		if c.id == id {
			return c
		}
	}
	return nil
}

// take takes what an agent says of a capture, and nothing that it may have said besides.
// The node's name stays the one of the poll.
func (c *posted) take(m *flamelinev1.PollCapturesRequest, n *flamelinev1.CaptureNode, now time.Time) {
	if !final(n.State) && now.After(c.deadline()) {
		return // it counts as failed
	}
	taken := &flamelinev1.CaptureNode{
		Node: m.Node, Agent: true, State: n.State, Reason: n.Reason, Processes: n.Processes,
		Started: n.Started, Ended: n.Ended, Profiles: n.Profiles,
	}
	if len(n.Reason) > maxReason {
		taken.Reason = strings.ToValidUTF8(n.Reason[:maxReason], "") + "…"
	}
	for _, k := range n.Counts {
		taken.Counts = append(taken.Counts, &flamelinev1.CaptureCount{Kind: k.GetKind(), Count: k.GetCount()})
	}
	c.agents[m.Instance], c.over = taken, false
}

// deadline is when agents should have ended the capture. Its duration counts from when they
// began, and they begin later.
func (c *posted) deadline() time.Time {
	if !c.stopped.IsZero() {
		return c.stopped.Add(overdue)
	}
	return c.created.Add(silence + time.Duration(c.request.Duration)*time.Millisecond + overdue)
}

// forget forgets agents that do not ask any more.
func (b *Board) forget(now time.Time) {
	if since := now.Sub(b.forgot); since >= 0 && since < forgetEvery {
		return
	}
	b.forgot = now
	maps.DeleteFunc(b.agents, func(_ string, a *agentSeen) bool { return now.Sub(a.last) >= silence })
}

// settle brings the states up to date: that of this machine, and those of agents that are
// silent or do not end, which failed.
func (b *Board) settle(now time.Time) {
	b.forget(now)
	for _, c := range b.captures {
		if c.over {
			continue
		}
		if c.local != nil && !final(c.local.State) {
			if n := b.o.Node.Report(c.id); n != nil {
				c.local = n
			}
		}
		late := now.After(c.deadline())
		c.over = c.local == nil || final(c.local.State)
		for instance, n := range c.agents {
			switch {
			case final(n.State):
			case b.agents[instance] == nil:
				n.State, n.Reason = flamelinev1.CaptureState_CAPTURE_STATE_FAILED, fmt.Sprintf("the agent has not asked for %v; it may have been stopped", silence)
			case late:
				n.State, n.Reason = flamelinev1.CaptureState_CAPTURE_STATE_FAILED, fmt.Sprintf("the agent has not ended it %v after it should have", overdue)
			default:
				c.over = false
			}
		}
	}
}

// wire returns the capture as the API has it. The caller owns it.
func (c *posted) wire() *flamelinev1.Capture {
	out := &flamelinev1.Capture{Id: c.id, Request: proto.CloneOf(c.request), Created: c.created.UnixMilli()}
	if c.local != nil {
		out.Nodes = append(out.Nodes, proto.CloneOf(c.local))
	}
	for _, instance := range slices.Sorted(maps.Keys(c.agents)) {
		out.Nodes = append(out.Nodes, proto.CloneOf(c.agents[instance]))
	}
	slices.SortStableFunc(out.Nodes, func(a, b *flamelinev1.CaptureNode) int { return strings.Compare(a.Node, b.Node) })
	out.State = stateOf(out.Nodes)
	return out
}

// stateOf is the state of a capture by those of its nodes: the first of these that a node
// has.
func stateOf(nodes []*flamelinev1.CaptureNode) flamelinev1.CaptureState {
	for _, s := range []flamelinev1.CaptureState{
		flamelinev1.CaptureState_CAPTURE_STATE_RUNNING, flamelinev1.CaptureState_CAPTURE_STATE_STARTING,
		flamelinev1.CaptureState_CAPTURE_STATE_WAITING, flamelinev1.CaptureState_CAPTURE_STATE_DONE,
		flamelinev1.CaptureState_CAPTURE_STATE_STOPPED, flamelinev1.CaptureState_CAPTURE_STATE_FAILED,
		flamelinev1.CaptureState_CAPTURE_STATE_NO_MATCH,
	} {
		if slices.ContainsFunc(nodes, func(n *flamelinev1.CaptureNode) bool { return n.State == s }) {
			return s
		}
	}
	return flamelinev1.CaptureState_CAPTURE_STATE_WAITING
}
