// Package store keeps profiles on disk and merges them over time. It is an
// embedded database on Pebble: an append-only stack trie per service and day,
// one packed row per profile that refers to the trie's nodes, rows merged ahead
// of time for closed windows of five minutes, an hour and a day, and an index of
// labels. FORMAT.md describes what is on disk.
//
// It leaves reading of formats to ingest, transport to server, the syntax of
// selectors and the encodings of flame graphs to pkg/profile.
package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/flameline/flameline/collector/store/internal/budget"
	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/kv"
	"github.com/flameline/flameline/collector/store/internal/metrics"
	"github.com/flameline/flameline/collector/store/internal/query"
	"github.com/flameline/flameline/collector/store/internal/serieslimit"
)

// ErrClosed is returned by calls after Close.
var ErrClosed = errors.New("store is closed")

// Options configure a DB. The zero value is usable.
type Options struct {
	Logger     *slog.Logger          // none: no logs
	Registerer prometheus.Registerer // none: no metrics

	// CacheBytes caps the memory that holds tries, indexes and blocks of files;
	// 0 means DefaultCacheBytes. What is in use stays, even beyond it.
	CacheBytes int64
	// QueryBytes caps the memory of all running queries together for what they
	// are working on; 0 means DefaultQueryBytes. A query that needs more fails with
	// ErrLimit.
	QueryBytes int64
	// Retention is the age above which profiles are dropped, by whole days (in
	// UTC); 0 keeps them.
	Retention time.Duration
	// RetentionRaw, RetentionSlot and RetentionHour are the ages above which the
	// rows of single profiles, of five minutes and of an hour are dropped. What
	// is left then answers with windows of the next coarser kind. 0 keeps them
	// as long as those. Rows go by whole days; if they are kept for less than
	// three days, by the hour, except those of an hour.
	RetentionRaw, RetentionSlot, RetentionHour time.Duration
	// MaxBytes is the size on disk, without the log, that retention keeps to; 0
	// means no limit. The oldest go first: rows of single profiles of a day, then
	// rows of five minutes, except those of the last 24 hours; then whole days,
	// except the newest.
	MaxBytes int64
	// MinFreeBytes is the free disk space below which profiles are refused, with
	// ErrUnavailable; 0 means 64 MiB, or a twentieth of a small disk, less than 0
	// none. Queries go on, and profiles are taken again once there is space.
	MinFreeBytes int64
	// MaxFuture is how far ahead of the clock a profile's time may be; 0 means
	// an hour. MaxAge is how far behind; 0 means as far as single profiles are
	// kept.
	MaxFuture, MaxAge time.Duration
	// MaxSeriesPerServiceHour bounds the label sets of a service in an hour; 0 means
	// no limit. What is beyond it is stored with fewer labels.
	MaxSeriesPerServiceHour int
	// Concurrency is the number of goroutines of one query; 0 means one per CPU. A flame
	// graph by labels has up to four times as many.
	Concurrency int
	// Names are functions that were not known when profiles were stored; nil: none.
	Names Names

	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// MaintenanceInterval is the time between two runs of merging closed windows
	// and of retention; 0 means 10 seconds, less than 0 none at all.
	MaintenanceInterval time.Duration

	fs vfs.FS // nil means that of the machine
}

// The defaults of Options.CacheBytes and Options.QueryBytes.
const (
	DefaultCacheBytes = 128 << 20
	DefaultQueryBytes = 80 << 20
)

// One part in blockShare of the cache is for blocks of files: what is read most is
// kept decoded.
const blockShare = 8

// How long after the last profile of a window it is merged.
const quietTime = 10 * time.Second

func (o *Options) setDefaults() {
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	o.fs = cmp.Or(o.fs, vfs.Default)
	o.MinFreeBytes = cmp.Or(o.MinFreeBytes, 64<<20)
	o.MaintenanceInterval = cmp.Or(o.MaintenanceInterval, 10*time.Second)
	if o.CacheBytes <= 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.QueryBytes <= 0 {
		o.QueryBytes = DefaultQueryBytes
	}
	if o.MaxFuture <= 0 {
		o.MaxFuture = time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// DB is an open store. Its methods are safe for concurrent use. It answers Queries.
type DB struct {
	options Options
	log     *slog.Logger
	kv      *kv.DB
	metrics *collector
	epochs  *epochs.Set

	appender   *appender
	maintainer *maintainer
	queries    *query.Engine
	*query.Queries
	settings sync.Mutex // held by who replaces one

	mu     sync.Mutex
	closed bool
	users  sync.WaitGroup // calls and background work that use pebble

	stop context.CancelFunc
}

// Open opens or creates the store in a directory, which no other process may
// have open. Corrupt tables are reported when they are read, see DB.Damage, and the rest
// is served. If another file is corrupt, or a table is missing or cut off, the error
// wraps ErrCorruptStore and names the file.
func Open(dir string, o Options) (*DB, error) {
	o.setDefaults()
	db := &DB{options: o, log: o.Logger}
	c := metrics.NewCounters()
	db.metrics = newMetrics(db, c, o.Registerer)
	var err error
	db.kv, err = kv.Open(dir, kv.Options{FS: o.fs, CacheBytes: o.CacheBytes / blockShare, MinFree: o.MinFreeBytes, Log: o.Logger, Metrics: c})
	if err == nil {
		if err = db.start(); err != nil {
			err = errors.Join(err, db.kv.Close())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	db.metrics.register()
	return db, nil
}

// start reads what must be known before the first call, and begins maintenance.
func (db *DB) start() (err error) {
	if err := dropCheckpoints(db.kv.FS, db.kv.Dir); err != nil {
		return err
	}
	o := &db.options
	keep := &epochs.Retention{All: o.Retention, Raw: o.RetentionRaw, Slot: o.RetentionSlot, Hour: o.RetentionHour}
	keep.MaxBytes.Store(o.MaxBytes)
	if db.epochs, err = epochs.Open(db.kv, budget.NewCache(o.CacheBytes-o.CacheBytes/blockShare), o.Now, keep); err != nil {
		return err
	}
	db.appender = &appender{
		kv: db.kv, epochs: db.epochs, maxFuture: o.MaxFuture, maxAge: o.MaxAge,
		series: serieslimit.New(o.MaxSeriesPerServiceHour, db.epochs, o.Logger),
	}
	db.maintainer = &maintainer{kv: db.kv, epochs: db.epochs, log: o.Logger}
	db.queries = &query.Engine{
		Epochs: db.epochs, KV: db.kv, Cache: db.epochs.Cache, Memory: budget.NewMemory(o.QueryBytes, db.metrics.QueriesRefused.Inc),
		Now: o.Now, Concurrency: o.Concurrency, Names: o.Names, Call: db.call,
	}
	db.Queries = query.New(db.queries)
	ctx, cancel := context.WithCancel(context.Background())
	db.stop = cancel
	if db.options.MaintenanceInterval > 0 {
		db.users.Add(1)
		go func() {
			defer db.users.Done()
			db.maintainEvery(ctx, db.options.MaintenanceInterval)
		}()
	}
	return nil
}

// Close waits for running calls and closes the store. Later calls fail with
// ErrClosed. A store that failed is left as it is: the error says so.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return ErrClosed
	}
	db.closed = true
	db.mu.Unlock()
	db.stop()
	db.metrics.unregister()
	db.kv.Stop()
	if err := db.Err(); err != nil {
		return err // calls may hang in Pebble for good
	}
	db.users.Wait()
	if err := db.kv.Close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}
