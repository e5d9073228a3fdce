// Package scrape pulls pprof profiles from services that serve them over HTTP, as Go's
// net/http/pprof, gperftools and jemalloc do, and passes them to an Appender. Its
// configuration has the form of Prometheus' scrape_configs, with relabelling, so that
// targets and labels equal those of the metrics.
//
// CPU profiles are taken without pauses and cover the whole time. Scrapes are spread over
// the interval: each profile of a target has an offset of its own, and every interval has
// exactly one.
//
// Decoding and its limits are left to the function Decode, storing to the Appender, and
// finding targets to Prometheus' mechanisms of service discovery.
package scrape

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"slices"
	"sync"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/discovery"

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
	// LabelLimits bound the labels of targets.
	LabelLimits LabelLimits
}

// A Manager scrapes the targets of a configuration. It is safe for concurrent use. The
// zero Manager has no targets, and cannot run.
type Manager struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	// decoding bounds the concurrent decoding, and answers the memory of answers, since
	// many targets may answer at the same time.
	decoding chan struct{}
	answers  *answerMemory
	// background are goroutines of Run: service discovery, and targets that are stopping.
	background sync.WaitGroup

	mu        sync.Mutex
	ctx       context.Context // of Run; nil before
	configs   []Config
	jobs      map[string]*job
	discovery *discovery.Manager // nil before a job needs it
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
	m := &Manager{
		o:        o,
		log:      o.Logger,
		decoding: make(chan struct{}, runtime.GOMAXPROCS(0)),
		answers:  newAnswerMemory(),
		jobs:     map[string]*job{},
	}
	m.metrics = newMetrics(o.Registerer, m)
	return m, nil
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
	} else {
		m.log.Error("nothing is scraped", "err", err)
	}
	m.mu.Lock()
	jobs := m.jobs
	m.jobs = map[string]*job{}
	m.mu.Unlock()
	for _, j := range jobs {
		j.cancel(j.targets)
	}
	for _, j := range jobs {
		j.stop()
	}
	m.background.Wait()
	return err
}

// ApplyConfig changes the targets, before or during Run. Jobs with an unchanged
// configuration are not interrupted. On an error nothing changes.
func (m *Manager) ApplyConfig(configs []Config) error {
	if err := Validate(configs); err != nil {
		return err
	}
	for _, c := range configs {
		if err := c.checkStatic(m.o.LabelLimits); err != nil {
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
		j, err := m.newJob(c)
		if err != nil {
			return fmt.Errorf("scrape_configs: job %q: %w", c.JobName, err)
		}
		next[c.JobName] = j
		started = append(started, j)
	}
	for name, j := range m.jobs {
		if next[name] != j {
			j.stop()
		}
	}
	m.jobs = next
	for _, j := range started {
		j.start(m.ctx)
	}
	return m.discover()
}
