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

	"github.com/flameline/flameline/collector/ingest"
)

// A push reads its body and decodes what is in it; some take more than was estimated.
func TestPushesShareMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		m := newPushMemory(size, "limits.max_push_bytes")
		var running, most, taken atomic.Int64
		push := func(body []byte, more int64) {
			s, err := m.enter(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer s.leave()
			if err := s.spend(int64(len(body))); err != nil {
				t.Error(err)
			}
			reserve, err := s.admit(body)
			if err != nil {
				t.Error(err)
			}
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(time.Second) // of synctest's clock, which does not wait
			if err := reserve(more); err != nil {
				t.Error(err)
			}
			m.mu.Lock()
			if m.used > size {
				t.Errorf("%d bytes are in use", m.used)
			}
			m.mu.Unlock()
			time.Sleep(time.Second)
			running.Add(-1)
			taken.Add(1)
		}
		var g sync.WaitGroup
		for range 20 {
			g.Go(func() { push(make([]byte, 10<<10), 0) })
		}
		g.Wait()
		require.EqualValues(t, size/((ingest.CostPerByte+1)*10<<10)+1, most.Load(), "as many as there is memory for, and one")
		require.EqualValues(t, 20, taken.Load())
		most.Store(0)
		for range 5 { // each takes more than all there is
			g.Go(func() { push(make([]byte, 150<<10), 0) })
		}
		g.Wait()
		require.EqualValues(t, 1, most.Load())
		require.EqualValues(t, 25, taken.Load())
		for range 30 { // each turns out to take more than all there is
			g.Go(func() { push(make([]byte, 1<<10), 4<<20) })
		}
		g.Wait()
		require.EqualValues(t, 55, taken.Load(), "none waits for another for good")
		require.Zero(t, m.used)
		require.Nil(t, m.beyond)
		require.Empty(t, m.shares)

		// What is held for long: others are refused in the end.
		var held []*pushShare
		for range size / minPushCost {
			s, err := m.enter(t.Context())
			require.NoError(t, err)
			held = append(held, s)
		}
		began := time.Now()
		_, err := m.enter(t.Context())
		require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err))
		require.ErrorContains(t, err, "limits.max_push_bytes")
		require.Equal(t, pushTimeout, time.Since(began))
		var ce *connect.Error
		require.ErrorAs(t, err, &ce)
		require.Equal(t, retryAfter, ce.Meta().Get("Retry-After"))
		require.NoError(t, held[0].spend(10*size), "one may go beyond")
		require.Error(t, held[1].spend(size))
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = m.enter(gone)
		require.Equal(t, connect.CodeCanceled, connect.CodeOf(err))
		// A sender that is slow is given up for others, and only then.
		slow, quick := held[2], held[3]
		aborted := make(chan struct{}, 10)
		slow.reading(func() { aborted <- struct{}{} })
		quick.reading(func() { t.Error("is not slow") })
		quick.received(1 << 40)
		time.Sleep(time.Hour)
		require.False(t, slow.aborted)
		g.Go(func() {
			s, err := m.enter(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			s.leave()
		})
		synctest.Wait()
		time.Sleep(2 * time.Second)
		<-aborted
		require.True(t, slow.endReading())
		slow.leave()
		g.Wait()

		none, err := newPushMemory(0, "").enter(t.Context())
		require.NoError(t, err)
		require.NoError(t, none.spend(1<<40))
		none.leave()
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
	require.EqualValues(t, len(lines)*ingest.CostPerByte, pushCost(packed.Bytes()))
	require.EqualValues(t, 100_000*ingest.CostPerByte, pushCost(make([]byte, 100_000)))
	require.EqualValues(t, minPushCost, pushCost(nil))
	require.EqualValues(t, minPushCost, pushCost([]byte{0x1f, 0x8b}))
	require.EqualValues(t, 100_000*costPerPackedByte, pushCost(append([]byte{0x28, 0xb5, 0x2f, 0xfd}, make([]byte, 99_996)...)))
}
