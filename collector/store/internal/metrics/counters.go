// Package metrics counts what the store does, for Prometheus.
package metrics

import "github.com/prometheus/client_golang/prometheus"

// Counters count what the store does.
type Counters struct {
	All []prometheus.Collector

	Profiles, Samples, RowBytes, SegmentBytes prometheus.Counter
	Negative, Corrupt, Damaged, Duplicates    prometheus.Counter
	BackgroundErrors, Reduced                 prometheus.Counter
	Windows, DroppedEpochs, MaintenanceErrors prometheus.Counter
	DroppedLevels, ReadRows, ReadBytes        prometheus.Counter
	Panics, QueriesRefused, FailedDays        prometheus.Counter
	AppendSeconds                             prometheus.Histogram
	QuerySeconds                              *prometheus.HistogramVec
}

// NewCounters returns counters that are not registered.
func NewCounters() *Counters {
	m := &Counters{}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "flameline_store_" + name, Help: help})
		m.All = append(m.All, c)
		return c
	}
	m.Profiles = counter("appended_profiles_total", "Profiles that were stored.")
	m.Samples = counter("appended_samples_total", "Samples that were stored.")
	m.RowBytes = counter("appended_row_bytes_total", "Bytes of the rows of stored profiles, before compaction.")
	m.SegmentBytes = counter("appended_segment_bytes_total", "Bytes of new symbols and stacktraces, before compression.")
	m.Negative = counter("negative_samples_total", "Samples that were left out because a value is negative.")
	m.Corrupt = counter("corrupt_values_total", "Corrupt values, and ranges of keys in corrupt files, that were left out of an answer.")
	m.Damaged = counter("damage_total", "Corrupt files that were found.")
	m.BackgroundErrors = counter("background_errors_total", "Flushes and compactions that failed and are tried again.")
	m.Reduced = counter("reduced_profiles_total", "Profiles, or parts of them, that were stored with fewer labels as their service has too many series in an hour.")
	m.Duplicates = counter("duplicate_profiles_total", "Profiles of a series that were not stored as one with their ID is there.")
	m.ReadBytes = counter("read_row_bytes_total", "Bytes of the rows and lists of points that were read.")
	m.Windows = counter("merged_windows_total", "Closed windows that were merged into one row.")
	m.DroppedEpochs = counter("dropped_epochs_total", "Days that retention dropped.")
	m.DroppedLevels = counter("dropped_levels_total", "Times that retention dropped rows of one resolution of a day, or of some of its hours.")
	m.ReadRows = counter("read_rows_total", "Rows and points that queries and merging read.")
	m.QueriesRefused = counter("refused_queries_total", "Queries that were refused for want of memory, see limits.max_query_bytes.")
	m.FailedDays = counter("maintenance_failed_days_total", "Days of which a run of maintenance could not merge or drop something; it went on with the others.")
	m.Panics = counter("panics_total", "Calls and runs of maintenance that ended in a panic, which is a mistake of the program; the log has the stack.")
	m.MaintenanceErrors = counter("maintenance_errors_total", "Runs of maintenance that ended in an error.")
	buckets := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	m.AppendSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "flameline_store_append_seconds", Help: "Time of a call to Append, until synced.", Buckets: buckets,
	})
	m.QuerySeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "flameline_store_query_seconds", Help: "Time of a query in the store, by call.", Buckets: buckets,
	}, []string{"call"})
	m.All = append(m.All, m.AppendSeconds, m.QuerySeconds)
	return m
}
