package main

import (
	"bytes"
	"compress/zlib"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

// peak is the largest resident size of a process so far, in bytes.
func (p *process) peak(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmHWM:" {
			kb, err := strconv.ParseInt(fields[1], 10, 64)
			require.NoError(t, err)
			return kb << 10
		}
	}
	t.Fatal("the kernel does not tell VmHWM")
	return 0
}

func packGzip(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.DefaultCompression)
	require.NoError(t, err)
	_, err = w.Write(b)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

func packZstd(t *testing.T, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithWindowSize(32<<20))
	require.NoError(t, err)
	return w.EncodeAll(b, nil)
}

func packDeflate(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	_, err := w.Write(b)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// formOf is a form with one file.
func formOf(t *testing.T, part string, b []byte) (contentType string, body []byte) {
	t.Helper()
	var out bytes.Buffer
	w := multipart.NewWriter(&out)
	f, err := w.CreateFormFile(part, part)
	require.NoError(t, err)
	_, err = f.Write(b)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return w.FormDataContentType(), out.Bytes()
}

// enveloped is a compressed message of gRPC.
func enveloped(b []byte) []byte {
	n := len(b)
	out := []byte{1, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	return append(out, b...)
}

// A bomb is a request of about 64 KB or twice as much that is many times as large once it is decoded.
type bomb struct {
	path, contentType, coding string
	body                      []byte
	grpc                      bool
}

// manyNumbers is a profile whose samples have many values, which take eight times as
// much memory as in the message.
func manyNumbers() []byte {
	sample := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), make([]byte, 150))
	return bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), sample), 199_000)
}

// manySymbols is a profile of locations with nothing in them.
func manySymbols() []byte {
	return bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), nil), 999_000)
}

// bombs are of all the ways in which something is compressed.
func bombs(t *testing.T) map[string]bomb {
	t.Helper()
	const proto, pprof = "application/proto", "/ingest?name=bomb&format=pprof"
	zeros, lines := make([]byte, 40<<20), bytes.Repeat([]byte("main;work 1\n"), 3<<20)
	push := func(raw []byte) []byte { // a PushRequest of one profile
		m := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), raw)
		m = protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), m)
		return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), m)
	}
	out := map[string]bomb{
		"gzip":               {"/ingest?name=bomb", "", "gzip", packGzip(t, lines), false},
		"zstd":               {"/ingest?name=bomb", "", "zstd", packZstd(t, zeros), false},
		"deflate":            {"/ingest?name=bomb", "", "deflate", packDeflate(t, zeros), false},
		"gzip within":        {pprof, "", "", packGzip(t, zeros), false},
		"zstd within":        {pprof, "", "", packZstd(t, zeros), false},
		"gzip in gzip":       {pprof, "", "gzip", packGzip(t, packGzip(t, zeros)), false},
		"OTLP":               {"/v1development/profiles", "application/x-protobuf", "gzip", packGzip(t, zeros), false},
		"Connect":            {"/push.v1.PusherService/Push", proto, "gzip", packGzip(t, push(zeros)), false},
		"Connect, a profile": {"/push.v1.PusherService/Push", proto, "", push(packGzip(t, zeros)), false},
		"gRPC":               {"/push.v1.PusherService/Push", "application/grpc", "", enveloped(packGzip(t, push(zeros))), true},
		"gRPC, two messages": {"/push.v1.PusherService/Push", "application/grpc", "", append(enveloped(nil), enveloped(packGzip(t, push(zeros)))...), true},
		"gRPC-web":           {"/push.v1.PusherService/Push", "application/grpc-web+proto", "", enveloped(packGzip(t, push(zeros))), true},
		"OTLP over gRPC":     {"/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export", "application/grpc", "", enveloped(packGzip(t, zeros)), true},
		"a query":            {"/querier.v1.QuerierService/ProfileTypes", proto, "gzip", packGzip(t, zeros), false},
		"a setting":          {"/settings.v1.SettingsService/Set", proto, "gzip", packGzip(t, zeros), false},
		"reflection":         {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "application/grpc", "", enveloped(packGzip(t, zeros)), true},
		"many numbers":       {pprof, "", "gzip", packGzip(t, packGzip(t, manyNumbers())), false},
		"many symbols":       {pprof, "", "", packGzip(t, manySymbols()), false},
		"health":             {"/grpc.health.v1.Health/Check", "application/grpc", "", enveloped(packGzip(t, zeros)), true},
	}
	contentType, body := formOf(t, "jfr", packGzip(t, append([]byte("FLR\x00\x00\x02\x00\x01"), zeros...)))
	out["JFR in a form"] = bomb{"/ingest?name=bomb&format=jfr", contentType, "", body, false}
	contentType, body = formOf(t, "profile", packGzip(t, zeros))
	out["pprof in a form"] = bomb{"/ingest?name=bomb", contentType, "", body, false}
	for name, b := range out {
		require.LessOrEqual(t, len(b.body), 160<<10, name)
	}
	return out
}

