package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// quietBefore is how long a connection must be idle before it may be closed in favour of
// a new one.
const quietBefore = time.Second

// A connectionLimit is a listener that bounds its open connections. At the limit, the
// connection that has been idle for longest is closed in favour of a new one; if none is
// idle, the new one waits to be accepted. Connections without a request so far count as
// idle since they were opened. The server's ConnState must be State.
type connectionLimit struct {
	net.Listener
	most int // 0 for no limit

	mu     sync.Mutex
	open   map[net.Conn]*connection
	free   chan struct{} // receives when a connection was closed or became idle
	closed chan struct{}
	once   sync.Once
}

// A connection is the state of an open connection.
type connection struct {
	idle  bool // between requests, or before the first
	since time.Time
}

func limitConnections(l net.Listener, most int) *connectionLimit {
	return &connectionLimit{Listener: l, most: most, open: map[net.Conn]*connection{}, free: make(chan struct{}, 1), closed: make(chan struct{})}
}

// Accept waits for a connection, and until the limit admits it.
func (l *connectionLimit) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || l.most <= 0 {
		return c, err
	}
	for !l.admit(c) {
		again := time.NewTimer(quietBefore / 10)
		select {
		case <-l.free:
		case <-again.C:
		case <-l.closed:
			_ = c.Close()
			return nil, net.ErrClosed
		}
		again.Stop()
	}
	return &countedConnection{Conn: c, limit: l}, nil
}

// admit adds a connection if the limit permits, after closing an idle one if needed, and
// reports whether it did.
func (l *connectionLimit) admit(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.most {
		var longest net.Conn
		for o, state := range l.open {
			if state.idle && time.Since(state.since) >= quietBefore && (longest == nil || state.since.Before(l.open[longest].since)) {
				longest = o
			}
		}
		if longest == nil {
			return false
		}
		delete(l.open, longest)
		_ = longest.Close()
	}
	l.open[c] = &connection{idle: true, since: time.Now()}
	return true
}

// forget removes a connection that was closed.
func (l *connectionLimit) forget(c net.Conn) {
	l.mu.Lock()
	delete(l.open, c)
	l.mu.Unlock()
	l.wake()
}

func (l *connectionLimit) wake() {
	select {
	case l.free <- struct{}{}:
	default:
	}
}

// State records a connection's state. It is for http.Server.ConnState.
func (l *connectionLimit) State(c net.Conn, s http.ConnState) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	counted, ok := c.(*countedConnection)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	state := l.open[counted.Conn]
	switch {
	case state == nil:
	case s == http.StateActive:
		state.idle = false
	case s == http.StateIdle:
		state.idle, state.since = true, time.Now()
		l.wake()
	}
}

// Close ends Accept as well.
func (l *connectionLimit) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// A countedConnection is a connection that is removed from its limit when it is closed.
type countedConnection struct {
	net.Conn
	limit *connectionLimit
}

// Close closes the connection.
func (c *countedConnection) Close() error {
	err := c.Conn.Close()
	c.limit.forget(c.Conn)
	return err
}
