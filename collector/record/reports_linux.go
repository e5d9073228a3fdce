package record

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cilium/ebpf"
	perf "github.com/elastic/go-perf"
	"golang.org/x/sys/unix"
)

// openReports opens the kernel's reports about all processes, one event for each CPU
// with a ring of so many pages. choose says what is reported. Times in reports are of
// CLOCK_MONOTONIC. Also with an error it returns the events that are open.
func openReports(pages int, choose func(*perf.Options)) (events []*perf.Event, err error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, err
	}
	for cpu := range cpus {
		attr := &perf.Attr{}
		if err := perf.Dummy.Configure(attr); err != nil {
			return events, err
		}
		choose(&attr.Options)
		attr.Options.UseClockID, attr.ClockID = true, unix.CLOCK_MONOTONIC
		attr.SetWakeupWatermark(1)
		e, err := perf.Open(attr, perf.AllThreads, cpu, nil)
		if errors.Is(err, unix.ENODEV) {
			continue // offline
		}
		if err == nil {
			events = append(events, e)
			err = e.MapRingNumPages(pages)
		}
		if err != nil {
			return events, fmt.Errorf("follow the processes that begin on CPU %d: %w", cpu, err)
		}
	}
	return events, nil
}

// readReports hands on the reports of one CPU until ctx is done.
func readReports(ctx context.Context, e *perf.Event, log *slog.Logger, take func(perf.Record)) {
	for {
		r, err := e.ReadRecord(ctx)
		if err != nil {
			if ctx.Err() == nil {
				log.Warn("processes that begin are followed no more", "err", err)
			}
			return
		}
		take(r)
	}
}
