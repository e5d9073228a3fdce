//go:build linux && (amd64 || arm64)

package sample

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/ebpf-profiler/libpf"

	"github.com/flameline/flameline/collector/untrusted"
)

const (
	// unreadableTime is how long a file that could not be read is not tried again.
	unreadableTime = 10 * time.Minute
	// unreadableQuiet is the time between two log lines above debug level.
	unreadableQuiet = 10 * time.Second
	maxUnreadable   = 4096
)

// unreadables are the files of processes that could not be read, or only at a
// cost that no real program has. It is safe for concurrent use.
type unreadables struct {
	metrics *metrics
	log     *slog.Logger

	mu     sync.Mutex
	until  map[libpf.FileID]time.Time
	logged time.Time
}

func newUnreadables(m *metrics, l *slog.Logger) *unreadables {
	return &unreadables{metrics: m, log: l, until: map[libpf.FileID]time.Time{}}
}

// has reports whether a file was unreadable lately.
func (u *unreadables) has(id libpf.FileID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return time.Now().Before(u.until[id])
}

// add counts and logs a file that a reader could not read, if the file is at
// fault, and reports whether it is.
func (u *unreadables) add(id libpf.FileID, m module, reader string, err error) bool {
	reason := untrusted.Reason(err)
	if reason == "" {
		return false
	}
	u.metrics.unreadable.WithLabelValues(reader, reason).Inc()
	now := time.Now()
	u.mu.Lock()
	if len(u.until) >= maxUnreadable {
		clear(u.until)
	}
	u.until[id] = now.Add(unreadableTime)
	level := slog.LevelDebug
	if now.Sub(u.logged) >= unreadableQuiet {
		u.logged, level = now, slog.LevelWarn
	}
	u.mu.Unlock()
	u.log.Log(context.Background(), level, "file of a process is not readable", "file", m.name, "build_id", m.buildID,
		"reader", reader, "reason", reason, "err", err, "next_try", unreadableTime)
	return true
}
