// Package config reads the one YAML file that says which parts of the service run and
// within which limits. It is strict: an unknown key is an error that names the file and
// the line.
//
// The meaning of the values is left to the stages, which have options of their own; the
// command connects them. Flags override the file, which the command does too.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/promslog"
	"go.yaml.in/yaml/v4"

	"github.com/flameline/flameline/collector/debuginfo"
	"github.com/flameline/flameline/collector/scrape"
	"github.com/flameline/flameline/pkg/profile"
)

// Config is the whole file. Start from Default, not from the zero value.
type Config struct {
	Web     Web     `yaml:"web"`
	Storage Storage `yaml:"storage"`
	EBPF    EBPF    `yaml:"ebpf"`
	Java    Java    `yaml:"java"`
	Capture Capture `yaml:"capture"`
	Labels  Labels  `yaml:"labels"`
	Symbols Symbols `yaml:"symbols"`
	Limits  Limits  `yaml:"limits"`
	// ScrapeConfigs are the targets whose pprof profiles are pulled.
	ScrapeConfigs []scrape.Config `yaml:"scrape_configs"`
	// Push sends the profiles of the sources to another server, instead of storing them.
	Push Push `yaml:"push"`
	Log  Log  `yaml:"log"`
}

// Web says where the service listens.
type Web struct {
	// ListenAddress is host:port.
	ListenAddress string `yaml:"listen_address"`
	// ConfigFile is a web configuration file of Prometheus' exporter-toolkit:
	// TLS, basic auth, HTTP headers. Empty means plain HTTP.
	ConfigFile string `yaml:"config_file"`
	// AllowedHosts are host names that requests may use if the service listens on a
	// loopback address, in addition to localhost and loopback addresses.
	AllowedHosts []string `yaml:"allowed_hosts"`
	// MaxConnections bounds the open connections; 0 means no bound.
	MaxConnections int `yaml:"max_connections"`
	// AllowedOrigins are the origins of web pages that may send requests, in addition to
	// the service's own.
	AllowedOrigins []string `yaml:"allowed_origins"`
}

// Storage configures the embedded store.
type Storage struct {
	// Path is the store's directory. It is created if it is missing.
	Path string `yaml:"path"`
	// Retention is how long profiles are kept; 0 means without end.
	Retention Duration `yaml:"retention"`
	// RetentionRaw, Retention5m and Retention1h are how long single profiles and the
	// merged profiles of five minutes and of an hour are kept; 0 means as long as the
	// next coarser resolution. The merged profiles of a day are kept for Retention.
	RetentionRaw Duration `yaml:"retention_raw"`
	Retention5m  Duration `yaml:"retention_5m"`
	Retention1h  Duration `yaml:"retention_1h"`
	// MaxBytes bounds the size on disk: the finest and oldest profiles are deleted
	// first. 0 means no bound.
	MaxBytes Bytes `yaml:"max_bytes"`
	// MinFreeBytes is the free disk space below which profiles are refused; 0 means no
	// minimum.
	MinFreeBytes Bytes `yaml:"min_free_bytes"`
	// CacheBytes bounds the memory that the store uses as a cache.
	CacheBytes Bytes `yaml:"cache_bytes"`
	// SampleTimes keeps the times of the samples of JFR recordings and OTLP profiles, for
	// heat maps by offset within the second.
	SampleTimes bool `yaml:"sample_times"`
}

// EBPF configures the system-wide CPU sampler.
type EBPF struct {
	Enabled Mode `yaml:"enabled"`
	// Frequency is in samples per second and CPU.
	Frequency int `yaml:"frequency"`
	// Interval is the length of a profile. Profiles begin at wall-clock multiples of it.
	Interval Duration `yaml:"interval"`
	// SampleTimes keeps the times of single CPU samples, for heat maps by offset within
	// the second.
	SampleTimes bool `yaml:"sample_times"`
	// OffCPU adds profiles of waiting threads, PageFaults of memory that becomes
	// resident, Allocations of memory that functions allocate.
	OffCPU      OffCPU      `yaml:"off_cpu"`
	PageFaults  PageFaults  `yaml:"page_faults"`
	Allocations Allocations `yaml:"allocations"`
}

// OffCPU configures the profiles of waiting threads.
type OffCPU struct {
	Enabled bool `yaml:"enabled"`
	// StacksPerSecond is how many waits per second are unwound, on the whole machine.
	StacksPerSecond int `yaml:"stacks_per_second"`
}

// PageFaults configures the profiles of memory that becomes resident, and of kills for
// lack of it.
type PageFaults struct {
	Enabled bool `yaml:"enabled"`
}

