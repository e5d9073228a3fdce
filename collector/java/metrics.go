package java

import "github.com/prometheus/client_golang/prometheus"

// metrics are the metrics of a Source.
type metrics struct {
	attached prometheus.Gauge
	skipped  *prometheus.GaugeVec
	failures *prometheus.CounterVec
	bytes    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		attached: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flameline_java_attached", Help: "JVMs that are being recorded.",
		}),
		skipped: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "flameline_java_unrecorded", Help: "JVMs that are not recorded now, by reason.",
		}, []string{"reason"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_java_failures_total", Help: "Attempts to attach to a JVM, and readings of its recording, that did not succeed, by reason.",
		}, []string{"reason"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "flameline_java_recording_bytes_total", Help: "Bytes of recordings that were read.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.attached, m.skipped, m.failures, m.bytes)
	}
	return m
}
