//go:build linux

package main

import (
	"context"
	"time"
)

const megabyte = 1e6

// resetPeaks begins new peaks of both servers' memory.
func (c *comparison) resetPeaks() error {
	return c.each(0, func(_ int, s *server) error {
		if s.pid == 0 {
			return nil
		}
		return resetPeak(s.pid)
	})
}

// peaks is the memory of both servers at most, since resetPeaks.
func (c *comparison) peaks(name string) Figure {
	f := Figure{Group: groupPush, Name: name, Unit: "MB"}
	for which, s := range c.servers {
		if s.pid == 0 {
			continue
		}
		n, err := peakMemory(s.pid)
		if err != nil {
			f.mark("%s: %v", s.name, err)
			continue
		}
		f.Values[which] = &Value{Median: float64(n) / megabyte}
	}
	return f
}

// disk adds a figure of what the servers' files take on disk.
func (c *comparison) disk(name string) error {
	f := Figure{Group: groupPush, Name: name, Unit: "MB"}
	err := c.each(0, func(which int, s *server) error {
		if s.data == "" {
			return nil
		}
		n, err := diskUsage(s.data)
		if err == nil {
			f.Values[which] = &Value{Median: float64(n) / megabyte}
		}
		return err
	})
	if err != nil {
		return err
	}
	c.results.add(f)
	return nil
}

// awaitSettled waits until the size of both servers' files has not changed for
// a while, at most settleMax.
func (c *comparison) awaitSettled(ctx context.Context) error {
	c.say("waiting until both servers' files have settled")
	var last [2]int64
	began := time.Now()
	since := began
	for time.Since(since) < c.settle {
		if time.Since(began) > c.settleMax {
			c.say("files still change after %s", c.settleMax)
			return nil
		}
		if err := sleep(ctx, min(c.settle, 2*time.Second)); err != nil {
			return err
		}
		err := c.each(0, func(which int, s *server) error {
			if s.data == "" {
				return nil
			}
			n, err := diskUsage(s.data)
			if err == nil && n != last[which] {
				last[which], since = n, time.Now()
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
