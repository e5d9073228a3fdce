package scrape

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/klauspost/compress/gzip"

	"github.com/flameline/flameline/pkg/profile"
)

// maxOwed bounds the profiles that a loop keeps until they are stored. Growth of
// a process that goes on takes two: one that was tried, and one for all the time
// since.
const maxOwed = 8

// leaveTimeout bounds how long a loop that ends tries to store what it owes.
const leaveTimeout = time.Second

// An owed profile is one that is to be stored, and was not yet.
type owed struct {
	id string
	// fresh is the profile until it is tried, whereupon the appender owns it.
	fresh *googlev1.Profile
	pprof []byte // encoded, and gzipped once it was tried
	// base and next are the snapshots before and after growth; nil of a profile
	// that stands for itself.
	base, next *snapshot
	// tried says that the profile may be stored already, as an answer may be lost:
	// from then on it stays as it is.
	tried bool
}

func newOwed(id string, p *googlev1.Profile) (*owed, error) {
	raw, err := p.MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("encode profile: %w", err)
	}
	return &owed{id: id, fresh: p, pprof: raw}, nil
}

// try returns the profile for one attempt to store it.
func (o *owed) try() (*googlev1.Profile, error) {
	if !o.tried {
		o.tried = true
		p := o.fresh
		o.fresh = nil
		return p, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(o.pprof))
	if err != nil {
		return nil, fmt.Errorf("decode profile: %w", err)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("decode profile: %w", err)
	}
	p := &googlev1.Profile{}
	if err := p.UnmarshalVT(raw); err != nil {
		return nil, fmt.Errorf("decode profile: %w", err)
	}
	return p, nil
}

// pack compresses what an attempt failed for, which may be kept for long.
func (o *owed) pack() error {
	if bytes.HasPrefix(o.pprof, []byte{0x1f, 0x8b}) {
		return nil
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return err
	}
	_, err = w.Write(o.pprof)
	if err := errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("encode profile: %w", err)
	}
	o.pprof = b.Bytes()
	return nil
}

// owe adds a profile to what is to be stored. Where there is no room, the oldest
// is lost, growth last.
func (l *loop) owe(o *owed) {
	if len(l.owed) == maxOwed {
		l.lose(1)
		i := max(0, slices.IndexFunc(l.owed, func(o *owed) bool { return o.next == nil }))
		l.owed = slices.Delete(l.owed, i, i+1)
	}
	l.owed = append(l.owed, o)
}

// lose counts profiles that will not be stored.
func (l *loop) lose(n int) {
	l.manager.metrics.lost.WithLabelValues(l.target.job, l.name).Add(float64(n))
	l.manager.log.Error("profiles are lost: they could not be stored", "job", l.target.job, "instance", l.target.instance, "profile", l.name, "profiles", n)
}

// reopen takes back growth that was never tried, if a reading continues it, so
// that the reading's own growth is over both times.
func (l *loop) reopen(r reading) {
	if len(l.owed) == 0 || r.kind != counters {
		return
	}
	last := l.owed[len(l.owed)-1]
	if last.tried || last.next == nil || r.taken-last.base.time > int64(maxGap) || !l.delta.continues(last.next, r) {
		return
	}
	l.owed = l.owed[:len(l.owed)-1]
	base := *last.base
	base.ended = restarted(last.base, last.next)
	l.delta.last = &base
}

// settle stores what is owed, oldest first, until the appender fails. Each gets
// as long as half an interval: an appender may wait for a server that is away,
// and scrapes must go on.
func (l *loop) settle(ctx context.Context) (refused error) {
	for len(l.owed) > 0 {
		o := l.owed[0]
		p, err := o.try()
		if err == nil {
			err = l.append(ctx, max(l.target.interval/2, time.Second), o.id, p)
		}
		if err != nil && !l.manager.refused(err) {
			return &scrapeError{reasonAppend, fmt.Errorf("append: %w", errors.Join(err, o.pack()))}
		}
		l.owed = l.owed[1:]
		if err != nil {
			l.lose(1)
			refused = &scrapeError{reasonAppend, fmt.Errorf("append: %w", err)}
		}
	}
	return refused
}

func (l *loop) append(ctx context.Context, most time.Duration, id string, p *googlev1.Profile) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return l.manager.o.Appender.Append(ctx, []profile.Profile{{ID: id, Labels: l.labels, Pprof: p}})
}

// leave hands over what is owed when the loop ends.
func (l *loop) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	for i, o := range l.owed {
		p, err := o.try()
		if err == nil {
			err = l.manager.queue(ctx, profile.Profile{ID: o.id, Labels: l.labels, Pprof: p})
		}
		if err != nil {
			l.lose(len(l.owed) - i)
			break
		}
	}
	l.owed = nil
}
