//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// asked has the results of the repeated runs of one query on a server.
type asked struct {
	latencies  []time.Duration // of the runs that were answered
	cpu        time.Duration   // of all runs
	sizes      []float64       // bytes as sent
	facts      []*facts        // of each run; nil if it failed
	body       []byte          // of the last answer
	errors     int
	firstError error
}

// ask runs a query once. If it is not counted, it only warms up caches.
func (a *asked) ask(ctx context.Context, s *server, q query, shift time.Duration, compressed, counted bool) error {
	body, err := q.message(shift).MarshalVT()
	if err != nil {
		return fmt.Errorf("encode %s: %w", q.name, err)
	}
	cpu := s.cpu()
	got, err := s.post(ctx, "/querier.v1.QuerierService/"+q.method, body, compressed)
	cpu = s.cpu() - cpu
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !counted {
		return nil
	}
	var f facts
	if err == nil {
		f, err = decode(q, got)
	}
	if err != nil {
		a.facts = append(a.facts, nil)
		if a.errors++; a.firstError == nil {
			a.firstError = err
		}
		return nil
	}
	a.cpu += cpu
	a.latencies = append(a.latencies, got.took)
	a.body, a.sizes = got.body, append(a.sizes, float64(len(got.body)))
	a.facts = append(a.facts, &f)
	return nil
}

func decode(q query, a answer) (facts, error) {
	body, err := a.text()
	if err != nil {
		return facts{}, err
	}
	f, err := q.facts(body)
	if err != nil {
		return f, fmt.Errorf("decode answer: %w", err)
	}
	return f, nil
}

// queries measures all queries with warm caches, and the memory that they take.
func (c *comparison) queries(ctx context.Context) error {
	if err := c.resetPeaks(); err != nil {
		return err
	}
	for _, q := range queries(c.start, c.set.Length, selector(c.set.Services()[0])) {
		if err := c.measure(ctx, groupQueries, q, c.set.Length); err != nil {
			return err
		}
	}
	c.results.add(c.peaks("memory, peak during the queries"))
	return nil
}

// shift returns how much earlier a run's range is. Ranges stay within the data, so they
// repeat if the data are only minutes long.
func (q query) shift(run int, data time.Duration) time.Duration {
	different := max(1, int(data/3/q.step))
	return time.Duration(run%different) * q.step
}

func selector(service string) string { return fmt.Sprintf("{service_name=%q}", service) }

// measure queries both servers in turn about the end of a stretch of the data, and then
// the server that has our answer ready.
func (c *comparison) measure(ctx context.Context, group string, q query, data time.Duration) error {
	var got [2]asked
	var ready []time.Duration
	for run := range c.warmUp + c.runs {
		err := c.each(run, func(which int, s *server) error {
			return got[which].ask(ctx, s, q, q.shift(run, data), c.compressed, run >= c.warmUp)
		})
		if err != nil {
			return err
		}
		if got[ours].body == nil {
			continue
		}
		took, err := c.ready.ask(ctx, got[ours].body)
		if err != nil {
			return fmt.Errorf("answer that is ready: %w", err)
		}
		ready = append(ready, took)
	}
	c.record(group, q, &got, ready)
	return nil
}

// record adds a query's figure, with marks for doubtful results.
func (c *comparison) record(group string, q query, got *[2]asked, ready []time.Duration) {
	f := Figure{Group: group, Name: q.name, Unit: "ms"}
	if len(ready) > 0 {
		f.Ready = summary(milliseconds(ready))
	}
	for which, a := range got {
		s := c.servers[which]
		if a.errors > 0 {
			f.mark("%s failed in %d of %d runs: %v", s.name, a.errors, len(a.facts), a.firstError)
		}
		if len(a.latencies) == 0 {
			continue
		}
		v := summary(milliseconds(a.latencies))
		v.Bytes = median(a.sizes)
		for _, took := range a.latencies {
			v.Nanoseconds = append(v.Nanoseconds, took.Nanoseconds())
		}
		if s.pid != 0 {
			cpu := float64(a.cpu.Microseconds()) / 1000 / float64(len(a.latencies))
			v.CPU = &cpu
		}
		for _, facts := range slices.Backward(a.facts) {
			if facts != nil {
				v.Count, v.Of, v.Total = facts.Count, facts.Of, facts.Total
				break
			}
		}
		f.Values[which] = v
	}
	if doubt := disagree(got[ours].facts, got[peer].facts); doubt != "" {
		f.mark("%s", doubt)
	}
	c.results.add(f)
	c.say("%s", f.line(c.servers[ours].name, c.servers[peer].name))
}

// Tolerances for totals and for the number of nodes of flame graphs. Everything else
// must be equal.
const (
	totalTolerance = 0.001
	nodesTolerance = 0.25
)

// disagree compares the answers of both servers run by run, and describes the first two
// that differ.
func disagree(left, right []*facts) string {
	for i := range min(len(left), len(right)) {
		l, r := left[i], right[i]
		tolerance := 0.0
		if l != nil && l.Of == nodesOfTree {
			tolerance = nodesTolerance
		}
		switch {
		case l == nil || r == nil:
		case l.Count == 0 && r.Count == 0:
			return "both answers are empty"
		case apart(l.Total, r.Total, totalTolerance):
			return fmt.Sprintf("totals differ: %d and %d", l.Total, r.Total)
		case apart(int64(l.Count), int64(r.Count), tolerance):
			return fmt.Sprintf("sizes differ: %d and %d %s", l.Count, r.Count, l.Of)
		}
	}
	return ""
}

func apart(a, b int64, tolerance float64) bool {
	d := a - b
	return float64(max(d, -d)) > tolerance*float64(max(a, b))
}
