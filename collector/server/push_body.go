package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/flameline/flameline/collector/ingest"
)

const (
	// bodyGrace is the time that every body may take; slowestBody is the rate, in bytes
	// per second, at which a body must arrive to take longer.
	bodyGrace   = 30 * time.Second
	slowestBody = 16 << 10
	// firstRead is the initial buffer size for a body of unknown or large length.
	firstRead = 8 << 10
	// smallBody is the size of net/http's read buffer of each connection.
	smallBody = 4 << 10
	// reusedRead is the initial size of a buffer that is reused.
	reusedRead = 64 << 10
)

// bodies are buffers to reuse for bodies that are copied before their request ends.
var bodies bodyBuffers

// bodyBuffers keeps buffers for reuse, by size: the i-th pool has those of
// reusedRead<<i bytes.
type bodyBuffers [5]sync.Pool

// get returns an empty buffer of reusedRead<<i bytes.
func (bs *bodyBuffers) get(i int) []byte {
	if b, _ := bs[i].Get().(*[]byte); b != nil {
		return (*b)[:0]
	}
	return make([]byte, 0, reusedRead<<i)
}

// put takes a buffer back. It keeps those of get's sizes.
func (bs *bodyBuffers) put(b []byte) {
	for i := range bs {
		if cap(b) == reusedRead<<i {
			bs[i].Put(&b)
		}
	}
}

// A timedBody is a request's body that fails if its sender is too slow: it may take
// bodyGrace, and one second more for every slowestBody bytes received. Only time spent
// in Read counts.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
	took    time.Duration
	n       int64
	ended   bool
}

// timed wraps a handler so that request bodies are timedBody.
func timed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		b := &timedBody{ReadCloser: r.Body, control: http.NewResponseController(w)}
		copied := *r
		copied.Body = b
		// net/http reads what a handler leaves unread, to reuse the connection.
		defer func() {
			if !b.ended && r.ProtoMajor == 1 {
				_ = b.control.SetReadDeadline(time.Now().Add(time.Second))
			}
		}()
		next.ServeHTTP(w, &copied)
	})
}

// Read reads from the body. Its error wraps os.ErrDeadlineExceeded if the sender is too
// slow.
func (b *timedBody) Read(p []byte) (int, error) {
	began := time.Now()
	left := bodyGrace + time.Duration(b.n)*time.Second/slowestBody - b.took
	_ = b.control.SetReadDeadline(began.Add(left)) // fails for connections of tests, which have no deadlines
	n, err := b.ReadCloser.Read(p)
	b.took += time.Since(began)
	b.n += int64(n)
	_ = b.control.SetReadDeadline(time.Time{})
	if err != nil {
		b.ended = true
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%d bytes came in %s, and then fewer than %d in a second: %w", b.n, b.took.Round(time.Second), slowestBody, err)
	}
	return n, err
}

// readBody reads a request's body of up to most bytes (0 for no limit), and counts its
// buffer in share. The buffer is one of buffers, which is given back by the caller, if
// that is not nil and the body's length is known. limit is the configuration key that
// errors name. Errors have a Connect code; status is their HTTP status where it differs
// from the code's.
func readBody(w http.ResponseWriter, r *http.Request, share *pushShare, most int64, limit string, buffers *bodyBuffers) (body []byte, status int, err error) {
	from := r.Body
	if most > 0 {
		from = http.MaxBytesReader(w, r.Body, most)
	}
	room := int64(firstRead)
	switch n := r.ContentLength; {
	case n < 0:
		buffers = nil
	case buffers != nil:
		room = reusedRead
	default:
		room = min(n, firstRead) + 1 // in which the end is found
	}
	share.reading(func() { _ = http.NewResponseController(w).SetReadDeadline(time.Now()) })
	for i := 0; ; {
		if len(body) == cap(body) {
			reused := buffers != nil && i < len(buffers)
			if n := r.ContentLength; !reused && n > 0 && room > n && (most == 0 || n <= most) {
				room = n + 1
			}
			if err := share.spend(room); err != nil { // old and new buffer coexist
				return body, 0, err
			}
			old := body
			if reused {
				body = append(buffers.get(i), old...)
				i++
			} else {
				body = append(make([]byte, 0, room), old...)
			}
			if buffers != nil {
				buffers.put(old)
			}
			room = 2 * int64(cap(body))
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		share.received(n)
		var large *http.MaxBytesError
		switch {
		case errors.Is(err, io.EOF):
			share.endReading()
			return body, 0, nil
		case err != nil && share.endReading():
			return body, 0, share.memory.busy("this request's body arrives too slowly to keep them waiting")
		case errors.As(err, &large):
			return body, http.StatusRequestEntityTooLarge, connect.NewError(connect.CodeResourceExhausted,
				fmt.Errorf("the request's body is larger than %d bytes (%s)", most, limit))
		case errors.Is(err, os.ErrDeadlineExceeded):
			return body, http.StatusRequestTimeout, connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("the request's body is sent too slowly: %w", err))
		case err != nil:
			return body, http.StatusRequestTimeout, connect.NewError(connect.CodeCanceled, fmt.Errorf("read the request's body, after %d bytes: %w", len(body), err))
		}
	}
}

