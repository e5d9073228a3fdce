package java

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
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

// readChunks hands on the finished chunks of a recording in a file of the folder from an
// offset on, and returns the offset behind the last one. A chunk that is larger than
// most bytes is passed over, with an error. wanted, if it is not nil, says by a chunk's
// header whether the chunk is handed on.
func (f *folder) readChunks(name string, from, most int64, wanted func(chunk) bool, take func(recorded)) (int64, error) {
	file, err := f.openFile(name, unix.O_RDWR, 0)
	if err != nil {
		return from, &Error{BadRecording, err}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return from, &Error{BadRecording, err}
	}
	for {
		c, err := chunkAt(file, from, info.Size())
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, errUnfinished):
			return from, nil
		case err != nil:
			return from, because(BadRecording, "%s: %w", file.Name(), err)
		}
		from += c.size
		switch {
		case wanted != nil && !wanted(c):
		case c.size > most:
			take(recorded{err: fmt.Errorf("%s: a chunk of %d bytes is larger than %d (limits.max_profile_bytes)", file.Name(), c.size, most)})
		default:
			b := make([]byte, c.size)
			if _, err := file.ReadAt(b, c.offset); err != nil {
				return from, because(BadRecording, "read %s at byte %d: %w", file.Name(), c.offset, err)
			}
			take(recorded{chunk: b})
		}
		freeSpace(file, c)
	}
}

// freeSpace gives the space of a chunk that was read back to the file system, if that is
// possible: a recorder writes one file for as long as it records.
func freeSpace(file *os.File, c chunk) {
	_ = unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, c.offset, c.size) // the file is removed in the end
}
