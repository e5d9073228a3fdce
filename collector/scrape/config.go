package scrape

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/units"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"

	"github.com/flameline/flameline/collector/relabel"
)

// Config is an entry of scrape_configs. Its keys are Prometheus', except
// profiling_config. It is plain data.
type Config struct {
	// JobName is the label job, and service_name if no other label gives the service.
	JobName string `yaml:"job_name"`
	// ScrapeInterval is the length of CPU profiles and the interval of other profiles,
	// in whole seconds. The default is 15 s.
	ScrapeInterval model.Duration `yaml:"scrape_interval,omitempty"`
	// ScrapeTimeout bounds the time that a target may take in addition to the length of
	// the profile. The default is 10 s.
	ScrapeTimeout model.Duration `yaml:"scrape_timeout,omitempty"`
	// Scheme is http, the default, or https.
	Scheme string `yaml:"scheme,omitempty"`
	// Params are added to the URL's query.
	Params url.Values `yaml:"params,omitempty"`
	// BodySizeLimit bounds a response as sent; 0 means the service's limit.
	BodySizeLimit units.Base2Bytes `yaml:"body_size_limit,omitempty"`

	ProfilingConfig  ProfilingConfig             `yaml:"profiling_config,omitempty"`
	HTTPClientConfig promconfig.HTTPClientConfig `yaml:",inline"`
	StaticConfigs    []*targetgroup.Group        `yaml:"static_configs,omitempty"`
	RelabelConfigs   relabel.Rules               `yaml:"relabel_configs,omitempty"`
}

// ProfilingConfig selects the profiles to pull and their paths, as Parca's and
// Pyroscope's profiling_config does.
type ProfilingConfig struct {
	// PathPrefix is prepended to the path of every profile.
	PathPrefix  string      `yaml:"path_prefix,omitempty"`
	PprofConfig PprofConfig `yaml:"pprof_config,omitempty"`
	// SymbolConfig is about the endpoint that names the addresses of native programs'
	// profiles. It is enabled by default; the default path is that of the profile with
	// symbol in place of its last part, such as /pprof/symbol.
	SymbolConfig Pprof `yaml:"symbol_config,omitempty"`
}

// PprofConfig has the profiles by name, which is the first part of the profile type.
// process_cpu is enabled by default.
type PprofConfig struct {
	ProcessCPU Pprof `yaml:"process_cpu,omitempty"`
	Memory     Pprof `yaml:"memory,omitempty"`
	Goroutine  Pprof `yaml:"goroutine,omitempty"`
	// GoroutineLeak is of Go 1.26 with GOEXPERIMENT=goroutineleakprofile, and later ones.
	GoroutineLeak Pprof `yaml:"goroutineleak,omitempty"`
	Mutex         Pprof `yaml:"mutex,omitempty"`
	Block         Pprof `yaml:"block,omitempty"`
	// Growth is gperftools' list of what made the heap larger.
	Growth Pprof `yaml:"growth,omitempty"`
}

// Pprof configures one profile.
type Pprof struct {
	Enabled *bool  `yaml:"enabled,omitempty"`
	Path    string `yaml:"path,omitempty"`
}

// Names of profiles: the first part of the profile type.
const (
	nameCPU       = "process_cpu"
	nameMemory    = "memory"
	nameGoroutine = "goroutine"
	nameLeak      = "goroutineleak"
	nameMutex     = "mutex"
	nameBlock     = "block"
	nameGrowth    = "growth"
)

// entries returns the profiles with their names and defaults.
func (c *PprofConfig) entries() []pprofEntry {
	return []pprofEntry{
		{nameCPU, &c.ProcessCPU, true, "/debug/pprof/profile"},
		{nameMemory, &c.Memory, false, "/debug/pprof/allocs"},
		{nameGoroutine, &c.Goroutine, false, "/debug/pprof/goroutine"},
		{nameLeak, &c.GoroutineLeak, false, "/debug/pprof/goroutineleak"},
		{nameMutex, &c.Mutex, false, "/debug/pprof/mutex"},
		{nameBlock, &c.Block, false, "/debug/pprof/block"},
		{nameGrowth, &c.Growth, false, "/pprof/growth"},
	}
}

type pprofEntry struct {
	name    string
	pprof   *Pprof
	enabled bool
	path    string
}

