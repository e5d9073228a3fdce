package symbolize

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flameline/flameline/collector/untrusted"
)

// maxPlaces bounds how many processes are remembered for a binary.
const maxPlaces = 4

// vdsoPath is how the unwinder names the kernel's shared object.
const vdsoPath = "linux-vdso.1.so"

// errUnavailable says that no process is left to read the binary from; another
// may come.
var errUnavailable = errors.New("binary is out of reach")

// A source is where a binary can be read: an open file as long as one is held,
// and the places to open it again. It is safe for concurrent use. Its lock is
// not held while files are opened or closed: their file system may not answer.
type source struct {
	procRoot string
	binary   Binary // as first added

	mu     sync.Mutex
	places []place     // processes that map it, newest last
	first  os.FileInfo // of the file as first opened
	held   *os.File    // nil if none is held
	since  time.Time   // when held was opened
	users  int         // readers of held; it is not closed under them
}

// A place is a process that maps the binary.
type place struct {
	pid        int
	start, end uint64
	path       string
	ownRoot    bool // its root is ours, so its paths outlive it
}

// newSource returns the source of a binary, which has no place yet.
func newSource(procRoot string, b Binary) *source {
	return &source{procRoot: procRoot, binary: b}
}

// hold opens the binary, if it is not open, and keeps it open until release.
func (s *source) hold(now time.Time) (opened bool, err error) {
	s.mu.Lock()
	held := s.held != nil
	s.mu.Unlock()
	if held {
		return false, nil
	}
	f, err := s.open()
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil {
		go f.Close()
		return false, nil
	}
	s.held, s.since = f, now
	return true, nil
}

// release closes the held file if it was opened before a time and nobody
// reads it. It reports whether none is held any more.
func (s *source) release(before time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		return true
	}
	if s.users > 0 || !s.since.Before(before) {
		return false
	}
	go s.held.Close()
	s.held = nil
	return true
}

// read calls fn with the binary, the held file or one opened for it.
func (s *source) read(fn func(*file) error) error {
	open := s.binary.Open
	if s.binary.Path == vdsoPath && open == nil {
		open = func() (Reader, int64, error) { return openVDSO(s.procRoot) }
	}
	if open != nil {
		r, size, err := open()
		if err != nil {
			return err
		}
		defer r.Close()
		return fn(&file{Reader: nopCloser{io.NewSectionReader(r, 0, size)}, size: size})
	}
	f, done, err := s.acquire()
	if err != nil {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	defer done()
	in, err := opened(f)
	if err != nil {
		return err
	}
	return fn(in)
}

// inOwnRoot reports whether every process seen with the binary has our root.
func (s *source) inOwnRoot() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.ContainsFunc(s.places, func(p place) bool { return !p.ownRoot })
}

func (s *source) acquire() (f *os.File, done func(), err error) {
	s.mu.Lock()
	if f := s.held; f != nil {
		s.users++
		s.mu.Unlock()
		return f, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.users--
		}, nil
	}
	s.mu.Unlock()
	if f, err = s.open(); err != nil {
		return nil, nil, err
	}
	return f, func() { f.Close() }, nil
}

// offer remembers another process that maps the binary. It reports whether it
// is news.
func (s *source) offer(b Binary) bool {
	p := place{pid: b.PID, start: b.Start, end: b.End, path: b.Path}
	if p.path == "" {
		p.path = s.binary.Path
	}
	known := func() bool {
		n := len(s.places)
		return n > 0 && s.places[n-1].pid == p.pid && s.places[n-1].path == p.path && s.places[n-1].start == p.start
	}
	s.mu.Lock()
	news := !known()
	s.mu.Unlock()
	if !news {
		return false
	}
	p.ownRoot = b.PID == 0 || sameFile(s.proc(b.PID, "root"), "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	if known() {
		return false
	}
	if len(s.places) == maxPlaces {
		// The first place may have the only path in our own root.
		s.places = append(s.places[:1], s.places[2:]...)
	}
	s.places = append(s.places, p)
	return true
}

func (s *source) proc(pid int, name string) string {
	return path.Join(s.procRoot, strconv.Itoa(pid), name)
}

