package scrape

import (
	"cmp"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// ProfilingConfig selects the profiles to pull and their paths, as Parca's and
// Pyroscope's profiling_config does.
type ProfilingConfig struct {
	// PathPrefix is prepended to the path of every profile.
	PathPrefix  string      `yaml:"path_prefix,omitempty"`
	PprofConfig PprofConfig `yaml:"pprof_config,omitempty"`
	// SymbolConfig is about the endpoint that names the addresses of native programs'
	// profiles. It is enabled by default; the default path is that of the profile with
	// symbol in place of its last part, such as /pprof/symbol.
	SymbolConfig Endpoint `yaml:"symbol_config,omitempty"`
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

// Endpoint configures one endpoint of targets.
type Endpoint struct {
	Enabled *bool  `yaml:"enabled,omitempty"`
	Path    string `yaml:"path,omitempty"`
}

// Pprof configures one profile. Its interval, timeout and parameters take the place of
// the target's; those that are not given stay.
type Pprof struct {
	Enabled        *bool          `yaml:"enabled,omitempty"`
	Path           string         `yaml:"path,omitempty"`
	ScrapeInterval model.Duration `yaml:"scrape_interval,omitempty"`
	ScrapeTimeout  model.Duration `yaml:"scrape_timeout,omitempty"`
	Params         url.Values     `yaml:"params,omitempty"`
}

// validate checks the profile with a name.
func (p *Pprof) validate(name string) error {
	key := "profiling_config.pprof_config." + name
	switch {
	case p.Path != "" && !strings.HasPrefix(p.Path, "/"):
		return wrong(key+".path", "%q does not begin with /", p.Path)
	case p.ScrapeInterval != 0 && !isWholeSeconds(time.Duration(p.ScrapeInterval)):
		return wrong(key+".scrape_interval", "%s is not a whole number of seconds from 1s on", p.ScrapeInterval)
	case p.ScrapeTimeout < 0:
		return wrong(key+".scrape_timeout", "is negative")
	}
	return nil
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

// pprof returns the configuration of the profile with a name, with the default path.
func (c *ProfilingConfig) pprof(name string) Pprof {
	for _, e := range c.PprofConfig.entries() {
		if e.name == name {
			p := *e.pprof
			p.Path = cmp.Or(p.Path, e.path)
			return p
		}
	}
	return Pprof{}
}
