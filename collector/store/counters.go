package store

import "github.com/prometheus/client_golang/prometheus"

// counters count what the store does.
type counters struct {
	all []prometheus.Collector

	profiles, samples, rowBytes, segmentBytes prometheus.Counter
	negative, corrupt, damaged, duplicates    prometheus.Counter
	backgroundErrors, reduced                 prometheus.Counter
	windows, droppedEpochs, maintenanceErrors prometheus.Counter
	droppedLevels, readRows, readBytes        prometheus.Counter
	panics, queriesRefused, failedDays        prometheus.Counter
	appendSeconds                             prometheus.Histogram
	querySeconds                              *prometheus.HistogramVec
}

func newCounters() *counters {
	m := &counters{}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "flameline_store_" + name, Help: help})
		m.all = append(m.all, c)
		return c
	}
	m.profiles = counter("appended_profiles_total", "Profiles that were stored.")
	m.samples = counter("appended_samples_total", "Samples that were stored.")
	m.rowBytes = counter("appended_row_bytes_total", "Bytes of the rows of stored profiles, before compaction.")
	m.segmentBytes = counter("appended_segment_bytes_total", "Bytes of new symbols and stacktraces, before compression.")
	m.negative = counter("negative_samples_total", "Samples that were left out because a value is negative.")
	m.corrupt = counter("corrupt_values_total", "Corrupt values, and ranges of keys in corrupt files, that were left out of an answer.")
	m.damaged = counter("damage_total", "Corrupt files that were found.")
	m.backgroundErrors = counter("background_errors_total", "Flushes and compactions that failed and are tried again.")
	m.reduced = counter("reduced_profiles_total", "Profiles, or parts of them, that were stored with fewer labels as their service has too many series in an hour.")
	m.duplicates = counter("duplicate_profiles_total", "Profiles of a series that were not stored as one with their ID is there.")
	m.readBytes = counter("read_row_bytes_total", "Bytes of the rows and lists of points that were read.")
	m.windows = counter("merged_windows_total", "Closed windows that were merged into one row.")
	m.droppedEpochs = counter("dropped_epochs_total", "Days that retention dropped.")
	m.droppedLevels = counter("dropped_levels_total", "Times that retention dropped rows of one resolution of a day, or of some of its hours.")
	m.readRows = counter("read_rows_total", "Rows and points that queries and merging read.")
	m.queriesRefused = counter("refused_queries_total", "Queries that were refused for want of memory, see limits.max_query_bytes.")
	m.failedDays = counter("maintenance_failed_days_total", "Days of which a run of maintenance could not merge or drop something; it went on with the others.")
	m.panics = counter("panics_total", "Calls and runs of maintenance that ended in a panic, which is a mistake of the program; the log has the stack.")
	m.maintenanceErrors = counter("maintenance_errors_total", "Runs of maintenance that ended in an error.")
	buckets := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	m.appendSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "flameline_store_append_seconds", Help: "Time of a call to Append, until synced.", Buckets: buckets,
	})
	m.querySeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "flameline_store_query_seconds", Help: "Time of a query in the store, by call.", Buckets: buckets,
	}, []string{"call"})
	m.all = append(m.all, m.appendSeconds, m.querySeconds)
	return m
}
