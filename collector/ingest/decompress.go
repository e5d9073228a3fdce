package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// ErrTooLarge is wrapped by errors about Limits.MaxProfileBytes.
var ErrTooLarge = errors.New("too large")

// gzips are readers to use again: each has tables of some 40 kB.
var gzips = sync.Pool{New: func() any { return new(gzip.Reader) }}

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// Decompress undoes what the transport of a body has done to it, gzip or zstd,
// told by its first bytes; a body that is neither is returned as it is. Errors
// about more than most bytes, 0 for any number, wrap ErrTooLarge.
func Decompress(b []byte, most int64) ([]byte, error) { return decompress(b, most) }

// decompress undoes gzip or zstd, told by their first bytes; anything else is
// returned as it is. It reads no more than max bytes, 0 for any number.
func decompress(b []byte, max int64) ([]byte, error) {
	var (
		name string
		r    io.Reader
	)
	in := bytes.NewReader(b)
	switch {
	case bytes.HasPrefix(b, gzipMagic):
		z := gzips.Get().(*gzip.Reader)
		defer gzips.Put(z)
		if err := z.Reset(in); err != nil {
			return nil, fmt.Errorf("gzip: %w, at byte %d of %d", err, len(b)-in.Len(), len(b))
		}
		name, r = "gzip", z
	case bytes.HasPrefix(b, zstdMagic):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(32<<20))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		defer z.Close()
		name, r = "zstd", z
	default:
		if exceeds(int64(len(b)), max) {
			return nil, tooLarge(max)
		}
		return b, nil
	}
	if max > 0 {
		r = io.LimitReader(r, max+1)
	}
	var out bytes.Buffer
	out.Grow(expected(b))
	if _, err := out.ReadFrom(r); err != nil {
		return nil, fmt.Errorf("%s: %w, at byte %d of %d", name, err, len(b)-in.Len(), len(b))
	}
	if exceeds(int64(out.Len()), max) {
		return nil, tooLarge(max)
	}
	return out.Bytes(), nil
}

// expected is how many bytes b will have after decompression, or a little more.
// gzip ends with that number, which may be a lie: it is believed up to a point.
func expected(b []byte) int {
	n := min(len(b)*4, 1<<20)
	if bytes.HasPrefix(b, gzipMagic) && len(b) >= 18 {
		if size := int(binary.LittleEndian.Uint32(b[len(b)-4:])); size < min(len(b)*16, 16<<20) {
			n = size
		}
	}
	return n + bytes.MinRead // what ReadFrom wants to have left at the end
}

func tooLarge(max int64) error {
	return fmt.Errorf("%w: more than %d bytes after decompression (limits.max_profile_bytes)", ErrTooLarge, max)
}
