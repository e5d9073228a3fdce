package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
)

// A ServerStatus is a server's own account of its state.
type ServerStatus struct {
	// Flameline says that the server is a Flameline; for other servers all fields except
	// Version are empty.
	Flameline bool
	Version   string // empty if unknown
	// NotReady is why the server does not answer queries yet.
	NotReady string
	EBPF     EBPFStatus
}

// EBPFStatus says whether the server samples its own machine.
type EBPFStatus struct {
	State     string `json:"state"` // off, starting, on or failed
	Reason    string `json:"reason,omitempty"`
	Frequency int    `json:"frequency,omitempty"` // samples per second and CPU
}

// maxStatusBytes bounds the bytes read of a status page.
const maxStatusBytes = 1 << 20

// Status determines what the server is, by Flameline's status page or the build
// information of a Pyroscope server. For a server that has neither it returns the zero
// ServerStatus and no error; an unreachable server is an error.
func (c *Client) Status(ctx context.Context) (ServerStatus, error) {
	var own struct {
		Service  string     `json:"service"`
		Version  string     `json:"version"`
		NotReady string     `json:"notReady"`
		EBPF     EBPFStatus `json:"ebpf"`
	}
	ok, err := c.getJSON(ctx, "/api/v1/status", &own)
	if err != nil {
		return ServerStatus{}, err
	}
	if ok && own.Service == "flameline" {
		return ServerStatus{Flameline: true, Version: own.Version, NotReady: own.NotReady, EBPF: own.EBPF}, nil
	}
	var build struct {
		Data struct {
			Version string `json:"version"`
		} `json:"data"`
	}
	if _, err := c.getJSON(ctx, "/api/v1/status/buildinfo", &build); err != nil {
		return ServerStatus{}, err
	}
	return ServerStatus{Version: build.Data.Version}, nil
}

// serverKind is what the server said that it is.
type serverKind struct {
	mu        sync.Mutex
	flameline bool
	asked     time.Time
}

// kindFor is how long the kind of a server counts.
const kindFor = time.Minute

// OtherServer reports whether the server is not a Flameline, as it said in the last minute;
// false if it does not answer.
func (c *Client) OtherServer(ctx context.Context) bool {
	k := &c.kind
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.asked) > kindFor {
		status, err := c.Status(ctx)
		if err != nil {
			return false
		}
		k.flameline, k.asked = status.Flameline, time.Now()
	}
	return !k.flameline
}

// getJSON reads one JSON document. ok is false if the server does not have it; err is
// set only if the server was not reached.
func (c *Client) getJSON(ctx context.Context, path string, into any) (ok bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	if err != nil {
		return false, backend.DownstreamError(fmt.Errorf("address of the server: %w", err))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return false, backend.DownstreamError(fmt.Errorf("cannot reach %s: %w", c.url, err))
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatusBytes))
	if err != nil {
		return false, backend.DownstreamError(fmt.Errorf("read %s%s: %w", c.url, path, err))
	}
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK || mediaType != "application/json" {
		return false, nil
	}
	return json.Unmarshal(body, into) == nil, nil
}
