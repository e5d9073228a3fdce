package store

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A failure is the end of all writing: the log or the manifest could not be
// written or synced. What is on disk is in order, and a new process that opens
// the store finds all that was acknowledged; this one cannot know what reached
// the disk, so it acknowledges nothing more. It is safe for concurrent use.
type failure struct {
	log    *slog.Logger
	once   sync.Once
	failed chan struct{} // closed once err is set
	err    error
}

func newFailure(log *slog.Logger) *failure {
	return &failure{log: log, failed: make(chan struct{})}
}

// set records the first reason.
func (f *failure) set(reason string) {
	f.once.Do(func() {
		f.err = fmt.Errorf("%w: the disk does not take writes any more: %s; restart once it does", storeerr.ErrUnavailable, reason)
		f.log.Error("the store failed for good: nothing is acknowledged from here on", "err", reason)
		close(f.failed)
	})
}

// get returns the reason, nil if there is none.
func (f *failure) get() error {
	select {
	case <-f.failed:
		return f.err
	default:
		return nil
	}
}
