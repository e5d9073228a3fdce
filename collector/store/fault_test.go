package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/storeerr"
	"github.com/flameline/flameline/collector/store/internal/storetest"
	"github.com/flameline/flameline/pkg/profile"
)

// A faultyFS is a file system in memory whose operations fail as the test wants.
type faultyFS struct {
	vfs.FS
	mem  *vfs.MemFS
	fail atomic.Pointer[func(errorfs.Op) error]
	free atomic.Uint64 // bytes
}

func newFaultyFS() *faultyFS {
	f := &faultyFS{mem: vfs.NewCrashableMem()}
	f.free.Store(1 << 40)
	f.FS = errorfs.Wrap(f.mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fail := f.fail.Load(); fail != nil {
			return (*fail)(op)
		}
		return nil
	}))
	return f
}

func (f *faultyFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	free := f.free.Load()
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: 1 << 41, UsedBytes: 1<<41 - free}, nil
}

func (f *faultyFS) set(fn func(errorfs.Op) error) {
	if fn == nil {
		f.fail.Store(nil)
		return
	}
	f.fail.Store(&fn)
}

func (f *faultyFS) options(o *Options) {
	o.fs = f
	o.Now = func() time.Time { return midnight.Add(20 * time.Hour) }
}

// crash returns what a power cut leaves: of what was not synced, a random part.
func (f *faultyFS) crash(r *rand.Rand) *faultyFS {
	c := &faultyFS{mem: f.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})}
	c.free.Store(1 << 40)
	c.FS = c.mem
	return c
}

func writes(op errorfs.Op) bool {
	switch op.Kind {
	case errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpCreate, errorfs.OpReuseForWrite, errorfs.OpRename,
		errorfs.OpFilePreallocate, errorfs.OpMkdirAll, errorfs.OpLink:
		return true
	}
	return false
}

func appendCrash(db *DB, n int) error {
	return db.Append(context.Background(), []profile.Profile{crashProfile(n)})
}

// checkStored opens what is left and looks for all that was acknowledged.
func checkStored(t *testing.T, f *faultyFS, acknowledged map[int]bool) {
	t.Helper()
	db := open(t, "store", f.options)
	checkAcknowledged(t, db, acknowledged)
	require.NoError(t, db.Close())
}

func TestFullDisk(t *testing.T) {
	for name, full := range map[string]func(f *faultyFS) (undo func()){
		"little space": func(f *faultyFS) func() {
			f.free.Store(1 << 20)
			return func() { f.free.Store(1 << 40) }
		},
		"no space": func(f *faultyFS) func() {
			f.set(func(op errorfs.Op) error {
				if writes(op) {
					return &vfsError{op.Path, syscall.ENOSPC}
				}
				return nil
			})
			return func() { f.set(nil) }
		},
		"no file descriptors": func(f *faultyFS) func() {
			f.set(func(op errorfs.Op) error {
				switch op.Kind {
				case errorfs.OpCreate, errorfs.OpReuseForWrite, errorfs.OpOpenDir:
					return &vfsError{op.Path, syscall.EMFILE}
				}
				return nil
			})
			return func() { f.set(nil) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFaultyFS()
			db := open(t, "store", f.options)
			acknowledged := map[int]bool{}
			next := 0
			push := func(n int) {
				for range n {
					require.NoError(t, appendCrash(db, next))
					acknowledged[next] = true
					next++
				}
			}
			push(50)
			undo := full(f)
			// Something has to be written for the disk to be found full.
			flushed := make(chan error, 1)
			go func() { flushed <- db.kv.Pebble.Flush() }()
			var waiting sync.WaitGroup
			var mu sync.Mutex
			for refused := 0; refused < 20; {
				waiting.Add(1)
				done := make(chan error, 1)
				n := next
				next++
				go func() {
					defer waiting.Done()
					err := appendCrash(db, n)
					if err == nil {
						mu.Lock()
						acknowledged[n] = true
						mu.Unlock()
					}
					done <- err
				}()
				select {
				case err := <-done:
					if err != nil {
						require.ErrorIs(t, err, storeerr.ErrUnavailable)
						refused++
					}
				case <-time.After(10 * time.Millisecond): // it waits for space
				}
			}
			require.ErrorIs(t, db.Writable(), storeerr.ErrUnavailable)
			mu.Lock()
			checkAcknowledgedAtLeast(t, db, acknowledged)
			mu.Unlock()
			undo()
			waiting.Wait()
			require.NoError(t, <-flushed)
			for db.Writable() != nil {
				time.Sleep(time.Millisecond)
			}
			push(50)
			require.NoError(t, db.Err())
			require.NoError(t, db.Close())
			checkStored(t, f, acknowledged)
		})
	}
}

