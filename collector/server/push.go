package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"

	"github.com/flameline/flameline/collector/ingest"
	"github.com/flameline/flameline/pkg/profile"
)

// A pusher is push.v1.PusherService. It stores all of a request or nothing: one invalid
// profile refuses the whole request. It answers once the profiles are on disk.
type pusher struct {
	store   Store
	limits  Limits
	metrics *metrics
	memory  *pushMemory
	notes   *noteLog
	now     func() time.Time
}

var _ pushv1connect.PusherServiceHandler = (*pusher)(nil)

// Push decodes, checks and appends the profiles of one request.
func (p *pusher) Push(ctx context.Context, req *connect.Request[pushv1.PushRequest]) (*connect.Response[pushv1.PushResponse], error) {
	var bodies [][]byte
	for _, s := range req.Msg.Series {
		for _, sample := range s.GetSamples() {
			bodies = append(bodies, sample.GetRawProfile())
		}
	}
	share, leave, err := p.memory.shareOf(ctx)
	if err != nil {
		p.metrics.refused.Inc()
		return nil, err
	}
	defer leave()
	report := &ingest.Report{}
	limits := p.limits.withReport(report)
	var profiles []profile.Profile
	var bytes int64
	if limits.Ingest.Reserve, err = share.admit(bodies...); err == nil {
		profiles, bytes, err = p.decode(req.Msg, limits)
	}
	if err != nil {
		p.metrics.refused.Inc()
		return nil, invalidPush(err)
	}
	if err := p.append(ctx, profiles, bytes); err != nil {
		return nil, err
	}
	resp := connect.NewResponse(&pushv1.PushResponse{})
	p.notes.publish(resp.Header(), report, profiles)
	return resp, nil
}

// append stores profiles, and counts them and their size in bytes. Its errors have a
// Connect code.
func (p *pusher) append(ctx context.Context, profiles []profile.Profile, bytes int64) error {
	if err := p.store.Append(ctx, profiles); err != nil {
		p.metrics.refused.Inc()
		return code(err)
	}
	p.metrics.profiles.Add(float64(len(profiles)))
	p.metrics.bytes.Add(float64(bytes))
	return nil
}

// invalidPush returns an error about a push: invalid_argument, unless the error has a
// code already.
func invalidPush(err error) error {
	var ce *connect.Error
	if errors.As(err, &ce) {
		return ce
	}
	return connect.NewError(connect.CodeInvalidArgument, err)
}

// decode returns the profiles of a request and their size in bytes after
// decompression.
func (p *pusher) decode(req *pushv1.PushRequest, limits Limits) (out []profile.Profile, bytes int64, err error) {
	report := limits.Ingest.Report
	samples := 0
	for _, s := range req.Series {
		samples += len(s.GetSamples())
	}
	if err := errors.Join(p.limits.series(len(req.Series)), p.limits.profiles(samples)); err != nil {
		return nil, 0, err
	}
	// The request's limit also bounds its profiles together, so that many small
	// compressed profiles cannot take more memory than one large profile may.
	left := p.limits.MaxRequestBytes
	for i, s := range req.Series {
		ls, err := ingest.Labels(s.GetLabels(), limits.Ingest)
		if err != nil {
			return nil, 0, fmt.Errorf("series[%d].%w", i, err)
		}
		for j, sample := range s.GetSamples() {
			at := fmt.Sprintf("series[%d].samples[%d]", i, j)
			l, explain := limits.within(left)
			pp, size, err := ingest.Pprof(sample.GetRawProfile(), l)
			if err != nil {
				return nil, 0, fmt.Errorf("%s.raw_profile of %s: %w", at, ls, explain(err))
			}
			left -= int64(size)
			bytes += int64(size)
			pp.TimeNanos = ingest.ProfileTime(pp.TimeNanos, pp.DurationNanos, p.now(), report)
			if err := p.checkTime(pp.TimeNanos); err != nil {
				return nil, 0, fmt.Errorf("%s.raw_profile of %s: pprof: time_nanos: %w", at, ls, err)
			}
			out = append(out, profile.Profile{ID: sample.GetID(), Labels: ls, Pprof: pp})
		}
	}
	if len(out) == 0 {
		return nil, 0, errors.New("series: the request has no profile")
	}
	return out, bytes, nil
}

// checkTime returns an error for a time that is too far in the future, as of a wrong clock,
// or that retention would drop.
func (p *pusher) checkTime(ns int64) error {
	t, now := time.Unix(0, ns).UTC(), p.now()
	if most := p.limits.MaxFuture; most > 0 && t.After(now.Add(most)) {
		return fmt.Errorf("%s is more than %s ahead of this machine's clock (limits.max_future)", t.Format(time.RFC3339), most)
	}
	if most := p.limits.MaxAge; most > 0 && t.Before(now.Add(-most)) {
		return fmt.Errorf("%s is more than %s ago (%s)", t.Format(time.RFC3339), most, cmp.Or(p.limits.MaxAgeKey, "storage.retention"))
	}
	return nil
}
