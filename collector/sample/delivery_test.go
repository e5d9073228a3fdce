package sample

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// An appendFunc is an Appender.
type appendFunc func(context.Context, []profile.Profile) error

func (f appendFunc) Append(ctx context.Context, ps []profile.Profile) error { return f(ctx, ps) }

func testDelivery(a Appender) *delivery {
	o, err := Options{Appender: a, Targets: noLabels{}, FrequencyHz: 20}.withDefaults()
	if err != nil {
		panic(err)
	}
	return newDelivery(o, newMetrics(nil))
}

type noLabels struct{ Labeler }

func testWindow(start int64) *window {
	w := newWindow(start)
	w.add(stacktrace{labels: labels.FromStrings("service_name", "a"), locations: testStack("f")}, 1)
	return w
}

func counterValue(c prometheus.Counter) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		panic(err)
	}
	return m.Counter.GetValue()
}

// TestDeliveryRetries checks that a flush that fails is appended again with the
// same IDs, in its order, and is not lost.
func TestDeliveryRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts []string
		var stored []int64
		d := testDelivery(appendFunc(func(_ context.Context, ps []profile.Profile) error {
			attempts = append(attempts, ps[0].ID)
			ps[0].Pprof.StringTable = nil // the receiver owns it
			if len(attempts) < 4 {
				return errors.New("store is busy")
			}
			for _, p := range ps {
				stored = append(stored, p.Pprof.TimeNanos/second)
			}
			return nil
		}))
		go d.run(t.Context())
		d.put([]*window{testWindow(100 * second), testWindow(105 * second)})
		d.put([]*window{testWindow(110 * second)})
		time.Sleep(time.Minute)
		d.close(t.Context())
		require.Len(t, attempts, 5)
		for _, id := range attempts[1:4] {
			require.Equal(t, attempts[0], id)
		}
		require.Equal(t, []int64{100, 105, 110}, stored)
		require.EqualValues(t, 3, counterValue(d.metrics.appendFailures))
		require.EqualValues(t, 3, counterValue(d.metrics.windows))
	})
}

// TestDeliveryFinishesLabels checks that series whose labels are the same when they are
// finished become one, that those without labels are left out, and that labels which do
// not come delay the window only so long.
func TestDeliveryFinishesLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stored []profile.Profile
		d := testDelivery(appendFunc(func(_ context.Context, ps []profile.Profile) error {
			stored = append(stored, ps...)
			return nil
		}))
		d.finish = func(ctx context.Context, ls labels.Labels) labels.Labels {
			switch ls.Get("pid") {
			case "3":
				return labels.EmptyLabels()
			case "4":
				<-ctx.Done()
			}
			return labels.FromStrings("service_name", ls.Get("service_name"))
		}
		w := newWindow(100 * second)
		raw := func(pid, service string) labels.Labels {
			return labels.FromStrings("pid", pid, "service_name", service)
		}
		stack := testStack("f")
		w.add(stacktrace{labels: raw("1", "a"), locations: stack}, 1)
		w.add(stacktrace{labels: raw("2", "a"), locations: stack}, 2)
		w.add(stacktrace{labels: raw("2", "a"), locations: stack, spans: spanIDs{span: "00f067aa0ba902b7"}}, 4)
		w.add(stacktrace{labels: raw("3", "b"), locations: stack}, 8)
		w.add(stacktrace{labels: raw("4", "c"), locations: stack}, 16)
		go d.run(t.Context())
		d.put([]*window{w})
		time.Sleep(finishTimeout + time.Second)
		d.close(t.Context())
		require.Len(t, stored, 2)
		got := map[string][]int64{}
		for _, p := range stored {
			for _, s := range p.Pprof.Sample {
				require.Len(t, s.LocationId, len(stack))
				key := p.Labels.Get("service_name")
				for _, l := range s.Label {
					key += " " + p.Pprof.StringTable[l.Key] + "=" + p.Pprof.StringTable[l.Str]
				}
				got[key] = append(got[key], s.Value[0]/d.period)
			}
		}
		require.Equal(t, map[string][]int64{"a": {3}, "a span_id=00f067aa0ba902b7": {4}, "c": {16}}, got)
	})
}

// TestDeliveryIsBounded checks that an appender that never succeeds or never
// returns does not block, and that what is lost is counted.
func TestDeliveryIsBounded(t *testing.T) {
	for name, appender := range map[string]appendFunc{
		"fails": func(context.Context, []profile.Profile) error { return errors.New("disk full") },
		"hangs": func(ctx context.Context, _ []profile.Profile) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := testDelivery(appender)
				ctx, cancel := context.WithCancel(t.Context())
				go d.run(ctx)
				const flushes = 100
				for i := range flushes {
					d.put([]*window{testWindow(int64(i) * 5 * second)})
					time.Sleep(5 * time.Second)
				}
				d.mu.Lock()
				require.LessOrEqual(t, len(d.queue), queueLength)
				d.mu.Unlock()
				cancel()
				d.close(t.Context())
				<-d.done
				var lost float64
				for _, reason := range []string{"queue_full", "append_failed", "shutdown"} {
					lost += counterValue(d.metrics.lost.WithLabelValues(reason))
				}
				require.EqualValues(t, flushes, lost)
			})
		})
	}
}
