// Package storeerr has the errors that callers of the store tell apart.
package storeerr

import (
	"errors"
	"fmt"
	"math"
)

// What the store's errors of the same names are about, it says itself.
var (
	ErrLimit       = errors.New("limit reached")
	ErrInvalid     = errors.New("invalid")
	ErrCorrupt     = errors.New("corrupt value")
	ErrInternal    = errors.New("internal error; the server's log has it")
	ErrUnavailable = errors.New("store unavailable")
	ErrInUse       = errors.New("a process has the store open")
)

// ErrOverflow is about values that are too many for the API's numbers. It wraps
// ErrLimit. Trees are cut on the ground that no call is larger than its parent.
var ErrOverflow = fmt.Errorf("%w: the values add up to more than %d; choose a shorter range or fewer services", ErrLimit, int64(math.MaxInt64))
