package pebblefiles

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/stretchr/testify/require"
)

// FuzzLog reads logs of any bytes, and logs as Pebble writes them.
func FuzzLog(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x01"), []byte("a record"))
	f.Add(bytes.Repeat([]byte{7}, 100), bytes.Repeat([]byte("long"), 20000))
	f.Fuzz(func(t *testing.T, data, text []byte) {
		l := parseLog(data, "000001.log")
		l.entries()
		var b bytes.Buffer
		w := record.NewWriter(&b)
		for _, r := range [][]byte{text, data} {
			_, err := w.WriteRecord(r)
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		l = parseLog(b.Bytes(), "000001.log")
		require.Empty(t, l.damage)
		require.Len(t, l.records, 2)
		require.True(t, bytes.Equal(text, l.records[0]) && bytes.Equal(data, l.records[1]))
	})
}
