//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/klauspost/compress/gzip"
)

// An answer is what a server sent, as it came.
type answer struct {
	took time.Duration // from sending the request to having read all
	body []byte
	gzip bool
}

// post sends a message of protocol buffers, as Connect's clients do
// (https://connectrpc.com/docs/protocol), and reads the whole answer. Nothing
// is decoded, for that is the client's time.
func (s *server) post(ctx context.Context, path string, body []byte, compressed bool) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/proto")
	req.Header.Set("Connect-Protocol-Version", "1")
	if s.tenant != "" {
		req.Header.Set("X-Scope-OrgID", s.tenant)
	}
	if compressed {
		req.Header.Set("Accept-Encoding", "gzip")
		req.Header.Set("Via", "1.1 compare") // our server does not compress for those nearby
	}
	began := time.Now()
	resp, err := s.http.Do(req)
	if err != nil {
		return answer{took: time.Since(began)}, err
	}
	defer resp.Body.Close()
	a := answer{gzip: resp.Header.Get("Content-Encoding") == "gzip"}
	a.body, err = io.ReadAll(resp.Body)
	a.took = time.Since(began)
	if err != nil {
		return a, fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		text, err := a.text()
		if err != nil {
			text = nil // the status has to do
		}
		return a, fmt.Errorf("%s: %s", resp.Status, text[:min(len(text), 300)])
	}
	return a, nil
}

// text is the answer without compression.
func (a answer) text() ([]byte, error) {
	if !a.gzip {
		return a.body, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(a.body))
	if err != nil {
		return nil, fmt.Errorf("decompress answer: %w", err)
	}
	return io.ReadAll(r)
}
