package server

import (
	"io"
	"net/http"
	"net/netip"

	"connectrpc.com/connect"
	"github.com/klauspost/compress/gzip"
)

// compression is gzip at its fastest: clients are near, and a flame graph is
// compressed many times faster than with the standard library's default.
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

// plainNearby answers clients on this machine without compression: memory is
// faster than gzip. Those behind a proxy on this machine may be far away.
func plainNearby(r *http.Request) {
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
