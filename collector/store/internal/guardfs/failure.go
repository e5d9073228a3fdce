package guardfs

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// A Failure is the end of all writing: the log or the manifest could not be
// written or synced. What is on disk is in order, and a new process that opens
// the store finds all that was acknowledged; this one cannot know what reached
// the disk, so it acknowledges nothing more. It is safe for concurrent use.
type Failure struct {
	log    *slog.Logger
	once   sync.Once
	Failed chan struct{} // closed once err is set
	err    error
}

// NewFailure returns the failure of a store that has not failed.
func NewFailure(log *slog.Logger) *Failure {
	return &Failure{log: log, Failed: make(chan struct{})}
}

// Fail records the first reason.
func (f *Failure) Fail(reason string) {
	f.once.Do(func() {
		f.err = fmt.Errorf("%w: the disk does not take writes any more: %s; restart once it does", storeerr.ErrUnavailable, reason)
		f.log.Error("the store failed for good: nothing is acknowledged from here on", "err", reason)
		close(f.Failed)
	})
}

// Err returns the reason, nil if there is none.
func (f *Failure) Err() error {
	select {
	case <-f.Failed:
		return f.err
	default:
		return nil
	}
}
