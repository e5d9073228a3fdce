// Package serieslimit bounds the label sets of a service in an hour. A label whose values
// are many, such as the ID of a request, makes a series for every value; profiles beyond
// the limit are stored under a reduced label set: without the labels that have the most
// values, and with labelReduced. So nothing of them is lost, and sums over a service stay
// what they are.
//
// It leaves to the caller what is stored under the label sets.
package serieslimit

import (
	"cmp"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/store/internal/epochs"
	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/collector/store/internal/layout"
	"github.com/flameline/flameline/collector/store/internal/storeerr"
)

// labelReduced marks reduced label sets. Its value is "true".
const labelReduced = "flameline_reduced"

const (
	// reducedShare is the part of the limit, one in so many, that reduced label sets
	// with labels of the sender may come to on top of it, and again those without.
	reducedShare = 20
	// minReduced is the least of each of them.
	minReduced = 16
	// maxSeriesHashes bounds the label sets that are counted in memory, of 24 bytes or
	// so each. Beyond it the hour that was written longest ago is counted anew from
	// disk when it is written again.
	maxSeriesHashes = 1 << 18
	// maxReductions bounds what Reductions lists.
	maxReductions = 100
	// maxReductionLabels bounds the labels that one of them names.
	maxReductionLabels = 5
)

// A Reduction says that a service has had more label sets in an hour than the limit.
type Reduction struct {
	Service string    `json:"service"`
	Hour    time.Time `json:"hour"`
	// Series is the number of label sets that made the limit.
	Series int `json:"series"`
	// Labels are those with the most values, and how many they had; the reduced label
	// sets lack them, or some of them. The first is at fault, most likely.
	Labels []LabelCount `json:"labels"`
}

// A LabelCount is a label's name and the number of its values.
type LabelCount struct {
	Name   string `json:"name"`
	Values int    `json:"values"`
}

// A Limit counts the label sets of each service and hour, each of which counts with its
// __name__ and once for all sample types. It is safe for concurrent use.
type Limit struct {
	epochs *epochs.Set
	log    *slog.Logger
	most   int

	mu         sync.Mutex
	hours      map[hourOf]*hourSeries
	clock      uint64      // counts uses
	reductions []Reduction // the latest last
}

// An hourOf is an hour of an epoch.
type hourOf struct {
	epoch uint32
	hour  uint8
}

// An hourSeries has the services of an hour.
type hourSeries struct {
	services map[string]*serviceSeries
	used     uint64

	once sync.Once
	err  error
}

// A serviceSeries has the label sets of a service in an hour, by their hashes.
type serviceSeries struct {
	mu      sync.Mutex
	found   []uint32 // streams on disk, which are not counted yet
	seen    map[uint64]struct{}
	reduced map[uint64]struct{}
	keep    map[string]bool // labels of reduced label sets; nil until the limit is reached
}

// New returns a limit on the label sets that the epochs have, nil if there is to be none.
func New(most int, es *epochs.Set, log *slog.Logger) *Limit {
	if most <= 0 {
		return nil
	}
	return &Limit{most: most, epochs: es, log: log, hours: map[hourOf]*hourSeries{}}
}

// share is how many reduced label sets of each sort there may be.
func (l *Limit) share() int { return max(l.most/reducedShare, minReduced) }

// Reductions lists the services that have reached the limit in an hour, up to 100, the
// latest last.
func (l *Limit) Reductions() []Reduction {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.reductions)
}

// Admit reports whether profiles of a stream at a time, in ms, are within the limit, and
// counts their label set. The others are to be stored with them, and not on disk either.
func (l *Limit) Admit(t int64, def *labelindex.Definition, others iter.Seq2[int64, *labelindex.Definition]) (bool, error) {
	c, hash, err := l.counted(t, def)
	if err != nil {
		return false, err
	}
	defer c.mu.Unlock()
	if _, ok := c.seen[hash]; ok {
		return true, nil
	}
	if len(c.seen) >= l.most {
		if c.keep == nil {
			err = l.planReduction(c, t, def, others)
		}
		return false, err
	}
	c.seen[hash] = struct{}{}
	return true, nil
}