// open opens the binary anew. It returns the error of the newest place.
func (s *source) open() (*os.File, error) {
	s.mu.Lock()
	places := slices.Clone(s.places)
	s.mu.Unlock()
	var first error
	for _, p := range slices.Backward(places) {
		f, err := s.openPlace(p)
		if err == nil {
			err = s.check(f)
		}
		if err == nil {
			return f, nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = errors.New("no process to read it from")
	}
	return nil, first
}

// check refuses another file that took the place of the one first opened. It
// closes what it refuses.
func (s *source) check(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	s.mu.Lock()
	if s.first == nil {
		s.first = info
	}
	first := s.first
	s.mu.Unlock()
	if sameContent(first, info) {
		return nil
	}
	// Another container of the same image has the same file under another inode.
	if id := s.binary.BuildID; id != "" && first.Size() == info.Size() {
		if e, err := untrusted.NewELF(untrusted.NewReader(f, info.Size(), buildBudget)); err == nil && untrusted.BuildID(e) == id {
			return nil
		}
	}
	f.Close()
	return fmt.Errorf("open %s: replaced by another file", s.binary.Path)
}

// sameContent reports whether a file is as it was before.
func sameContent(before, now os.FileInfo) bool {
	return os.SameFile(before, now) && before.Size() == now.Size() && before.ModTime().Equal(now.ModTime())
}

func (s *source) openPlace(p place) (*os.File, error) {
	name := strings.TrimSuffix(p.path, " (deleted)")
	if p.pid > 0 {
		// The kernel's own link to the mapped file: right for deleted and
		// replaced files too, but a privilege.
		if p.end > p.start {
			f, err := openFile(s.proc(p.pid, fmt.Sprintf("map_files/%x-%x", p.start, p.end)))
			if err == nil {
				return f, nil
			}
		}
		exe := s.proc(p.pid, "exe")
		if target, err := os.Readlink(exe); err == nil && name != "" && strings.TrimSuffix(target, " (deleted)") == name {
			if f, err := openFile(exe); err == nil {
				return f, nil
			}
		}
	}
	if name == "" {
		return nil, fmt.Errorf("open mapping %x-%x of process %d: gone, and it has no path", p.start, p.end, p.pid)
	}
	if p.ownRoot {
		return openFile(name)
	}
	return openIn(s.proc(p.pid, "root"), name)
}

// openDebug opens a debug file: in the root of a process that maps the binary,
// or in ours, where debug files of a container's image may be kept.
func (s *source) openDebug(name string) (*file, error) {
	s.mu.Lock()
	places := slices.Clone(s.places)
	s.mu.Unlock()
	for _, p := range slices.Backward(places) {
		if p.ownRoot {
			continue
		}
		if f, err := openIn(s.proc(p.pid, "root"), name); err == nil {
			return opened(f)
		}
	}
	f, err := openFile(name)
	if err != nil {
		return nil, err
	}
	return opened(f)
}

// opened describes an open file.
func opened(f *os.File) (*file, error) {
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &file{Reader: f, size: info.Size(), info: info}, nil
}

// openVDSO copies the kernel's shared object out of our own memory: it is the
// same for every 64-bit process.
func openVDSO(procRoot string) (Reader, int64, error) {
	maps, err := os.ReadFile(path.Join(procRoot, "self/maps"))
	if err != nil {
		return nil, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		var start, end uint64
		if _, err := fmt.Sscanf(line, "%x-%x", &start, &end); err != nil || end <= start || end-start > 1<<20 {
			return nil, 0, fmt.Errorf("read vdso: unexpected mapping %q", line)
		}
		mem, err := os.Open(path.Join(procRoot, "self/mem"))
		if err != nil {
			return nil, 0, err
		}
		defer mem.Close()
		data := make([]byte, end-start)
		if _, err := mem.ReadAt(data, int64(start)); err != nil {
			return nil, 0, fmt.Errorf("read vdso: %w", err)
		}
		return nopCloser{bytes.NewReader(data)}, int64(len(data)), nil
	}
	return nil, 0, errors.New("read vdso: this process has none")
}

type nopCloser struct{ io.ReaderAt }

func (nopCloser) Close() error { return nil }
