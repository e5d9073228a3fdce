package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/flameline/flameline/collector/ingest"
)

const (
	// pushTimeout is how long a push waits for memory; most clients give up earlier.
	pushTimeout = time.Minute
	// maxQueuedPushes bounds the pushes that wait.
	maxQueuedPushes = 1000
	// contendedGrace and contendedBody replace bodyGrace and slowestBody while other
	// pushes wait for memory: a time, and a rate in bytes per second.
	contendedGrace = 3 * time.Second
	contendedBody  = 256 << 10
	// retryAfter is the Retry-After of refused pushes, in seconds.
	retryAfter = "5"
)

// pushMemory is the memory budget of all pushes, from before they are read until they
// are stored. Each push reserves a share, which grows before memory is taken: by the
// bytes that are read and decompressed, and, once the body is complete, by an estimate
// of what decoding takes. A push waits while no memory is free.
//
// One push at a time may exceed the budget: so pushes that hold a share and wait for
// more cannot block each other for good, and a push that needs more than the whole
// budget is still accepted. A hundred senders of large profiles are thus served one
// after the other, and small pushes at once. While pushes wait, bodies that arrive
// slowly are given up.
//
// A nil pushMemory has no limit.
type pushMemory struct {
	max     int64
	limit   string // the name that errors use
	timeout time.Duration

	mu     sync.Mutex
	used   int64        // of max; excludes beyond's excess
	beyond *pushShare   // the share that may exceed max
	shares []*pushShare // in order of arrival
	queue  []*pushShare // pushes without memory yet, in order of arrival
}

func newPushMemory(max int64, limit string) *pushMemory {
	if max <= 0 {
		return nil
	}
	return &pushMemory{max: max, limit: limit, timeout: pushTimeout}
}

// A pushShare is one push's reservation. Its methods are safe for concurrent use.
type pushShare struct {
	memory *pushMemory     // nil for no limit
	ctx    context.Context // of the request

	held   int64         // bytes of the budget
	excess int64         // bytes beyond the budget
	spent  int64         // bytes that spend has counted
	wants  int64         // bytes it waits for; 0 if it does not wait
	wake   chan struct{} // receives one value when the wait ends

	abort   func() // aborts reading the body; nil while it is not being read
	began   time.Time
	read    int64
	aborted bool
}

// enter waits for the memory with which a push begins. The caller must call leave on the
// share.
func (m *pushMemory) enter(ctx context.Context) (*pushShare, error) {
	s := &pushShare{memory: m, ctx: ctx}
	if m == nil {
		return s, nil
	}
	m.mu.Lock()
	if len(m.queue) >= maxQueuedPushes {
		m.mu.Unlock()
		return nil, m.busy(fmt.Sprintf("%d wait for it", maxQueuedPushes))
	}
	m.queue = append(m.queue, s)
	if err := m.wait(s, min(minPushCost, m.max)); err != nil {
		return nil, err
	}
	return s, nil
}

// ensure waits until the share has at least n bytes.
func (s *pushShare) ensure(n int64) error {
	m := s.memory
	if m == nil {
		return nil
	}
	m.mu.Lock()
	if n <= s.held+s.excess {
		m.mu.Unlock()
		return nil
	}
	return m.wait(s, n-s.held-s.excess)
}

// spend counts n more bytes that the push is about to take, and waits until the share
// covers all that was counted.
func (s *pushShare) spend(n int64) error {
	m := s.memory
	if m == nil {
		return nil
	}
	m.mu.Lock()
	if s.spent += n; s.spent <= s.held+s.excess {
		m.mu.Unlock()
		return nil
	}
	return m.wait(s, s.spent-s.held-s.excess)
}

// reading records that the body is being read, and the function that aborts reading.
func (s *pushShare) reading(abort func()) {
	if m := s.memory; m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		s.abort, s.began = abort, time.Now()
	}
}

// received records that n bytes of the body have arrived.
func (s *pushShare) received(n int) {
	if m := s.memory; m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		s.read += int64(n)
	}
}

// endReading records that the body is no longer being read, and reports whether reading
// was aborted in favour of other pushes.
func (s *pushShare) endReading() bool {
	m := s.memory
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.abort = nil
	return s.aborted
}

// leave releases the share.
func (s *pushShare) leave() {
	m := s.memory
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= s.held
	s.held, s.excess, s.abort = 0, 0, nil
	if m.beyond == s {
		m.beyond = nil
	}
	m.shares = slices.DeleteFunc(m.shares, func(o *pushShare) bool { return o == s })
	m.settle()
}