func checkAcknowledgedAtLeast(t *testing.T, db *DB, acknowledged map[int]bool) {
	t.Helper()
	tree, err := db.Tree(context.Background(), everything(), nil)
	require.NoError(t, err)
	for n := range acknowledged {
		require.Contains(t, tree.Names, fmt.Sprint("own", n))
	}
}

// vfsError is an error of the system, as the os package wraps it.
type vfsError struct {
	path string
	err  error
}

func (e *vfsError) Error() string { return e.path + ": " + e.err.Error() }
func (e *vfsError) Unwrap() error { return e.err }

// TestFailedWrites makes one write or sync of a run fail, each of them in turn,
// and looks whether all that was acknowledged is there after a crash.
func TestFailedWrites(t *testing.T) {
	r := rand.New(rand.NewPCG(seedOf(t), 2))
	failed := 0
	for nth := int64(1); ; nth += 1 + nth/8 {
		f := newFaultyFS()
		var count atomic.Int64
		acknowledged := map[int]bool{}
		var log bytes.Buffer
		db, err := Open("store", Options{
			fs: f, MaintenanceInterval: -1, Now: func() time.Time { return midnight.Add(20 * time.Hour) },
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		require.NoError(t, err)
		f.set(func(op errorfs.Op) error {
			sync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
			if (writes(op) || sync) && count.Add(1) == nth {
				return &vfsError{op.Path, syscall.EIO}
			}
			return nil
		})
		for n := range 60 {
			if err := appendCrash(db, n); err != nil {
				require.ErrorIs(t, err, storeerr.ErrUnavailable)
				require.ErrorIs(t, db.Err(), storeerr.ErrUnavailable)
				require.ErrorContains(t, err, "input/output error")
				require.ErrorIs(t, appendCrash(db, n+1000), storeerr.ErrUnavailable, "nothing is acknowledged any more")
				failed++
				break
			}
			acknowledged[n] = true
			if n%20 == 19 && db.Err() == nil {
				ended := make(chan struct{})
				go func() { // may be what fails
					defer close(ended)
					_ = db.maintain(context.Background(), 0)
					_, _ = db.kv.Pebble.AsyncFlush()
				}()
				select {
				case <-ended:
				case <-db.Failed():
				}
			}
		}
		reached := count.Load() >= nth
		clone := f.crash(r)
		f.set(nil)
		if err := db.Close(); err != nil {
			require.ErrorIs(t, err, storeerr.ErrUnavailable)
		}
		checkStored(t, clone, acknowledged)
		if !reached {
			break
		}
	}
	require.Positive(t, failed)
	t.Logf("%d writes made the store fail", failed)
}

// TestCrashes cuts the power at random moments under load, so that a random part
// of what was not synced is lost.
func TestCrashes(t *testing.T) {
	r := rand.New(rand.NewPCG(seedOf(t), 3))
	f := newFaultyFS()
	acknowledged := map[int]bool{}
	next := 0
	for range storetest.Rounds(60) {
		db := open(t, "store", f.options, func(o *Options) { o.MaintenanceInterval = time.Millisecond })
		checkAcknowledged(t, db, acknowledged)
		var mu sync.Mutex
		var stop atomic.Bool
		var g sync.WaitGroup
		first := next
		for i := range 3 {
			start := first + i
			g.Go(func() {
				for n := start; !stop.Load(); n += 3 {
					if appendCrash(db, n) != nil {
						return
					}
					mu.Lock()
					acknowledged[n] = true
					next = max(next, n+3)
					mu.Unlock()
					if n%40 == 0 {
						_, _ = db.kv.Pebble.AsyncFlush()
						_ = db.maintain(context.Background(), 0)
					}
				}
			})
		}
		time.Sleep(time.Duration(r.Int64N(int64(15 * time.Millisecond))))
		mu.Lock()
		known := map[int]bool{}
		for n := range acknowledged {
			known[n] = true
		}
		clone := f.crash(r)
		mu.Unlock()
		stop.Store(true)
		g.Wait()
		require.NoError(t, db.Close())
		f, acknowledged = clone, known
		next += 10
	}
	t.Logf("%d profiles were acknowledged", len(acknowledged))
}

// A file system that writes less than it was asked to, without an error, does
// not make the log shorter.
func TestShortWrites(t *testing.T) {
	f := &shortFS{FS: vfs.NewMem()}
	f.short.Store(true)
	db := open(t, "store", func(o *Options) { o.fs, o.Now = f, func() time.Time { return midnight.Add(20 * time.Hour) } })
	acknowledged := map[int]bool{}
	for n := range 30 {
		require.NoError(t, appendCrash(db, n))
		acknowledged[n] = true
	}
	require.NoError(t, db.kv.Pebble.Flush())
	require.NoError(t, db.Close())
	f.short.Store(false)
	db = open(t, "store", func(o *Options) { o.fs = f })
	checkAcknowledged(t, db, acknowledged)
}

type shortFS struct {
	vfs.FS
	short atomic.Bool
}

func (f *shortFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return &shortFile{file, f}, err
}

func (f *shortFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(from, to, c)
	return &shortFile{file, f}, err
}

type shortFile struct {
	vfs.File
	fs *shortFS
}

func (f *shortFile) Write(p []byte) (int, error) {
	if f.fs.short.Load() && len(p) > 10 {
		p = p[:10]
	}
	return f.File.Write(p)
}

// The clock set back neither loses profiles nor merges or drops what it should
// not.
func TestClockSetBack(t *testing.T) {
	ctx := context.Background()
	now := midnight.Add(30 * time.Hour)
	dir := t.TempDir()
	db := open(t, dir, func(o *Options) { o.Now, o.Retention = func() time.Time { return now }, 48*time.Hour })
	add := func(at time.Time, stack string) error {
		return db.Append(ctx, []profile.Profile{cpu(folded(at, stack))})
	}
	require.NoError(t, add(midnight.Add(29*time.Hour), "main;before 1"))
	require.NoError(t, db.maintain(ctx, 0))
	now = midnight.Add(10 * time.Hour) // 20 hours back
	require.NoError(t, db.maintain(ctx, 0))
	require.NoError(t, add(now.Add(-time.Minute), "main;back 2"))
	require.ErrorIs(t, add(midnight.Add(29*time.Hour), "main;future 1"), storeerr.ErrInvalid, "ahead of the clock now")
	require.NoError(t, db.maintain(ctx, 0))
	require.Len(t, db.epochs.Between(0, 1<<62), 2, "retention drops nothing")
	want := []string{"main;back 20000000", "main;before 10000000"}
	check := func() {
		tree, err := db.Tree(ctx, everything(), nil)
		require.NoError(t, err)
		require.Equal(t, want, draw(tree))
	}
	check()
	require.NoError(t, add(now.Add(-time.Hour), "main;late 3"))
	want = []string{"main;back 20000000", "main;before 10000000", "main;late 30000000"}
	check()
	now = midnight.Add(47 * time.Hour) // and put right
	require.NoError(t, db.maintain(ctx, 0))
	check()
	now = midnight.Add(73 * time.Hour)
	require.NoError(t, db.maintain(ctx, 0))
	tree, err := db.Tree(ctx, everything(), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"main;before 10000000"}, draw(tree), "the first day is over its time")
}

// What the log says of the failure names the file.
func TestFailureNamesTheFile(t *testing.T) {
	f := newFaultyFS()
	db := open(t, "store", f.options)
	require.NoError(t, appendCrash(db, 1))
	f.set(func(op errorfs.Op) error {
		if strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
			return &vfsError{op.Path, syscall.EIO}
		}
		return nil
	})
	err := appendCrash(db, 2)
	require.ErrorIs(t, err, storeerr.ErrUnavailable)
	require.ErrorContains(t, err, ".log")
	<-db.Failed()
	_, err = db.LabelNames(context.Background(), nil, 0, 0)
	require.NoError(t, err, "queries go on until the end")
	err = db.Close()
	require.True(t, errors.Is(err, storeerr.ErrUnavailable))
}
