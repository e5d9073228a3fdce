package client

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
)

// StatusCanceled is the status of an answer that nobody waits for any more.
const StatusCanceled backend.Status = 499

// An InvalidError is a mistake in a request, made before any server was asked.
type InvalidError struct {
	Field string // as the user knows it, such as labelSelector
	Err   error
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Err.Error() }
func (e *InvalidError) Unwrap() error { return e.Err }

// Invalidf is an InvalidError with a formatted message. Its source is
// downstream: mending it takes the user, not a new version of the plugin.
func Invalidf(field, format string, args ...any) error {
	return backend.DownstreamError(&InvalidError{Field: field, Err: fmt.Errorf(format, args...)})
}

// A callError is a call that the server refused or that did not reach it. It
// keeps the Connect error, and so its code, behind a message for people.
type callError struct {
	message string
	err     error
}

func (e *callError) Error() string { return e.message }
func (e *callError) Unwrap() error { return e.err }

// wrap gives a failed call of the server its source (downstream) and a message
// that says what was asked, what went wrong and what to do about it.
func (c *Client) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	message := err.Error()
	var ce *connect.Error
	if errors.As(err, &ce) {
		message = ce.Message()
	}
	switch connect.CodeOf(err) {
	case connect.CodeCanceled:
		message = "canceled"
	case connect.CodeDeadlineExceeded:
		message = "no answer from " + c.url + " in time; ask for a shorter range, or raise the timeout in the data source's settings"
	case connect.CodeUnavailable:
		message = "cannot reach " + c.url + ": " + message
	case connect.CodeUnauthenticated:
		message = c.url + " does not accept the data source's credentials: " + message
	case connect.CodePermissionDenied:
		message = c.url + " denies access: " + message
	case connect.CodeUnimplemented:
		message = c.url + " does not offer this call; is it the address of a Flameline or Pyroscope server? (" + message + ")"
	}
	return backend.DownstreamError(&callError{message: what + ": " + message, err: err})
}

// Status is the HTTP status that tells the kind of error.
func Status(err error) backend.Status {
	var invalid *InvalidError
	switch {
	case err == nil:
		return backend.StatusOK
	case errors.As(err, &invalid):
		return backend.StatusBadRequest
	case errors.Is(err, context.Canceled):
		return StatusCanceled
	case errors.Is(err, context.DeadlineExceeded):
		return backend.StatusTimeout
	}
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return backend.StatusInternal
	}
	switch ce.Code() {
	case connect.CodeCanceled:
		return StatusCanceled
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeOutOfRange:
		return backend.StatusBadRequest
	case connect.CodeUnauthenticated:
		return backend.StatusUnauthorized
	case connect.CodePermissionDenied:
		return backend.StatusForbidden
	case connect.CodeNotFound:
		return backend.StatusNotFound
	case connect.CodeResourceExhausted:
		return backend.StatusTooManyRequests
	case connect.CodeUnimplemented:
		return backend.StatusNotImplemented
	case connect.CodeDeadlineExceeded:
		return backend.StatusTimeout
	default:
		return backend.StatusBadGateway
	}
}

// Response is the answer to a query that failed: message, status and source.
// An error without a source is a fault of the plugin, unless it is the
// cancellation of the request.
func Response(err error) backend.DataResponse {
	source := backend.ErrorSourcePlugin
	if backend.IsDownstreamError(err) {
		source = backend.ErrorSourceDownstream
	}
	return backend.DataResponse{Error: err, Status: Status(err), ErrorSource: source}
}
