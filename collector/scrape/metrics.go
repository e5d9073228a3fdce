package scrape

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Reasons why a scrape failed, values of the label result.
const (
	resultOK        = "ok"
	reasonConnect   = "connect"
	reasonTimeout   = "timeout"
	reasonStatus    = "status"
	reasonTooLarge  = "too_large"
	reasonMalformed = "malformed"
	reasonAppend    = "append"
)

// maxDetailed is the number of targets up to which a job has metrics of each: thousands
// of targets would make tens of thousands of series.
const maxDetailed = 200

// metrics are counters. Their label job is job_name, which targets do not choose.
type metrics struct {
	scrapes *prometheus.CounterVec
	seconds *prometheus.CounterVec
	bytes   *prometheus.CounterVec
	samples *prometheus.CounterVec
	covered *prometheus.CounterVec
	lost    *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, m *Manager) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	out := &metrics{
		scrapes: counter("flameline_scrapes_total", "Scrapes, by result: ok or the reason of the failure.", "job", "profile", "result"),
		seconds: counter("flameline_scrapes_seconds_total", "Duration of all scrapes, including the length of CPU profiles.", "job", "profile"),
		bytes:   counter("flameline_scrape_bytes_total", "Bytes of profiles as sent by targets.", "job", "profile"),
		samples: counter("flameline_scrape_samples_total", "Samples of profiles as sent by targets.", "job", "profile"),
		covered: counter("flameline_scrape_covered_seconds_total", "Time that CPU profiles cover, over all targets.", "job"),
		lost:    counter("flameline_scrape_lost_profiles_total", "Profiles of targets that were lost because they could not be stored or were refused.", "job", "profile"),
	}
	if r != nil {
		r.MustRegister(out.scrapes, out.seconds, out.bytes, out.samples, out.covered, out.lost, newStateMetrics(m))
	}
	return out
}

// stateMetrics are metrics of the targets that there are when they are read.
type stateMetrics struct {
	manager                        *Manager
	up, duration, targets, dropped *prometheus.Desc
}

func newStateMetrics(m *Manager) *stateMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &stateMetrics{
		manager:  m,
		up:       desc("flameline_scrape_up", "1 if the last scrape of the target succeeded, else 0. Jobs of up to 200 targets have it.", "job", "instance", "profile"),
		duration: desc("flameline_scrape_duration_seconds", "Duration of the last scrape, including the length of a CPU profile. Jobs of up to 200 targets have it.", "job", "instance", "profile"),
		targets:  desc("flameline_scrape_targets", "Targets of a job, by the result of the last scrape of a profile: up, down, or unknown before the first.", "job", "profile", "health"),
		dropped:  desc("flameline_scrape_dropped_targets", "Discovered targets of a job that are not scraped, by reason: relabelling, or invalid ones and those beyond target_limit.", "job", "reason"),
	}
}

func (s *stateMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.up, s.duration, s.targets, s.dropped} {
		ch <- d
	}
}

func (s *stateMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	// Several targets may have the same job and instance, and differ in other labels:
	// the worst of them counts.
	type series struct{ job, instance, profile string }
	up, duration := map[series]float64{}, map[series]time.Duration{}
	s.manager.mu.Lock()
	defer s.manager.mu.Unlock()
	for name, j := range s.manager.jobs {
		counts := map[[2]string]int{}
		for _, t := range j.targets {
			for _, l := range t.loops {
				last := l.lastScrape()
				counts[[2]string{l.name, last.Health()}]++
				if last.Time.IsZero() || len(j.targets) > maxDetailed {
					continue
				}
				key := series{t.job, t.instance, l.name}
				value := 1.0
				if last.Err != nil {
					value = 0
				}
				if before, ok := up[key]; ok {
					value = min(value, before)
				}
				up[key], duration[key] = value, max(duration[key], last.Duration)
			}
		}
		for key, n := range counts {
			gauge(s.targets, float64(n), name, key[0], key[1])
		}
		gauge(s.dropped, float64(j.droppedCount-j.invalid), name, "relabelling")
		gauge(s.dropped, float64(j.invalid), name, "invalid")
	}
	for key, value := range up {
		gauge(s.up, value, key.job, key.instance, key.profile)
		gauge(s.duration, duration[key].Seconds(), key.job, key.instance, key.profile)
	}
}

// Health is what Prometheus calls the state of a target: up, down, or unknown before
// the first scrape.
func (s Scrape) Health() string {
	switch {
	case s.Time.IsZero():
		return "unknown"
	case s.Err != nil:
		return "down"
	}
	return "up"
}
