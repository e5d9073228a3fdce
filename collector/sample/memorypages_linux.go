//go:build linux && (amd64 || arm64)

package sample

import (
	"runtime"

	"go.opentelemetry.io/ebpf-profiler/libpf"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
)

const (
	// pageSize is that of the smallest pages that Linux has on these processors, so
	// that reading one touches no page that was not asked for.
	pageSize = 4 << 10
	// maxPages bounds the pages that are kept: 16 MiB.
	maxPages = 4 << 10
	// maxPagewise is from how many bytes on a read is not worth keeping.
	maxPagewise = 16 << 10
)

// memoryPages keep what was read of a process while the library reads that
// process. To know a JVM it reads 7,500 values of 8 to 1,024 bytes from 140 pages,
// and half of them again each time that the JVM maps code. Every read is handed to
// another goroutine, see remoteMemories, which takes milliseconds on a busy
// machine, and all other new processes wait meanwhile.
//
// They are of one thread: others, which name frames, must see memory as it is.
type memoryPages struct {
	pid    libpf.PID
	thread int
	pages  map[int64][]byte // by address
}

// keepPages keeps the pages of a process that the calling goroutine reads, until
// the function that it returns is called by the same goroutine.
func (r *remoteMemories) keepPages(pid libpf.PID) (forget func()) {
	runtime.LockOSThread()
	r.pages.Store(&memoryPages{pid: pid, thread: unix.Gettid(), pages: map[int64][]byte{}})
	return func() {
		r.pages.Store(nil)
		runtime.UnlockOSThread()
	}
}

// pagesOf returns what is kept of a process for the calling goroutine, or nil.
func (r *remoteMemories) pagesOf(pid libpf.PID) *memoryPages {
	if k := r.pages.Load(); k != nil && k.pid == pid && k.thread == unix.Gettid() {
		return k
	}
	return nil
}

// readAt is ReadAt of a process's memory with pages that are kept.
func (k *memoryPages) readAt(m *processMemory, p []byte, addr int64) (n int, err error) {
	for n < len(p) {
		at := addr + int64(n)
		first := at &^ (pageSize - 1)
		page, ok := k.pages[first]
		if !ok {
			if len(p)-n > maxPagewise || len(k.pages) >= maxPages {
				got, err := m.read(p[n:], at)
				return n + got, err
			}
			page = make([]byte, pageSize)
			switch got, err := m.read(page, first); {
			case untrusted.Reason(err) != "":
				return n, err
			case got < len(page):
				// The library knows what to make of the error for its own address.
				got, err := m.read(p[n:], at)
				return n + got, err
			}
			k.pages[first] = page
		}
		n += copy(p[n:], page[at-first:])
	}
	return n, nil
}
