// Package storeerr has the errors that callers of the store tell apart.
package storeerr

import (
	"errors"
	"fmt"
	"math"
)

// ErrLimit is wrapped by errors about a limit that was reached. Their text names
// the limit.
var ErrLimit = errors.New("limit reached")

// ErrInvalid is wrapped by errors about what the caller passed. Their text names
// the field at fault.
var ErrInvalid = errors.New("invalid")

// ErrCorrupt is wrapped by every error about a value on disk that cannot be
// read. The error's text names the key and the offset in the value.
var ErrCorrupt = errors.New("corrupt value")

// ErrInternal is wrapped by the error of a call that panicked. Its text says nothing
// of the panic: the log has that, with the stack.
var ErrInternal = errors.New("internal error; the server's log has it")

// ErrUnavailable is wrapped by errors about what the machine lacks at present:
// disk space, file descriptors, a disk that takes writes. Nothing of the call
// was acknowledged; it can be sent again later.
var ErrUnavailable = errors.New("store unavailable")

// ErrInUse is wrapped by the error of a verification of a store that a process has open.
var ErrInUse = errors.New("a process has the store open")

// ErrOverflow is about values that are too many for the API's numbers. It wraps
// ErrLimit. Trees are cut on the ground that no call is larger than its parent.
var ErrOverflow = fmt.Errorf("%w: the values add up to more than %d; choose a shorter range or fewer services", ErrLimit, int64(math.MaxInt64))
