//go:build linux && (amd64 || arm64)

package sample

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/ebpf-profiler/libpf"
	"go.opentelemetry.io/ebpf-profiler/libpf/pfelf"
	"go.opentelemetry.io/ebpf-profiler/process"
	"go.opentelemetry.io/ebpf-profiler/remotememory"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
)

// A checkedProcess is a process as the unwinder's library reads it. Its files are
// checked before the library sees them, and read within bounds of bytes and of
// time. The library cannot map them into memory: memory that is mapped from a
// file faults where the file was cut off meanwhile, and stops all of this process
// where its file system does not answer.
//
// Most files are read on the goroutine that the library runs on: handing work to
// another one takes milliseconds on a busy machine, in which the samples of a new
// process are incomplete.
type checkedProcess struct {
	process.Process
	guard    *untrusted.Guard // of files
	maps     *untrusted.Guard // of /proc/PID/maps
	files    *fileChecks
	systems  *fileSystems
	memories *remoteMemories
	state    *memoryState
	vdso     *vdsoState
	probes   *allocProbes // nil if allocations are not measured
}

// passing returns an error of a file as one that the library asks again after. Any other
// but os.ErrNotExist it remembers for hours, for all processes that map the file; but
// ESRCH is of a process that ends meanwhile, and a file system that did not answer may
// do so later.
func passing(err error) error {
	reason := untrusted.Reason(err)
	if errors.Is(err, unix.ESRCH) || reason == "timeout" || reason == "busy" {
		return fmt.Errorf("%w: %w", os.ErrNotExist, err)
	}
	return err
}

// A vdsoState says until when the library knows the kernel's shared object, which it
// reads from the memory of a process. It is used by one goroutine.
type vdsoState struct{ until time.Time }

// vdsoKnown is shorter than the six hours for which the library remembers a file, or that
// it is not readable.
const vdsoKnown = 5 * time.Hour

// readable reports whether the library can read the kernel's shared object from a
// process. It could not if the process ends meanwhile, and would remember that.
func (v *vdsoState) readable(c *checkedProcess, m *process.RawMapping) bool {
	if v == nil || time.Now().Before(v.until) {
		return true
	}
	if m.Length > maxVDSO {
		return false
	}
	if _, err := c.GetRemoteMemory().ReadAt(make([]byte, m.Length), int64(m.Vaddr)); err != nil {
		return false
	}
	v.until = time.Now().Add(vdsoKnown) // what was read is kept, see keepPages
	return true
}

// within calls work for a file of a device, on a goroutine that may be given up
// if the device may not answer. One that did not is left alone for a while.
func within[T any](c *checkedProcess, device uint64, work func() (T, error)) (T, error) {
	if !c.systems.mayHang(c.PID(), device) {
		return work()
	}
	if c.systems.isSilent(device) {
		var none T
		return none, fmt.Errorf("file system %d:%d did not answer lately: %w", device>>8, device&0xff, untrusted.ErrTimeout)
	}
	result, err := untrusted.Do(c.guard, work)
	if reason := untrusted.Reason(err); reason == "timeout" || reason == "busy" {
		if reason == "timeout" {
			c.systems.setSilent(device)
		}
		c.files.refuse(fmt.Sprintf("on file system %d:%d", device>>8, device&0xff), fileVersion{}, err)
	}
	return result, err
}

// libraryBudget is what the library may read of one file each time that it is
// opened.
var libraryBudget = untrusted.Budget{Bytes: 2 << 30, Time: 30 * time.Second}

// maxMappings bounds the mappings of a process that are looked at. The kernel
// allows 65,530 by default.
const maxMappings = 128 << 10

// A checkedFile is an open file that was checked.
type checkedFile struct {
	*untrusted.Reader
	file *os.File
}

func (f *checkedFile) Close() error { return f.file.Close() }

// promptFile reads a file whose file system may not answer. After one read that
// got no answer it gets no other.
type promptFile struct {
	file  *os.File
	guard *untrusted.Guard
	dead  atomic.Bool
}

func (f *promptFile) ReadAt(p []byte, off int64) (n int, err error) {
	for {
		part := p[n:min(len(p), n+promptPart)]
		m, err := f.readPart(part, off+int64(n))
		if n += m; err != nil || n == len(p) {
			return n, err
		}
	}
}

// promptPart is how many bytes are read at a time: they are copied.
const promptPart = 1 << 20

func (f *promptFile) readPart(p []byte, off int64) (int, error) {
	if f.dead.Load() {
		return 0, untrusted.ErrTimeout
	}
	// The read may end when p is in other hands.
	data, err := untrusted.Do(f.guard, func() ([]byte, error) {
		data := make([]byte, len(p))
		n, err := f.file.ReadAt(data, off)
		return data[:n], err
	})
	if untrusted.Reason(err) != "" {
		f.dead.Store(true)
	}
	return copy(p, data), err
}

