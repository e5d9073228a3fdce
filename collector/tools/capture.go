package tools

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/flameline/flameline/collector/render"
	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
	"github.com/flameline/flameline/pkg/profile"
)

const (
	// captureAsk is how often a capture's state is asked for.
	captureAsk = 500 * time.Millisecond
	// captureLoss is for how long a server may be unavailable meanwhile.
	captureLoss = 30 * time.Second
	// captureStop is how long a capture that is stopped is waited for.
	captureStop = time.Minute
	// captureMargin is added on both sides of a capture's time to find its profiles.
	captureMargin = 2 * time.Second
)

// CaptureOptions are the arguments of `flameline capture`.
type CaptureOptions struct {
	Server    *Server
	Selector  string
	Duration  time.Duration
	Frequency int
	Event     string // of CaptureEvents
	Title     string
	// Out is where the profile is written; nil writes none.
	Out *Output
	// Progress is called with the state about twice a second.
	Progress func(c *flamelinev1.Capture)
}

// A captureEvent is what a capture may sample.
type captureEvent struct {
	name  string
	kinds []flamelinev1.CaptureKind
	typ   string // the profile type that is shown first
}

var captureEvents = []captureEvent{
	{"cpu", []flamelinev1.CaptureKind{flamelinev1.CaptureKind_CAPTURE_KIND_CPU}, "process_cpu:cpu:nanoseconds:cpu:nanoseconds"},
	{"off-cpu", []flamelinev1.CaptureKind{flamelinev1.CaptureKind_CAPTURE_KIND_OFF_CPU}, "off_cpu:off_cpu:nanoseconds::"},
	{"wall", []flamelinev1.CaptureKind{flamelinev1.CaptureKind_CAPTURE_KIND_CPU, flamelinev1.CaptureKind_CAPTURE_KIND_OFF_CPU}, ""},
	{"page-faults", []flamelinev1.CaptureKind{flamelinev1.CaptureKind_CAPTURE_KIND_PAGE_FAULTS}, "page_faults:page_faults:bytes::"},
	{"alloc", []flamelinev1.CaptureKind{flamelinev1.CaptureKind_CAPTURE_KIND_ALLOC}, "memory:alloc_space:bytes:space:bytes"},
}

// CaptureEvents are the names of what a capture may sample.
func CaptureEvents() (names []string) {
	for _, e := range captureEvents {
		names = append(names, e.name)
	}
	return names
}

// A Captured is a capture that has ended.
type Captured struct {
	*flamelinev1.Capture
	Links []string // to the server's page, one for each profile type
}

// Capture has processes sampled by a server and its agents, waits until they were, and
// writes the profile if Out is set. When ctx ends, the capture is stopped, and what was
// sampled until then counts.
func Capture(ctx context.Context, o CaptureOptions) (*Captured, error) {
	event, err := o.check()
	if err != nil {
		return nil, err
	}
	api := flamelinev1connect.NewCaptureServiceClient(o.Server.client, o.Server.url)
	resp, err := api.Capture(ctx, connect.NewRequest(&flamelinev1.CaptureRequest{
		LabelSelector: o.Selector, Duration: o.Duration.Milliseconds(), Frequency: int64(o.Frequency), Kinds: event.kinds,
	}))
	switch connect.CodeOf(err) {
	case connect.CodeUnimplemented:
		return nil, fmt.Errorf("%s has no captures: it needs a Flameline server of this version", o.Server.url)
	case connect.CodeInvalidArgument:
		return nil, &UsageError{o.Server.wrap(err)}
	}
	if err != nil {
		return nil, o.Server.wrap(err)
	}
	c, err := o.follow(ctx, api, resp.Msg.Capture)
	if err != nil {
		return nil, err
	}
	return o.result(context.WithoutCancel(ctx), event, c)
}

// check finds mistakes before anything is sampled.
func (o *CaptureOptions) check() (event captureEvent, err error) {
	for _, e := range captureEvents {
		if e.name == o.Event {
			event = e
		}
	}
	if event.kinds == nil {
		return event, usage("-e %s is none of %s", o.Event, strings.Join(CaptureEvents(), ", "))
	}
	if _, err := profile.ParseSelector(o.Selector); err != nil {
		return event, &UsageError{err}
	}
	if o.Out != nil {
		if _, err := o.Out.format(render.SVG); err != nil {
			return event, err
		}
		if event.typ == "" {
			return event, usage("-o: -e %s stores CPU and off-CPU time apart; capture, and write each with `flameline export`", event.name)
		}
	}
	return event, nil
}

