//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// cold measures the first query after a restart, with none of the server's files in the
// page cache. Servers that cannot be restarted have no figures.
func (c *comparison) cold(ctx context.Context) error {
	end, one := c.start.Add(c.set.Length), selector(c.set.Services()[0])
	for _, q := range []query{
		mergeStacktraces("SelectMergeStacktraces 1 h, one service", one, end, time.Hour),
		mergeStacktraces("SelectMergeStacktraces 1 h, all services", "{}", end, time.Hour),
		selectSeries("SelectSeries 1 h, step 15 s, by service_name", "{}", "service_name", end),
	} {
		var got [2]asked
		for run := range c.coldRuns {
			err := c.each(run, func(which int, s *server) error {
				if s.command == nil {
					return nil
				}
				if err := s.restartCold(ctx); err != nil {
					return err
				}
				return got[which].ask(ctx, s, q, q.shift(run, c.set.Length), c.compressed, true)
			})
			if err != nil {
				return err
			}
		}
		c.record(groupCold, q, &got, nil)
	}
	return c.disk("disk, after restarts")
}

// restartCold ends the server, drops its files from the page cache and starts
// it again.
func (s *server) restartCold(ctx context.Context) error {
	if err := s.end(ctx); err != nil {
		return err
	}
	if s.data != "" {
		if err := dropCache(s.data); err != nil {
			return fmt.Errorf("drop page cache: %w", err)
		}
	}
	return s.start(ctx)
}
