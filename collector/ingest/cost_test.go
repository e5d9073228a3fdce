package ingest

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"
)

// What is reserved before a profile is decoded is at least what its parts take, whatever
// they have in them.
func TestPartsAreReserved(t *testing.T) {
	empty := func(n int, part byte) []byte { return bytes.Repeat([]byte{part<<3 | wireBytes, 0}, n) }
	label := bytes.Repeat([]byte{3<<3 | wireBytes, 0}, 30)
	line := bytes.Repeat([]byte{4<<3 | wireBytes, 0}, 50)
	for name, raw := range map[string][]byte{
		"locations": empty(100_000, 4),
		"functions": empty(100_000, 5),
		"mappings":  empty(100_000, 3),
		"strings":   empty(100_000, 6),
		"samples":   empty(100_000, 2),
		"labels":    bytes.Repeat(append([]byte{2<<3 | wireBytes, byte(len(label))}, label...), 5000),
		"lines":     bytes.Repeat(append([]byte{4<<3 | wireBytes, byte(len(line))}, line...), 5000),
		"numbers":   bytes.Repeat(append([]byte{2<<3 | wireBytes, 100, 2<<3 | wireBytes, 98}, make([]byte, 98)...), 2000),
	} {
		t.Run(name, func(t *testing.T) {
			reserved := int64(0)
			l := Limits{MaxLabels: 30, Reserve: func(n int64) error { reserved += n; return nil }}
			memory := newReservation(raw, false, l)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			p, err := decode(raw, l, memory)
			require.NoError(t, err)
			if p == nil {
				require.True(t, memory.spendAll(raw))
				p = new(googlev1.Profile)
				require.NoError(t, p.UnmarshalVT(raw))
			}
			runtime.ReadMemStats(&after)
			reserved = max(reserved, int64(len(raw))*CostPerByte)
			took := int64(after.TotalAlloc - before.TotalAlloc)
			// Half as much again is what the quick way had when it gave up.
			require.LessOrEqual(t, took, reserved+reserved/2, "%d of %d bytes", reserved, len(raw))
			runtime.KeepAlive(p)
		})
	}
}

// A profile for which there is no memory is refused before it is decoded.
func TestPartsAreRefused(t *testing.T) {
	no := errors.New("no memory")
	_, _, err := Pprof(bytes.Repeat([]byte{4<<3 | wireBytes, 0}, 100_000), Limits{Reserve: func(int64) error { return no }})
	require.ErrorIs(t, err, no)
}
