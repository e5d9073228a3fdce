package server

import (
	"net/http"
	"time"

	"github.com/flameline/flameline/collector/store"
)

// answerTimeout is how long a client may take to read an answer, which occupies memory
// until then.
const answerTimeout = time.Minute

// holding keeps the memory of a query's answer reserved in the query budget until the
// answer is sent. A client has answerTimeout, from the answer's first byte, to read it.
func holding(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, done := store.Holding(r.Context())
		defer done()
		next.ServeHTTP(&timedWriter{ResponseWriter: w}, r.WithContext(ctx))
	})
}

// A timedWriter sets a write deadline at the first byte.
type timedWriter struct {
	http.ResponseWriter
	begun bool
}

// Write implements http.ResponseWriter.
func (w *timedWriter) Write(b []byte) (int, error) {
	if !w.begun {
		w.begun = true
		// The built-in page calls the handler with a writer in memory, which has no
		// deadline.
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(answerTimeout))
	}
	return w.ResponseWriter.Write(b)
}

// Flush implements http.Flusher, which gRPC needs.
func (w *timedWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap lets http.ResponseController reach the connection.
func (w *timedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
