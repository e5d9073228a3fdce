package guardfs

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// How often a write that found the disk full, or no file descriptor, is tried
// again, and how long work in the background that failed pauses: Pebble tries it
// again at once.
const (
	retryPause      = 20 * time.Millisecond
	backgroundPause = time.Second
	SpacePause      = 100 * time.Millisecond // between two looks at the free space
	openPatience    = 5 * time.Second        // of Open, which nobody else can end
	AskPatience     = time.Second            // of who asks, with a look at the free space
	LookPatience    = 10 * time.Second       // until the disk counts as one that hangs
)

// Names that Pebble gives to what it writes in the background.
const (
	categoryFlush      vfs.DiskWriteCategory = "pebble-memtable-flush"
	categoryCompaction vfs.DiskWriteCategory = "pebble-compaction"
)

// A FS is the file system under the database. A write that finds no space, or
// no file descriptor, waits for some instead of failing, since the database ends
// for good when its log or its manifest cannot be written. Meanwhile, and
// already when little space is left, writable says no, so that nothing new
// begins. Compactions do not wait: what they wrote so far is what takes the
// space. It is safe for concurrent use.
type FS struct {
	vfs.FS
	dir     string
	log     *slog.Logger
	minFree int64 // bytes, 0 for none
	failure *Failure
	Bad     *BadBlocks

	waiting atomic.Int64 // writes that wait for space or descriptors
	opened  atomic.Bool  // until then they give up after openPatience
	closing chan struct{}
	close   sync.Once

	mu      sync.Mutex
	refusal error         // what the last look at the free space found
	looked  time.Time     // its end
	began   time.Time     // of the last look, or of the present one
	looking chan struct{} // closed at the end of the present look, nil if there is none
}

// New returns the file system of a store in a directory, on another one. Below minFree
// bytes of free space nothing is writable.
func New(fs vfs.FS, dir string, minFree int64, log *slog.Logger, failure *Failure) *FS {
	d := &FS{FS: fs, dir: dir, log: log, minFree: max(minFree, 0), failure: failure, closing: make(chan struct{})}
	d.Bad = NewBadBlocks()
	// On a small disk the share that is kept free is small as well.
	if u, err := fs.GetDiskUsage(fs.PathDir(dir)); err == nil && u.TotalBytes > 0 {
		d.minFree = min(d.minFree, int64(u.TotalBytes/20))
	}
	return d
}

// Ready ends the time in which writes give up after a while, as nobody could end Open.
func (d *FS) Ready() { d.opened.Store(true) }

// Stop lets writes that wait fail.
func (d *FS) Stop() { d.close.Do(func() { close(d.closing) }) }

func (d *FS) stopped() bool {
	select {
	case <-d.closing:
		return true
	default:
		return false
	}
}

