package store

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the store's own counters and, at each scrape, the database's.
type metrics struct {
	db         *DB
	registerer prometheus.Registerer
	all        []prometheus.Collector

	profiles, samples, rowBytes, segmentBytes prometheus.Counter
	negative, corrupt, damaged, duplicates    prometheus.Counter
	backgroundErrors, reduced                 prometheus.Counter
	windows, droppedEpochs, maintenanceErrors prometheus.Counter
	droppedLevels, readRows, readBytes        prometheus.Counter
	panics, queriesRefused, failedDays        prometheus.Counter
	appendSeconds                             prometheus.Histogram
	querySeconds                              *prometheus.HistogramVec
	descriptions                              map[string]*prometheus.Desc
}

func newMetrics(db *DB, r prometheus.Registerer) *metrics {
	m := &metrics{db: db, registerer: r, descriptions: map[string]*prometheus.Desc{}}
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
	m.all = append(m.all, m.appendSeconds, m.querySeconds, m)
	for name, help := range map[string]string{
		"writable":                  "1 if profiles are taken, 0 if the disk is full or failed.",
		"damaged_parts":             "Corrupt files that were found since the start.",
		"query_bytes":               "Memory that is reserved for queries and their answers.",
		"query_peak_bytes":          "The most memory that was reserved for queries at a time.",
		"queries_waiting":           "Queries that wait for memory.",
		"cache_bytes":               "Memory of decoded stack tries and indexes.",
		"cache_hits_total":          "Uses of a trie or an index that was in memory.",
		"cache_misses_total":        "Uses of a trie or an index that was read from disk.",
		"cache_evictions_total":     "Tries and indexes that were forgotten.",
		"pebble_block_cache_bytes":  "Memory of the database's block cache.",
		"pebble_memtable_bytes":     "Memory of the database's memtables.",
		"pebble_wal_bytes":          "Size of the write-ahead log.",
		"pebble_wal_written_total":  "Bytes written to the write-ahead log.",
		"pebble_disk_bytes":         "Disk space of the database, with its log.",
		"pebble_tables":             "Sorted tables of the database.",
		"pebble_read_amplification": "Levels of the database that a read may touch.",
		"pebble_compactions_total":  "Compactions that ended.",
		"pebble_compaction_debt":    "Bytes that are to be compacted.",
		"pebble_flushes_total":      "Memtables that were flushed.",
	} {
		m.descriptions[name] = prometheus.NewDesc("flameline_store_"+name, help, nil, nil)
	}
	if r != nil {
		for i, c := range m.all {
			if err := r.Register(c); err != nil {
				db.log.Error("register metrics", "err", err)
				m.all = m.all[:i]
				break
			}
		}
	}
	return m
}

func (m *metrics) unregister() {
	if m.registerer != nil {
		for _, c := range m.all {
			m.registerer.Unregister(c)
		}
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.descriptions {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	if m.db.use() != nil {
		return
	}
	defer m.db.users.Done()
	put := func(t prometheus.ValueType, name string, v float64) {
		ch <- prometheus.MustNewConstMetric(m.descriptions[name], t, v)
	}
	writable := 1.0
	if m.db.Writable() != nil {
		writable = 0
	}
	put(prometheus.GaugeValue, "writable", writable)
	put(prometheus.GaugeValue, "damaged_parts", float64(len(m.db.Damage())))
	c := m.db.cache
	used, peak, waiting := m.db.memory.state()
	put(prometheus.GaugeValue, "query_bytes", float64(used))
	put(prometheus.GaugeValue, "query_peak_bytes", float64(peak))
	put(prometheus.GaugeValue, "queries_waiting", float64(waiting))
	put(prometheus.GaugeValue, "cache_bytes", float64(c.bytes()))
	put(prometheus.CounterValue, "cache_hits_total", float64(c.hits.Load()))
	put(prometheus.CounterValue, "cache_misses_total", float64(c.misses.Load()))
	put(prometheus.CounterValue, "cache_evictions_total", float64(c.evictions.Load()))
	p := m.db.pebble.Metrics()
	put(prometheus.GaugeValue, "pebble_block_cache_bytes", float64(p.BlockCache.Size))
	put(prometheus.GaugeValue, "pebble_memtable_bytes", float64(p.MemTable.Size))
	put(prometheus.GaugeValue, "pebble_wal_bytes", float64(p.WAL.Size))
	put(prometheus.CounterValue, "pebble_wal_written_total", float64(p.WAL.BytesWritten))
	put(prometheus.GaugeValue, "pebble_disk_bytes", float64(p.DiskSpaceUsage()))
	put(prometheus.GaugeValue, "pebble_tables", float64(tables(p)))
	put(prometheus.GaugeValue, "pebble_read_amplification", float64(p.ReadAmp()))
	put(prometheus.CounterValue, "pebble_compactions_total", float64(p.Compact.Count))
	put(prometheus.GaugeValue, "pebble_compaction_debt", float64(p.Compact.EstimatedDebt))
	put(prometheus.CounterValue, "pebble_flushes_total", float64(p.Flush.Count))
}

func tables(p *pebble.Metrics) (n int64) {
	for _, l := range p.Levels {
		n += l.TablesCount
	}
	return n
}
