package store

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// recovered turns a panic into an error of the call that it happened in. It is
// deferred by every goroutine that works for a call, since a panic that leaves a
// goroutine ends the process.
func (db *DB) recovered(err *error) {
	if p := recover(); p != nil {
		*err = db.panicked(p)
	}
}

// panicked logs and counts a panic. It is called while the goroutine that panicked
// unwinds, so that the stack is the panic's.
func (db *DB) panicked(p any) error {
	if err, ok := p.(error); ok && errors.Is(err, storeerr.ErrInternal) {
		return err // it was logged where it happened
	}
	db.metrics.panics.Inc()
	db.log.Error("a call of the store panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return storeerr.ErrInternal
}
