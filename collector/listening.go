package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	toolkit "github.com/prometheus/exporter-toolkit/web"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/server"
)

// stopTimeout bounds how long open requests may delay the shutdown.
const stopTimeout = 5 * time.Second

// Timeouts for a request's header and between two requests. Bodies have timeouts by
// their speed, see collector/server. idleTimeout must exceed the 90 s after which Go's
// clients close idle connections.
const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 128 << 10
)

// checkWeb returns an error for the first invalid entry of web's lists.
func checkWeb(c config.Web) error {
	for _, host := range c.AllowedHosts {
		if err := server.CheckHost(host); err != nil {
			return fmt.Errorf("web.allowed_hosts: %w", err)
		}
	}
	for _, origin := range c.AllowedOrigins {
		if err := server.CheckOrigin(origin); err != nil {
			return fmt.Errorf("web.allowed_origins: %w", err)
		}
	}
	return nil
}

// A listening is a running HTTP server.
type listening struct {
	address string
	failed  chan error // receives once, if serving fails
	http    *http.Server
}

// listen serves srv over HTTP/1.1 and HTTP/2. HTTP/2 works also without TLS, which gRPC
// clients need.
func listen(ctx context.Context, c config.Web, srv *server.Server, logger *slog.Logger) (*listening, error) {
	if err := toolkit.Validate(c.ConfigFile); err != nil {
		return nil, fmt.Errorf("web config %s: %w", c.ConfigFile, err)
	}
	tcp, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.ListenAddress)
	if err != nil {
		return nil, err
	}
	lis := limitConnections(tcp, c.MaxConnections)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	l := &listening{
		address: lis.Addr().String(),
		failed:  make(chan error, 1),
		http: &http.Server{
			Handler:           srv.ProtectHost(srv, lis.Addr(), c.AllowedHosts),
			Protocols:         &protocols,
			ReadHeaderTimeout: headerTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			ConnState:         lis.State,
			// These settings bound the memory of a connection before a handler reads
			// from it.
			HTTP2: &http.HTTP2Config{
				MaxConcurrentStreams:          100,
				MaxReceiveBufferPerConnection: 256 << 10,
				MaxReceiveBufferPerStream:     128 << 10,
				SendPingTimeout:               idleTimeout,
				PingTimeout:                   headerTimeout,
			},
			ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		},
	}
	flags := &toolkit.FlagConfig{WebListenAddresses: &[]string{c.ListenAddress}, WebConfigFile: &c.ConfigFile}
	go func() {
		if err := toolkit.Serve(lis, l.http, flags, logger); !errors.Is(err, http.ErrServerClosed) {
			l.failed <- fmt.Errorf("serve %s: %w", l.address, err)
		}
	}()
	return l, nil
}

// stop waits for open requests, up to stopTimeout, and closes the rest.
func (l *listening) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := l.http.Shutdown(ctx); err != nil {
		return l.http.Close()
	}
	return nil
}
