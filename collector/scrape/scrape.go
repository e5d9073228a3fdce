// Package scrape pulls pprof profiles from services that serve them over HTTP,
// as Go's net/http/pprof does, and hands them on. Its configuration has the
// shapes of Prometheus' scrape_configs, relabelling included, so that targets
// and labels are those of the metrics.
//
// CPU profiles are taken back to back and cover the whole time. A profile
// starts within the first second of a multiple of the scrape interval, so that
// every interval has exactly one.
//
// It leaves decoding and its limits to the function it is given, keeping to
// the Appender, and finding targets that move to whoever applies a new
// configuration.
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

// An Appender takes profiles and returns when they are safe.
type Appender interface {
	Append(ctx context.Context, ps []profile.Profile) error
}

// Options configure a Manager. Appender and Decode are required.
type Options struct {
	Appender Appender
	// Queue takes profiles over and returns at once: it keeps them until they are
	// stored, so that they need not be waited for. The Appender is for the growth
	// of counters, which goes into a later profile until it is safe. nil keeps
	// profiles here, a few of each target, until the Appender takes them.
	Queue func(ctx context.Context, ps []profile.Profile) error
	// Decode reads a pprof body, compressed or not, within the limits that
	// the caller sets, and refuses malformed ones.
	Decode func(body []byte) (*googlev1.Profile, error)
	// Refused tells whether an error of the Appender is about the profile, so
	// that appending it again would not help. nil takes all errors for passing.
	Refused    func(err error) bool
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil registers nothing
	// MaxBodyBytes bounds a response as sent; 0 is 64 MiB. Config's
	// body_size_limit goes first.
	MaxBodyBytes int64
}

// A Manager scrapes the targets of a configuration. It is safe for concurrent
// use.
type Manager struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	// decoding bounds the profiles that are decoded at once: all targets
	// answer at the same time.
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

// New returns a Manager that scrapes nothing yet.
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

// refused tells whether the Appender will never take what it gave an error for.
func (m *Manager) refused(err error) bool { return m.o.Refused != nil && m.o.Refused(err) }

// queue hands a profile over without waiting, as far as that is possible.
func (m *Manager) queue(ctx context.Context, p profile.Profile) error {
	if m.o.Queue != nil {
		return m.o.Queue(ctx, []profile.Profile{p})
	}
	return m.o.Appender.Append(ctx, []profile.Profile{p})
}

// Run scrapes until ctx ends and returns when every scrape has stopped. The
// profile that is being taken then is lost.
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

// ApplyConfig changes what is scraped, before or during Run. Jobs whose
// configuration is the same go on undisturbed. On an error nothing changes.
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

// reconcile makes the running jobs those of the configuration. The caller
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

// Status returns what is known of every target, sorted by job and URL.
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
