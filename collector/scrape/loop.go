package scrape

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/profile"
)

// afterTurn is the delay of a scrape after its turn. A query step is (t-step, t], so that
// a multiple of the interval belongs to the step before.
const afterTurn = 2 * time.Millisecond

// drift is how late a CPU profile may start: up to a second by profileLength, and what
// the target needs to answer.
const drift = 2 * time.Second

// tooShort is the length up to which the rest of an interval is skipped instead of
// profiled.
const tooShort = 250 * time.Millisecond

// A loop pulls one profile of one target periodically.
type loop struct {
	manager *Manager
	config  *Config
	target  *target
	client  *http.Client
	name    string
	url     url.URL
	labels  labels.Labels
	maxBody int64
	// offset is when the profile is pulled after each multiple of interval.
	interval, timeout, offset time.Duration
	delta                     *delta      // nil if the values are not cumulative
	symbols                   *symbolizer // nil if addresses stay without names
	// symbolsWanted says that the configuration names the path of symbols. unresolved
	// says that they were missing last, so that this is not logged again.
	symbolsWanted, unresolved bool

	// unstored are the profiles that could not be stored yet, oldest first. Only run's
	// goroutine uses them.
	unstored []*unstoredProfile

	mu   sync.Mutex
	last Scrape
}

// A Scrape is the last scrape of a target's profile.
type Scrape struct {
	URL      string        // without credentials
	Time     time.Time     // of its start; zero before the first
	Duration time.Duration // including the length of a CPU profile
	Samples  int           // of the last profile
	Err      error         // nil if the scrape succeeded
}

// job returns the job_name, which the rules of relabel_configs do not change.
func (l *loop) job() string { return l.config.JobName }

func (l *loop) lastScrape() Scrape {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *loop) setSamples(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last.Samples = n
}

func newLoop(m *Manager, c *Config, t *target, client *http.Client, name string) *loop {
	l := &loop{manager: m, config: c, target: t, client: client, name: name, url: t.url, maxBody: m.o.MaxBodyBytes}
	l.url.Path = joinPath(t.url.Path, t.paths[name])
	pprof := c.ProfilingConfig.pprof(name)
	l.interval = cmp.Or(time.Duration(pprof.ScrapeInterval), t.interval)
	l.timeout = cmp.Or(time.Duration(pprof.ScrapeTimeout), t.timeout)
	if len(pprof.Params) > 0 {
		query := l.url.Query()
		maps.Copy(query, pprof.Params)
		l.url.RawQuery = query.Encode()
	}
	l.offset = spread(name, l.url.String()+t.labels.String(), l.interval)
	if c.BodySizeLimit > 0 {
		l.maxBody = int64(c.BodySizeLimit)
	}
	if grows := cumulative(name); grows != nil {
		l.delta = newDelta(grows)
	}
	l.symbols = newSymbolizer(c, t, client, l.url)
	l.symbolsWanted = c.ProfilingConfig.SymbolConfig.Path != ""
	b := labels.NewBuilder(t.labels)
	b.Set(model.MetricNameLabel, name)
	l.labels = b.Labels()
	l.last.URL = l.url.Redacted()
	return l
}

// spread returns the offset of a target's profile within the interval, by a hash of key,
// so that it is the same after a restart. A CPU profile that starts late still starts in
// its interval.
func spread(name, key string, interval time.Duration) time.Duration {
	room := interval
	if name == nameCPU {
		room = max(interval-drift, 1)
	}
	return time.Duration(xxhash.Sum64String(name+key) % uint64(room))
}

// run scrapes until ctx ends.
func (l *loop) run(ctx context.Context) {
	defer func() { l.leave(ctx) }()
	wait := true // for the next turn
	for {
		left := untilTurn(time.Now(), l.interval, l.offset)
		if (wait || left < tooShort) && !sleep(ctx, left+afterTurn) {
			return
		}
		start := time.Now()
		length := time.Duration(0)
		if l.name == nameCPU {
			length = profileLength(start, l.interval, l.offset)
		}
		err := l.scrape(ctx, start, length)
		if ctx.Err() != nil {
			return
		}
		took := time.Since(start)
		l.report(start, took, err)
		// CPU profiles follow one another without a pause, unless the target refused.
		wait = length == 0 || err != nil && took < length/2
	}
}

// untilTurn returns the time to the next time that is offset after a multiple of the
// interval.
func untilTurn(now time.Time, interval, offset time.Duration) time.Duration {
	return interval - time.Duration((now.UnixNano()-int64(offset))%int64(interval))
}

// profileLength returns the length of a profile that starts now, in whole seconds, which
// targets require, so that it ends within the first second after the next turn. Since
// targets need some time to answer, starts drift; once a start is a second late, the
// profile is a second shorter.
func profileLength(now time.Time, interval, offset time.Duration) time.Duration {
	return (untilTurn(now, interval, offset) + time.Second - 1).Truncate(time.Second)
}

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// scrape pulls one profile and stores it, after the profiles that could not be stored
// before.
func (l *loop) scrape(ctx context.Context, start time.Time, length time.Duration) error {
	err := l.pull(ctx, start, length)
	if later := l.storeUnstored(ctx); err == nil {
		err = later
	}
	return err
}

