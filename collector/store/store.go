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
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/profile"
)

// ErrInvalid is wrapped by errors about what the caller passed. Their text names
// the field at fault.
var ErrInvalid = errors.New("invalid")

// ErrLimit is wrapped by errors about a limit that was reached. Their text names
// the limit.
var ErrLimit = errors.New("limit reached")

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
	// MaxFuture is how far ahead of the clock a profile's time may be; 0 means
	// an hour. MaxAge is how far behind; 0 means as far as single profiles are
	// kept.
	MaxFuture, MaxAge time.Duration
	// Concurrency is the number of goroutines of one query; 0 means one per CPU.
	Concurrency int

	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// MaintenanceInterval is the time between two runs of merging closed windows
	// and of retention; 0 means 10 seconds, less than 0 none at all.
	MaintenanceInterval time.Duration
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
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
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
	if o.MaintenanceInterval == 0 {
		o.MaintenanceInterval = 10 * time.Second
	}
}

// A Selection says which profiles a query is about: those of a profile type and
// of the series that all matchers match, taken at Start <= time <= End, in ms
// since 1970.
type Selection struct {
	Type       profile.Type
	Matchers   []*labels.Matcher
	Start, End int64
	// MaxNodes limits the nodes of a tree, as profile.Tree.Truncate does; 0
	// means no limit.
	MaxNodes int64

	// What follows narrows flame graphs and pprof, and nothing else, to samples
	// that are told apart only as long as rows of single profiles are kept.

	// Profiles, unless empty, are IDs, the sender's or ProfileID.String's, of the
	// only profiles that count.
	Profiles []string
	// Spans and Traces, unless both are empty, are those whose samples alone
	// count.
	Spans  []SpanID
	Traces []TraceID
}

// DB is an open store. Its methods are safe for concurrent use.
type DB struct {
	options Options
	log     *slog.Logger
	pebble  *pebble.DB
	metrics *metrics
	cache   *cache
	memory  *memory

	claims claims

	horizonMu sync.RWMutex
	horizons  map[uint32]horizon // replaced, never changed

	maintenance sync.Mutex     // held while windows are merged and dropped
	dropped     []droppedRange // whose space is to be given back

	settings sync.Mutex // held by who replaces one

	mu     sync.Mutex
	epochs map[uint32]bool // those on disk
	closed bool
	users  sync.WaitGroup // calls and background work that use pebble

	stop context.CancelFunc
}

// Open opens or creates the store in a directory, which no other process may
// have open.
func Open(dir string, o Options) (*DB, error) {
	o.setDefaults()
	p, err := openPebble(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	db := &DB{options: o, log: o.Logger, pebble: p, epochs: map[uint32]bool{}}
	db.cache = newCache(o.CacheBytes - o.CacheBytes/blockShare)
	db.memory = newMemory(o.QueryBytes)
	db.metrics = newMetrics(db, o.Registerer)
	if err := db.start(); err != nil {
		db.metrics.unregister()
		return nil, errors.Join(fmt.Errorf("open store %s: %w", dir, err), p.Close())
	}
	return db, nil
}

// start reads what must be known before the first call, and begins maintenance.
func (db *DB) start() error {
	if err := db.checkFormat(); err != nil {
		return err
	}
	if err := db.findEpochs(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	db.stop = cancel
	if err := db.upgrade(ctx); err != nil {
		cancel()
		return err
	}
	if err := db.pinDirty(); err != nil {
		cancel()
		return err
	}
	if db.options.MaintenanceInterval > 0 {
		db.users.Add(1)
		go func() {
			defer db.users.Done()
			db.maintainEvery(ctx, db.options.MaintenanceInterval)
		}()
	}
	return nil
}

// enter begins a call; the caller calls the returned function at its end.
func (db *DB) enter() (leave func(), err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return nil, ErrClosed
	}
	db.users.Add(1)
	return db.users.Done, nil
}

// Close waits for running calls and closes the store. Later calls fail with
// ErrClosed.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return ErrClosed
	}
	db.closed = true
	db.mu.Unlock()
	db.stop()
	db.users.Wait()
	db.metrics.unregister()
	if err := db.pebble.Close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}
