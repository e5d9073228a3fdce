package capture

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/target"
	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
	"github.com/flameline/flameline/pkg/profile"
)

const (
	waiting = flamelinev1.CaptureState_CAPTURE_STATE_WAITING
	running = flamelinev1.CaptureState_CAPTURE_STATE_RUNNING
	done    = flamelinev1.CaptureState_CAPTURE_STATE_DONE
	noMatch = flamelinev1.CaptureState_CAPTURE_STATE_NO_MATCH
	stopped = flamelinev1.CaptureState_CAPTURE_STATE_STOPPED
	failed  = flamelinev1.CaptureState_CAPTURE_STATE_FAILED
)

func TestRequestsAreChecked(t *testing.T) {
	l := Limits{MaxDuration: time.Minute, MaxFrequency: 499}
	valid := func() *flamelinev1.CaptureRequest {
		return &flamelinev1.CaptureRequest{LabelSelector: `{service_name="order"}`, Duration: 30_000, Frequency: 499}
	}
	for name, c := range map[string]struct {
		change func(m *flamelinev1.CaptureRequest)
		want   string // "" if the request is valid
	}{
		"usual":              {func(*flamelinev1.CaptureRequest) {}, ""},
		"all processes":      {func(m *flamelinev1.CaptureRequest) { m.LabelSelector = "{}" }, ""},
		"no selector":        {func(m *flamelinev1.CaptureRequest) { m.LabelSelector = " " }, "label_selector: is empty"},
		"bad selector":       {func(m *flamelinev1.CaptureRequest) { m.LabelSelector = "{a=" }, "label_selector: selector"},
		"long selector":      {func(m *flamelinev1.CaptureRequest) { m.LabelSelector = `{a="` + strings.Repeat("x", 5000) + `"}` }, "label_selector: its 5006 bytes"},
		"type as a label":    {func(m *flamelinev1.CaptureRequest) { m.LabelSelector = `{__name__="process_cpu"}` }, "label_selector: __name__"},
		"capture as a label": {func(m *flamelinev1.CaptureRequest) { m.LabelSelector = `{capture="cap-1"}` }, "label_selector: capture"},
		"short":              {func(m *flamelinev1.CaptureRequest) { m.Duration = 999 }, "duration: 999 ms is not within 1s and 1m0s (capture.max_duration)"},
		"long":               {func(m *flamelinev1.CaptureRequest) { m.Duration = 60_001 }, "duration: 60001 ms"},
		"longest number":     {func(m *flamelinev1.CaptureRequest) { m.Duration = 1 << 62 }, "duration: "},
		"default frequency":  {func(m *flamelinev1.CaptureRequest) { m.Frequency = 0 }, ""},
		"negative frequency": {func(m *flamelinev1.CaptureRequest) { m.Frequency = -1 }, "frequency: -1 is not within 1 and 499 samples per second (capture.max_frequency)"},
		"high frequency":     {func(m *flamelinev1.CaptureRequest) { m.Frequency = 500 }, "frequency: 500"},
		"unknown kind":       {func(m *flamelinev1.CaptureRequest) { m.Kinds = []flamelinev1.CaptureKind{1, 77} }, "kinds[1]: 77 is not a kind of samples"},
	} {
		t.Run(name, func(t *testing.T) {
			m := valid()
			c.change(m)
			_, err := l.parse(m)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrInvalid)
			require.ErrorContains(t, err, c.want)
		})
	}
	r, err := l.parse(&flamelinev1.CaptureRequest{LabelSelector: "{}", Duration: 1000, Kinds: []flamelinev1.CaptureKind{0, 1, 2, 2}})
	require.NoError(t, err)
	require.Equal(t, []flamelinev1.CaptureKind{1, 2}, r.kinds)
	require.Equal(t, 99, r.frequency)
}

// A bench is a board with a clock that is set.
type bench struct {
	*Board
	now time.Time
	not error // why captures are not allowed
}

func newBench() *bench {
	b := &bench{now: time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)}
	b.Board = NewBoard(BoardOptions{Now: func() time.Time { return b.now }, Allowed: func() error { return b.not }})
	return b
}

func order() *flamelinev1.CaptureRequest {
	return &flamelinev1.CaptureRequest{LabelSelector: `{service_name="order"}`, Duration: 10_000}
}

func (b *bench) poll(t *testing.T, agent string, reports ...*flamelinev1.CaptureReport) *flamelinev1.PollCapturesResponse {
	t.Helper()
	out, err := b.Poll(&flamelinev1.PollCapturesRequest{Instance: agent, Node: "node-" + agent, Reports: reports})
	require.NoError(t, err)
	return out
}