// Reduce returns the reduced labels for a stream that was not admitted. If there are too many of those as
// well, they are those of all senders of the service, and if there are too many of
// these, of different __name__ or sample types, an error that wraps ErrLimit.
func (l *Limit) Reduce(t int64, def *labelindex.Definition) (labels.Labels, error) {
	full := def.Labels
	service := full.Get(labelindex.LabelServiceName)
	for _, bare := range []bool{false, true} {
		b := labels.NewBuilder(labels.FromStrings(labelindex.LabelName, full.Get(labelindex.LabelName), labelindex.LabelServiceName, service, labelReduced, "true"))
		c, _, err := l.counted(t, def)
		if err != nil {
			return full, err
		}
		keep := c.keep
		c.mu.Unlock()
		full.Range(func(l labels.Label) {
			if !bare && keep[l.Name] || labelindex.IsCapture(l) {
				b.Set(l.Name, l.Value)
			}
		})
		r := *def
		r.Labels = b.Labels()
		c, hash, err := l.counted(t, &r)
		if err != nil {
			return full, err
		}
		most := l.share()
		if bare {
			most *= 2
		}
		_, ok := c.reduced[hash]
		if !ok && len(c.reduced) < most {
			c.reduced[hash] = struct{}{}
			ok = true
		}
		c.mu.Unlock()
		if ok {
			return r.Labels, nil
		}
	}
	return full, fmt.Errorf("%w: service %.100q has more than %d series in an hour (limits.max_series_per_service_hour), also without its labels: too many different __name__ or sample types",
		storeerr.ErrLimit, service, l.most)
}

// counted returns the label sets of a stream's service in the hour of a time, locked, and
// the hash of the stream's own.
func (l *Limit) counted(t int64, def *labelindex.Definition) (*serviceSeries, uint64, error) {
	id, hour := layout.EpochOf(t), layout.HourOf(t)
	c, err := l.service(hourOf{id, hour}, def.Labels.Get(labelindex.LabelServiceName))
	if err != nil {
		return nil, 0, err
	}
	c.mu.Lock()
	if len(c.found) > 0 {
		err := l.epochs.EachDefinition(id, c.found, func(d *labelindex.Definition) {
			to := c.seen
			if d.Labels.Get(labelReduced) != "" {
				to = c.reduced
			}
			to[d.Hash()] = struct{}{}
		})
		if err != nil {
			c.mu.Unlock()
			return nil, 0, err
		}
		c.found = nil
	}
	return c, def.Hash(), nil
}

// service returns the counts of a service in an hour.
func (l *Limit) service(at hourOf, name string) (*serviceSeries, error) {
	l.mu.Lock()
	h := l.hours[at]
	if h == nil {
		l.forget()
		h = &hourSeries{services: map[string]*serviceSeries{}}
		l.hours[at] = h
	}
	l.clock++
	h.used = l.clock
	l.mu.Unlock()
	h.once.Do(func() {
		var found map[string][]uint32
		found, h.err = l.epochs.StreamsOf(at.epoch, at.hour)
		l.mu.Lock()
		defer l.mu.Unlock()
		for name, streams := range found {
			h.services[name] = newServiceSeries(streams)
		}
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.err != nil {
		if l.hours[at] == h {
			delete(l.hours, at)
		}
		return nil, h.err
	}
	c := h.services[name]
	if c == nil {
		c = newServiceSeries(nil)
		h.services[strings.Clone(name)] = c
	}
	return c, nil
}

func newServiceSeries(found []uint32) *serviceSeries {
	return &serviceSeries{found: found, seen: map[uint64]struct{}{}, reduced: map[uint64]struct{}{}}
}

// forget forgets hours that were used longest ago while all of them have too many
// label sets. The caller holds the lock.
func (l *Limit) forget() {
	type used struct {
		hourOf
		at uint64
		n  int
	}
	var all []used
	total := 0
	for at, h := range l.hours {
		u := used{at, h.used, 64}
		for _, c := range h.services {
			if c.mu.TryLock() { // one that is in use counts little, and is of a recent hour
				u.n += 16 + len(c.seen) + len(c.reduced) + len(c.found)
				c.mu.Unlock()
			}
		}
		total += u.n
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b used) int { return cmp.Compare(a.at, b.at) })
	for _, u := range all {
		if total <= maxSeriesHashes {
			return
		}
		total -= u.n
		delete(l.hours, u.hourOf)
	}
}
