package corruption

import (
	"bytes"
	"errors"
	"io"
	"math/big"
	"os"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// Unreadable reports whether an error is about data of a table that is corrupt, cut
// off or on a broken sector, so that other data may be in order.
func Unreadable(err error) bool {
	// The first is true of most that the second is, which takes hundreds of times longer.
	return pebble.ExtractDataCorruptionInfo(err) != nil || pebble.IsCorruptionError(err) || errors.Is(err, storeerr.ErrCorrupt) || errors.Is(err, syscall.EIO) || errors.Is(err, os.ErrNotExist) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// A Gap is a range of keys that cannot be read, from after the key from on and up to
// the key to.
type Gap struct{ From, To []byte }

// keyBytes is how much of a key counts in the search for the end of a gap: the time of
// a row is within it.
const keyBytes = 4 + 1 + 1 + 4 + 8

// NextReadable returns the first key after from, up to keyBytes, at which read
// succeeds, or to if there is none before it. It takes steps that double and then
// halves the last one, some dozens of reads.
func NextReadable(from, to []byte, read func(key []byte) bool) []byte {
	number := func(key []byte) *big.Int {
		var b [keyBytes]byte
		copy(b[:], key)
		return new(big.Int).SetBytes(b[:])
	}
	// Without the zeros at its end, so that no shorter key is left out.
	key := func(n *big.Int) []byte { return bytes.TrimRight(n.FillBytes(make([]byte, keyBytes)), "\x00") }
	bad, end := number(from), number(to)
	good := new(big.Int)
	one := big.NewInt(1)
	for step := big.NewInt(1); ; step.Lsh(step, 1) {
		if good.Add(bad, step); good.Cmp(end) >= 0 {
			good.Set(end)
			break
		}
		if read(key(good)) {
			break
		}
		bad.Set(good)
	}
	for mid := new(big.Int); mid.Sub(good, bad).Cmp(one) > 0; {
		if mid.Rsh(mid, 1).Add(mid, bad); read(key(mid)) {
			good.Set(mid)
		} else {
			bad.Set(mid)
		}
	}
	if good.Cmp(end) == 0 {
		return bytes.Clone(to)
	}
	return key(good)
}

// LastKey is above all keys.
var LastKey = bytes.Repeat([]byte{0xff}, keyBytes)