// open opens a file, checks it and makes it fit for the library.
func (c *checkedProcess) open(what string, device uint64, open func() (*os.File, error)) (*checkedFile, error) {
	type opened struct {
		file    *os.File
		size    int64
		version fileVersion
	}
	o, err := within(c, device, func() (o opened, err error) {
		if o.file, err = open(); err != nil {
			return o, err
		}
		var st unix.Stat_t
		if o.size, err = untrusted.SizeOf(o.file); err == nil {
			err = unix.Fstat(int(o.file.Fd()), &st)
		}
		if err != nil {
			o.file.Close()
			return o, err
		}
		o.version = fileVersion{fileKey{st.Dev, st.Ino}, st.Mtim.Nano()}
		if c.files.refused(o.version) {
			o.file.Close()
			return o, fmt.Errorf("%s was refused lately: %w", what, untrusted.ErrMalformed)
		}
		return o, nil
	})
	if err != nil {
		return nil, passing(err)
	}
	var prompt io.ReaderAt = o.file
	if c.systems.mayHang(c.PID(), device) {
		prompt = &promptFile{file: o.file, guard: c.guard}
	}
	err = c.files.check(what, o.version, func() error {
		return checkELF(untrusted.NewReader(prompt, o.size, goOpening))
	})
	if err != nil {
		go o.file.Close()
		return nil, passing(err)
	}
	c.files.reading(what, o.version)
	return &checkedFile{Reader: untrusted.NewReader(prompt, o.size, libraryBudget), file: o.file}, nil
}

// OpenMappingFile opens the file that a mapping is of.
func (c *checkedProcess) OpenMappingFile(m *process.RawMapping) (process.ReadAtCloser, error) {
	mapping := *m
	f, err := c.open(m.Path, m.Device, func() (*os.File, error) {
		r, err := c.Process.OpenMappingFile(&mapping)
		if err != nil {
			return nil, err
		}
		f, ok := r.(*os.File)
		if !ok {
			r.Close()
			return nil, errors.New("mapping is not of a file")
		}
		return f, nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// OpenELF opens a file by its path in the root of the process.
func (c *checkedProcess) OpenELF(name string) (*pfelf.File, error) {
	root := fmt.Sprintf("/proc/%d/root", c.PID())
	// On which device it is shows when it is open.
	f, err := c.open(name, unknownDevice, func() (*os.File, error) { return openRegularIn(root, name) })
	if err != nil {
		return nil, err
	}
	return pfelf.NewFileOwned(f)
}

// unknownDevice is no device.
const unknownDevice = ^uint64(0)

// openRegularIn opens a file below a root directory, as a process with that root
// would. O_NONBLOCK keeps a pipe in its place from blocking.
func openRegularIn(root, name string) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	defer func() { _ = unix.Close(dir) }()
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("open %s in %s: %w", name, root, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// GetMappingFileLastModified returns when the file of a mapping was changed, in
// ns since 1970, 0 if that cannot be read.
func (c *checkedProcess) GetMappingFileLastModified(m *process.RawMapping) int64 {
	mapping := *m
	t, _ := within(c, m.Device, func() (int64, error) { return c.Process.GetMappingFileLastModified(&mapping), nil })
	return t
}

// CalculateMappingFileID returns a hash of the file that a mapping is of. The file was
// opened before, so an error is of the moment, see passing.
func (c *checkedProcess) CalculateMappingFileID(m *process.RawMapping) (libpf.FileID, error) {
	mapping := *m
	id, err := within(c, m.Device, func() (libpf.FileID, error) { return c.Process.CalculateMappingFileID(&mapping) })
	if err != nil {
		return id, fmt.Errorf("%w: %w", os.ErrNotExist, err)
	}
	return id, nil
}

// GetProcessMeta reads the environment, among others, which is in the memory of
// the process. The library calls it under a lock.
func (c *checkedProcess) GetProcessMeta(cfg process.MetaConfig) process.ProcessMeta {
	meta, _ := ofMemory(c.memories, c.state, "environment", func() (process.ProcessMeta, error) { return c.Process.GetProcessMeta(cfg), nil })
	return meta
}

// GetRemoteMemory returns what the library reads the memory of the process with.
func (c *checkedProcess) GetRemoteMemory() remotememory.RemoteMemory {
	rm := c.Process.GetRemoteMemory()
	rm.ReaderAt = &processMemory{memoryState: c.state, memories: c.memories, memory: rm.ReaderAt}
	return rm
}

// IterateMappings calls a function with every mapping, once all are read. The list
// is locked while the process changes it, and that may wait for a file system. A
// process whose list does not come counts as one that we may not read, which the
// library leaves alone from then on.
func (c *checkedProcess) IterateMappings(callback func(m process.RawMapping) bool) (uint32, error) {
	type listed struct {
		mappings []process.RawMapping
		errors   uint32
	}
	l, err := untrusted.Do(c.maps, func() (l listed, err error) {
		l.errors, err = c.Process.IterateMappings(func(m process.RawMapping) bool {
			m.Path = strings.Clone(m.Path) // it is overwritten
			l.mappings = append(l.mappings, m)
			return len(l.mappings) < maxMappings
		})
		if errors.Is(err, process.ErrCallbackStopped) {
			err = nil
		}
		return l, err
	})
	if errors.Is(err, untrusted.ErrTimeout) {
		c.memories.refuse(c.state, "mappings", untrusted.Reason(err), err)
		return 0, os.ErrPermission
	}
	if err != nil {
		return l.errors, err
	}
	c.probes.seen(int(c.PID()), l.mappings, func(m *process.RawMapping) (*os.File, error) { return openMappingFile(c, m) })
	for _, m := range l.mappings {
		if m.IsVDSO() && !c.vdso.readable(c, &m) {
			continue
		}
		if !callback(m) {
			return l.errors, process.ErrCallbackStopped
		}
	}
	return l.errors, nil
}
