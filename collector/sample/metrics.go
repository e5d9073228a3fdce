package sample

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the numbers that the source publishes about itself.
type metrics struct {
	samples    prometheus.Counter
	unwound    *prometheus.CounterVec // outcome
	lost       *prometheus.CounterVec // reason
	unreadable *prometheus.CounterVec // reader, reason
	// unreadableMemory counts reads, by reason.
	unreadableMemory *prometheus.CounterVec
	frames           *prometheus.CounterVec // kind
	unsymbolized     *prometheus.CounterVec // kind
	late             prometheus.Counter
	windows          prometheus.Counter
	series           prometheus.Gauge
	appendSeconds    prometheus.Histogram
	pageFaults       *prometheus.CounterVec // size
	pageFaultLost    *prometheus.CounterVec // reason
	allocProbes      *prometheus.CounterVec // probe
	allocSkipped     *prometheus.CounterVec // reason
	allocLost        *prometheus.CounterVec // reason
	allocNotLive     *prometheus.CounterVec // table
	allocLive        prometheus.Gauge
	allocFiles       prometheus.Gauge
	// allocAttachFailures counts files.
	allocAttachFailures prometheus.Counter
	appendFailures      prometheus.Counter
	symbolSeconds       prometheus.Counter
	labelSeconds        prometheus.Counter
	unwindErrors        *prometheus.CounterVec // error
	startSeconds        prometheus.Gauge
	mapBytes            prometheus.Gauge
	libraryLogs         *prometheus.CounterVec // level
	unwindTables        *prometheus.CounterVec // reader, outcome
	ownTables           prometheus.Gauge
	offCPUWaits         prometheus.Counter
	offCPUStacks        prometheus.Counter
	offCPULost          *prometheus.CounterVec // reason
	offCPUEvictions     *prometheus.CounterVec // table
	offCPUSeconds       *prometheus.CounterVec // stack

	framesByKind, unsymbolizedByKind [numKinds]prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "flameline_sample_" + name, Help: help})
	}
	counters := func(name, help string, label string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "flameline_sample_" + name, Help: help}, []string{label})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "flameline_sample_" + name, Help: help})
	}
	m := &metrics{
		samples: counter("samples_total", "Samples taken of running threads."),
		unwound: counters("stacktraces_total", "Stacktraces by outcome of unwinding: complete, partial (ended early by an error) or unknown_process (ended early, as the process was too new).", "outcome"),
		lost:    counters("lost_samples_total", "Samples that were taken but will not be stored.", "reason"),
		unreadable: f.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_sample_unreadable_files_total",
			Help: "Files of processes that could not be read, by reader (segments, go_table, probes, unwinder) and reason (malformed, too_large, timeout, busy, irregular, panic).",
		}, []string{"reader", "reason"}),
		unreadableMemory: counters("unreadable_memory_total", "Processes whose memory or list of mappings could not be read, by reason: timeout (a page that does not come; the process is left alone for ten minutes), busy (too many threads wait for such pages) or panic.", "reason"),
		frames:           counters("frames_total", "Frames by kind of code.", "kind"),
		unsymbolized:     counters("unsymbolized_frames_total", "Frames without a function name, by kind of code.", "kind"),
		late:             counter("late_samples_total", "Samples that arrived after their window was flushed and were stored with the next flush."),
		windows:          counter("windows_total", "Windows handed to the appender."),
		series:           gauge("series", "Series in the last flush."),
		appendFailures:   counter("append_failures_total", "Failed attempts to append profiles."),
		symbolSeconds:    counter("symbolize_seconds_total", "Time spent finding the functions of native frames."),
		labelSeconds:     counter("label_seconds_total", "Time spent finding the labels of processes."),
		unwindErrors:     counters("unwind_errors_total", "Stacktraces that ended early, by error.", "error"),
		startSeconds:     gauge("start_seconds", "How long it took until sampling had begun."),
		mapBytes:         gauge("bpf_map_bytes", "Kernel memory of the eBPF maps at start."),
		libraryLogs:      counters("library_messages_total", "Warnings and errors that the unwinder logged, by level.", "level"),
		ownTables:        gauge("own_unwind_tables", "1 where unwind tables are corrected before use (exact Go stacks), 0 where this version of the unwinder does not allow it."),
		unwindTables: f.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_sample_unwind_tables_total",
			Help: "Executables by reader of their unwind table (library, or the correction for a kind of program) and outcome: ok, error or panic.",
		}, []string{"reader", "outcome"}),
		pageFaults:          counters("page_faults_total", "Page faults by size: page, or large for those that made more resident.", "size"),
		pageFaultLost:       counters("page_fault_lost_total", "Sampled page faults that were lost, or that lack their stacktrace, by reason.", "reason"),
		allocProbes:         counters("allocation_probes_total", "Calls of the probes otel_memory:alloc and otel_memory:free, by probe.", "probe"),
		allocSkipped:        counters("allocations_skipped_total", "Calls of otel_memory:alloc whose stacktrace was not taken, by reason: chance (others stand for them) or over_budget (their bytes count with the thread's next one).", "reason"),
		allocLost:           counters("allocations_lost_total", "Allocations and frees that were lost, or that lack their stacktrace, by reason.", "reason"),
		allocNotLive:        counters("allocations_not_tracked_total", "Allocations that are missing in the memory in use, as a table was full: table (all processes), process, kernel_table.", "table"),
		allocLive:           gauge("live_allocations", "Sampled allocations that are in use."),
		allocFiles:          gauge("allocation_probe_files", "Programs and libraries whose allocation probes are attached to."),
		allocAttachFailures: counter("allocation_probe_failures_total", "Programs and libraries whose allocation probes could not be attached to."),
		offCPUWaits:         counter("off_cpu_waits_total", "Waits of threads that began: how often one left a CPU."),
		offCPUStacks:        counter("off_cpu_stacks_total", "Waits whose stacktrace was taken."),
		offCPULost:          counters("off_cpu_lost_stacks_total", "Stacktraces of waits that were lost, by reason; the time of these waits is divided among others. over_budget: more were chosen than may be taken at once.", "reason"),
		offCPUEvictions:     counters("off_cpu_evictions_total", "Waits for which a table had no room: threads, buffer, ledger (the wait is lost), sites (it is reported one by one).", "table"),
		offCPUSeconds:       counters("off_cpu_seconds_total", "Off-CPU time by how its stacktrace is known: own (that of the wait), site (those of other waits at the same place), none.", "stack"),
		appendSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "flameline_sample_append_seconds",
			Help:    "Time that an attempt to append the profiles of a flush took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
	}
	for k := range numKinds {
		m.framesByKind[k] = m.frames.WithLabelValues(k.String())
		m.unsymbolizedByKind[k] = m.unsymbolized.WithLabelValues(k.String())
	}
	return m
}
