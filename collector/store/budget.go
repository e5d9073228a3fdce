package store

import (
	"context"
	"time"

	"github.com/flameline/flameline/collector/store/internal/budget"
)

// Holding returns a context for one request, in which the memory that the answers of
// queries take stays counted until the request has ended and done is called: answers
// have to be encoded and sent. Calls with the context follow one after the other.
func Holding(ctx context.Context) (with context.Context, done func()) {
	return budget.Holding(ctx)
}

// Patience is how long a request waits for its turn: without a deadline the given
// time, with one so long that a refusal still reaches the client.
func Patience(ctx context.Context, without time.Duration) (wait time.Duration, deadline time.Time) {
	return budget.Patience(ctx, without)
}