// enabled returns the names of the profiles to pull.
func (c *ProfilingConfig) enabled() []string {
	var names []string
	for _, e := range c.PprofConfig.entries() {
		if e.pprof.Enabled == nil && e.enabled || e.pprof.Enabled != nil && *e.pprof.Enabled {
			names = append(names, e.name)
		}
	}
	return names
}

// path returns the path of a profile below the prefix.
func (c *ProfilingConfig) path(name string) string {
	for _, e := range c.PprofConfig.entries() {
		if e.name == name {
			if e.pprof.Path != "" {
				return e.pprof.Path
			}
			return e.path
		}
	}
	return ""
}

// Default returns the configuration of an entry without keys.
func Default() Config {
	return Config{
		ScrapeInterval:   model.Duration(15 * time.Second),
		ScrapeTimeout:    model.Duration(10 * time.Second),
		Scheme:           "http",
		HTTPClientConfig: promconfig.DefaultHTTPClientConfig,
	}
}

// UnmarshalYAML reads an entry over the defaults and validates it. It is strict if
// the decoder is: this form of the method, unlike the one with a node, keeps
// KnownFields.
func (c *Config) UnmarshalYAML(unmarshal func(any) error) error {
	type plain Config
	*c = Default()
	if err := unmarshal((*plain)(c)); err != nil {
		return err
	}
	return c.Validate()
}

// A KeyError is an error about the value of a key, such as relabel_configs[0].
type KeyError struct {
	Key string
	Err error
}

func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }
func (e *KeyError) Unwrap() error { return e.Err }

func wrong(key, format string, args ...any) error {
	return &KeyError{key, fmt.Errorf(format, args...)}
}

// Validate names the first key whose value cannot be, in a KeyError.
func (c *Config) Validate() error {
	if c.JobName == "" {
		return wrong("job_name", "is missing")
	}
	interval := time.Duration(c.ScrapeInterval)
	if interval < time.Second || interval%time.Second != 0 {
		return wrong("scrape_interval", "%s is not a whole number of seconds from 1s on", c.ScrapeInterval)
	}
	if c.ScrapeTimeout <= 0 {
		return wrong("scrape_timeout", "is not positive")
	}
	if c.Scheme != "http" && c.Scheme != "https" {
		return wrong("scheme", "%q is neither http nor https", c.Scheme)
	}
	if c.BodySizeLimit < 0 {
		return wrong("body_size_limit", "is negative")
	}
	if err := c.HTTPClientConfig.Validate(); err != nil {
		return err
	}
	for _, e := range c.ProfilingConfig.PprofConfig.entries() {
		if e.pprof.Path != "" && !strings.HasPrefix(e.pprof.Path, "/") {
			return wrong("profiling_config.pprof_config."+e.name+".path", "%q does not begin with /", e.pprof.Path)
		}
	}
	if p := c.ProfilingConfig.SymbolConfig.Path; p != "" && !strings.HasPrefix(p, "/") {
		return wrong("profiling_config.symbol_config.path", "%q does not begin with /", p)
	}
	if len(c.ProfilingConfig.enabled()) == 0 {
		return wrong("profiling_config", "no profile is enabled")
	}
	if slices.Contains(c.StaticConfigs, nil) {
		return wrong("static_configs", "has an empty entry")
	}
	var rule *relabel.Error
	if err := c.RelabelConfigs.Validate(); errors.As(err, &rule) {
		return wrong(fmt.Sprintf("relabel_configs[%d]", rule.Index), "%w", rule.Err)
	}
	return nil
}

// Validate checks all entries of scrape_configs, and that their job names differ.
func Validate(configs []Config) error {
	seen := map[string]bool{}
	for i := range configs {
		if err := configs[i].Validate(); err != nil {
			return fmt.Errorf("scrape_configs[%d].%w", i, err)
		}
		if seen[configs[i].JobName] {
			return fmt.Errorf("scrape_configs[%d].job_name: %q occurs twice", i, configs[i].JobName)
		}
		seen[configs[i].JobName] = true
	}
	return nil
}

// SetDirectory resolves relative file names of keys and certificates against a
// directory, that of the configuration file.
func (c *Config) SetDirectory(dir string) { c.HTTPClientConfig.SetDirectory(dir) }
