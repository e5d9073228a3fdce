package java

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
)

// A recorder has a JVM record, by commands of the attach protocol. Its methods are
// called by one goroutine and return *Error.
type recorder interface {
	// start begins recording. What an earlier collector left in the JVM is stopped.
	start(ctx context.Context) error
	// collect hands on the chunks that were finished since the last call.
	collect(ctx context.Context, take func(recorded)) error
	// renew ends and begins the recording, and hands on what only its end brings.
	renew(ctx context.Context, take func(recorded)) error
	// stop ends recording, and hands on the rest.
	stop(ctx context.Context, take func(recorded)) error
	// allocInterval is in bytes between two samples, 0 if they have weights of their own.
	allocInterval() int64
	// oldThreads are described at Chunk; nil if weights need none.
	oldThreads() map[uint64]bool
}

// recorded is a finished chunk of a recording, or why one could not be read.
type recorded struct {
	chunk []byte
	err   error
}

// Bounds of one reading of a recording, beyond what JVMs write in an interval: a file may
// have any size without taking space.
const (
	maxChunks     = 256
	maxChunkTimes = 8 // times the most bytes of one chunk
)

// readChunks hands on the finished chunks of a recording in a file of the folder from an
// offset on, and returns the offset behind the last one. A chunk that is larger than
// most bytes is passed over, with an error. wanted, if it is not nil, says by a chunk's
// header whether the chunk is handed on. Only the file is read under the guard.
func (f *folder) readChunks(guard *untrusted.Guard, name string, from, most int64, wanted func(chunk) bool, take func(recorded)) (int64, error) {
	left := maxChunkTimes * most
	for n := 0; ; n++ {
		c, err := untrusted.Do(guard, func() (chunk, error) { return f.findChunk(name, from) })
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, errUnfinished):
			return from, nil
		case err != nil:
			return from, because(BadRecording, "%s/%s: %w", f.dir.Name(), name, err)
		}
		read := (wanted == nil || wanted(c)) && c.size <= most
		if read {
			left -= c.size
		}
		if n == maxChunks || left < 0 {
			return from, because(BadRecording, "%s/%s: chunk %d at byte %d: %w of %d chunks and %d bytes at once",
				f.dir.Name(), name, n+1, from, untrusted.ErrTooLarge, maxChunks, maxChunkTimes*most)
		}
		b, err := untrusted.Do(guard, func() ([]byte, error) { return f.readChunk(name, c, read) })
		if err != nil {
			return from, because(BadRecording, "%s/%s: %w", f.dir.Name(), name, err)
		}
		from += c.size
		switch {
		case read:
			take(recorded{chunk: b})
		case c.size > most:
			take(recorded{err: fmt.Errorf("%s/%s: a chunk of %d bytes is larger than %d (limits.max_profile_bytes)", f.dir.Name(), name, c.size, most)})
		}
	}
}

// findChunk reads the header of the chunk at an offset of a file, as chunkAt does.
func (f *folder) findChunk(name string, from int64) (chunk, error) {
	file, err := f.openFile(name, unix.O_RDONLY, 0)
	if err != nil {
		return chunk{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return chunk{}, err
	}
	return chunkAt(file, from, info.Size())
}

// readChunk returns the bytes of a chunk, if they are to be read, and frees its space.
func (f *folder) readChunk(name string, c chunk, read bool) ([]byte, error) {
	file, err := f.openFile(name, unix.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var b []byte
	if read {
		b = make([]byte, c.size)
		if _, err := file.ReadAt(b, c.offset); err != nil {
			return nil, fmt.Errorf("read %s at byte %d: %w", file.Name(), c.offset, err)
		}
	}
	freeSpace(file, c)
	return b, nil
}

// freeSpace gives the space of a chunk that was read back to the file system, if that is
// possible: a recorder writes one file for as long as it records.
func freeSpace(file *os.File, c chunk) {
	_ = unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, c.offset, c.size) // the file is removed in the end
}
