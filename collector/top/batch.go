package top

import (
	"context"
	"io"
	"time"
)

// Batch prints the table as text: times snapshots, or without end if times is 0, until ctx
// is done or the view ends. It prints up to rows functions each time.
func (v *View) Batch(ctx context.Context, w io.Writer, times, rows int) error {
	v.Table.Begin(v.Began)
	for n := 0; times == 0 || n < times; n++ {
		last := false
		select {
		case <-ctx.Done():
			return nil
		case <-v.Ended:
			last = true
		case <-time.After(time.Until(v.Table.Next(v.Every))):
		}
		s := v.Table.Snapshot(time.Now())
		if err := s.Print(w, v.Processes, v.Order, rows); err != nil || last {
			return err
		}
	}
	return nil
}
