//go:build linux

package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"golang.org/x/sync/errgroup"

	"github.com/flameline/flameline/e2e/compare/dataset"
)

// timed is a profile with the time that it is moved to.
type timed struct {
	dataset.Profile
	at time.Time
}

// requests makes a push of each profile, as bytes, before the clock runs.
func requests(ctx context.Context, profiles []timed) ([][]byte, error) {
	out := make([][]byte, len(profiles))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, p := range profiles {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			b, err := p.At(p.at)
			if err != nil {
				return err
			}
			out[i], err = (&pushv1.PushRequest{Series: []*pushv1.RawProfileSeries{{
				Labels: p.Labels, Samples: []*pushv1.RawSample{{RawProfile: b}},
			}}}).MarshalVT()
			return err
		})
	}
	return out, g.Wait()
}

// pushed is what pushing to a server took.
type pushed struct {
	profiles, errors int
	firstError       error
	took, cpu        time.Duration // while this server was pushed to
	latencies        []time.Duration
}

// push sends requests, some of them at the same time, each once.
func (p *pushed) push(ctx context.Context, s *server, requests [][]byte, concurrency int) error {
	var next atomic.Int64
	var mu sync.Mutex
	var senders sync.WaitGroup
	began, cpu := time.Now(), s.cpu()
	for range concurrency {
		senders.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(requests) {
					return
				}
				a, err := s.post(ctx, "/push.v1.PusherService/Push", requests[i], false)
				mu.Lock()
				p.profiles++
				p.latencies = append(p.latencies, a.took)
				if err != nil {
					if p.errors++; p.firstError == nil {
						p.firstError = err
					}
				}
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	p.took += time.Since(began)
	p.cpu += s.cpu() - cpu
	return ctx.Err()
}

// pushSlices pushes profiles slice by slice, each to both servers in turn.
func (c *comparison) pushSlices(ctx context.Context, profiles []timed, slices int) ([2]*pushed, error) {
	sums := [2]*pushed{{}, {}}
	for i := range slices {
		from, to := i*len(profiles)/slices, (i+1)*len(profiles)/slices
		rs, err := requests(ctx, profiles[from:to])
		if err != nil {
			return sums, err
		}
		err = c.each(i, func(which int, s *server) error { return sums[which].push(ctx, s, rs, c.concurrency) })
		if err != nil {
			return sums, err
		}
		c.say("pushed %d of %d profiles: %s %.0f/s, %s %.0f/s; errors %d and %d", to, len(profiles),
			c.servers[ours].name, sums[ours].rate(), c.servers[peer].name, sums[peer].rate(), sums[ours].errors, sums[peer].errors)
	}
	return sums, nil
}

// rate is how many profiles were taken a second.
func (p *pushed) rate() float64 { return float64(p.profiles-p.errors) / p.took.Seconds() }

// push pushes the data set, and measures what that costs until all is settled.
func (c *comparison) push(ctx context.Context) error {
	profiles := make([]timed, len(c.set.Profiles))
	for i, p := range c.set.Profiles {
		profiles[i] = timed{p, c.start.Add(p.Offset)}
	}
	var cpu [2]time.Duration
	for i, s := range c.servers {
		cpu[i] = s.cpu()
	}
	if err := c.resetPeaks(); err != nil {
		return err
	}
	sums, err := c.pushSlices(ctx, profiles, min(c.slices, len(profiles)))
	if err != nil {
		return err
	}
	for which, p := range sums {
		if p.errors == p.profiles {
			return fmt.Errorf("%s took no profile: %w", c.servers[which].name, p.firstError)
		}
	}
	rate, latency := Figure{Group: groupPush, Name: "profiles taken", Unit: "profiles/s"}, Figure{Group: groupPush, Name: "one push", Unit: "ms"}
	during := Figure{Group: groupPush, Name: "CPU for 1,000 profiles, while they are pushed", Unit: "s"}
	for which, p := range sums {
		rate.Values[which] = &Value{Median: p.rate()}
		latency.Values[which] = summary(milliseconds(p.latencies))
		if s := c.servers[which]; s.pid != 0 {
			during.Values[which] = &Value{Median: p.cpu.Seconds() / float64(p.profiles) * 1000}
		}
		if p.errors > 0 {
			rate.mark("%s refused %d of %d profiles: %v", c.servers[which].name, p.errors, p.profiles, p.firstError)
		}
	}
	c.results.add(rate, latency, during, c.peaks("memory, peak while pushing"))
	if err := c.disk("disk, right after"); err != nil {
		return err
	}
	if err := c.awaitSettled(ctx); err != nil {
		return err
	}
	settled := Figure{Group: groupPush, Name: "CPU for 1,000 profiles, until settled", Unit: "s"}
	for which, s := range c.servers {
		if s.pid != 0 {
			settled.Values[which] = &Value{Median: (s.cpu() - cpu[which]).Seconds() / float64(sums[which].profiles) * 1000}
		}
	}
	c.results.add(settled)
	return c.disk("disk, settled")
}
