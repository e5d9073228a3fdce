// Package scrape pulls pprof profiles from services that serve them over HTTP, as Go's
// net/http/pprof, gperftools and jemalloc do, and passes them to an Appender. Its
// configuration has the form of Prometheus' scrape_configs, with relabelling, so that
// targets and labels equal those of the metrics.
//
// CPU profiles are taken without pauses and cover the whole time. A profile starts
// within the first second of a multiple of the scrape interval, so that every interval
// has exactly one.
//
// Decoding and its limits are left to the function Decode, storing to the Appender, and
// finding targets that move to the caller of ApplyConfig.
package scrape

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"sync"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"

	"github.com/flameline/flameline/pkg/profile"
)

const (
	defaultMaxBodyBytes = 64 << 20
	userAgent           = "flameline"
)

// An Appender stores profiles, and returns once they are safe.
type Appender interface {
	Append(ctx context.Context, ps []profile.Profile) error
}

// Options configure a Manager. Appender and Decode are required.
type Options struct {
	Appender Appender
	// Queue queues profiles and returns at once; it keeps them until they are stored.
	// Growth of counters goes to the Appender instead, since growth that is not stored
	// is merged into a later profile. If Queue is nil, a few profiles of each target are
	// kept here until the Appender accepts them.
	Queue func(ctx context.Context, ps []profile.Profile) error
	// Decode decodes a pprof body, compressed or not. The caller sets its limits.
	Decode func(body []byte) (*googlev1.Profile, error)
	// Name gives functions to the locations of a decoded profile that have none, by their
	// address, where name does not return "". If it is nil, such locations keep their
	// addresses.
	Name func(p *googlev1.Profile, name func(address uint64) string)
	// Local returns a function that names the addresses of a decoded profile which the
	// target does not, or nil if the profile's process does not run on this machine. It
	// may be nil.
	Local func(p *googlev1.Profile) (name func(address uint64) string)
	// Refused reports whether an error of the Appender is about the profile, so that
	// another attempt would not help. If it is nil, all errors count as temporary.
	Refused    func(err error) bool
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil registers nothing
	// MaxBodyBytes bounds a response as sent; 0 means 64 MiB. Config's body_size_limit
	// takes precedence.
	MaxBodyBytes int64
}

// A Manager scrapes the targets of a configuration. It is safe for concurrent
// use.
type Manager struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	// decoding bounds the concurrent decoding, since all targets answer at the same
	// time.
	decoding chan struct{}

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before
	configs []Config
	jobs    map[string]*job
}

// A job is a running Config.
type job struct {
	config  Config
	cancel  context.CancelFunc
	done    sync.WaitGroup
	targets []*target
}

// New returns a Manager without targets.
func New(o Options) (*Manager, error) {
	if o.Appender == nil || o.Decode == nil {
		return nil, errors.New("scrape: Appender and Decode are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = defaultMaxBodyBytes
	}
	return &Manager{
		o:        o,
		log:      o.Logger,
		metrics:  newMetrics(o.Registerer),
		decoding: make(chan struct{}, runtime.GOMAXPROCS(0)),
		jobs:     map[string]*job{},
	}, nil
}

// refused reports whether the Appender's error means that it will never accept the
// profile.
func (m *Manager) refused(err error) bool { return m.o.Refused != nil && m.o.Refused(err) }

// queue passes on a profile, without waiting if there is a Queue.
func (m *Manager) queue(ctx context.Context, p profile.Profile) error {
	if m.o.Queue != nil {
		return m.o.Queue(ctx, []profile.Profile{p})
	}
	return m.o.Appender.Append(ctx, []profile.Profile{p})
}

// Run scrapes until ctx ends, and returns when all scrapes have stopped. The profiles
// being taken then are lost.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	if m.ctx != nil {
		m.mu.Unlock()
		return errors.New("scrape: Run was called twice")
	}
	m.ctx = ctx
	err := m.reconcile()
	m.mu.Unlock()
	if err == nil {
		<-ctx.Done()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, j := range m.jobs {
		m.stop(j)
		delete(m.jobs, name)
	}
	return err
}

// ApplyConfig changes the targets, before or during Run. Jobs with an unchanged
// configuration are not interrupted. On an error nothing changes.
func (m *Manager) ApplyConfig(configs []Config) error {
	if err := Validate(configs); err != nil {
		return err
	}
	for _, c := range configs {
		if _, err := c.targets(); err != nil {
			return fmt.Errorf("scrape_configs: job %q: %w", c.JobName, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.configs
	m.configs = slices.Clone(configs)
	if m.ctx == nil {
		return nil
	}
	if err := m.reconcile(); err != nil {
		m.configs = before
		return err
	}
	return nil
}

// reconcile starts and stops jobs so that those of the configuration run. The caller
// holds mu.
func (m *Manager) reconcile() error {
	next := map[string]*job{}
	var started []*job
	for _, c := range m.configs {
		if j := m.jobs[c.JobName]; j != nil && reflect.DeepEqual(j.config, c) {
			next[c.JobName] = j
			continue
		}
		j, err := m.prepare(c)
		if err != nil {
			return fmt.Errorf("scrape_configs: job %q: %w", c.JobName, err)
		}
		next[c.JobName] = j
		started = append(started, j)
	}
	for name, j := range m.jobs {
		if next[name] != j {
			m.stop(j)
		}
	}
	m.jobs = next
	for _, j := range started {
		ctx, cancel := context.WithCancel(m.ctx)
		j.cancel = cancel
		for _, t := range j.targets {
			for _, l := range t.loops {
				j.done.Go(func() { l.run(ctx) })
			}
		}
	}
	return nil
}

// prepare builds a job without starting it.
func (m *Manager) prepare(c Config) (*job, error) {
	client, err := promconfig.NewClientFromConfig(c.HTTPClientConfig, c.JobName, promconfig.WithUserAgent(userAgent))
	if err != nil {
		return nil, err
	}
	targets, err := c.targets()
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		for _, name := range c.ProfilingConfig.enabled() {
			t.loops = append(t.loops, newLoop(m, c, t, client, name))
		}
	}
	return &job{config: c, targets: targets}, nil
}

func (m *Manager) stop(j *job) {
	if j.cancel != nil {
		j.cancel()
		j.done.Wait()
	}
	for _, t := range j.targets {
		m.metrics.forget(t)
	}
}

// Status returns the state of every target's profiles, sorted by job and URL.
func (m *Manager) Status() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Status
	for _, name := range slices.Sorted(maps.Keys(m.jobs)) {
		for _, t := range m.jobs[name].targets {
			for _, l := range t.loops {
				out = append(out, l.status())
			}
		}
	}
	return out
}
