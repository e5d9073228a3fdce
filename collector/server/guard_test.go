package server_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/server"
)

// What browsers send with requests that a page makes, and what other clients send.
func TestRequestsOfOtherOrigins(t *testing.T) {
	reg := prometheus.NewRegistry()
	srv := server.New(server.Options{Registerer: reg, AllowedOrigins: []string{"https://profiles.example.com"}})
	reached := ""
	srv.Handle("/", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached = r.URL.Path }))
	const itself = "http://127.0.0.1:4040"
	refused := 0
	for name, tc := range map[string]struct {
		header map[string]string
		ok     bool
	}{
		"no browser":              {nil, true},
		"the page":                {map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": itself}, true},
		"the page, old browser":   {map[string]string{"Origin": itself}, true},
		"an address typed in":     {map[string]string{"Sec-Fetch-Site": "none"}, true},
		"Node's fetch":            {map[string]string{"Sec-Fetch-Mode": "cors"}, true},
		"an allowed origin":       {map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://profiles.example.com"}, true},
		"another site":            {map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, false},
		"another site, old":       {map[string]string{"Origin": "https://evil.example"}, false},
		"another port":            {map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"}, false},
		"another port, old":       {map[string]string{"Origin": "http://127.0.0.1:3000"}, false},
		"a file, or a sandbox":    {map[string]string{"Origin": "null"}, false},
		"an allowed origin's end": {map[string]string{"Origin": "https://profiles.example.com.evil.example"}, false},
		"the page's scheme alone": {map[string]string{"Origin": "http://"}, false},
		"a form of another site":  {map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "null", "Content-Type": "multipart/form-data; boundary=x"}, false},
	} {
		for _, path := range []string{"/ingest", "/push.v1.PusherService/Push", "/settings.v1.SettingsService/Set", "/v1development/profiles",
			"/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export", server.BackupPath, "/api/ds/query", "/anything"} {
			reached = ""
			r := httptest.NewRequest(http.MethodPost, itself+path, strings.NewReader("main;work 1"))
			for k, v := range tc.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			srv.ServeHTTP(w, r)
			if tc.ok {
				require.NotEqual(t, http.StatusForbidden, w.Code, "%s: %s", name, path)
				continue
			}
			refused++
			require.Equal(t, http.StatusForbidden, w.Code, "%s: %s", name, path)
			require.Contains(t, w.Body.String(), "web.allowed_origins", name)
			require.Empty(t, reached, name)
		}
		r := httptest.NewRequest(http.MethodGet, itself+"/anything", nil)
		for k, v := range tc.header {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		require.Equal(t, http.StatusOK, w.Code, "%s: links lead here from anywhere", name)
		require.Equal(t, "/anything", reached)
	}
	require.Equal(t, float64(refused), testutil.ToFloat64(counter(t, reg, "flameline_server_guarded_requests_total")))
}

// counter is the only one of a metric.
func counter(t *testing.T, reg *prometheus.Registry, name string) prometheus.Collector {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "sum"})
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.Metric {
				c.Add(m.Counter.GetValue())
			}
		}
	}
	return c
}

// A refusal reaches clients of gRPC and Connect as an error of theirs.
func TestRefusedOriginsInTheClientsProtocol(t *testing.T) {
	url := serve(t, server.New(server.Options{}))
	for name, options := range map[string][]connect.ClientOption{
		"connect": nil, "grpc-web": {connect.WithGRPCWeb()}, "json": {connect.WithProtoJSON()},
	} {
		req := connect.NewRequest(&pushv1.PushRequest{})
		req.Header().Set("Origin", "https://evil.example")
		_, err := pushv1connect.NewPusherServiceClient(http.DefaultClient, url, options...).Push(t.Context(), req)
		require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err), name)
		require.ErrorContains(t, err, "web.allowed_origins", name)
	}
}

