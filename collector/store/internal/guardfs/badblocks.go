// Package guardfs is the file system under the database.
package guardfs

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// BadBlocks are the blocks of tables whose checksums are wrong. They are not read again:
// Pebble searches every such block for the bit that may have flipped, which takes some
// 100 ms each time. They are safe for concurrent use.
type BadBlocks struct {
	Some  context.Context // ends once there are any
	found context.CancelFunc

	mu    sync.Mutex
	files map[string]map[int64]bool // by name: the offsets; nil for the whole file
}

// NewBadBlocks returns a list without blocks.
func NewBadBlocks() *BadBlocks {
	b := &BadBlocks{files: map[string]map[int64]bool{}}
	b.Some, b.found = context.WithCancel(context.Background())
	return b
}

// Any reports whether there are any.
func (b *BadBlocks) Any() bool { return b.Some.Err() != nil }

// Find reads all blocks of a table, the first time that it is called for it.
func (b *BadBlocks) Find(fs vfs.FS, path string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := fs.PathBase(path)
	if _, known := b.files[name]; known {
		return
	}
	offsets, err := findBadBlocks(fs, path)
	if err == nil && len(offsets) == 0 {
		return // it was an error of the disk
	}
	b.files[name] = offsets
	b.found()
}

// has reports whether there is a bad block at an offset of a table.
func (b *BadBlocks) has(name string, offset int64) bool {
	if !b.Any() {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	offsets, known := b.files[name]
	return known && (offsets == nil || offsets[offset])
}

// findBadBlocks returns the offsets of a table's bad blocks of data. An error says that
// its index cannot be read, without which nothing can.
func findBadBlocks(fs vfs.FS, path string) (map[int64]bool, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	src, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return nil, err
	}
	var o pebble.Options
	o.EnsureDefaults()
	r, err := sstable.NewReader(context.Background(), src, o.MakeReaderOptions())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	layout, err := r.Layout()
	if err != nil {
		return nil, err
	}
	bad := map[int64]bool{}
	for _, h := range layout.Data {
		b := make([]byte, h.Length+block.TrailerLen)
		if _, err := f.ReadAt(b, int64(h.Offset)); err != nil || block.ValidateChecksum(block.ChecksumTypeCRC32c, b, h.Handle) != nil {
			bad[int64(h.Offset)] = true
		}
	}
	return bad, nil
}

// Open opens a file. Of a table the bad blocks are not read again.
func (b *BadBlocks) Open(fs vfs.FS, name string, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.Open(name, o...)
	if err != nil || !strings.HasSuffix(name, ".sst") {
		return f, err
	}
	return &tableFile{f, fs.PathBase(name), b}, nil
}

// Open implements vfs.FS.
func (d *FS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	return d.Bad.Open(d.FS, name, o...)
}

// A tableFile is a table that is read.
type tableFile struct {
	vfs.File
	name string
	bad  *BadBlocks
}

// ReadAt implements vfs.File.
func (f *tableFile) ReadAt(p []byte, offset int64) (int, error) {
	if f.bad.has(f.name, offset) {
		// Pebble adds the keys of the table to errors that wrap its own.
		return 0, fmt.Errorf("%w: block at %d of %s: %w", storeerr.ErrCorrupt, offset, f.name, pebble.ErrCorruption)
	}
	return f.File.ReadAt(p, offset)
}
