package web

import (
	"bytes"
	"io"
	"net/http"
)

// inProcess is an http.RoundTripper that calls a handler. It returns when the handler
// has returned; a handler that should stop early must watch its context.
type inProcess struct{ handler http.Handler }

// InProcess returns a transport whose requests a handler of this process answers, as the
// page's do.
func InProcess(h http.Handler) http.RoundTripper { return inProcess{h} }

// RoundTrip serves the request from memory.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	in.Host = r.URL.Host
	in.RemoteAddr = "127.0.0.1:0"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	defer func() { _ = in.Body.Close() }()
	w := &recorder{header: make(http.Header), status: http.StatusOK}
	t.handler.ServeHTTP(w, in)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if w.sent == nil {
		w.WriteHeader(http.StatusOK)
	}
	return &http.Response{
		Status:        http.StatusText(w.status),
		StatusCode:    w.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        w.sent,
		Body:          io.NopCloser(&w.body),
		ContentLength: int64(w.body.Len()),
		Request:       r,
	}, nil
}

// A recorder keeps an answer in memory.
type recorder struct {
	header http.Header
	sent   http.Header // the header as it was when it was written
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.sent == nil && status >= http.StatusOK {
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}