// send sends a bomb, and returns HTTP's status.
func (b bomb) send(ctx context.Context, client *http.Client, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+b.path, bytes.NewReader(b.body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", b.contentType)
	if b.coding != "" {
		req.Header.Set("Content-Encoding", b.coding)
	}
	if b.grpc {
		req.Header.Set("Grpc-Encoding", "gzip")
		req.Header.Set("Te", "trailers")
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// A hundred bombs at once, some of every kind, do not take more memory than
// docs/configuration.md says, and those who send what is right are served meanwhile.
func TestServeUnderBombs(t *testing.T) {
	p := launch(t, nil, "--storage.path", t.TempDir(), "--ebpf.enabled", "false")
	p.waitReady(t)
	began := time.Now()
	push := newPusher(p.url)
	require.NoError(t, push.push(t))
	http1, http2 := &http.Client{}, &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	http2.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	all := bombs(t)
	each := 100/len(all) + 1
	if testing.Short() {
		each = 2
	}
	var g sync.WaitGroup
	for name, b := range all {
		client := http1
		if b.grpc {
			client = http2
		}
		for range each {
			g.Go(func() {
				status, err := b.send(ctx, client, p.url)
				// Those of sound lines may be taken.
				if err != nil || status != http.StatusOK && (status < 400 || status > 503 || status == 500) {
					t.Errorf("%s: status %d: %v", name, status, err)
				}
			})
		}
	}
	g.Go(func() {
		for range 3 {
			if err := push.push(t); err != nil {
				t.Error(err)
			}
		}
	})
	g.Wait()
	t.Logf("the peak is %d MB", p.peak(t)>>20)
	// 240 MB, the program's file, and limits.max_push_bytes with what one push has beyond it.
	require.Less(t, p.peak(t), int64(240+50+64+400)<<20)
	push.check(t, p.url, began)
}

// Clients that are slow on purpose do not keep others from being served.
func TestServeBesideSlowClients(t *testing.T) {
	file := filepath.Join(t.TempDir(), "flameline.yml")
	require.NoError(t, os.WriteFile(file, []byte("web: {max_connections: 64}\nlimits: {max_push_bytes: 4MB}\nebpf: {enabled: false}\nstorage: {path: "+t.TempDir()+"}\n"), 0o600))
	p := launch(t, nil, "--config.file", file)
	p.waitReady(t)
	began := time.Now()
	push := newPusher(p.url)
	address := strings.TrimPrefix(p.url, "http://")
	var stop atomic.Bool
	var g sync.WaitGroup
	slow := func(hello, drip string) {
		g.Go(func() {
			for !stop.Load() {
				c, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", address)
				if err != nil {
					continue
				}
				_, err = io.WriteString(c, hello)
				for err == nil && !stop.Load() {
					time.Sleep(50 * time.Millisecond)
					_, err = io.WriteString(c, drip)
				}
				_ = c.Close()
			}
		})
	}
	for range 40 {
		slow("", "")                                                     // says nothing
		slow("GET /ready HTTP/1.1\r\nHost: localhost\r\n", "X-A: b\r\n") // a header without an end
		slow("GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n", "")       // idle after a request
		slow("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "")
	}
	for range 20 { // bodies that claim to be large
		slow(fmt.Sprintf("POST /ingest?name=slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", 60<<20), "x")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for i := range 30 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := pushv1connect.NewPusherServiceClient(client, p.url).Push(ctx, connect.NewRequest(oneSample(t, "cart", fmt.Sprint("honest_", i), time.Now())))
		cancel()
		require.NoError(t, err)
	}
	require.NoError(t, push.push(t))
	stop.Store(true)
	g.Wait()
	require.NotEmpty(t, functions(t, p.url, began)["honest_29"])
}