// Allocations configures the profiles of allocations that programs' allocators sample and
// report by the probes otel_memory:alloc and otel_memory:free.
type Allocations struct {
	Enabled bool `yaml:"enabled"`
}

// Symbols says where debug files of stripped programs come from, beside those that are
// installed.
type Symbols struct {
	// Path is the directory of debug files; empty is symbols in storage.path.
	Path string `yaml:"path"`
	// MaxUploadBytes bounds the uploaded files together; 0 means that none are taken.
	// MaxFileBytes bounds one file, uploaded or fetched.
	MaxUploadBytes Bytes `yaml:"max_upload_bytes"`
	MaxFileBytes   Bytes `yaml:"max_file_bytes"`
	// DebuginfodURLs are the debuginfod servers that are asked, in this order.
	DebuginfodURLs []string `yaml:"debuginfod_urls"`
	// DebuginfodTimeout bounds the time for one file, DebuginfodCacheBytes the files that
	// were fetched together.
	DebuginfodTimeout    Duration `yaml:"debuginfod_timeout"`
	DebuginfodCacheBytes Bytes    `yaml:"debuginfod_cache_bytes"`
}

// validate returns an error for the first invalid key.
func (s *Symbols) validate() error {
	for i, u := range s.DebuginfodURLs {
		if err := debuginfo.CheckURL(u); err != nil {
			return fmt.Errorf("debuginfod_urls[%d]: %w", i, err)
		}
	}
	if t := time.Duration(s.DebuginfodTimeout); t < time.Second || t > time.Hour {
		return fmt.Errorf("debuginfod_timeout: %s is not within 1s and 1h", s.DebuginfodTimeout)
	}
	if s.MaxFileBytes < 1 {
		return fmt.Errorf("max_file_bytes: %d is not positive", s.MaxFileBytes)
	}
	if s.DebuginfodCacheBytes < 1 {
		return fmt.Errorf("debuginfod_cache_bytes: %d is not positive", s.DebuginfodCacheBytes)
	}
	return nil
}

// Capture configures sampling on demand.
type Capture struct {
	// Enabled says whether requests may start captures. Auto allows it where the service
	// listens on a loopback address, and an agent to do what its server asks.
	Enabled Mode `yaml:"enabled"`
	// MaxDuration and MaxFrequency, in CPU samples per second and CPU, bound one capture.
	MaxDuration  Duration `yaml:"max_duration"`
	MaxFrequency int      `yaml:"max_frequency"`
}

// Java configures the recording of JVMs that run on this machine.
type Java struct {
	Enabled bool `yaml:"enabled"`
	// Selector chooses JVMs by the labels of their profiles; empty chooses all.
	Selector string `yaml:"selector"`
	// AsyncProfiler is the path of libasyncProfiler.so. If it is empty, the JDK's flight
	// recorder records.
	AsyncProfiler string `yaml:"async_profiler"`
	// Interval is the time between two readings of a recording.
	Interval Duration `yaml:"interval"`
	// AllocInterval is the mean number of allocated bytes between two samples, and
	// LockThreshold the least wait for a lock that is recorded.
	AllocInterval Bytes    `yaml:"alloc_interval"`
	LockThreshold Duration `yaml:"lock_threshold"`
	// LiveWindow is how long objects are followed to find out which are still in use.
	LiveWindow Duration `yaml:"live_window"`
	// MaxProcesses bounds the JVMs that are recorded at once.
	MaxProcesses int `yaml:"max_processes"`
}