// follow returns when a capture has ended, everywhere. When ctx ends, it is stopped.
func (o *CaptureOptions) follow(ctx context.Context, api flamelinev1connect.CaptureServiceClient, c *flamelinev1.Capture) (*flamelinev1.Capture, error) {
	done, answered := ctx.Done(), time.Now()
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	again := time.NewTicker(captureAsk)
	defer again.Stop()
	for {
		if o.Progress != nil {
			o.Progress(c)
		}
		if c.State >= flamelinev1.CaptureState_CAPTURE_STATE_DONE {
			return c, nil
		}
		select {
		case <-done:
			done = nil
			if _, err := api.StopCapture(calls, connect.NewRequest(&flamelinev1.StopCaptureRequest{Id: c.Id})); err != nil {
				return nil, fmt.Errorf("stop %s: %w", c.Id, o.Server.wrap(err))
			}
			time.AfterFunc(captureStop, cancel)
		case <-again.C:
		}
		resp, err := api.ListCaptures(calls, connect.NewRequest(&flamelinev1.ListCapturesRequest{Id: c.Id}))
		switch {
		case err == nil && len(resp.Msg.Captures) == 1:
			c, answered = resp.Msg.Captures[0], time.Now()
		case connect.CodeOf(err) == connect.CodeUnavailable && time.Since(answered) < captureLoss:
		case err == nil:
			return nil, fmt.Errorf("%s does not say how far %s is", o.Server.url, c.Id)
		default:
			return nil, fmt.Errorf("ask for %s, which may go on: %w", c.Id, o.Server.wrap(err))
		}
	}
}

// result writes the file of a capture, and finds the links to it.
func (o *CaptureOptions) result(ctx context.Context, event captureEvent, c *flamelinev1.Capture) (*Captured, error) {
	var r Range
	profiles := int64(0)
	var reasons []string
	for _, n := range c.Nodes {
		profiles += n.Profiles
		if n.Reason != "" {
			reasons = append(reasons, n.Node+": "+n.Reason)
		}
		if n.Started > 0 && (r.From.IsZero() || n.Started < r.From.UnixMilli()) {
			r.From = time.UnixMilli(n.Started)
		}
		if n.Ended > r.Until.UnixMilli() {
			r.Until = time.UnixMilli(n.Ended)
		}
	}
	if profiles == 0 {
		why := "the processes that match used no CPU time, or did nothing of what was asked for"
		if c.State == flamelinev1.CaptureState_CAPTURE_STATE_NO_MATCH {
			why = "no process matches " + o.Selector
		}
		if len(reasons) > 0 {
			why = strings.Join(reasons, "; ")
		}
		return nil, fmt.Errorf("%s has no samples: %s", c.Id, why)
	}
	// Profiles begin and end with seconds. The label selects, so more time does no harm.
	all := Range{r.From.Add(-captureMargin).Truncate(time.Second), r.Until.Add(captureMargin)}
	selector := fmt.Sprintf("{%s=%q}", profile.LabelCapture, c.Id)
	out := &Captured{Capture: c}
	for _, e := range captureEvents {
		if e.typ == "" || len(e.kinds) != 1 || !slices.Contains(event.kinds, e.kinds[0]) {
			continue
		}
		out.Links = append(out.Links, o.Server.url+"/?"+url.Values{
			"profileTypeId": {e.typ}, "labelSelector": {selector}, "refresh": {""},
			"from": {strconv.FormatInt(all.From.UnixMilli(), 10)}, "to": {strconv.FormatInt(all.Until.UnixMilli(), 10)},
		}.Encode())
	}
	if o.Out == nil {
		return out, nil
	}
	err := Export(ctx, ExportOptions{Server: o.Server, Query: event.typ + selector, Range: all, Covers: r, Title: o.Title, Out: *o.Out})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s is stored, but not written", c.Id), err)
	}
	return out, nil
}