// Writable returns an error that wraps ErrUnavailable if nothing should be
// written at present. A disk that does not say how much is free, since it hangs, is
// waited for no longer than AskPatience, and takes nothing after LookPatience.
func (d *FS) Writable() error {
	d.mu.Lock()
	if d.looking == nil && time.Since(d.looked) >= SpacePause {
		d.looking, d.began = make(chan struct{}), time.Now()
		go d.finish()
	}
	looking := d.looking
	d.mu.Unlock()
	if looking != nil {
		select {
		case <-looking:
		case <-time.After(AskPatience):
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if waited := time.Since(d.began); d.looking != nil && waited > LookPatience {
		return fmt.Errorf("%w: the disk of %s has not told its free space for %s", storeerr.ErrUnavailable, d.dir, waited.Round(time.Second))
	}
	return d.refusal
}

// finish looks, and tells what was found.
func (d *FS) finish() {
	refusal := d.look()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case refusal != nil && d.refusal == nil:
		d.log.Error("refuse profiles until there is space", "err", refusal)
	case refusal == nil && d.refusal != nil:
		d.log.Info("take profiles again", "path", d.dir)
	}
	close(d.looking)
	d.refusal, d.looked, d.looking = refusal, time.Now(), nil
}

func (d *FS) look() error {
	if d.waiting.Load() > 0 {
		return fmt.Errorf("%w: writes to %s wait for disk space or file descriptors", storeerr.ErrUnavailable, d.dir)
	}
	if d.minFree == 0 {
		return nil
	}
	u, err := d.FS.GetDiskUsage(d.dir)
	// A file system that cannot say is taken for an empty one.
	if known := err == nil; !known || int64(u.AvailBytes) >= d.minFree {
		return nil
	}
	return fmt.Errorf("%w: disk full: %d bytes are free in %s, %d have to be (storage.min_free_bytes)",
		storeerr.ErrUnavailable, u.AvailBytes, d.dir, d.minFree)
}

// isNoSpace reports whether an operation failed for want of space or descriptors.
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// retryOnNoSpace runs an operation until it does not fail for want of something.
func (d *FS) retryOnNoSpace(category vfs.DiskWriteCategory, op func() error) error {
	err := op()
	if err == nil {
		return nil
	}
	if isNoSpace(err) && category != categoryCompaction {
		d.log.Error("a write waits for disk space or file descriptors", "err", err)
		d.waiting.Add(1)
		defer d.waiting.Add(-1)
		for began := time.Now(); isNoSpace(err) && d.pause(retryPause); {
			if !d.opened.Load() && time.Since(began) > openPatience {
				break
			}
			err = op()
		}
	}
	if err != nil && (category == categoryCompaction || category == categoryFlush) {
		d.pause(backgroundPause)
	}
	return err
}

// pause reports whether the store is still open after a while.
func (d *FS) pause(t time.Duration) bool {
	select {
	case <-d.closing:
		return false
	case <-time.After(t):
		return true
	}
}

// create runs what makes a file to write.
func (d *FS) create(name string, category vfs.DiskWriteCategory, op func() (vfs.File, error)) (f vfs.File, err error) {
	err = d.retryOnNoSpace(category, func() (err error) {
		f, err = op()
		return err
	})
	g := &guardedFile{File: f, disk: d, category: category, critical: d.critical(name)}
	return g, g.end(err)
}

// critical reports whether the database ends when a file cannot be written.
func (d *FS) critical(name string) bool {
	base := d.FS.PathBase(name)
	return name == d.FS.PathJoin(d.dir, base) &&
		(strings.HasSuffix(base, ".log") || strings.HasPrefix(base, ManifestPrefix))
}

// Create implements vfs.FS.
func (d *FS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return d.create(name, category, func() (vfs.File, error) { return d.FS.Create(name, category) })
}

// OpenReadWrite implements vfs.FS.
func (d *FS) OpenReadWrite(name string, category vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return d.create(name, category, func() (vfs.File, error) { return d.FS.OpenReadWrite(name, category, o...) })
}

// ReuseForWrite implements vfs.FS.
func (d *FS) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return d.create(to, category, func() (vfs.File, error) {
		f, err := d.FS.ReuseForWrite(from, to, category)
		if isNoSpace(err) {
			// It may have been renamed already.
			if _, missing := d.FS.Stat(from); missing != nil {
				return d.FS.OpenReadWrite(to, category)
			}
		}
		return f, err
	})
}

// Rename implements vfs.FS.
func (d *FS) Rename(from, to string) error {
	return d.retryOnNoSpace(vfs.WriteCategoryUnspecified, func() error { return d.FS.Rename(from, to) })
}

// OpenDir implements vfs.FS.
func (d *FS) OpenDir(name string) (f vfs.File, err error) {
	err = d.retryOnNoSpace(vfs.WriteCategoryUnspecified, func() (err error) {
		f, err = d.FS.OpenDir(name)
		return err
	})
	return f, err
}

// Unwrap implements vfs.FS.
func (d *FS) Unwrap() vfs.FS { return d.FS }

// A guardedFile is a file that is written. A sync that fails is never tried again:
// the kernel may have forgotten what it could not write.
type guardedFile struct {
	vfs.File
	disk     *FS
	category vfs.DiskWriteCategory
	critical bool // the log or the manifest
}

// end takes what an operation failed with. If that is critical, Pebble would panic, and not
// always so that it can be caught; so the goroutine stays here and the store fails, of which
// callers are told by Failure.Failed.
func (f *guardedFile) end(err error) error {
	if err == nil || !f.critical || !f.disk.opened.Load() || f.disk.stopped() {
		return err
	}
	f.disk.failure.Fail(err.Error())
	select {}
}

// Write implements vfs.File. All of p is written, or an error returned.
func (f *guardedFile) Write(p []byte) (n int, err error) {
	err = f.disk.retryOnNoSpace(f.category, func() error {
		for n < len(p) {
			m, err := f.File.Write(p[n:])
			n += max(m, 0)
			switch {
			case err != nil:
				return err
			case m <= 0:
				return io.ErrShortWrite
			}
		}
		return nil
	})
	return n, f.end(err)
}

// Sync implements vfs.File.
func (f *guardedFile) Sync() error { return f.end(f.File.Sync()) }

// SyncData implements vfs.File.
func (f *guardedFile) SyncData() error { return f.end(f.File.SyncData()) }

// SyncTo implements vfs.File.
func (f *guardedFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.end(err)
}

// Close implements vfs.File.
func (f *guardedFile) Close() error { return f.end(f.File.Close()) }

// Preallocate implements vfs.File. To go without costs time only.
func (f *guardedFile) Preallocate(offset, length int64) error {
	if err := f.File.Preallocate(offset, length); err != nil && !isNoSpace(err) {
		return err
	}
	return nil
}

// ManifestPrefix is what the names of lists of tables begin with.
const ManifestPrefix = "MANIFEST-"