// Limits bound what one request may cost. 0 switches a limit off, except DefaultNodes.
// Errors name a limit by its key in this file.
type Limits struct {
	// MaxRequestBytes bounds the body of a request, as sent and decompressed.
	MaxRequestBytes Bytes `yaml:"max_request_bytes"`
	// MaxProfileBytes bounds one pprof profile after decompression.
	MaxProfileBytes Bytes `yaml:"max_profile_bytes"`
	// MaxSeriesPerPush bounds the series of one push.
	MaxSeriesPerPush int `yaml:"max_series_per_push"`
	// MaxSeriesPerServiceHour bounds the label sets of a service in an hour. Profiles
	// beyond it are stored with fewer labels.
	MaxSeriesPerServiceHour int `yaml:"max_series_per_service_hour"`
	// MaxLabels bounds the labels of one series.
	MaxLabels int `yaml:"max_labels"`
	// MaxLabelNameBytes and MaxLabelValueBytes bound one label.
	MaxLabelNameBytes  int `yaml:"max_label_name_bytes"`
	MaxLabelValueBytes int `yaml:"max_label_value_bytes"`
	// MaxSamples bounds the samples of one profile.
	MaxSamples int `yaml:"max_samples"`
	// MaxSymbols bounds the types, mappings, locations, lines, functions and strings of
	// one profile in total.
	MaxSymbols int `yaml:"max_symbols"`
	// MaxStackDepth bounds the locations of one sample.
	MaxStackDepth int `yaml:"max_stack_depth"`
	// MaxSymbolBytes bounds one string of a profile's string table.
	MaxSymbolBytes int `yaml:"max_symbol_bytes"`
	// MaxFuture bounds how far a profile's time may be ahead of the clock, and MaxAge
	// how far behind. Profiles older than the retention of single profiles are refused
	// in any case.
	MaxFuture Duration `yaml:"max_future"`
	MaxAge    Duration `yaml:"max_age"`
	// MaxPushBytes bounds the estimated memory of all pushes that are being read and
	// stored. Further pushes wait.
	MaxPushBytes Bytes `yaml:"max_push_bytes"`
	// MaxQueryRange bounds the time range of one query.
	MaxQueryRange Duration `yaml:"max_query_range"`
	// MaxConcurrentQueries bounds the queries that run at once. Further queries wait.
	MaxConcurrentQueries int `yaml:"max_concurrent_queries"`
	// MaxQueryBytes bounds the total memory of all running queries.
	MaxQueryBytes Bytes `yaml:"max_query_bytes"`
	// MaxNodes bounds max_nodes of a query for a flame graph. DefaultNodes is the number
	// of nodes for a query without max_nodes.
	MaxNodes     int64 `yaml:"max_nodes"`
	DefaultNodes int64 `yaml:"default_nodes"`
	// MaxPoints bounds the points of one series of an answer.
	MaxPoints int64 `yaml:"max_points"`
}

// Push configures an agent, which has sources but no store.
type Push struct {
	// URL is the address of the server; empty means that this process stores profiles
	// itself.
	URL string `yaml:"url"`
	// MaxQueueBytes and MaxQueueProfiles bound the queue for an unavailable server: the
	// size of its profiles, compressed, and their number.
	MaxQueueBytes    Bytes `yaml:"max_queue_bytes"`
	MaxQueueProfiles int   `yaml:"max_queue_profiles"`
	// HTTPClientConfig has Prometheus' keys for credentials and TLS.
	HTTPClientConfig promconfig.HTTPClientConfig `yaml:",inline"`
}

// Log configures logging, as Prometheus' flags do.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// Default returns the configuration without a file.
func Default() *Config {
	return &Config{
		Web:     Web{ListenAddress: "127.0.0.1:4040", MaxConnections: 1024, AllowedHosts: []string{}, AllowedOrigins: []string{}},
		Storage: Storage{Path: "./data", Retention: Duration(30 * 24 * time.Hour), MinFreeBytes: 64 << 20, CacheBytes: 128 << 20},
		EBPF:    EBPF{Enabled: Auto, Frequency: 19, Interval: Duration(5 * time.Second), OffCPU: OffCPU{StacksPerSecond: 50}},
		Java: Java{
			Interval: Duration(time.Minute), AllocInterval: 512 << 10, LockThreshold: Duration(10 * time.Millisecond),
			LiveWindow: Duration(10 * time.Minute), MaxProcesses: 64,
		},
		Capture: Capture{Enabled: Auto, MaxDuration: Duration(10 * time.Minute), MaxFrequency: 1000},
		Labels:  defaultLabels(),
		Symbols: Symbols{
			MaxUploadBytes: 4 << 30, MaxFileBytes: 512 << 20, DebuginfodURLs: []string{},
			DebuginfodTimeout: Duration(90 * time.Second), DebuginfodCacheBytes: 1 << 30,
		},
		Limits: Limits{
			MaxRequestBytes:         64 << 20,
			MaxProfileBytes:         32 << 20,
			MaxSeriesPerPush:        1000,
			MaxSeriesPerServiceHour: 20_000,
			MaxLabels:               30,
			MaxLabelNameBytes:       1024,
			MaxLabelValueBytes:      2048,
			MaxSamples:              200_000,
			MaxSymbols:              1_000_000,
			MaxStackDepth:           4096,
			MaxSymbolBytes:          65535,
			MaxFuture:               Duration(10 * time.Minute),
			MaxPushBytes:            Bytes(runtime.GOMAXPROCS(0)) * 32 << 20,
			MaxQueryRange:           Duration(90 * 24 * time.Hour),
			MaxConcurrentQueries:    4 * runtime.GOMAXPROCS(0),
			MaxQueryBytes:           80 << 20,
			MaxNodes:                1 << 20,
			DefaultNodes:            8192,
			MaxPoints:               11_000,
		},
		Push: Push{MaxQueueBytes: 64 << 20, MaxQueueProfiles: 50_000, HTTPClientConfig: promconfig.DefaultHTTPClientConfig},
		Log:  Log{Level: "info", Format: "logfmt"},
	}
}