func report(id string, s flamelinev1.CaptureState) *flamelinev1.CaptureReport {
	return &flamelinev1.CaptureReport{Id: id, Node: &flamelinev1.CaptureNode{State: s, Profiles: 3}}
}

func (b *bench) state(t *testing.T, id string) (flamelinev1.CaptureState, map[string]flamelinev1.CaptureState) {
	t.Helper()
	cs, err := b.List(id)
	require.NoError(t, err)
	nodes := map[string]flamelinev1.CaptureState{}
	for _, n := range cs[0].Nodes {
		require.True(t, n.Agent)
		nodes[n.Node] = n.State
	}
	return cs[0].State, nodes
}

func TestAgentsAreTold(t *testing.T) {
	b := newBench()
	_, err := b.Capture(t.Context(), order())
	require.ErrorIs(t, err, ErrImpossible)
	require.ErrorContains(t, err, "no agent has asked in the last 30s")
	all, err := b.List("")
	require.NoError(t, err)
	require.Empty(t, all, "a capture that nobody does is none")

	require.Empty(t, b.poll(t, "a").Captures)
	require.Empty(t, b.poll(t, "b").Captures)
	c, err := b.Capture(t.Context(), order())
	require.NoError(t, err)
	require.True(t, profile.IsCaptureID(c.Id), c.Id)
	require.True(t, strings.HasPrefix(c.Id, "cap-20260102-150405-"), c.Id)
	require.Equal(t, waiting, c.State)
	require.Len(t, c.Nodes, 2)
	_, err = b.Capture(t.Context(), order())
	require.ErrorIs(t, err, ErrBusy)
	require.ErrorContains(t, err, c.Id)

	told := b.poll(t, "a")
	require.Len(t, told.Captures, 1)
	require.Equal(t, c.Id, told.Captures[0].Id)
	require.Equal(t, c.Request.String(), told.Captures[0].Request.String())
	require.EqualValues(t, 99, told.Captures[0].Request.Frequency)
	require.Empty(t, b.poll(t, "a", report(c.Id, running)).Captures, "it has begun")
	require.Len(t, b.poll(t, "late").Captures, 1, "an agent that came since then")
	b.poll(t, "late", report(c.Id, noMatch))
	state, nodes := b.state(t, c.Id)
	require.Equal(t, running, state)
	require.Equal(t, map[string]flamelinev1.CaptureState{"node-a": running, "node-b": waiting, "node-late": noMatch}, nodes)

	// b does not ask any more; a goes on.
	for range 4 {
		b.now = b.now.Add(10 * time.Second)
		b.poll(t, "a", report(c.Id, running))
	}
	_, nodes = b.state(t, c.Id)
	require.Equal(t, map[string]flamelinev1.CaptureState{"node-a": running, "node-b": failed, "node-late": noMatch}, nodes)
	require.Empty(t, b.poll(t, "later").Captures, "it is too old to begin")
	b.poll(t, "a", report(c.Id, done))
	state, _ = b.state(t, c.Id)
	require.Equal(t, done, state)

	second, err := b.Capture(t.Context(), order())
	require.NoError(t, err)
	require.NotEqual(t, c.Id, second.Id)
	all, err = b.List("")
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, second.Id, all[0].Id)
}

func TestCapturesAreStopped(t *testing.T) {
	b := newBench()
	b.poll(t, "a")
	b.poll(t, "b")
	c, err := b.Capture(t.Context(), order())
	require.NoError(t, err)
	b.poll(t, "a")
	b.poll(t, "a", report(c.Id, running))
	_, err = b.Stop("cap-other")
	require.ErrorIs(t, err, ErrNotFound)
	_, err = b.Stop(c.Id)
	require.NoError(t, err)
	require.Empty(t, b.poll(t, "b").Captures)
	require.Equal(t, []string{c.Id}, b.poll(t, "a", report(c.Id, running)).Stop)
	require.Empty(t, b.poll(t, "a", report(c.Id, stopped)).Stop)
	state, nodes := b.state(t, c.Id)
	require.Equal(t, stopped, state)
	require.Equal(t, map[string]flamelinev1.CaptureState{"node-a": stopped, "node-b": stopped}, nodes)
}

func TestWhatIsNotAllowedIsRefused(t *testing.T) {
	b := newBench()
	b.poll(t, "a")
	b.not = errors.Join(ErrImpossible, errors.New("capture.enabled is false"))
	_, err := b.Capture(t.Context(), order())
	require.ErrorIs(t, err, ErrImpossible)
	_, err = b.Poll(&flamelinev1.PollCapturesRequest{Instance: "a"})
	require.ErrorIs(t, err, ErrImpossible)
	_, err = b.List("")
	require.NoError(t, err)
}

