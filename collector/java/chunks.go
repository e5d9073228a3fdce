package java

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// chunkHeader is the length of a chunk's header, in bytes.
	chunkHeader = 68
	// chunkMagic is how a chunk of a recording begins.
	chunkMagic = "FLR\x00"
)

// errUnfinished says that a chunk is still being written.
var errUnfinished = errors.New("the chunk is not finished")

// A chunk is a finished part of a flight recording, which can be read by itself.
type chunk struct {
	offset, size int64  // bytes in the file
	begin        uint64 // ns since 1970; later chunks of a recording begin later
	length       uint64 // ns
}

// chunkAt reads the header of the chunk at an offset of a recording with a size in bytes.
// It returns io.EOF at the recording's end, and errUnfinished for a chunk whose header
// is not complete yet: writers fill in its size and its tables at the end.
func chunkAt(r io.ReaderAt, offset, size int64) (chunk, error) {
	if offset < 0 || offset > size {
		return chunk{}, fmt.Errorf("recording: offset %d is not within %d bytes", offset, size)
	}
	if offset == size {
		return chunk{}, io.EOF
	}
	if size-offset < chunkHeader {
		return chunk{}, errUnfinished
	}
	var b [chunkHeader]byte
	if _, err := r.ReadAt(b[:], offset); err != nil {
		return chunk{}, fmt.Errorf("recording: read the header at byte %d: %w", offset, err)
	}
	if string(b[:4]) != chunkMagic {
		return chunk{}, fmt.Errorf("recording: %q at byte %d is not how a chunk begins", b[:4], offset)
	}
	u64 := func(at int) uint64 { return binary.BigEndian.Uint64(b[at:]) }
	length, pools, metadata := u64(8), u64(16), u64(24)
	if length == 0 || pools == 0 || metadata == 0 {
		return chunk{}, errUnfinished
	}
	if length < chunkHeader || length > uint64(size-offset) {
		return chunk{}, fmt.Errorf("recording: the chunk at byte %d has %d bytes, of which %d are there", offset, length, size-offset)
	}
	return chunk{offset: offset, size: int64(length), begin: u64(32), length: u64(40)}, nil
}