// Load reads the file over the defaults and validates the result. Relative file names
// in scrape_configs are relative to the file's directory, as in Prometheus; a relative
// web.config_file is relative to the working directory, as the flag is.
func Load(file string) (*Config, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	c := Default()
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, located(file, b, err)
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s:%d: a second YAML document; one is read", file, more.Line)
	}
	if err := errors.Join(c.Validate(), scrape.Validate(c.ScrapeConfigs)); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for i := range c.ScrapeConfigs {
		c.ScrapeConfigs[i].SetDirectory(filepath.Dir(file))
	}
	return c, nil
}

// Validate returns an error for the first invalid key.
func (c *Config) Validate() error {
	if c.Web.ListenAddress == "" {
		return errors.New("web.listen_address: is empty")
	}
	if c.Storage.Path == "" {
		return errors.New("storage.path: is empty")
	}
	if c.EBPF.Frequency < 1 || c.EBPF.Frequency > 1000 {
		return fmt.Errorf("ebpf.frequency: %d is not within 1 and 1000 samples per second", c.EBPF.Frequency)
	}
	if i := time.Duration(c.EBPF.Interval); i < time.Second || i > time.Minute || time.Minute%i != 0 {
		return fmt.Errorf("ebpf.interval: %s is not a divisor of one minute from 1s to 1m", c.EBPF.Interval)
	}
	if n := c.EBPF.OffCPU.StacksPerSecond; n < 1 || n > 10_000 {
		return fmt.Errorf("ebpf.off_cpu.stacks_per_second: %d is not within 1 and 10000", n)
	}
	if d := time.Duration(c.Capture.MaxDuration); d < time.Second || d > 10*time.Minute {
		return fmt.Errorf("capture.max_duration: %s is not within 1s and 10m", c.Capture.MaxDuration)
	}
	if f := c.Capture.MaxFrequency; f < 1 || f > 1000 {
		return fmt.Errorf("capture.max_frequency: %d is not within 1 and 1000 samples per second", f)
	}
	if err := c.Java.validate(); err != nil {
		return fmt.Errorf("java.%w", err)
	}
	if err := c.Labels.validate(); err != nil {
		return fmt.Errorf("labels.%w", err)
	}
	if err := c.Symbols.validate(); err != nil {
		return fmt.Errorf("symbols.%w", err)
	}
	if err := promslog.NewLevel().Set(c.Log.Level); err != nil {
		return fmt.Errorf("log.level: %w", err)
	}
	if err := promslog.NewFormat().Set(c.Log.Format); err != nil {
		return fmt.Errorf("log.format: %w", err)
	}
	if err := c.Push.HTTPClientConfig.Validate(); err != nil {
		return fmt.Errorf("push: %w", err)
	}
	if c.Push.MaxQueueBytes < 1 {
		return fmt.Errorf("push.max_queue_bytes: %d is not positive", c.Push.MaxQueueBytes)
	}
	if c.Push.MaxQueueProfiles < 1 {
		return fmt.Errorf("push.max_queue_profiles: %d is not positive", c.Push.MaxQueueProfiles)
	}
	if c.Limits.DefaultNodes < 1 {
		return fmt.Errorf("limits.default_nodes: %d is not positive", c.Limits.DefaultNodes)
	}
	if err := c.Storage.validateRetention(); err != nil {
		return err
	}
	for key, v := range map[string]int64{
		"web.max_connections":                int64(c.Web.MaxConnections),
		"storage.retention":                  int64(c.Storage.Retention),
		"storage.retention_raw":              int64(c.Storage.RetentionRaw),
		"storage.retention_5m":               int64(c.Storage.Retention5m),
		"storage.retention_1h":               int64(c.Storage.Retention1h),
		"storage.max_bytes":                  int64(c.Storage.MaxBytes),
		"storage.min_free_bytes":             int64(c.Storage.MinFreeBytes),
		"storage.cache_bytes":                int64(c.Storage.CacheBytes),
		"symbols.max_upload_bytes":           int64(c.Symbols.MaxUploadBytes),
		"limits.max_request_bytes":           int64(c.Limits.MaxRequestBytes),
		"limits.max_profile_bytes":           int64(c.Limits.MaxProfileBytes),
		"limits.max_series_per_push":         int64(c.Limits.MaxSeriesPerPush),
		"limits.max_series_per_service_hour": int64(c.Limits.MaxSeriesPerServiceHour),
		"limits.max_labels":                  int64(c.Limits.MaxLabels),
		"limits.max_label_name_bytes":        int64(c.Limits.MaxLabelNameBytes),
		"limits.max_label_value_bytes":       int64(c.Limits.MaxLabelValueBytes),
		"limits.max_samples":                 int64(c.Limits.MaxSamples),
		"limits.max_symbols":                 int64(c.Limits.MaxSymbols),
		"limits.max_stack_depth":             int64(c.Limits.MaxStackDepth),
		"limits.max_symbol_bytes":            int64(c.Limits.MaxSymbolBytes),
		"limits.max_future":                  int64(c.Limits.MaxFuture),
		"limits.max_age":                     int64(c.Limits.MaxAge),
		"limits.max_push_bytes":              int64(c.Limits.MaxPushBytes),
		"limits.max_query_range":             int64(c.Limits.MaxQueryRange),
		"limits.max_concurrent_queries":      int64(c.Limits.MaxConcurrentQueries),
		"limits.max_query_bytes":             int64(c.Limits.MaxQueryBytes),
		"limits.max_nodes":                   c.Limits.MaxNodes,
		"limits.max_points":                  c.Limits.MaxPoints,
	} {
		if v < 0 {
			return fmt.Errorf("%s: is negative", key)
		}
	}
	return nil
}

