//go:build linux

package main

import (
	"context"
	"time"

	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"

	"github.com/flameline/flameline/e2e/compare/dataset"
)

// replica is the service whose profiles are repeated over a long time.
const replica = "replica"

const day = 24 * time.Hour

// long repeats one service's profiles over days, at longer steps, and queries
// them: how cost grows with the range, rather than with what is shown.
func (c *comparison) long(ctx context.Context) error {
	days := time.Duration(c.replicateDays) * day
	end := time.Now().Truncate(time.Minute)
	profiles, err := c.replicas(end.Add(-days), end)
	if err != nil {
		return err
	}
	// A slice a day, oldest first.
	sums, err := c.pushSlices(ctx, profiles, c.replicateDays)
	if err != nil {
		return err
	}
	if err := c.awaitSettled(ctx); err != nil {
		return err
	}
	for _, length := range []time.Duration{time.Hour, day, days} {
		q := mergeStacktraces("SelectMergeStacktraces "+short(length)+", one service", selector(replica), end, length)
		q.step = c.replicateStep
		if err := c.measure(ctx, groupLong, q, days); err != nil {
			return err
		}
	}
	for which, p := range sums {
		if p.errors > 0 {
			c.results.markLast("%s refused %d of %d profiles: %v", c.servers[which].name, p.errors, p.profiles, p.firstError)
		}
	}
	return nil
}

// replicas repeats the profiles of the first service's pods from one time to
// another, by time.
func (c *comparison) replicas(from, to time.Time) (out []timed, err error) {
	pods := map[string][]dataset.Profile{}
	var names []string
	for _, p := range c.set.Of(c.set.Services()[0]) {
		var pod string
		var labels []*typesv1.LabelPair
		for _, l := range p.Labels {
			switch l.Name {
			case "pod":
				pod = l.Value
			case "service_name":
				l = &typesv1.LabelPair{Name: l.Name, Value: replica}
			}
			labels = append(labels, l)
		}
		if pods[pod] == nil {
			names = append(names, pod)
		}
		p.Labels = labels
		pods[pod] = append(pods[pod], p)
	}
	// As many different profiles as an hour at this step has.
	different := max(1, int(time.Hour/c.replicateStep))
	for _, pod := range names {
		pods[pod] = pods[pod][:min(len(pods[pod]), different)]
		for i, p := range pods[pod] {
			if pods[pod][i], err = p.Loaded(); err != nil {
				return nil, err
			}
		}
	}
	for n, at := 0, from; at.Before(to); n, at = n+1, at.Add(c.replicateStep) {
		for i, pod := range names {
			// Pods have phases of their own within the step.
			phase := c.replicateStep * time.Duration(i+1) / time.Duration(len(names)+1)
			out = append(out, timed{pods[pod][n%len(pods[pod])], at.Add(phase)})
		}
	}
	return out, nil
}
