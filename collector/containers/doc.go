// Package containers asks Kubernetes and Docker what they know about the containers of
// this machine: names, pods, workloads, labels and annotations, under the names that
// Prometheus' service discovery gives them.
//
// A Source polls one of them and remembers the answers, also of containers that have
// ended and while the source does not answer. A container that is asked for and not known
// makes it poll earlier.
//
// Which container a process is in, and which of the labels its profiles have, is left to
// package target.
package containers

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
)

// Options are what all sources have in common; the zero value is useful.
type Options struct {
	// Interval is the time between two polls; 0 is DefaultInterval.
	Interval time.Duration
	Logger   *slog.Logger // nil discards
	Metrics  *Metrics     // nil counts nothing
}

// DefaultInterval is the time between two polls of a source.
const DefaultInterval = 30 * time.Second

// A Set is several sources, of which the first that knows a container answers. It is safe
// for concurrent use.
type Set []*Source

// Lookup returns the labels of the first container in ids, the innermost first, that a
// source knows, and else of the pod with a UID, which may be "". If the innermost
// container is not known, it has the sources polled and waits for them, some seconds or
// until ctx ends, but not for a source that has been unavailable for half a minute.
func (s Set) Lookup(ctx context.Context, ids []string, pod string) labels.Labels {
	keys := ids
	if pod != "" {
		keys = append(slices.Clone(ids), podKey(pod))
	}
	if len(keys) == 0 {
		return labels.EmptyLabels()
	}
	if ls, ok := s.find(keys[0]); ok {
		return ls
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var asking sync.WaitGroup
	for _, source := range s {
		asking.Go(func() {
			if source.ask(ctx, keys[0]) {
				cancel() // the others need not answer
			}
		})
	}
	asking.Wait()
	// Of a container within a container, Docker may know the outer one.
	for _, key := range keys {
		if ls, ok := s.find(key); ok {
			return ls
		}
	}
	return labels.EmptyLabels()
}

func (s Set) find(key string) (labels.Labels, bool) {
	for _, source := range s {
		if ls, ok := source.find(key); ok {
			return ls, true
		}
	}
	return labels.EmptyLabels(), false
}

// podKey is the key of what is known about a pod beside its containers.
func podKey(uid string) string { return "pod/" + uid }

// Run polls the sources until ctx ends.
func (s Set) Run(ctx context.Context) {
	var polling sync.WaitGroup
	for _, source := range s {
		polling.Go(func() { source.run(ctx) })
	}
	polling.Wait()
}

// Metrics count what sources do.
type Metrics struct {
	polls *prometheus.CounterVec // source, outcome
	known *prometheus.GaugeVec   // source
	up    *prometheus.GaugeVec   // source
}

// NewMetrics registers the metrics of all sources.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		polls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_containers_polls_total", Help: "Requests for the list of containers, by source (kubernetes, docker) and outcome (ok, failed).",
		}, []string{"source", "outcome"}),
		known: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "flameline_containers_known", Help: "Containers and pods that a source has told about.",
		}, []string{"source"}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "flameline_containers_up", Help: "1 if the source answered the last request, else 0.",
		}, []string{"source"}),
	}
	if reg != nil {
		reg.MustRegister(m.polls, m.known, m.up)
	}
	return m
}
