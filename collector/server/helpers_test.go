package server_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// serve listens with both versions of HTTP, as the service does without TLS,
// until the test ends.
func serve(t testing.TB, h http.Handler) (url string) {
	t.Helper()
	ts := httptest.NewUnstartedServer(h)
	ts.Config.Protocols = new(http.Protocols)
	ts.Config.Protocols.SetHTTP1(true)
	ts.Config.Protocols.SetUnencryptedHTTP2(true)
	ts.Start()
	t.Cleanup(ts.Close)
	return ts.URL
}