// validate returns an error for the first invalid key. The least intervals bound what
// recording costs a JVM.
func (j *Java) validate() error {
	if _, err := profile.ParseSelector(j.Selector); err != nil {
		return fmt.Errorf("selector: %w", err)
	}
	if i := time.Duration(j.Interval); i < 5*time.Second || i > time.Hour {
		return fmt.Errorf("interval: %s is not within 5s and 1h", j.Interval)
	}
	if b := j.AllocInterval; b < 64<<10 || b > 1<<30 {
		return fmt.Errorf("alloc_interval: %d is not within 64KiB and 1GiB", b)
	}
	if t := time.Duration(j.LockThreshold); t < time.Millisecond || t > time.Hour {
		return fmt.Errorf("lock_threshold: %s is not within 1ms and 1h", j.LockThreshold)
	}
	if w := time.Duration(j.LiveWindow); w < time.Duration(j.Interval) || w > 24*time.Hour {
		return fmt.Errorf("live_window: %s is not within java.interval (%s) and 1d", j.LiveWindow, j.Interval)
	}
	if j.MaxProcesses < 1 || j.MaxProcesses > 10_000 {
		return fmt.Errorf("max_processes: %d is not within 1 and 10000", j.MaxProcesses)
	}
	return nil
}

// validateRetention returns an error for a resolution that would be kept longer than a
// coarser one, which is made from it.
func (s *Storage) validateRetention() error {
	if r := time.Duration(s.RetentionRaw); r > 0 && r < time.Hour {
		return fmt.Errorf("storage.retention_raw: %s is less than 1h; single profiles are needed until their hour is merged", s.RetentionRaw)
	}
	type kept struct {
		key string
		age Duration
	}
	coarser := kept{"storage.retention", s.Retention}
	for _, k := range []kept{{"storage.retention_1h", s.Retention1h}, {"storage.retention_5m", s.Retention5m}, {"storage.retention_raw", s.RetentionRaw}} {
		if k.age == 0 {
			continue
		}
		if coarser.age > 0 && k.age > coarser.age {
			return fmt.Errorf("%s: %s is longer than %s, which is %s", k.key, k.age, coarser.key, coarser.age)
		}
		coarser = k
	}
	return nil
}

// MaxAge returns how far a profile's time may be behind the clock, 0 for no limit, and
// the key that sets this.
func (c *Config) MaxAge() (age Duration, key string) {
	for _, k := range []struct {
		key string
		age Duration
	}{
		{"limits.max_age", c.Limits.MaxAge}, {"storage.retention_raw", c.Storage.RetentionRaw}, {"storage.retention_5m", c.Storage.Retention5m},
		{"storage.retention_1h", c.Storage.Retention1h}, {"storage.retention", c.Storage.Retention},
	} {
		if k.age > 0 && (age == 0 || k.age < age) {
			age, key = k.age, k.key
		}
	}
	return age, key
}
