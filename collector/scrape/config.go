package scrape

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/alecthomas/units"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

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

	// TargetLimit bounds the targets of the job after relabelling; 0 means no bound.
	// Targets that are scraped already come first.
	TargetLimit uint `yaml:"target_limit,omitempty"`
	// KeepDroppedTargets bounds the dropped targets that are listed; 0 means no bound. The
	// default is 1000. All are counted.
	KeepDroppedTargets uint `yaml:"keep_dropped_targets,omitempty"`

	ProfilingConfig  ProfilingConfig             `yaml:"profiling_config,omitempty"`
	HTTPClientConfig promconfig.HTTPClientConfig `yaml:",inline"`
	Discovery        `yaml:",inline"`
	RelabelConfigs   relabel.Rules `yaml:"relabel_configs,omitempty"`
}

// Default returns the configuration of an entry without keys.
func Default() Config {
	return Config{
		ScrapeInterval:     model.Duration(15 * time.Second),
		ScrapeTimeout:      model.Duration(10 * time.Second),
		Scheme:             "http",
		KeepDroppedTargets: 1000,
		HTTPClientConfig:   promconfig.DefaultHTTPClientConfig,
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
	if !isWholeSeconds(time.Duration(c.ScrapeInterval)) {
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
		if err := e.pprof.validate(e.name); err != nil {
			return err
		}
	}
	if p := c.ProfilingConfig.SymbolConfig.Path; p != "" && !strings.HasPrefix(p, "/") {
		return wrong("profiling_config.symbol_config.path", "%q does not begin with /", p)
	}
	if len(c.ProfilingConfig.enabled()) == 0 {
		return wrong("profiling_config", "no profile is enabled")
	}
	if err := c.Discovery.validate(); err != nil {
		return err
	}
	var of *relabel.Error
	if err := c.RelabelConfigs.Validate(); errors.As(err, &of) {
		return wrong(fmt.Sprintf("relabel_configs[%d]", of.Index), "%w", of.Err)
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

// SetDirectory resolves relative file names, such as those of keys, certificates and
// lists of targets, against a directory, that of the configuration file.
func (c *Config) SetDirectory(dir string) {
	c.HTTPClientConfig.SetDirectory(dir)
	c.Discovery.setDirectory(dir)
}

func isWholeSeconds(d time.Duration) bool { return d >= time.Second && d%time.Second == 0 }
