//go:build linux

package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"time"
)

// A readyServer answers every request with the bytes that our server sent. Its time is
// that of HTTP and the network, the lower bound for any server with the same answer.
type readyServer struct {
	server *server
	stop   func()
	body   atomic.Pointer[[]byte]
}

func newReadyServer() *readyServer {
	r := &readyServer{}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body := *r.body.Load()
		w.Header().Set("Content-Type", "application/proto")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // the client notices missing bytes
	}))
	r.server, r.stop = newServer(target{name: "ready", url: front.URL}, 1, nil), front.Close
	return r
}

// ask requests the ready answer.
func (r *readyServer) ask(ctx context.Context, body []byte) (time.Duration, error) {
	r.body.Store(&body)
	got, err := r.server.post(ctx, "/", nil, false)
	return got.took, err
}
