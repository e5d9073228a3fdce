package store

import "github.com/cockroachdb/pebble/v2/vfs"

// An unsyncedFS is a file system whose files are never synced: the test process and
// those that it starts see all that was written, and only a power cut would show the
// difference. Stores of tests wait for the disk longer than they work without it. A
// test about power cuts sets Options.fs to a faultyFS.
type unsyncedFS struct{ vfs.FS }

func unsynced(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}

func (u unsyncedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return unsynced(u.FS.Create(name, c))
}

func (u unsyncedFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return unsynced(u.FS.ReuseForWrite(from, to, c))
}

func (u unsyncedFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return unsynced(u.FS.OpenReadWrite(name, c, o...))
}

func (u unsyncedFS) OpenDir(name string) (vfs.File, error) { return unsynced(u.FS.OpenDir(name)) }

type unsyncedFile struct{ vfs.File }

func (unsyncedFile) Sync() error                { return nil }
func (unsyncedFile) SyncData() error            { return nil }
func (unsyncedFile) SyncTo(int64) (bool, error) { return true, nil }