func TestReportsOfAgentsAreBounded(t *testing.T) {
	b := newBench()
	for want, m := range map[string]*flamelinev1.PollCapturesRequest{
		"instance: its 0 bytes":     {},
		"instance: its 257 bytes":   {Instance: strings.Repeat("x", 257)},
		"node: its 300 bytes":       {Instance: "a", Node: strings.Repeat("x", 300)},
		"reports: 65 are more":      {Instance: "a", Reports: make([]*flamelinev1.CaptureReport, 65)},
		"reports[0].node: is missi": {Instance: "a", Reports: []*flamelinev1.CaptureReport{{Id: "x"}}},
		"reports[0].node.state: 0 ": {Instance: "a", Reports: []*flamelinev1.CaptureReport{report("x", 0)}},
		"reports[0].node.state: -1": {Instance: "a", Reports: []*flamelinev1.CaptureReport{report("x", -1)}},
		"reports[0].node.state: 99": {Instance: "a", Reports: []*flamelinev1.CaptureReport{report("x", 99)}},
		"reports[0].node.counts: 9": {Instance: "a", Reports: []*flamelinev1.CaptureReport{{Id: "x", Node: &flamelinev1.CaptureNode{Counts: make([]*flamelinev1.CaptureCount, 9)}}}},
	} {
		_, err := b.Poll(m)
		require.ErrorIs(t, err, ErrInvalid)
		require.ErrorContains(t, err, want)
	}
}

// TestAgentsThatNeverEndDoNotBlock has an agent that says for ever that its capture runs.
func TestAgentsThatNeverEndDoNotBlock(t *testing.T) {
	for name, stop := range map[string]bool{"left alone": false, "stopped": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			b.poll(t, "a")
			c, err := b.Capture(t.Context(), order())
			require.NoError(t, err)
			if stop {
				_, err = b.Stop(c.Id)
				require.NoError(t, err)
			}
			end := b.now.Add(silence + 10*time.Second + overdue)
			if stop {
				end = b.now.Add(overdue)
			}
			for ; !b.now.After(end); b.now = b.now.Add(5 * time.Second) {
				b.poll(t, "a", report(c.Id, running))
				_, err = b.Capture(t.Context(), order())
				require.ErrorIs(t, err, ErrBusy)
			}
			b.poll(t, "a", report(c.Id, running))
			state, _ := b.state(t, c.Id)
			require.Equal(t, failed, state)
			next, err := b.Capture(t.Context(), order())
			require.NoError(t, err)
			require.Len(t, b.poll(t, "a", report(c.Id, running)).Captures, 1)
			b.poll(t, "a", report(c.Id, done), report(next.Id, done))
			state, _ = b.state(t, c.Id)
			require.Equal(t, done, state, "the agent ended it after all")
			state, _ = b.state(t, next.Id)
			require.Equal(t, done, state)
		})
	}
}

// TestReportsAreCopied has a report with fields that nobody knows, and a long reason.
func TestReportsAreCopied(t *testing.T) {
	b := newBench()
	b.poll(t, "a")
	c, err := b.Capture(t.Context(), order())
	require.NoError(t, err)
	r := report(c.Id, failed)
	r.Node.Reason, r.Node.Node, r.Node.Counts = strings.Repeat("é", maxReason), "another", []*flamelinev1.CaptureCount{{Kind: 1, Count: 5}}
	unknown := append([]byte{0xfa, 0x3f, 0x80, 0x08}, make([]byte, 1024)...)
	r.Node.ProtoReflect().SetUnknown(unknown)
	r.Node.Counts[0].ProtoReflect().SetUnknown(unknown)
	b.poll(t, "a", r)
	all, err := b.List(c.Id)
	require.NoError(t, err)
	n := all[0].Nodes[0]
	require.Empty(t, n.ProtoReflect().GetUnknown())
	require.Empty(t, n.Counts[0].ProtoReflect().GetUnknown())
	require.Equal(t, "node-a", n.Node)
	require.EqualValues(t, 5, n.Counts[0].Count)
	require.LessOrEqual(t, len(n.Reason), maxReason+len("…"))
	require.True(t, utf8.ValidString(n.Reason))
}

// TestCapturesOfManyAgentsAreForgotten has more agents in captures than are remembered.
func TestCapturesOfManyAgentsAreForgotten(t *testing.T) {
	b := newBench()
	const agents = maxNodes/3 + 1
	for i := range min(agents, maxAgents) {
		b.poll(t, fmt.Sprint(i))
	}
	for range 10 {
		c, err := b.Capture(t.Context(), order())
		require.NoError(t, err)
		_, err = b.Stop(c.Id)
		require.NoError(t, err)
		b.now = b.now.Add(time.Second)
	}
	all, err := b.List("")
	require.NoError(t, err)
	require.Len(t, all, maxNodes/min(agents, maxAgents))
}

