package server

import (
	"io"
	"net/http"
	"net/netip"

	"connectrpc.com/connect"
	"github.com/klauspost/compress/gzip"
)

// compression is gzip at its fastest level, which compresses a flame graph many times
// faster than the standard library's default level.
func compression() connect.HandlerOption {
	return connect.WithCompression("gzip",
		func() connect.Decompressor { return &gzip.Reader{} },
		func() connect.Compressor {
			w, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
			if err != nil {
				panic(err) // the level is a constant
			}
			return w
		})
}

// skipCompressionForLoopback makes the answer to a client on this machine uncompressed,
// since copying memory is faster than gzip. A client behind a proxy on this machine,
// which may be far away, gets gzip.
func skipCompressionForLoopback(r *http.Request) {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !addr.Addr().Unmap().IsLoopback() {
		return
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "Via"} {
		if r.Header.Get(name) != "" {
			return
		}
	}
	for _, name := range []string{"Accept-Encoding", "Connect-Accept-Encoding", "Grpc-Accept-Encoding"} {
		r.Header.Del(name)
	}
}
