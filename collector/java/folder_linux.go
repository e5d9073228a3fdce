package java

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
)

const (
	// folderPrefix and the PID are the name of the folder in the JVM's /tmp.
	folderPrefix = ".flameline-java-"
	// libraryPrefix and a part of its hash are the name of our copy of async-profiler.
	// The name differs from the library's own, which says that somebody else has loaded
	// one.
	libraryPrefix = "libflamelineprofiler-"

	lockName = "lock"
	tmpMode  = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
)

// A folder is a private folder in the /tmp of a JVM, which may be another file system
// than ours and whose contents the JVM's user may change at any time. No symbolic link
// in it is followed out of the JVM's root, and none in the folder at all. It belongs to
// the JVM's user and is locked while a collector uses it.
type folder struct {
	path string // as the JVM sees it
	name string
	uid  int
	gid  int
	// groups are those of the JVM besides, and gid.
	groups []int
	tmp    *os.File // the JVM's /tmp, by which entries are looked up
	dir    *os.File
	lock   *os.File
}

// folderPath returns the path of a JVM's private folder, as the JVM sees it.
func (p *process) folderPath() string { return "/tmp/" + folderPrefix + strconv.Itoa(p.inner) }

// openTmp opens the /tmp of a process for looking up entries.
func (p *process) openTmp() (*os.File, error) {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", p.pid), tmpMode, 0)
	if err != nil {
		return nil, fmt.Errorf("open the root of process %d: %w; this takes root, or the capability SYS_PTRACE", p.pid, err)
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, "tmp", &unix.OpenHow{Flags: tmpMode, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return nil, fmt.Errorf("open /tmp of process %d: %w", p.pid, err)
	}
	tmp := os.NewFile(uintptr(fd), fmt.Sprintf("/proc/%d/root/tmp", p.pid))
	// The PID may be another process' by now.
	if start, err := startOf(p.pid); err != nil || start != p.start {
		return nil, errors.Join(fmt.Errorf("process %d has ended: %w", p.pid, os.ErrNotExist), tmp.Close())
	}
	return tmp, nil
}

// openFolder creates the private folder of a JVM, or takes over the one that an earlier
// collector left, and locks it.
func (p *process) openFolder() (*folder, error) {
	tmp, err := p.openTmp()
	if err != nil {
		return nil, &Error{NoFolder, err}
	}
	f := &folder{path: p.folderPath(), name: folderPrefix + strconv.Itoa(p.inner), uid: p.uid, gid: p.gid, groups: append(slices.Clone(p.groups), p.gid), tmp: tmp}
	if err := f.open(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *folder) open() error {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd(f.tmp), &st); err != nil {
		return because(NoFolder, "%s: %w", f.tmp.Name(), err)
	}
	// A process may have made any folder its /tmp, with a user namespace of its own.
	if !f.mayWrite(&st) {
		return because(NoFolder, "%s: user %d may not create entries in it (it belongs to user %d, with mode %o)", f.tmp.Name(), f.uid, st.Uid, st.Mode&0o7777)
	}
	if st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0 {
		return because(NoFolder, "%s: others may rename its entries, since it has no sticky bit; set mode 1777", f.tmp.Name())
	}
	created, err := f.make()
	switch {
	case errors.Is(err, unix.EROFS):
		return because(NoFolder, "create %s/%s: %w; mount a writable /tmp, such as an emptyDir, into the container", f.tmp.Name(), f.name, err)
	case err != nil:
		return because(NoFolder, "create %s/%s: %w", f.tmp.Name(), f.name, err)
	}
	fd, err := openIn(f.tmp, f.name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return because(NoFolder, "open %s/%s: %w", f.tmp.Name(), f.name, err)
	}
	f.dir = os.NewFile(uintptr(fd), f.tmp.Name()+"/"+f.name)
	if err := unix.Fstat(fd, &st); err != nil {
		return because(NoFolder, "%s: %w", f.dir.Name(), err)
	}
	// One of ours that we have not just created may be any folder of ours, which the JVM's
	// user must not get.
	if int(st.Uid) != f.uid && (!created || int(st.Uid) != os.Geteuid()) || st.Mode&0o077 != 0 {
		return because(NoFolder, "%s: user %d has made it, with mode %o: it may not be used, since others could change what the JVM loads; remove it", f.dir.Name(), st.Uid, st.Mode&0o7777)
	}
	if created && (f.uid != int(st.Uid) || f.gid != int(st.Gid)) {
		if err := unix.Fchown(fd, f.uid, f.gid); err != nil {
			return because(NoFolder, "give %s to user %d: %w", f.dir.Name(), f.uid, err)
		}
	}
	if f.lock, err = f.openFile(lockName, unix.O_RDWR|unix.O_CREAT, 0o600); err != nil {
		return &Error{NoFolder, err}
	}
	if err := unix.Flock(f.fd(f.lock), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.lock.Close()
		f.lock = nil
		return because(OtherCollector, "another flameline records it (%s is locked)", f.dir.Name())
	}
	return nil
}

// mayWrite reports whether the JVM's user may create entries in a folder.
func (f *folder) mayWrite(st *unix.Stat_t) bool {
	switch {
	case f.uid == 0, st.Mode&0o002 != 0:
		return true
	case int(st.Uid) == f.uid:
		return st.Mode&0o200 != 0
	}
	return st.Mode&0o020 != 0 && slices.Contains(f.groups, int(st.Gid))
}

// make creates the private folder, and reports whether it was not there. An empty one of
// our own user was left by a collector that ended before it gave the folder away.
func (f *folder) make() (created bool, err error) {
	err = unix.Mkdirat(f.fd(f.tmp), f.name, 0o700)
	if errors.Is(err, unix.EEXIST) && f.removeOwn() {
		err = unix.Mkdirat(f.fd(f.tmp), f.name, 0o700)
	}
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	return err == nil, err
}

// removeOwn removes an empty folder of our own user in place of the JVM's, and reports
// whether it did.
func (f *folder) removeOwn() bool {
	var st unix.Stat_t
	err := unix.Fstatat(f.fd(f.tmp), f.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && int(st.Uid) == os.Geteuid() && f.uid != os.Geteuid() && unix.Unlinkat(f.fd(f.tmp), f.name, unix.AT_REMOVEDIR) == nil
}

// openIn opens an entry of a folder. It follows no symbolic link, and does not go over to
// what is mounted there: a process may mount anything in its own namespace.
func openIn(dir *os.File, name string, flags int, mode uint32) (int, error) {
	return unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		Flags: uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC), Mode: uint64(mode),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
}

// fd returns the descriptor of a file that the caller keeps open.
func (*folder) fd(file *os.File) int { return int(file.Fd()) }

// openFile opens a regular file in the folder. The file belongs to the JVM's user, or to
// ours if flags allow to create it, and has no other name: the JVM's user may link to files
// of others.
func (f *folder) openFile(name string, flags int, mode uint32) (*os.File, error) {
	fd, err := openIn(f.dir, name, flags|unix.O_NONBLOCK, mode)
	if err != nil {
		return nil, fmt.Errorf("open %s/%s: %w", f.dir.Name(), name, err)
	}
	file := os.NewFile(uintptr(fd), f.dir.Name()+"/"+name)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.Join(fmt.Errorf("open %s: %w", file.Name(), untrusted.ErrIrregular), err, file.Close())
	}
	ours := flags&unix.O_CREAT != 0 && int(st.Uid) == os.Geteuid()
	if int(st.Uid) != f.uid && !ours || st.Nlink > 1 {
		return nil, errors.Join(fmt.Errorf("open %s: it belongs to user %d and has %d names: only files of user %d with one name are read", file.Name(), st.Uid, st.Nlink, f.uid), file.Close())
	}
	return file, nil
}

