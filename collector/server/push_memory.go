package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/semaphore"
)

// pushMemory is what all pushes together may take from when they are read until
// they are stored, as estimated. Others wait: a hundred senders of large profiles
// are taken one after the other, and small ones at once. It is nil for no limit.
type pushMemory struct {
	max     int64
	free    *semaphore.Weighted
	timeout time.Duration // of waiting; most clients give up earlier
}

func newPushMemory(max int64) *pushMemory {
	if max <= 0 {
		return nil
	}
	return &pushMemory{max, semaphore.NewWeighted(max), time.Minute}
}

// enter waits until there is memory for bodies. One that takes more than all of it
// has it alone. The push has to leave.
func (m *pushMemory) enter(ctx context.Context, bodies ...[]byte) (leave func(), err error) {
	if m == nil {
		return func() {}, nil
	}
	n := int64(0)
	for _, b := range bodies {
		n += pushCost(b)
	}
	n = min(n, m.max)
	wait, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	if err := m.free.Acquire(wait, n); err != nil {
		if ctx.Err() != nil {
			return nil, code(ctx.Err())
		}
		return nil, connect.NewError(connect.CodeUnavailable, // which OTLP's exporters and agents try again

			fmt.Errorf("other pushes have all of the %d bytes of memory and none ended within %s (limits.max_push_bytes)", m.max, m.timeout))
	}
	return func() { m.free.Release(n) }, nil
}

// What a byte of a profile takes: a number of one byte is one of eight in memory,
// and stays until it is stored.
const (
	costPerByte       = 12
	costPerPackedByte = 30
	minPushCost       = 16 << 10
)

// pushCost estimates the memory that a body takes when it is decoded.
func pushCost(b []byte) int64 {
	n := int64(len(b))
	switch {
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b}) && n >= 18:
		// The size before compression is at the end of the last member (RFC 1952).
		if size := int64(binary.LittleEndian.Uint32(b[n-4:])); size >= n && size < 200*n {
			return max(size*costPerByte, minPushCost)
		}
		return max(n*costPerPackedByte, minPushCost)
	case bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}): // zstd
		return max(n*costPerPackedByte, minPushCost)
	}
	return max(n*costPerByte, minPushCost)
}
