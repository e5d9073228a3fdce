package server

import (
	"context"
	"errors"
	"sync/atomic"

	"connectrpc.com/connect"

	"github.com/flameline/flameline/collector/capture"
	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
	"github.com/flameline/flameline/pkg/api/flameline/v1/flamelinev1connect"
)

// Captures are what the server needs for its CaptureService; *capture.Board implements it.
// It is safe for concurrent use.
type Captures interface {
	Capture(ctx context.Context, m *flamelinev1.CaptureRequest) (*flamelinev1.Capture, error)
	List(id string) ([]*flamelinev1.Capture, error)
	Stop(id string) (*flamelinev1.Capture, error)
	Poll(m *flamelinev1.PollCapturesRequest) (*flamelinev1.PollCapturesResponse, error)
}

var _ Captures = (*capture.Board)(nil)

// SetCaptures makes the server answer calls about captures, which are unavailable before.
func (s *Server) SetCaptures(c Captures) { s.captures.Store(&c) }

// A capturer is flameline.v1.CaptureService.
type capturer struct{ captures *atomic.Pointer[Captures] }

var _ flamelinev1connect.CaptureServiceHandler = capturer{}

// Capture begins a capture.
func (c capturer) Capture(ctx context.Context, req *connect.Request[flamelinev1.CaptureRequest]) (*connect.Response[flamelinev1.CaptureResponse], error) {
	return ask(c, func(all Captures) (*flamelinev1.CaptureResponse, error) {
		one, err := all.Capture(ctx, req.Msg)
		return &flamelinev1.CaptureResponse{Capture: one}, err
	})
}

// ListCaptures lists captures.
func (c capturer) ListCaptures(_ context.Context, req *connect.Request[flamelinev1.ListCapturesRequest]) (*connect.Response[flamelinev1.ListCapturesResponse], error) {
	return ask(c, func(all Captures) (*flamelinev1.ListCapturesResponse, error) {
		list, err := all.List(req.Msg.Id)
		return &flamelinev1.ListCapturesResponse{Captures: list}, err
	})
}

// StopCapture ends a capture.
func (c capturer) StopCapture(_ context.Context, req *connect.Request[flamelinev1.StopCaptureRequest]) (*connect.Response[flamelinev1.StopCaptureResponse], error) {
	return ask(c, func(all Captures) (*flamelinev1.StopCaptureResponse, error) {
		one, err := all.Stop(req.Msg.Id)
		return &flamelinev1.StopCaptureResponse{Capture: one}, err
	})
}

// PollCaptures answers an agent.
func (c capturer) PollCaptures(_ context.Context, req *connect.Request[flamelinev1.PollCapturesRequest]) (*connect.Response[flamelinev1.PollCapturesResponse], error) {
	return ask(c, func(all Captures) (*flamelinev1.PollCapturesResponse, error) { return all.Poll(req.Msg) })
}

// ask calls fn, and gives its error a code.
func ask[M any](c capturer, fn func(Captures) (*M, error)) (*connect.Response[M], error) {
	all := c.captures.Load()
	if all == nil {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("sampling has not begun yet"))
	}
	m, err := fn(*all)
	switch {
	case err == nil:
		return connect.NewResponse(m), nil
	case errors.Is(err, capture.ErrInvalid):
		return nil, invalid(err)
	case errors.Is(err, capture.ErrImpossible):
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	case errors.Is(err, capture.ErrBusy):
		return nil, connect.NewError(connect.CodeResourceExhausted, err)
	case errors.Is(err, capture.ErrNotFound):
		return nil, connect.NewError(connect.CodeNotFound, err)
	}
	return nil, code(err)
}
