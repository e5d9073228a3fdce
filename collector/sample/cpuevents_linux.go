//go:build linux && (amd64 || arm64)

package sample

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// cpuEvents run a program at a software event of the kernel, on all CPUs.
type cpuEvents struct {
	name    string // for errors
	configs []uint64
	program *ebpf.Program

	mu     sync.Mutex
	closed bool
	events map[cpuEvent]int // file descriptors
}

// A cpuEvent is one event (PERF_COUNT_SW_*) on one CPU.
type cpuEvent struct {
	cpu    int
	config uint64
}

func newCPUEvents(name string, p *ebpf.Program, configs ...uint64) *cpuEvents {
	return &cpuEvents{name: name, configs: configs, program: p, events: map[cpuEvent]int{}}
}

// start opens the events of the CPUs that are online and have none yet. It is called
// again to find CPUs that came later.
func (e *cpuEvents) start() error {
	cpus, err := onlineCPUs()
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	for _, cpu := range cpus {
		for _, config := range e.configs {
			if err := e.open(cpuEvent{cpu, config}); err != nil {
				return fmt.Errorf("open event %s of CPU %d: %w", e.name, cpu, err)
			}
		}
	}
	return nil
}

// open opens an event that runs the program each time it occurs.
func (e *cpuEvents) open(event cpuEvent) error {
	if _, ok := e.events[event]; ok {
		return nil
	}
	attr := unix.PerfEventAttr{
		Type:        unix.PERF_TYPE_SOFTWARE,
		Config:      event.config,
		Sample:      1, // every one
		Sample_type: unix.PERF_SAMPLE_ADDR,
		Bits:        unix.PerfBitDisabled,
	}
	attr.Size = uint32(unix.PERF_ATTR_SIZE_VER0)
	fd, err := unix.PerfEventOpen(&attr, -1, event.cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return err
	}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, e.program.FD()); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("attach program: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("enable: %w", err)
	}
	e.events[event] = fd
	return nil
}

// Close closes the events.
func (e *cpuEvents) Close() error {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	var errs []error
	for event, fd := range e.events {
		_ = unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_DISABLE, 0)
		errs = append(errs, unix.Close(fd))
		delete(e.events, event)
	}
	return errors.Join(errs...)
}
