package ingest

import (
	"bytes"
	"context"
	"runtime/pprof"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

// What the Go runtime writes is read the fast way, and as the generated code
// reads it.
func TestDecodeReadsRealProfiles(t *testing.T) {
	var cpu, heap bytes.Buffer
	require.NoError(t, pprof.StartCPUProfile(&cpu))
	pprof.Do(t.Context(), pprof.Labels("endpoint", "/pay"), func(context.Context) {
		for began := time.Now(); time.Since(began) < 100*time.Millisecond; {
			_ = bytes.Repeat([]byte("x"), 1<<16)
		}
	})
	pprof.StopCPUProfile()
	require.NoError(t, pprof.WriteHeapProfile(&heap))
	for _, b := range [][]byte{cpu.Bytes(), heap.Bytes(), encode(t, sound())} {
		raw, err := Decompress(b, "", 0, nil)
		require.NoError(t, err)
		fast, err := decode(raw, Limits{}, newReservation(raw, true, Limits{}))
		require.NoError(t, err)
		require.NotNil(t, fast)
		slow := &googlev1.Profile{}
		require.NoError(t, slow.UnmarshalVT(raw))
		require.True(t, proto.Equal(slow, fast))
	}
}

// FuzzDecode checks that what the fast way reads, the slow way reads too, and
// makes the same of it.
func FuzzDecode(f *testing.F) {
	f.Add(encode(f, sound()))
	var heap bytes.Buffer
	require.NoError(f, pprof.WriteHeapProfile(&heap))
	raw, err := Decompress(heap.Bytes(), "", 0, nil)
	require.NoError(f, err)
	f.Add(raw[:len(raw)/8])
	l := Limits{MaxSamples: 1000, MaxSymbols: 10_000, MaxLabels: 10}
	f.Fuzz(func(t *testing.T, b []byte) {
		fast, _ := decode(b, l, newReservation(b, true, l))
		if fast == nil {
			return
		}
		slow, err := decodeSlowly(b, l)
		if err != nil {
			t.Fatalf("read, but: %v", err)
		}
		if !proto.Equal(slow, fast) {
			t.Fatalf("%v instead of %v", fast, slow)
		}
	})
}
