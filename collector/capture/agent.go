package capture

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
)

// How often an agent asks.
const (
	pollIdle    = 5 * time.Second
	pollBusy    = time.Second     // while it has a capture
	pollRefused = time.Minute     // a server that has captures switched off
	pollAbsent  = 5 * time.Minute // a server that knows none, such as Pyroscope
	pollTimeout = 10 * time.Second
	maxAnswer   = 1 << 20 // bytes
)

// AgentOptions configure an Agent. Node and URL are required.
type AgentOptions struct {
	Node   *Node
	URL    string       // of the server
	Client *http.Client // has credentials and TLS settings; nil means neither
	Logger *slog.Logger // nil discards
}

// An Agent asks its server which captures are to run, and has a Node run them.
type Agent struct {
	o        AgentOptions
	client   flamelinev1connect.CaptureServiceClient
	instance string
	failing  bool
}

// NewAgent returns an Agent that does nothing until Run.
func NewAgent(o AgentOptions) *Agent {
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Agent{
		o: o, instance: uuid.NewString(),
		client: flamelinev1connect.NewCaptureServiceClient(o.Client, o.URL, connect.WithReadMaxBytes(maxAnswer)),
	}
}

// Run asks until ctx ends. A capture that runs then goes on: its Node is closed later.
func (a *Agent) Run(ctx context.Context) {
	for ctx.Err() == nil {
		pause := pollIdle
		if a.o.Node.Possible() == nil {
			pause = a.poll(ctx)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// poll asks once, does what the server says, and returns the pause until the next time.
func (a *Agent) poll(ctx context.Context) time.Duration {
	reports := a.o.Node.reports()
	pause := pollIdle
	for _, r := range reports {
		if !final(r.Node.State) {
			pause = pollBusy
		}
	}
	timed, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	resp, err := a.client.PollCaptures(timed, connect.NewRequest(&flamelinev1.PollCapturesRequest{
		Instance: a.instance, Node: a.o.Node.Name(), Reports: reports,
	}))
	switch connect.CodeOf(err) {
	case connect.CodeUnimplemented, connect.CodeNotFound:
		return pollAbsent
	case connect.CodeFailedPrecondition:
		return pollRefused
	}
	if err != nil {
		if !a.failing && ctx.Err() == nil {
			a.failing = true
			a.o.Logger.Warn("the server cannot be asked for captures", "err", err)
		}
		return pollIdle
	}
	if a.failing {
		a.failing = false
		a.o.Logger.Info("the server can be asked for captures again")
	}
	for _, id := range resp.Msg.Stop {
		a.o.Node.Stop(id)
	}
	for _, c := range resp.Msg.Captures {
		if c.Request == nil || a.o.Node.find(c.Id) != nil {
			continue
		}
		pause = pollBusy
		if err := a.o.Node.Begin(ctx, c.Id, c.Request); err != nil {
			a.o.Logger.Warn("a capture that the server asks for is not possible", "capture", c.Id, "err", err)
			a.o.Node.refuse(c.Id, err)
		}
	}
	return pause
}