// TestRunsThatGoOnAreNotForgotten refuses more captures than a node remembers while one
// runs.
func TestRunsThatGoOnAreNotForgotten(t *testing.T) {
	n := &Node{o: NodeOptions{Targets: target.New(target.Options{})}}
	n.keep(&run{id: "cap-runs", stop: func() {}, state: &flamelinev1.CaptureNode{State: running}})
	for i := range 3 * maxRuns {
		n.refuse(fmt.Sprint("cap-", i), errors.New("busy"))
	}
	require.Len(t, n.runs, maxRuns)
	require.NotNil(t, n.find("cap-runs"))
	require.NotNil(t, n.find(fmt.Sprint("cap-", 3*maxRuns-1)))
}

// A node refuses what would be added to other profiles, and says why it cannot sample.
func TestNodesRefuse(t *testing.T) {
	reg := prometheus.NewRegistry()
	why := errors.New("switched off by ebpf.enabled")
	n := NewNode(NodeOptions{Targets: target.New(target.Options{Node: "here"}), Sampling: func() error { return why }, Registerer: reg})
	defer n.Close()
	require.ErrorContains(t, n.Begin(t.Context(), "video", order()), `id: "video" is not the ID of a capture`)
	err := n.Begin(t.Context(), "cap-1", order())
	require.ErrorIs(t, err, ErrImpossible)
	require.ErrorIs(t, err, why)
	why = nil
	require.NoError(t, n.Begin(t.Context(), "cap-2", &flamelinev1.CaptureRequest{LabelSelector: `{service_name="nobody"}`, Duration: 1000}))
	require.Equal(t, noMatch, n.Report("cap-2").State)
	require.Equal(t, "here", n.Report("cap-2").Node)
	require.Equal(t, 1.0, testutil.ToFloat64(n.metrics.captures.WithLabelValues("no_match")))
}

// A pollServer answers agents as a board does, or with an error.
type pollServer struct {
	flamelinev1connect.UnimplementedCaptureServiceHandler
	board *Board

	mu    sync.Mutex
	err   error
	polls int
}

func (p *pollServer) PollCaptures(_ context.Context, req *connect.Request[flamelinev1.PollCapturesRequest]) (*connect.Response[flamelinev1.PollCapturesResponse], error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.polls++
	if p.err != nil {
		return nil, p.err
	}
	m, err := p.board.Poll(req.Msg)
	return connect.NewResponse(m), err
}

func TestAgentDoesWhatTheServerSays(t *testing.T) {
	b := newBench()
	p := &pollServer{board: b.Board}
	mux := http.NewServeMux()
	mux.Handle(flamelinev1connect.NewCaptureServiceHandler(p))
	ts := httptest.NewServer(mux)
	defer ts.Close()
	n := NewNode(NodeOptions{Targets: target.New(target.Options{Node: "here"}), Sampling: func() error { return nil }})
	defer n.Close()
	a := NewAgent(AgentOptions{Node: n, URL: ts.URL})
	require.Equal(t, pollIdle, a.poll(t.Context()))
	c, err := b.Capture(t.Context(), &flamelinev1.CaptureRequest{LabelSelector: `{service_name="nobody"}`, Duration: 1000})
	require.NoError(t, err)
	require.Equal(t, pollBusy, a.poll(t.Context()))
	require.Equal(t, noMatch, n.Report(c.Id).State)
	a.poll(t.Context())
	state, nodes := b.state(t, c.Id)
	require.Equal(t, noMatch, state)
	require.Equal(t, map[string]flamelinev1.CaptureState{"here": noMatch}, nodes)

	// What the agent's own limits do not allow fails, and the server hears why.
	n.o.Limits.MaxFrequency = 50
	c, err = b.Capture(t.Context(), order())
	require.NoError(t, err)
	a.poll(t.Context())
	a.poll(t.Context())
	cs, err := b.List(c.Id)
	require.NoError(t, err)
	require.Equal(t, failed, cs[0].State)
	require.Contains(t, cs[0].Nodes[0].Reason, "frequency: 99")

	for code, pause := range map[connect.Code]time.Duration{
		connect.CodeUnimplemented: pollAbsent, connect.CodeNotFound: pollAbsent, connect.CodeFailedPrecondition: pollRefused, connect.CodeUnavailable: pollIdle,
	} {
		p.err = connect.NewError(code, errors.New("no"))
		require.Equal(t, pause, a.poll(t.Context()), code)
	}
}
