package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
)

// A queryKey identifies queries that have the same answer.
type queryKey [sha256.Size]byte

// panelHeaders are headers by which Grafana says where a query comes from. They differ
// from panel to panel and have no part in its answer.
var panelHeaders = []string{
	"X-Dashboard-Title", "X-Dashboard-Uid", "X-Datasource-Uid", "X-Grafana-From-Expr", "X-Panel-Id",
	"X-Panel-Plugin-Id", "X-Panel-Plugin-Type", "X-Panel-Title", "X-Query-Group-Id",
	"Traceparent", "Tracestate", "Uber-Trace-Id",
}

// keyOf returns the key of a query: its model without what only names it, its time range
// and step, whether it is an alert rule's, and the headers that are sent to the server,
// which have the user's credentials.
func keyOf(q backend.DataQuery, headers http.Header, forAlert bool) queryKey {
	model := []byte(q.JSON)
	var fields map[string]json.RawMessage
	if json.Unmarshal(q.JSON, &fields) == nil {
		for _, name := range []string{"refId", "key", "hide", "datasource", "datasourceId", "queryCachingTTL", "editorMode", "code"} {
			delete(fields, name)
		}
		model, _ = json.Marshal(fields) // was JSON: cannot fail
	}
	headers = maps.Clone(headers)
	for _, name := range panelHeaders {
		headers.Del(name)
	}
	h := sha256.New()
	_ = json.NewEncoder(h).Encode(struct { // neither encoding nor hashing can fail
		Model    []byte
		From, To int64
		Interval int64
		Alert    bool
		Headers  http.Header
	}{model, q.TimeRange.From.UnixNano(), q.TimeRange.To.UnixNano(), int64(q.Interval), forAlert, headers})
	return queryKey(h.Sum(nil))
}

// sharedQueries answers queries that are alike and wait at the same time only once. A
// query goes on while at least one of its callers waits; golang.org/x/sync/singleflight
// would end it for all when its first caller cancels. The zero value is ready for use, by
// several goroutines.
type sharedQueries struct {
	mu    sync.Mutex
	calls map[queryKey]*sharedCall
}

// A sharedCall is a query under way.
type sharedCall struct {
	waiting int // callers, guarded by sharedQueries.mu
	cancel  context.CancelFunc
	done    chan struct{}
	answer  backend.DataResponse // valid once done is closed
}

// do returns the answer of run, or that of a call with the same key which is under way.
// If ctx ends first, it returns the error of ctx.
func (s *sharedQueries) do(ctx context.Context, key queryKey, run func(context.Context) backend.DataResponse) (answer backend.DataResponse, err error) {
	s.mu.Lock()
	c, found := s.calls[key]
	if !found {
		shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
		c = &sharedCall{cancel: cancel, done: make(chan struct{})}
		if s.calls == nil {
			s.calls = make(map[queryKey]*sharedCall)
		}
		s.calls[key] = c
		go func() {
			defer cancel()
			c.answer = run(shared)
			s.mu.Lock()
			s.forget(key, c)
			s.mu.Unlock()
			close(c.done)
		}()
	}
	c.waiting++
	s.mu.Unlock()

	select {
	case <-c.done:
		return copyOf(c.answer), nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.waiting--; c.waiting == 0 {
		s.forget(key, c) // who comes now starts anew
		c.cancel()
	}
	return backend.DataResponse{}, ctx.Err()
}

// forget removes a call, unless another one took its place. s.mu must be held.
func (s *sharedQueries) forget(key queryKey, c *sharedCall) {
	if s.calls[key] == c {
		delete(s.calls, key)
	}
}

// copyOf returns an answer with frames of its own: the SDK writes a query's refId into
// them. Their fields are shared and must not be changed.
func copyOf(r backend.DataResponse) backend.DataResponse {
	r.Frames = slices.Clone(r.Frames)
	for i, f := range r.Frames {
		one := *f
		r.Frames[i] = &one
	}
	return r
}
