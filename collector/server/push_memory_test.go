package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
)

func TestPushesShareMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newPushMemory(1 << 20)
		small, large := make([]byte, 10<<10), make([]byte, 8<<20)
		var running, most, taken atomic.Int64
		push := func(body []byte) {
			leave, err := m.enter(t.Context(), body)
			if err != nil {
				t.Error(err)
				return
			}
			defer leave()
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(time.Second) // of synctest's clock, which does not wait
			running.Add(-1)
			taken.Add(1)
		}
		var g sync.WaitGroup
		for range 20 {
			g.Go(func() { push(small) })
		}
		g.Wait()
		require.EqualValues(t, (1<<20)/(costPerByte*len(small)), most.Load())
		require.EqualValues(t, 20, taken.Load())
		most.Store(0)
		for range 5 { // each takes more than all there is
			g.Go(func() { push(large) })
		}
		g.Wait()
		require.EqualValues(t, 1, most.Load())
		require.EqualValues(t, 25, taken.Load())

		leave, err := m.enter(t.Context(), small, large)
		require.NoError(t, err)
		_, err = m.enter(t.Context(), small)
		require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err))
		require.ErrorContains(t, err, "limits.max_push_bytes")
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = m.enter(gone, small)
		require.Equal(t, connect.CodeCanceled, connect.CodeOf(err))
		leave()
		leave, err = m.enter(t.Context(), small)
		require.NoError(t, err)
		leave()
		leave, err = newPushMemory(0).enter(t.Context(), large)
		require.NoError(t, err)
		leave()
	})
}

func TestPushCost(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := w.Write(bytes.Repeat([]byte("main;work 1\n"), 1_000_000))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.EqualValues(t, packed.Len()*costPerPackedByte, pushCost(packed.Bytes()), "it says that it is a bomb, and may not be one")
	lines := make([]byte, 0, 200_000)
	for i := range 200_000 {
		lines = append(lines, byte(i*i>>3)%64)
	}
	packed.Reset()
	w = gzip.NewWriter(&packed)
	_, err = w.Write(lines)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.EqualValues(t, len(lines)*costPerByte, pushCost(packed.Bytes()))
	require.EqualValues(t, 100_000*costPerByte, pushCost(make([]byte, 100_000)))
	require.EqualValues(t, minPushCost, pushCost(nil))
	require.EqualValues(t, minPushCost, pushCost([]byte{0x1f, 0x8b}))
	require.EqualValues(t, 100_000*costPerPackedByte, pushCost(append([]byte{0x28, 0xb5, 0x2f, 0xfd}, make([]byte, 99_996)...)))
}
