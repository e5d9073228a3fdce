//go:build linux && (amd64 || arm64)

package sample

import (
	"context"
	"time"

	"go.opentelemetry.io/ebpf-profiler/times"
)

// clockStep is how far the wall clock may be from where the kernel's says before
// the offset between them is measured anew at once, rather than within clockSync.
const clockStep = 20 * time.Millisecond

// A wallClock watches the offset between the kernel's clock, which the times of
// samples are of, and the wall clock. It jumps when the machine wakes up, as the
// kernel's clock stands still while it sleeps, and when the wall clock is set;
// samples would then be stored as of a time at which nothing ran. It is used by
// one goroutine.
type wallClock struct {
	offset int64 // wall less kernel, ns
	// now reads both clocks, in ns; measure has the unwinder measure the offset.
	now     func() (wall, kernel int64)
	measure func()
}

func newWallClock(ctx context.Context) *wallClock {
	return &wallClock{
		now:     func() (wall, kernel int64) { return time.Now().UnixNano(), int64(times.GetKTime()) },
		measure: func() { times.StartRealtimeSync(ctx, 0) },
	}
}

// follow has the offset measured if it has jumped. It is called before the time
// of a sample is converted.
func (c *wallClock) follow() {
	wall, kernel := c.now()
	if jump := wall - kernel - c.offset; jump > int64(clockStep) || jump < -int64(clockStep) {
		c.offset = wall - kernel
		c.measure()
	}
}
