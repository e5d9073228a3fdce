package symbolize

import "github.com/prometheus/client_golang/prometheus"

// Results of a lookup, values of the label result.
const (
	resultOK      = "ok"
	resultNoFunc  = "no_function" // the table has no function at the address
	resultNoTable = "no_table"    // the binary could not be read or has no symbols
	resultUnknown = "unknown_binary"
)

type metrics struct {
	lookups   *prometheus.CounterVec
	builds    *prometheus.CounterVec
	bad       *prometheus.CounterVec
	latency   prometheus.Histogram
	passes    prometheus.Histogram
	lines     prometheus.Histogram
	evictions *prometheus.CounterVec
	tables    prometheus.Gauge
	bytes     prometheus.Gauge
	files     prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_symbolize_lookups_total",
			Help: "Addresses looked up, by kind of code (native, perf_map) and result.",
		}, []string{"kind", "result"}),
		builds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_symbolize_builds_total",
			Help: "Symbol tables built, by result.",
		}, []string{"result"}),
		bad: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_symbolize_unreadable_files_total",
			Help: "Files of processes that could not be read, by kind (native; part: of a file whose other symbols are in use, such as its debug information; perf_map) and reason (malformed, too_large, timeout, busy, irregular, panic).",
		}, []string{"kind", "reason"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "flameline_symbolize_build_seconds",
			Help:    "Time to read and build one symbol table.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}),
		passes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "flameline_symbolize_pass_seconds",
			Help:    "Time to read the names of some addresses of a binary without building its symbol table.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}),
		lines: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "flameline_symbolize_lines_seconds",
			Help:    "Time to read source lines and inlined calls of some addresses of a binary.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}),
		evictions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_symbolize_evictions_total",
			Help: "Symbol tables dropped, by reason (bytes, idle, renewed).",
		}, []string{"reason"}),
		tables: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flameline_symbolize_tables", Help: "Symbol tables in memory.",
		}),
		bytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flameline_symbolize_bytes", Help: "Memory of symbol tables and the names looked up in them.",
		}),
		files: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flameline_symbolize_open_files", Help: "Descriptors held for binaries.",
		}),
	}
	if r != nil {
		r.MustRegister(m.lookups, m.builds, m.bad, m.latency, m.passes, m.lines, m.evictions, m.tables, m.bytes, m.files)
	}
	return m
}