// admitted reads and decompresses the message of a call before Connect does, since
// Connect would decompress it without a check of memory. It passes on the message with
// its share of the memory in the context. It is for calls with one request message, which
// Connect copies.
// Messages have up to most bytes (0 for no limit); limit is what errors call that bound.
// check, if it is not nil, sees the message before it is decoded; its error refuses the call.
func admitted(next http.Handler, memory *pushMemory, most int64, limit string, check func(message []byte, json bool, s *pushShare) error, refused func()) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			next.ServeHTTP(w, r)
			return
		}
		fail := func(status int, err error) {
			refused()
			setRetryAfter(w.Header(), err)
			refuseStatus(w, r, status, err)
		}
		share, err := memory.enter(r.Context())
		if err != nil {
			fail(0, err)
			return
		}
		defer share.leave()
		body, status, err := readBody(w, r, share, most, limit, &bodies)
		defer bodies.put(body)
		if err != nil {
			fail(status, err)
			return
		}
		copied := r.WithContext(context.WithValue(r.Context(), shareKey{}, share))
		contentType, head := r.Header.Get("Content-Type"), 0
		if strings.HasPrefix(contentType, "application/grpc") {
			head = envelopeHead
			body, err = openEnvelope(body, r.Header.Get("Grpc-Encoding"), most, limit, share)
		} else if strings.EqualFold(r.Header.Get("Content-Encoding"), "gzip") {
			body, err = openMessage(body, most, limit, share)
			copied.Header = r.Header.Clone()
			copied.Header.Del("Content-Encoding")
		}
		if err == nil && check != nil && len(body) >= head {
			err = check(body[head:], strings.Contains(contentType, "json"), share)
		}
		if err == nil {
			err = share.spend(2 * int64(len(body))) // Connect's own buffer, and the message
		}
		if err != nil {
			fail(0, err)
			return
		}
		copied.Body, copied.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		next.ServeHTTP(w, copied)
	})
}

// isSmall reports whether a request's message takes little more memory than its
// connection does, so that it needs no admission: it has at most smallBody bytes, and
// none of Connect's compressions, which only gRPC's envelopes can hide.
func isSmall(r *http.Request) bool {
	return r.ContentLength >= 0 && r.ContentLength <= smallBody && len(r.Header["Content-Encoding"]) == 0 &&
		!strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// envelopeHead is the length of what precedes gRPC's message.
const envelopeHead = 5

// openEnvelope returns gRPC's envelope of one message with the message decompressed.
// Bytes that are not such an envelope are returned unchanged, so that Connect reports
// them, unless Connect would decompress them.
func openEnvelope(b []byte, coding string, most int64, limit string, share *pushShare) ([]byte, error) {
	const head = envelopeHead
	if len(b) < head {
		return b, nil
	}
	size := int64(binary.BigEndian.Uint32(b[1:]))
	switch {
	case size > int64(len(b)-head):
		return b[:0:0], connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("the message is truncated: %d of %d bytes", len(b)-head, size))
	case size < int64(len(b)-head):
		return nil, connect.NewError(connect.CodeUnimplemented, fmt.Errorf("the request has more than one message: %d bytes follow the first", int64(len(b)-head)-size))
	case b[0]&1 == 0 || coding != "gzip":
		return b, nil
	}
	message, err := openMessage(b[head:], most, limit, share)
	if err != nil {
		return nil, err
	}
	if err := share.spend(int64(len(message))); err != nil {
		return nil, err
	}
	out := make([]byte, head, head+len(message))
	out[0] = b[0] &^ 1
	binary.BigEndian.PutUint32(out[1:], uint32(len(message)))
	return append(out, message...), nil
}

// openMessage decompresses a message.
func openMessage(b []byte, most int64, limit string, share *pushShare) ([]byte, error) {
	if len(b) == 0 {
		return b, nil // as Connect has it
	}
	if !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		return nil, invalid(errors.New("message: the header says gzip, but the message is not gzip"))
	}
	out, err := ingest.Decompress(b, "", most, share.spend)
	var ce *connect.Error
	switch {
	case errors.As(err, &ce):
		return nil, err
	case errors.Is(err, ingest.ErrTooLarge):
		return nil, connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("the request's message is larger than %d bytes after decompression (%s)", most, limit))
	case err != nil:
		return nil, invalid(fmt.Errorf("message: %w", err))
	}
	return out, nil
}
