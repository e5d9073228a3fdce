//go:build linux && (amd64 || arm64)

package sample

import (
	"errors"
	"os"
	"slices"

	"github.com/cilium/ebpf/ringbuf"
	"go.opentelemetry.io/ebpf-profiler/libpf"
)

// A newcomer is a sample of a process that the unwinder does not know.
type newcomer struct {
	comm     libpf.Comm
	time     int64 // CLOCK_MONOTONIC, ns
	cpu      uint32
	pid, tid libpf.PID
	kernel   []uint64 // leaf first
	leaf     place
	origin   origin
}

// trace returns the kernel's part of the stacktrace in the unwinder's own form,
// with no origin, so that it names the frames. The unwinder owns it.
func (n newcomer) trace() *libpf.EbpfTrace {
	t := &libpf.EbpfTrace{
		Comm:            n.comm,
		KTime:           n.time,
		CpuID:           n.cpu,
		TID:             n.tid,
		PID:             n.pid,
		NumKernelFrames: uint16(len(n.kernel)),
	}
	t.FrameData = append(t.FrameDataBuf[:0], n.kernel...)
	return t
}

// readUnknown passes on samples of processes that the unwinder does not know.
func (s *Source) readUnknown() {
	defer s.running.Done()
	var (
		u   unknownSample
		buf ringbuf.Record
	)
	for {
		err := s.gate.read(&u, &buf)
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil:
			s.metrics.lost.WithLabelValues("read_error").Inc()
			s.log.Debug("sample lost", "err", err)
			continue
		}
		n := newcomer{
			comm:   libpf.NewComm(u.Comm),
			time:   u.Time,
			cpu:    u.CPU,
			pid:    libpf.PID(u.PID),
			tid:    libpf.PID(u.TID),
			kernel: slices.Clone(u.Kernel[:u.KernelFrames]),
			leaf:   s.placeOf(u.PID, u.Leaf),
			origin: u.Origin,
		}
		select {
		case s.unknown <- n:
		case <-s.done:
			return
		}
	}
}
