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
	// contendedGrace and contendedBody are how long a body may be read, and with how
	// many bytes per second, while other pushes wait for memory.
	contendedGrace = 3 * time.Second
	contendedBody  = 256 << 10
	// retryAfter is what refused senders are told, in seconds.
	retryAfter = "5"
)

// pushMemory is what all pushes together may take from before they are read until they
// are stored. A push has a share of it, which grows with what is read and decompressed,
// before the memory is taken, and is made of an estimate once the body is there. Pushes
// wait for memory that is not there.
//
// One push at a time may go beyond the memory, so that pushes which wait with a share
// do not wait for each other, and one that needs more than all of it is taken. So a
// hundred senders of large profiles are taken one after the other, and small ones at
// once. The bodies of senders that are slow are given up while others wait.
//
// It is nil for no limit.
type pushMemory struct {
	max     int64
	limit   string // what errors call it
	timeout time.Duration

	mu     sync.Mutex
	used   int64        // without what beyond has beyond the memory
	beyond *pushShare   // the one that may go beyond the memory
	shares []*pushShare // in the order they came
	queue  []*pushShare // those that have nothing yet
}

func newPushMemory(max int64, limit string) *pushMemory {
	if max <= 0 {
		return nil
	}
	return &pushMemory{max: max, limit: limit, timeout: pushTimeout}
}

// A pushShare is the part of the memory that one push has. Its methods are safe for
// concurrent use.
type pushShare struct {
	memory *pushMemory     // nil for no limit
	ctx    context.Context // of the request

	held   int64         // of the memory
	excess int64         // beyond it
	spent  int64         // what was asked for
	wants  int64         // what it waits for; 0 if it does not wait
	wake   chan struct{} // receives once when the wait is over

	abort   func() // ends the reading of the body; nil if it is not being read
	began   time.Time
	read    int64
	aborted bool
}

// enter waits until there is memory for a push to begin with. The push has to leave.
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

// ensure waits until the share is n bytes.
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

// spend counts n bytes that are about to be taken, and waits until the share has them.
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

// reading notes that the body is being read, and what ends that.
func (s *pushShare) reading(abort func()) {
	if m := s.memory; m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		s.abort, s.began = abort, time.Now()
	}
}

// received notes n bytes of the body.
func (s *pushShare) received(n int) {
	if m := s.memory; m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		s.read += int64(n)
	}
}

// given reports whether the body was given up for others.
func (s *pushShare) given() bool {
	m := s.memory
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.abort = nil
	return s.aborted
}

// leave gives the share back.
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

// wait waits for n bytes more. It is called with the lock, which it unlocks.
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
			err = m.busy(fmt.Sprintf("none ended within %s", m.timeout))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.wants == 0 { // it came meanwhile; the caller leaves, if it has entered
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

// giveUp ends the reading of the bodies that come slowly.
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
	err := connect.NewError(connect.CodeUnavailable, // which OTLP's exporters and agents try again
		fmt.Errorf("other requests have all of the %d bytes of memory, and %s (%s); try again", m.max, why, m.limit))
	err.Meta().Set("Retry-After", retryAfter)
	return err
}

// settle gives memory to those that wait for it. The caller holds the lock.
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
	// costPerPackedByte is what a byte of a compressed profile takes at least.
	costPerPackedByte = 30
	// minPushCost is what a push begins with.
	minPushCost = 16 << 10
)

// pushCost estimates the memory that a body takes when it is decoded. Of a compressed
// one that is a guess; what it takes is counted as it is decompressed.
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

// shareKey is the key of a request's share in its context.
type shareKey struct{}

// shareOf returns the share that a request was given before it was read, or a new one.
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

// admit has a share hold what bodies take when they are decoded, on top of what was
// spent, and returns how that is counted as they are decompressed.
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

// tellRetry passes on to HTTP's clients after how many seconds to try again.
func tellRetry(h http.Header, err error) {
	var ce *connect.Error
	if errors.As(err, &ce) {
		if v := ce.Meta().Get("Retry-After"); v != "" {
			h.Set("Retry-After", v)
		}
	}
}
