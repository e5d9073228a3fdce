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

// maxUnstored bounds the profiles that a loop keeps until they are stored. Growth of a
// running process takes two: one that was tried, and one for all the time since.
const maxUnstored = 8

// leaveTimeout bounds how long a loop that ends tries to store its profiles.
const leaveTimeout = time.Second

// An unstoredProfile is a profile that could not be stored yet.
type unstoredProfile struct {
	id string
	// fresh is the profile until the first attempt, at which the appender takes
	// ownership.
	fresh *googlev1.Profile
	pprof []byte // encoded; gzipped after the first attempt
	// base and next are the snapshots before and after growth, nil for other profiles.
	base, next *snapshot
	// tried says that the profile may have been stored, since an answer may be lost. It
	// must not change any more.
	tried bool
}

func newUnstored(id string, p *googlev1.Profile) (*unstoredProfile, error) {
	raw, err := p.MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("encode profile: %w", err)
	}
	return &unstoredProfile{id: id, fresh: p, pprof: raw}, nil
}

// try returns the profile for one attempt to store it.
func (o *unstoredProfile) try() (*googlev1.Profile, error) {
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

// pack compresses the profile after a failed attempt, since it may be kept for a long
// time.
func (o *unstoredProfile) pack() error {
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

// keepUnstored adds a profile to unstored. If there is no room, it drops the oldest that
// is not growth, else the oldest.
func (l *loop) keepUnstored(o *unstoredProfile) {
	if len(l.unstored) == maxUnstored {
		l.lose(1)
		i := max(0, slices.IndexFunc(l.unstored, func(o *unstoredProfile) bool { return o.next == nil }))
		l.unstored = slices.Delete(l.unstored, i, i+1)
	}
	l.unstored = append(l.unstored, o)
}

// lose counts and logs profiles that will not be stored.
func (l *loop) lose(n int) {
	l.manager.metrics.lost.WithLabelValues(l.job(), l.name).Add(float64(n))
	l.manager.log.Error("profiles are lost: they could not be stored", "job", l.target.job, "instance", l.target.instance, "profile", l.name, "profiles", n)
}

// reopen takes back growth that was never tried, if a reading continues it, so that the
// reading's growth covers both times.
func (l *loop) reopen(r reading) {
	if len(l.unstored) == 0 || r.kind != counters {
		return
	}
	last := l.unstored[len(l.unstored)-1]
	if last.tried || last.next == nil || r.taken-last.base.time > int64(maxGap) || !l.delta.continues(last.next, r) {
		return
	}
	l.unstored = l.unstored[:len(l.unstored)-1]
	base := *last.base
	base.ended = restarted(last.base, last.next)
	l.delta.last = &base
}

// storeUnstored stores the unstored profiles, oldest first, until the appender fails.
// Each may take half an interval: an appender may wait for a server that is unavailable,
// and scrapes must go on.
func (l *loop) storeUnstored(ctx context.Context) (refused error) {
	for len(l.unstored) > 0 {
		o := l.unstored[0]
		p, err := o.try()
		if err == nil {
			err = l.append(ctx, max(l.interval/2, time.Second), o.id, p)
		}
		if err != nil && !l.manager.refused(err) {
			return &scrapeError{reasonAppend, fmt.Errorf("append: %w", errors.Join(err, o.pack()))}
		}
		l.unstored = l.unstored[1:]
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

// leave stores or queues the unstored profiles when the loop ends.
func (l *loop) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	for i, o := range l.unstored {
		p, err := o.try()
		if err == nil {
			err = l.manager.queue(ctx, profile.Profile{ID: o.id, Labels: l.labels, Pprof: p})
		}
		if err != nil {
			l.lose(len(l.unstored) - i)
			break
		}
	}
	l.unstored = nil
}