// wait waits for n more bytes. The caller holds the lock; wait releases it.
func (m *pushMemory) wait(s *pushShare, n int64) error {
	s.wants, s.wake = n, make(chan struct{}, 1)
	m.settle()
	if s.wants == 0 {
		m.mu.Unlock()
		return nil
	}
	m.mu.Unlock()
	timeout, tick := time.NewTimer(m.timeout), time.NewTicker(time.Second)
	defer timeout.Stop()
	defer tick.Stop()
	var err error
	for err == nil {
		select {
		case <-s.wake:
			return nil
		case <-tick.C:
			m.giveUp()
		case <-s.ctx.Done():
			err = code(s.ctx.Err())
		case <-timeout.C:
			err = m.busy(fmt.Sprintf("none of them ended within %s", m.timeout))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.wants == 0 { // granted meanwhile; the caller releases it by leave
		if s.spent == 0 {
			m.used -= s.held
			s.held = 0
			m.shares = slices.DeleteFunc(m.shares, func(o *pushShare) bool { return o == s })
			m.settle()
		}
		return err
	}
	s.wants = 0
	m.queue = slices.DeleteFunc(m.queue, func(o *pushShare) bool { return o == s })
	return err
}

// giveUp aborts reading bodies that arrive too slowly.
func (m *pushMemory) giveUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.shares {
		if took := time.Since(s.began); s.abort != nil && took > contendedGrace && s.read < int64(took.Seconds()*contendedBody) {
			s.aborted = true
			s.abort()
		}
	}
}

func (m *pushMemory) busy(why string) error {
	err := connect.NewError(connect.CodeUnavailable, // OTLP exporters and agents retry on this code
		fmt.Errorf("other requests use all of the %d bytes of memory, and %s (%s); try again", m.max, why, m.limit))
	err.Meta().Set("Retry-After", retryAfter)
	return err
}

// settle grants free memory to waiting shares. The caller holds the lock.
func (m *pushMemory) settle() {
	grant := func(s *pushShare) {
		s.wants = 0
		s.wake <- struct{}{}
	}
	for _, s := range m.shares {
		switch {
		case s.wants == 0:
		case m.used+s.wants <= m.max:
			m.used += s.wants
			s.held += s.wants
			grant(s)
		case m.beyond == nil || m.beyond == s:
			m.beyond = s
			s.excess += s.wants
			grant(s)
		}
	}
	for len(m.queue) > 0 && m.used+m.queue[0].wants <= m.max {
		s := m.queue[0]
		m.queue = m.queue[1:]
		m.shares = append(m.shares, s)
		m.used += s.wants
		s.held += s.wants
		grant(s)
	}
}

const (
	// costPerPackedByte is the least memory, in bytes, assumed per byte of a compressed
	// profile.
	costPerPackedByte = 30
	// minPushCost is the memory, in bytes, with which a push begins.
	minPushCost = 16 << 10
)

// pushCost estimates the memory that decoding a body takes. For a compressed body this
// is a guess; more is reserved while it is decompressed.
func pushCost(b []byte) int64 {
	n := int64(len(b))
	switch {
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b}) && n >= 18:
		// The size before compression is at the end of the last member (RFC 1952).
		if size := int64(binary.LittleEndian.Uint32(b[n-4:])); size >= n && size < 200*n {
			return max(size*ingest.CostPerByte, minPushCost)
		}
		return max(n*costPerPackedByte, minPushCost)
	case bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}): // zstd
		return max(n*costPerPackedByte, minPushCost)
	}
	return max(n*ingest.CostPerByte, minPushCost)
}

// shareKey is the context key of a request's share.
type shareKey struct{}

// shareOf returns the share that admitted put into the context, or a new one. The caller
// must call leave.
func (m *pushMemory) shareOf(ctx context.Context) (s *pushShare, leave func(), err error) {
	if s, ok := ctx.Value(shareKey{}).(*pushShare); ok {
		return s, func() {}, nil
	}
	s, err = m.enter(ctx)
	if err != nil {
		return nil, nil, err
	}
	return s, s.leave, nil
}

// admit reserves the memory that decoding the bodies takes, on top of what was spent. It
// returns the function that reserves more as they are decompressed.
func (s *pushShare) admit(bodies ...[]byte) (reserve func(int64) error, err error) {
	if s.memory == nil {
		return nil, nil
	}
	need := int64(0)
	for _, b := range bodies {
		need += pushCost(b)
	}
	s.memory.mu.Lock()
	need += s.spent
	s.memory.mu.Unlock()
	return s.spend, s.ensure(need)
}

// setRetryAfter copies an error's Retry-After to the HTTP header.
func setRetryAfter(h http.Header, err error) {
	var ce *connect.Error
	if errors.As(err, &ce) {
		if v := ce.Meta().Get("Retry-After"); v != "" {
			h.Set("Retry-After", v)
		}
	}
}
