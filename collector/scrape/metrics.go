package scrape

import "github.com/prometheus/client_golang/prometheus"

// Reasons why a scrape failed, values of the label result.
const (
	resultOK        = "ok"
	reasonConnect   = "connect"
	reasonTimeout   = "timeout"
	reasonStatus    = "status"
	reasonTooLarge  = "too_large"
	reasonMalformed = "malformed"
	reasonAppend    = "append"
)

type metrics struct {
	up       *prometheus.GaugeVec
	duration *prometheus.GaugeVec
	scrapes  *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	covered  *prometheus.CounterVec
	lost     *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	perTarget := []string{"job", "instance", "profile"}
	m := &metrics{
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "flameline_scrape_up", Help: "1 if the last scrape of the target succeeded, else 0.",
		}, perTarget),
		duration: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "flameline_scrape_duration_seconds", Help: "Duration of the last scrape, including the length of a CPU profile.",
		}, perTarget),
		scrapes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_scrapes_total", Help: "Scrapes, by result: ok or the reason of the failure.",
		}, []string{"job", "profile", "result"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_scrape_bytes_total", Help: "Bytes of profiles as sent by targets.",
		}, []string{"job", "profile"}),
		covered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_scrape_covered_seconds_total", Help: "Time that CPU profiles cover, over all targets.",
		}, []string{"job"}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_scrape_lost_profiles_total", Help: "Profiles of targets that were lost because they could not be stored or were refused.",
		}, []string{"job", "profile"}),
	}
	if r != nil {
		r.MustRegister(m.up, m.duration, m.scrapes, m.bytes, m.covered, m.lost)
	}
	return m
}

// forget removes the metrics of a target that is no longer scraped.
func (m *metrics) forget(t *target) {
	for _, l := range t.loops {
		m.up.DeleteLabelValues(t.job, t.instance, l.name)
		m.duration.DeleteLabelValues(t.job, t.instance, l.name)
	}
}