func TestHostsOfRequests(t *testing.T) {
	srv := server.New(server.Options{})
	srv.Handle("/", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	loopback, loopback6, everywhere := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.TCPAddr{IP: net.IPv6loopback}, &net.TCPAddr{IP: net.IPv4zero}
	local := []string{"", "localhost", "LOCALHOST:4040", "localhost.", "grafana.localhost:4040", "127.0.0.1", "127.0.0.1:4040", "127.1.2.3:1", "[::1]", "[::1]:4040",
		"[::ffff:127.0.0.1]:4040", "ip6-localhost", "localhost.localdomain:4040"}
	names := []string{"evil.example", "evil.example:4040", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1.nip.io:4040", "evillocalhost", ".localhost.evil",
		"host.docker.internal:4040", "localhost:4040@evil.example", "127.0.0.1:4040:evil", "::1.evil.example", "xn--lcalhost-0za"}
	for _, address := range []net.Addr{loopback, loopback6} {
		for _, host := range local {
			require.Equal(t, http.StatusOK, statusOfHost(srv.ProtectHost(srv, address, nil), host), host)
		}
		for _, host := range names {
			require.Equal(t, http.StatusForbidden, statusOfHost(srv.ProtectHost(srv, address, nil), host), host)
		}
		require.Equal(t, http.StatusForbidden, statusOfHost(srv.ProtectHost(srv, address, nil), "192.0.2.1:4040"))
	}
	allowed := []string{"host.docker.internal", "*.example.com", "192.0.2.1", "fd00::1"}
	for host, want := range map[string]int{
		"host.docker.internal:4040": http.StatusOK, "HOST.docker.internal.": http.StatusOK, "a.example.com": http.StatusOK, "a.b.example.com:80": http.StatusOK,
		"192.0.2.1:4040": http.StatusOK, "[fd00::1]:4040": http.StatusOK, "localhost": http.StatusOK,
		"example.com": http.StatusForbidden, "evilexample.com": http.StatusForbidden, "a.example.com.evil": http.StatusForbidden, "docker.internal": http.StatusForbidden,
		"192.0.2.2": http.StatusForbidden,
	} {
		require.Equal(t, want, statusOfHost(srv.ProtectHost(srv, loopback, allowed), host), host)
	}
	for _, host := range append(names, local...) {
		require.Equal(t, http.StatusOK, statusOfHost(srv.ProtectHost(srv, everywhere, nil), host), host)
		require.Equal(t, http.StatusOK, statusOfHost(srv.ProtectHost(srv, loopback, []string{"*"}), host), host)
	}
	require.Equal(t, http.StatusOK, statusOfHost(srv.ProtectHost(srv, everywhere, allowed), "198.51.100.1:4040"), "no page can have an address of its own resolve to another")
	require.Equal(t, http.StatusForbidden, statusOfHost(srv.ProtectHost(srv, everywhere, allowed), "evil.example"))
	require.Equal(t, http.StatusOK, statusOfHost(srv.ProtectHost(srv, everywhere, allowed), "a.example.com"))
}

func statusOfHost(h http.Handler, host string) int {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Host = host
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code == http.StatusForbidden && !strings.Contains(w.Body.String(), "web.allowed_hosts") {
		return 0
	}
	return w.Code
}

func TestCheckOfAllowedNames(t *testing.T) {
	for _, host := range []string{"*", "host.docker.internal", "*.example.com", "10.0.0.1", "fd00::1", "profiles"} {
		require.NoError(t, server.CheckHost(host), host)
	}
	for host, want := range map[string]string{
		"": "is not the name", "*.": "is not the name", "a b": "is not the name", "a.*.b": "is not the name", "http://a.example:80/x": `write "a.example"`,
		"a.example:4040": `write "a.example"`, "A.example": `write "a.example"`, "[::1]": `write "::1"`,
	} {
		require.ErrorContains(t, server.CheckHost(host), want, host)
	}
	require.NoError(t, server.CheckOrigin("https://a.example:8443"))
	for _, origin := range []string{"", "a.example", "https://", "https://a.example/", "*"} {
		require.Error(t, server.CheckOrigin(origin), origin)
	}
}