func (l *loop) pull(ctx context.Context, start time.Time, length time.Duration) error {
	u, wait := l.url, length
	if length > 0 {
		query := u.Query()
		query.Set("seconds", strconv.Itoa(int(length/time.Second)))
		u.RawQuery = query.Encode()
	} else if n, err := strconv.ParseUint(u.Query().Get("seconds"), 10, 16); err == nil {
		wait = time.Duration(n) * time.Second // the target takes this long
	}
	fetchCtx, cancel := context.WithTimeout(ctx, wait+l.timeout)
	defer cancel()
	body, header, release, err := fetch(fetchCtx, l.client, u.String(), l.maxBody, l.manager.answers)
	defer release()
	if err != nil {
		if l.symbols != nil {
			l.symbols.forget() // the process may have ended
		}
		return err
	}
	l.manager.metrics.bytes.WithLabelValues(l.job(), l.name).Add(float64(len(body)))
	return l.keep(ctx, answer{
		body: body, kind: kindOf(header, u.Path), start: start, end: time.Now(), length: length,
		ids: []string{uuid.NewString(), uuid.NewString()},
	})
}

// keep decodes an answer and adds the resulting profiles to unstored. Profiles that are
// not growth go to the queue instead, if there is one.
//
// Growth of counters is kept until it is stored. The growth of a new scrape is merged
// into growth that the loop has not tried to store, so that nothing is lost and little
// memory is needed, no matter how long the appender fails. A profile that was tried is
// tried again unchanged with the same ID, so that growth is not counted twice.
func (l *loop) keep(ctx context.Context, a answer) error {
	p, err := l.decode(ctx, a.body)
	if err != nil {
		return err
	}
	l.manager.metrics.samples.WithLabelValues(l.job(), l.name).Add(float64(len(p.Sample)))
	l.setSamples(len(p.Sample))
	if l.delta == nil {
		if a.kind == difference && a.length == 0 {
			return &scrapeError{reasonMalformed, errors.New("the answer is the difference of two profiles: remove the parameter seconds")}
		}
		a.setTime(p)
		if a.length == 0 {
			p.DurationNanos = 0 // a state
		} else {
			l.manager.metrics.covered.WithLabelValues(l.job()).Add(time.Duration(p.DurationNanos).Seconds())
		}
		l.nameAddresses(p, l.resolve(ctx, p))
		return l.hand(ctx, a.ids[0], p)
	}
	// Counters are compared by address, and get names afterwards: names may be missing in
	// one of two scrapes.
	names := l.resolve(ctx, p)
	r := a.reading(p)
	l.reopen(r)
	if _, ok := l.delta.since(r); !ok && l.delta.last != nil {
		l.manager.log.Warn("growth over more than a day is dropped", "job", l.target.job, "instance", l.target.instance, "profile", l.name)
	}
	base := l.delta.last
	state, flow, next := l.delta.apply(r)
	l.delta.commit(next)
	l.nameAddresses(state, names)
	l.nameAddresses(flow, names)
	if state != nil {
		err = l.hand(ctx, a.ids[0], state)
	}
	if flow == nil {
		return err
	}
	if a.kind != counters {
		return errors.Join(err, l.hand(ctx, a.ids[1], flow))
	}
	o, e := newUnstored(a.ids[1], flow)
	if e != nil {
		return errors.Join(err, e)
	}
	o.base, o.next = base, next
	l.keepUnstored(o)
	return err
}

// hand gives a profile that is not growth to the queue, which keeps it until it is
// stored. Without a queue it is added to unstored.
func (l *loop) hand(ctx context.Context, id string, p *googlev1.Profile) error {
	if l.manager.o.Queue == nil {
		o, err := newUnstored(id, p)
		if err == nil {
			l.keepUnstored(o)
		}
		return err
	}
	if err := l.manager.o.Queue(ctx, []profile.Profile{{ID: id, Labels: l.labels, Pprof: p}}); err != nil {
		l.lose(1)
		return &scrapeError{reasonAppend, fmt.Errorf("append: %w", err)}
	}
	return nil
}

// decode decodes a body. The number of concurrent calls is bounded.
func (l *loop) decode(ctx context.Context, body []byte) (*googlev1.Profile, error) {
	select {
	case l.manager.decoding <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-l.manager.decoding }()
	p, err := l.manager.o.Decode(body)
	if err != nil {
		return nil, &scrapeError{reasonMalformed, err}
	}
	return p, nil
}

// report records the result of a scrape in metrics, log and last.
func (l *loop) report(start time.Time, took time.Duration, err error) {
	result := resultOK
	if err != nil {
		result = reasonConnect
		var known *scrapeError
		if errors.As(err, &known) {
			result = known.reason
		}
		err = fmt.Errorf("scrape %s: %w", l.url.Redacted(), err)
	}
	m := l.manager.metrics
	m.scrapes.WithLabelValues(l.job(), l.name, result).Inc()
	m.seconds.WithLabelValues(l.job(), l.name).Add(took.Seconds())

	l.mu.Lock()
	before := l.last
	l.last.Time, l.last.Duration, l.last.Err = start, took, err
	l.mu.Unlock()
	log := l.manager.log.With("job", l.target.job, "instance", l.target.instance, "profile", l.name)
	switch {
	case err != nil && before.Err == nil:
		log.Warn("target cannot be scraped", "reason", result, "err", err)
	case err != nil:
		log.Debug("target still cannot be scraped", "reason", result, "err", err)
	case before.Err != nil || before.Time.IsZero():
		log.Info("target is scraped", "url", before.URL)
	}
}
