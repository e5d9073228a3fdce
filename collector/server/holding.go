package server

import (
	"net/http"
	"time"

	"github.com/flameline/flameline/collector/store"
)

// answerTimeout is how long a client may take to read an answer, which is in memory
// until then.
const answerTimeout = time.Minute

// holding counts the memory of a query's answer among that of queries until the answer
// was sent, for which a client has answerTimeout from its first byte.
func holding(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, done := store.Holding(r.Context())
		defer done()
		next.ServeHTTP(&timedWriter{ResponseWriter: w}, r.WithContext(ctx))
	})
}

// A timedWriter has a deadline from its first byte on.
type timedWriter struct {
	http.ResponseWriter
	begun bool
}

// Write implements http.ResponseWriter.
func (w *timedWriter) Write(b []byte) (int, error) {
	if !w.begun {
		w.begun = true
		// Answers to the built-in page are taken from memory, and have no deadline.
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(answerTimeout))
	}
	return w.ResponseWriter.Write(b)
}

// Flush implements http.Flusher, which gRPC needs.
func (w *timedWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (w *timedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
