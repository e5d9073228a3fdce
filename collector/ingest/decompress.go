package ingest

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// ErrTooLarge is wrapped by errors about profiles over Limits.MaxProfileBytes.
var ErrTooLarge = errors.New("too large")

// gzips are readers for reuse, since each has tables of some 40 kB.
var gzips = sync.Pool{New: func() any { return new(gzip.Reader) }}

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// Bounds of the memory, in bytes, for a zstd frame's window. Encoders use up to 8 MB by
// default.
const (
	minWindow = 1 << 20
	maxWindow = 32 << 20
)

// CostPerByte is the approximate memory, in bytes, that each byte of a profile takes
// while it is decoded and stored: an encoded number of one byte takes eight when
// decoded.
const CostPerByte = 12

// Decompress decompresses a body, by coding, which is a Content-Encoding or "" for none,
// or by the body's first bytes, which identify gzip and zstd. A body that is not
// compressed is returned unchanged. If the result would have more than most bytes (0 for
// no limit), the error wraps ErrTooLarge. reserve, if it is not nil, is called before
// memory is allocated, with bytes; its errors are returned unchanged.
func Decompress(b []byte, coding string, most int64, reserve func(int64) error) ([]byte, error) {
	u := unpacking{most: most, cost: 2, reserve: reserve}
	if coding == "deflate" {
		return u.inflate(b)
	}
	return u.unpack(b)
}

// decompress decompresses gzip or zstd, which their first bytes identify, and returns
// anything else unchanged. It reads up to Limits.MaxProfileBytes, and reserves the
// memory that decoding the result takes.
func decompress(b []byte, l Limits) ([]byte, error) {
	u := unpacking{most: l.MaxProfileBytes, cost: CostPerByte, reserve: l.Reserve}
	return u.unpack(b)
}

// An unpacking is one run of a decompressor.
type unpacking struct {
	most    int64 // bytes of the result; 0 for no limit
	cost    int64 // memory to reserve per byte of the result
	reserve func(int64) error
}

// take reserves memory, in bytes.
func (u *unpacking) take(bytes int64) error {
	if u.reserve == nil || bytes <= 0 {
		return nil
	}
	return u.reserve(bytes)
}

func (u *unpacking) unpack(b []byte) ([]byte, error) {
	in := bytes.NewReader(b)
	switch {
	case bytes.HasPrefix(b, gzipMagic):
		z := gzips.Get().(*gzip.Reader)
		defer gzips.Put(z)
		if err := z.Reset(in); err != nil {
			return nil, fmt.Errorf("gzip: %w, at byte %d of %d", err, len(b)-in.Len(), len(b))
		}
		return u.read("gzip", z, in, len(b), expected(b))
	case bytes.HasPrefix(b, zstdMagic):
		window := windowOf(b)
		if err := u.take(window); err != nil {
			return nil, err
		}
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(window)))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		defer z.Close()
		return u.read("zstd", z, in, len(b), expected(b))
	}
	if exceeds(int64(len(b)), u.most) {
		return nil, tooLarge(u.most)
	}
	return b, nil
}

// windowOf returns the window, in bytes, of the first zstd frame, within bounds. Later
// frames may not need a larger one.
func windowOf(b []byte) int64 {
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return minWindow
	}
	return int64(min(max(h.WindowSize, minWindow), maxWindow))
}

// inflate decompresses HTTP's deflate: zlib's format, or raw deflate, which some clients
// send under that name.
func (u *unpacking) inflate(b []byte) ([]byte, error) {
	in := bytes.NewReader(b)
	if len(b) >= 2 && b[0]&0x0f == 8 && binary.BigEndian.Uint16(b)%31 == 0 {
		z, err := zlib.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("deflate: %w", err)
		}
		return u.read("deflate", z, in, len(b), expected(b))
	}
	return u.read("deflate", flate.NewReader(in), in, len(b), expected(b))
}

// read reads all of r, whose compressed input of size bytes is in. The buffer begins
// with the given room; memory is reserved before the buffer grows.
func (u *unpacking) read(name string, r io.Reader, in *bytes.Reader, size, room int) ([]byte, error) {
	if u.most > 0 {
		r = io.LimitReader(r, u.most+1)
		room = int(min(int64(room), u.most+1+bytes.MinRead))
	}
	if err := u.take(int64(room) * u.cost); err != nil {
		return nil, err
	}
	out := make([]byte, 0, room)
	for {
		if len(out) == cap(out) {
			next := 2 * cap(out)
			if u.most > 0 {
				next = int(min(int64(next), u.most+1+bytes.MinRead))
			}
			next = max(next, cap(out)+bytes.MinRead)
			if err := u.take(int64(next-cap(out)) * u.cost); err != nil {
				return nil, err
			}
			out = append(make([]byte, 0, next), out...)
		}
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w, at byte %d of %d", name, err, size-in.Len(), size)
		}
	}
	if exceeds(int64(len(out)), u.most) {
		return nil, tooLarge(u.most)
	}
	return out, nil
}

// expected estimates how many bytes b has after decompression. gzip ends with that
// number; since it may be wrong, it is believed only up to a bound.
func expected(b []byte) int {
	n := min(len(b)*4, 1<<20)
	if bytes.HasPrefix(b, gzipMagic) && len(b) >= 18 {
		if size := int(binary.LittleEndian.Uint32(b[len(b)-4:])); size < min(len(b)*16, 16<<20) {
			n = size
		}
	}
	return n + bytes.MinRead // room in which the reader finds the end
}

func tooLarge(max int64) error {
	return fmt.Errorf("%w: more than %d bytes after decompression (limits.max_profile_bytes)", ErrTooLarge, max)
}
