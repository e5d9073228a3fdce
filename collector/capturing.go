package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"

	"github.com/flameline/flameline/collector/capture"
	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/collector/server"
	"github.com/flameline/flameline/collector/target"
)

// startCaptures makes the server answer calls about captures, or an agent ask its server
// for them. They use the sampler's symbols. stop ends the capture that runs, and returns
// once its profiles are stored.
func startCaptures(ctx context.Context, c *config.Config, srv *server.Server, to appender, targets *target.Resolver, s *sampler, logger *slog.Logger, reg prometheus.Registerer) (stop func(), err error) {
	logger = logger.With("component", "capture")
	limits := capture.Limits{MaxDuration: time.Duration(c.Capture.MaxDuration), MaxFrequency: c.Capture.MaxFrequency}
	var node *capture.Node
	stop = func() {}
	if s.symbols != nil {
		node = capture.NewNode(capture.NodeOptions{
			Appender: to, Targets: targets, Symbolizer: s.symbols, Limits: limits, Logger: logger, Registerer: reg,
			Sampling: func() error { return sampled(srv.Sampling()) },
		})
		stop = node.Close
	}
	if c.Push.URL == "" {
		srv.SetCaptures(capture.NewBoard(capture.BoardOptions{
			Node: node, Limits: limits, Registerer: reg, Allowed: func() error { return capturesAllowed(c) },
		}))
		return stop, nil
	}
	if node == nil || c.Capture.Enabled == config.False {
		return stop, nil
	}
	client, err := promconfig.NewClientFromConfig(c.Push.HTTPClientConfig, "capture")
	if err != nil {
		return nil, fmt.Errorf("push: %w", err)
	}
	agent := capture.NewAgent(capture.AgentOptions{Node: node, URL: strings.TrimRight(c.Push.URL, "/"), Client: client, Logger: logger})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		agent.Run(ctx)
	}()
	return func() {
		cancel()
		<-ended
		node.Close()
	}, nil
}

// sampled returns nil if this machine is sampled, else the reason why not.
func sampled(s server.EBPFStatus) error {
	switch {
	case s.State == server.SamplingOn:
		return nil
	case s.Reason != "":
		return errors.New(s.Reason)
	}
	return fmt.Errorf("sampling is %s", s.State)
}

// capturesAllowed returns nil if requests may start captures, else the reason why not.
func capturesAllowed(c *config.Config) error {
	switch c.Capture.Enabled {
	case config.True:
		return nil
	case config.False:
		return fmt.Errorf("%w: capture.enabled is false", capture.ErrImpossible)
	}
	host, _, err := net.SplitHostPort(c.Web.ListenAddress)
	if ip, parseErr := netip.ParseAddr(host); err == nil && (host == "localhost" || parseErr == nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%w: this server listens on %s, where everyone who reaches it could have processes sampled; capture.enabled: true allows it", capture.ErrImpossible, c.Web.ListenAddress)
}
