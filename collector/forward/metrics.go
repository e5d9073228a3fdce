package forward

import "github.com/prometheus/client_golang/prometheus"

// Values of the label outcome.
const (
	outcomeOK       = "ok"
	outcomeRefused  = "refused"
	outcomeFailed   = "failed"
	outcomeDropped  = "dropped"
	outcomeShutdown = "shutdown"
)

type metrics struct {
	profiles *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, q *queue) *metrics {
	m := &metrics{profiles: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "flameline_forward_profiles_total",
		Help: "Profiles by outcome: ok; failed, to be sent again; or lost: refused by the server, dropped from the full queue, left at shutdown.",
	}, []string{"outcome"})}
	for _, outcome := range []string{outcomeOK, outcomeRefused, outcomeFailed, outcomeDropped, outcomeShutdown} {
		m.profiles.WithLabelValues(outcome)
	}
	if r == nil {
		return m
	}
	r.MustRegister(m.profiles,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "flameline_forward_queue_profiles", Help: "Profiles that wait to be sent to the server.",
		}, func() float64 { n, _ := q.size(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "flameline_forward_queue_bytes", Help: "Size of the profiles that wait to be sent to the server, compressed, with their labels.",
		}, func() float64 { _, n := q.size(); return float64(n) }),
	)
	return m
}
