package store

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/pebblefiles"
)

// checkpointPrefix begins the names of directories that a backup reads from.
const checkpointPrefix = "checkpoint."

// backupEnd is the last entry of a backup's archive. An archive without it is
// not whole.
const backupEnd = "backup.json"

// A Backup says what a backup holds.
type Backup struct {
	Files int       `json:"files"`
	Bytes int64     `json:"bytes"`
	Time  time.Time `json:"time"` // as of which the store is
}

// Backup writes the store, as it is now, as a tar archive of one directory level:
// the files of a store, and backup.json, a Backup, as the last. Everything that
// was acknowledged before the call is in it. It goes on serving, and needs disk
// space for what is compacted meanwhile.
func (db *DB) Backup(ctx context.Context, w io.Writer) (Backup, error) {
	dir, at, err := db.checkpoint()
	if err != nil {
		return Backup{}, err
	}
	b, err := writeArchive(ctx, db.kv.FS, dir, at, w)
	return b, errors.Join(err, db.kv.FS.RemoveAll(dir))
}

// checkpoint makes a directory of links to the tables and copies of the rest.
func (db *DB) checkpoint() (dir string, at time.Time, err error) {
	at = time.Now().UTC()
	dir = db.kv.FS.PathJoin(db.kv.Dir, fmt.Sprint(checkpointPrefix, at.UnixNano()))
	err = db.write(func() error {
		return db.kv.Guard(func() error { return db.kv.Pebble.Checkpoint(dir, pebble.WithFlushedWAL()) })
	})
	if err != nil {
		return "", at, fmt.Errorf("make a checkpoint: %w", err)
	}
	return dir, at, nil
}

// dropCheckpoints removes what backups left that did not come to their end.
func dropCheckpoints(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	for _, name := range names {
		if strings.HasPrefix(name, checkpointPrefix) {
			err = errors.Join(err, fs.RemoveAll(fs.PathJoin(dir, name)))
		}
	}
	return err
}

func writeArchive(ctx context.Context, fs vfs.FS, dir string, at time.Time, w io.Writer) (b Backup, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return b, err
	}
	slices.Sort(names)
	b.Time = at
	t := tar.NewWriter(w)
	add := func(name string, size int64, from io.Reader) error {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o640, ModTime: at}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.Copy(t, from)
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return b, err
		}
		f, err := fs.Open(fs.PathJoin(dir, name))
		if err != nil {
			return b, err
		}
		info, err := f.Stat()
		if err == nil {
			err = add(name, info.Size(), io.LimitReader(f, info.Size()))
			b.Files++
			b.Bytes += info.Size()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return b, fmt.Errorf("back up %s: %w", name, err)
		}
	}
	end, err := json.Marshal(b)
	if err != nil {
		return b, err
	}
	if err := add(backupEnd, int64(len(end)), strings.NewReader(string(end))); err != nil {
		return b, err
	}
	return b, t.Close()
}

// ReadBackup writes what Backup gave into a directory, which must not be there.
// It appears whole, synced to disk, or not at all.
func ReadBackup(r io.Reader, dir string) (Backup, error) {
	return makeBackup(dir, func(partial string) (Backup, error) { return readArchive(r, partial) })
}

// CopyBackup makes a backup of a store that no process has open.
func CopyBackup(ctx context.Context, store, dir string) (b Backup, err error) {
	if _, err := os.Stat(store); err != nil {
		return b, err
	}
	lock, err := pebble.LockDirectory(store, vfs.Default)
	if err != nil {
		return b, fmt.Errorf("a process has %s open; ask it for the backup: %w", store, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	return makeBackup(dir, func(partial string) (Backup, error) {
		r, w := io.Pipe()
		go func() {
			_, err := writeArchive(ctx, storeFiles{vfs.Default}, store, time.Now().UTC(), w)
			w.CloseWithError(err)
		}()
		b, err := readArchive(r, partial)
		return b, errors.Join(err, r.Close())
	})
}

// storeFiles lists of a directory only what makes a store.
type storeFiles struct{ vfs.FS }

func (s storeFiles) List(dir string) (out []string, err error) {
	f, err := pebblefiles.List(s.FS, dir)
	for _, name := range f.All {
		if strings.HasPrefix(name, "marker.") {
			out = append(out, name)
		}
	}
	return slices.Concat(out, f.Tables, f.Logs, f.Manifests, f.Options), err
}

func makeBackup(dir string, fill func(partial string) (Backup, error)) (b Backup, err error) {
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		return b, errors.Join(err, fmt.Errorf("%s is there already", dir))
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o750); err != nil {
		return b, err
	}
	partial, err := os.MkdirTemp(parent, filepath.Base(dir)+".partial-")
	if err != nil {
		return b, err
	}
	if b, err = fill(partial); err == nil {
		if err = syncDir(partial); err == nil {
			err = os.Rename(partial, dir)
		}
	}
	if err != nil {
		return b, errors.Join(err, os.RemoveAll(partial))
	}
	return b, syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func readArchive(r io.Reader, dir string) (Backup, error) {
	var got Backup
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return got, fmt.Errorf("the backup ends early, after %d files: %w", got.Files, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return got, fmt.Errorf("read backup: %w", err)
		}
		if h.Name == backupEnd {
			var said Backup
			if err := json.NewDecoder(io.LimitReader(t, 1<<20)).Decode(&said); err != nil {
				return got, fmt.Errorf("read backup: %s: %w", backupEnd, err)
			}
			if said.Files != got.Files || said.Bytes != got.Bytes {
				return got, fmt.Errorf("the backup has %d files of %d bytes, not %d of %d", got.Files, got.Bytes, said.Files, said.Bytes)
			}
			return said, nil
		}
		if h.Typeflag != tar.TypeReg || h.Name != path.Base(h.Name) || h.Name == ".." || h.Name == "." {
			return got, fmt.Errorf("read backup: %q is no file of a store", h.Name)
		}
		f, err := os.OpenFile(filepath.Join(dir, h.Name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
		if err != nil {
			return got, err
		}
		n, err := io.Copy(f, t)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return got, fmt.Errorf("write %s: %w", h.Name, err)
		}
		got.Files++
		got.Bytes += n
	}
}
