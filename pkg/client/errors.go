package client

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"github.com/grafana/grafana-plugin-sdk-go/backend"
)

// StatusCanceled is the status of an answer whose request was cancelled.
const StatusCanceled backend.Status = 499

// An InvalidError is a mistake in a request, found before a server was called.
type InvalidError struct {
	Field string // as the user knows it, such as labelSelector
	Err   error
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Err.Error() }
func (e *InvalidError) Unwrap() error { return e.Err }

// Invalidf returns an InvalidError with a formatted message. Its source is downstream,
// since the user has to correct it rather than the plugin.
func Invalidf(field, format string, args ...any) error {
	return backend.DownstreamError(&InvalidError{Field: field, Err: fmt.Errorf(format, args...)})
}

// A callError is a call that the server refused or that did not reach it. It has a
// message for people, and wraps the Connect error with its code.
type callError struct {
	message string
	err     error
}

func (e *callError) Error() string { return e.message }
func (e *callError) Unwrap() error { return e.err }

// wrap returns the error of a failed call with its source (downstream), and with a
// message that says what was requested, what failed and what to do about it.
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

// Status returns the HTTP status for an error.
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

// Response returns the answer to a failed query: message, status and source. An error
// without a source is the plugin's fault, unless the request was cancelled.
func Response(err error) backend.DataResponse {
	source := backend.ErrorSourcePlugin
	if backend.IsDownstreamError(err) {
		source = backend.ErrorSourceDownstream
	}
	return backend.DataResponse{Error: err, Status: Status(err), ErrorSource: source}
}
