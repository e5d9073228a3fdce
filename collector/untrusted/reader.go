package untrusted

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// callCost is how many bytes of a budget one call of ReadAt takes beside the
// bytes that it reads, so that a file cannot have us read single bytes forever.
const callCost = 64

// A Budget is what reading a file may cost. The zero value has no bound.
type Budget struct {
	Bytes int64         // read, again and again or not; 0 is no bound
	Time  time.Duration // from NewReader on; 0 is no bound
}

// A Reader reads a file up to the size that the file had when it was opened, and
// within a budget. It is safe for concurrent use if the file is.
type Reader struct {
	file  io.ReaderAt
	size  int64
	limit int64
	spent atomic.Int64
	until time.Time // zero: no bound
}

// NewReader returns a Reader of a file with a size in bytes.
func NewReader(file io.ReaderAt, size int64, b Budget) *Reader {
	r := &Reader{file: file, size: max(size, 0), limit: b.Bytes}
	if b.Time > 0 {
		r.until = time.Now().Add(b.Time)
	}
	return r
}

// Size returns the size of the file in bytes.
func (r *Reader) Size() int64 { return r.size }

// Spent returns the bytes of the budget that are spent.
func (r *Reader) Spent() int64 { return r.spent.Load() }

// Check returns an error once the time is over. Loops that read nothing call it.
func (r *Reader) Check() error {
	if !r.until.IsZero() && time.Now().After(r.until) {
		return fmt.Errorf("read file: %w", ErrTimeout)
	}
	return nil
}

// ReadAt reads as io.ReaderAt wants it. An offset that no file has is malformed;
// one beyond the end of this file is the file's end.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read file at offset %d: %w", off, ErrMalformed)
	}
	if err := r.Check(); err != nil {
		return 0, err
	}
	if off >= r.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > r.size-off
	if short {
		p = p[:r.size-off]
	}
	if spent := r.spent.Add(int64(len(p)) + callCost); r.limit > 0 && spent > r.limit {
		return 0, fmt.Errorf("read file: %w of %d bytes read", ErrTooLarge, r.limit)
	}
	n, err := r.file.ReadAt(p, off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// SizeOf returns the size of what a reader reads: of an open file, which must be
// a regular one, or of bytes in memory.
func SizeOf(r io.ReaderAt) (int64, error) {
	switch f := r.(type) {
	case interface{ Stat() (os.FileInfo, error) }:
		info, err := f.Stat()
		if err != nil {
			return 0, err
		}
		if !info.Mode().IsRegular() {
			return 0, fmt.Errorf("open %s: %w", info.Name(), ErrIrregular)
		}
		return info.Size(), nil
	case interface{ Size() int64 }:
		return f.Size(), nil
	}
	return 0, fmt.Errorf("the size of a %T is not known", r)
}