// write creates a file that belongs to the JVM's user, in place of one with the name.
func (f *folder) write(name string, mode uint32, data []byte) (err error) {
	if err := f.remove(name); err != nil {
		return &Error{NoFolder, err}
	}
	file, err := f.openFile(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, mode)
	if err != nil {
		return &Error{NoFolder, err}
	}
	defer func() {
		if e := file.Close(); err == nil && e != nil {
			err = because(NoFolder, "write %s: %w", file.Name(), e)
		}
	}()
	if _, err := file.Write(data); err != nil {
		return because(NoFolder, "write %s: %w", file.Name(), err)
	}
	if err := unix.Fchown(f.fd(file), f.uid, f.gid); err != nil {
		return because(NoFolder, "give %s to user %d: %w", file.Name(), f.uid, err)
	}
	return nil
}

// has reports whether a file with the name has the data.
func (f *folder) has(name string, data []byte) bool {
	b, err := f.read(name, int64(len(data)))
	return err == nil && len(b) == len(data) && sha256.Sum256(b) == sha256.Sum256(data)
}

// read returns the beginning of a file.
func (f *folder) read(name string, most int64) ([]byte, error) {
	file, err := f.openFile(name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, most))
}

// remove deletes a file, if it is there.
func (f *folder) remove(name string) error {
	if err := unix.Unlinkat(f.fd(f.dir), name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s/%s: %w", f.dir.Name(), name, err)
	}
	return nil
}

// maxLeft bounds the files that removeFiles looks at.
const maxLeft = 1000

// removeFiles deletes the files of the folder but the lock and those in keep.
func (f *folder) removeFiles(keep ...string) error {
	fd, err := unix.Openat(f.fd(f.dir), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("read %s: %w", f.dir.Name(), err)
	}
	again := os.NewFile(uintptr(fd), f.dir.Name())
	defer again.Close()
	names, err := again.Readdirnames(maxLeft)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", f.dir.Name(), err)
	}
	kept := map[string]bool{lockName: true}
	for _, name := range keep {
		kept[name] = true
	}
	err = nil
	for _, name := range names {
		if !kept[name] {
			err = errors.Join(err, f.remove(name))
		}
	}
	return err
}

// Remove deletes the folder with its files, and closes it.
func (f *folder) Remove() error {
	err := f.removeFiles()
	err = errors.Join(err, f.remove(lockName))
	if e := unix.Unlinkat(f.fd(f.tmp), f.name, unix.AT_REMOVEDIR); e != nil && !errors.Is(e, unix.ENOENT) {
		err = errors.Join(err, fmt.Errorf("remove %s: %w", f.dir.Name(), e))
	}
	return errors.Join(err, f.Close())
}

// Close gives up the lock and leaves the folder as it is.
func (f *folder) Close() error {
	var err error
	for _, file := range []*os.File{f.lock, f.dir, f.tmp} {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
	}
	return err
}
