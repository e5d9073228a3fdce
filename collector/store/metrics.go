package store

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/flameline/flameline/collector/store/internal/metrics"
)

// collector are the store's own counters and, at each scrape, the database's.
type collector struct {
	*metrics.Counters
	db           *DB
	registerer   prometheus.Registerer
	registered   []prometheus.Collector
	descriptions map[string]*prometheus.Desc
}

func newMetrics(db *DB, c *metrics.Counters, r prometheus.Registerer) *collector {
	m := &collector{Counters: c, db: db, registerer: r, descriptions: map[string]*prometheus.Desc{}}
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
	return m
}

func (m *collector) register() {
	if m.registerer == nil {
		return
	}
	for _, c := range append(m.All, m) {
		if err := m.registerer.Register(c); err != nil {
			m.db.log.Error("register metrics", "err", err)
			return
		}
		m.registered = append(m.registered, c)
	}
}

func (m *collector) unregister() {
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
}

// Describe implements prometheus.Collector.
func (m *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.descriptions {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *collector) Collect(ch chan<- prometheus.Metric) {
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
	c := m.db.epochs.Cache
	used, peak, waiting := m.db.queries.Memory.State()
	put(prometheus.GaugeValue, "query_bytes", float64(used))
	put(prometheus.GaugeValue, "query_peak_bytes", float64(peak))
	put(prometheus.GaugeValue, "queries_waiting", float64(waiting))
	put(prometheus.GaugeValue, "cache_bytes", float64(c.Bytes()))
	put(prometheus.CounterValue, "cache_hits_total", float64(c.Hits.Load()))
	put(prometheus.CounterValue, "cache_misses_total", float64(c.Misses.Load()))
	put(prometheus.CounterValue, "cache_evictions_total", float64(c.Evictions.Load()))
	p := m.db.kv.Pebble.Metrics()
	put(prometheus.GaugeValue, "pebble_block_cache_bytes", float64(p.BlockCache.Size))
	put(prometheus.GaugeValue, "pebble_memtable_bytes", float64(p.MemTable.Size))
	put(prometheus.GaugeValue, "pebble_wal_bytes", float64(p.WAL.Size))
	put(prometheus.CounterValue, "pebble_wal_written_total", float64(p.WAL.BytesWritten))
	put(prometheus.GaugeValue, "pebble_disk_bytes", float64(p.DiskSpaceUsage()))
	put(prometheus.GaugeValue, "pebble_tables", float64(p.Total().TablesCount))
	put(prometheus.GaugeValue, "pebble_read_amplification", float64(p.ReadAmp()))
	put(prometheus.CounterValue, "pebble_compactions_total", float64(p.Compact.Count))
	put(prometheus.GaugeValue, "pebble_compaction_debt", float64(p.Compact.EstimatedDebt))
	put(prometheus.CounterValue, "pebble_flushes_total", float64(p.Flush.Count))
}
