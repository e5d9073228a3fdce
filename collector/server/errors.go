package server

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"github.com/flameline/flameline/collector/store"
)

// code gives an error of the store the Connect code that tells a client what to do. It
// is the only place that maps store errors to codes.
func code(err error) error {
	var ce *connect.Error
	switch {
	case err == nil || errors.As(err, &ce):
		return err
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, err)
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	case errors.Is(err, store.ErrInvalid):
		return connect.NewError(connect.CodeInvalidArgument, err)
	case errors.Is(err, store.ErrUnavailable):
		return connect.NewError(connect.CodeUnavailable, err)
	case errors.Is(err, store.ErrLimit):
		return connect.NewError(connect.CodeResourceExhausted, err)
	}
	return connect.NewError(connect.CodeInternal, err) // also store.ErrInternal
}

// invalid returns an error about the client's request.
func invalid(err error) error { return connect.NewError(connect.CodeInvalidArgument, err) }
