package capture

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	flamelinev1 "github.com/flameline/flameline/pkg/api/flameline/v1"
)

type metrics struct {
	running  prometheus.Gauge
	captures *prometheus.CounterVec
	profiles prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flameline_capture_running", Help: "1 while a capture samples processes of this machine, else 0.",
		}),
		captures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_capture_captures_total", Help: "Captures that ended on this machine, by state (done, no_match, stopped, failed).",
		}, []string{"state"}),
		profiles: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flameline_capture_profiles_total", Help: "Profiles of captures of this machine that were stored, or queued for the server.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.running, m.captures, m.profiles)
	}
	return m
}

// StateName is the name of a state for people and metrics, such as no_match.
func StateName(s flamelinev1.CaptureState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "CAPTURE_STATE_"))
}
