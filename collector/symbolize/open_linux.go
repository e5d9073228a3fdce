package symbolize

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
)

// openIn opens a regular file below a root directory. Symbolic links are
// followed as a process with that root would follow them, so that a container
// cannot lead the collector to a file outside of it.
func openIn(root, name string) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	defer func() { _ = unix.Close(dir) }()
	// O_NONBLOCK: a FIFO in the place of the file must not block.
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("open %s in %s: %w", name, root, err)
	}
	return regular(os.NewFile(uintptr(fd), name))
}

// openFile opens a regular file by a path of our own.
func openFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return regular(f)
}

func regular(f *os.File) (*os.File, error) {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open %s: %w", f.Name(), untrusted.ErrIrregular)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sameFile reports whether two names lead to one directory, such as the root
// of a process and our own.
func sameFile(a, b string) bool {
	var x, y unix.Stat_t
	return unix.Stat(a, &x) == nil && unix.Stat(b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// sameOwner reports whether a file belongs to the user of a process or to
// root; dir is the process' directory in procfs.
func sameOwner(f *os.File, dir string) bool {
	var file, process unix.Stat_t
	if unix.Fstat(int(f.Fd()), &file) != nil || unix.Stat(dir, &process) != nil {
		return false
	}
	return file.Uid == process.Uid || file.Uid == 0
}
