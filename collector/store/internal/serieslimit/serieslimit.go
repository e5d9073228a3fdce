// Package serieslimit bounds the label sets of a service in an hour. A label whose values
// are many, such as the ID of a request, makes a series for every value; profiles beyond
// the limit are stored under a reduced label set: without the labels that have the most
// values, and with labelReduced. So nothing of them is lost, and sums over a service stay
// what they are.
//
// It leaves to the caller what is stored under the label sets.
package serieslimit

import (
	"fmt"
	"iter"
	"log/slog"
	"math"
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
	hours      map[hourOf]map[string]*serviceSeries // by service
	recent     []hourOf                             // the one that was used last is the last
	hashes     int                                  // of all hours
	reductions []Reduction                          // the latest last
}

// An hourOf is an hour of an epoch.
type hourOf struct {
	epoch uint32
	hour  uint8
}

// A serviceSeries has the label sets of a service in an hour, by their hashes.
type serviceSeries struct {
	seen    map[uint64]struct{}
	reduced map[uint64]struct{}
	keep    map[string]bool // labels of reduced label sets; nil until the limit is reached
}

// New returns a limit on the label sets that the epochs have, nil if there is to be none.
func New(most int, es *epochs.Set, log *slog.Logger) *Limit {
	if most <= 0 {
		return nil
	}
	return &Limit{most: most, epochs: es, log: log, hours: map[hourOf]map[string]*serviceSeries{}}
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
	l.mu.Lock()
	defer l.mu.Unlock()
	c, err := l.counted(t, def)
	if err != nil {
		return false, err
	}
	if l.add(c.seen, def, l.most) {
		return true, nil
	}
	if c.keep == nil {
		err = l.planReduction(c, t, def, others)
	}
	return false, err
}

// Reduce returns the reduced labels for a stream that was not admitted. If there are too many of those as
// well, they are those of all senders of the service, and if there are too many of
// these, of different __name__ or sample types, an error that wraps ErrLimit.
func (l *Limit) Reduce(t int64, def *labelindex.Definition) (labels.Labels, error) {
	full := def.Labels
	service := full.Get(labelindex.LabelServiceName)
	l.mu.Lock()
	defer l.mu.Unlock()
	c, err := l.counted(t, def)
	if err != nil {
		return full, err
	}
	for _, bare := range []bool{false, true} {
		b := labels.NewBuilder(labels.FromStrings(labelindex.LabelName, full.Get(labelindex.LabelName), labelindex.LabelServiceName, service, labelReduced, "true"))
		full.Range(func(l labels.Label) {
			if !bare && c.keep[l.Name] || labelindex.IsCapture(l) {
				b.Set(l.Name, l.Value)
			}
		})
		r := *def
		r.Labels = b.Labels()
		most := l.share()
		if bare {
			most *= 2
		}
		if l.add(c.reduced, &r, most) {
			return r.Labels, nil
		}
	}
	return full, fmt.Errorf("%w: service %.100q has more than %d series in an hour (limits.max_series_per_service_hour), also without its labels: too many different __name__ or sample types",
		storeerr.ErrLimit, service, l.most)
}

// add reports whether a label set is in a set, to which it is added if that has less than
// most. The caller holds the lock.
func (l *Limit) add(set map[uint64]struct{}, def *labelindex.Definition, most int) bool {
	hash := def.Hash()
	if _, ok := set[hash]; ok {
		return true
	}
	if len(set) >= most {
		return false
	}
	set[hash] = struct{}{}
	l.hashes++
	return true
}

// counted returns the label sets of a stream's service in the hour of a time. The caller
// holds the lock.
func (l *Limit) counted(t int64, def *labelindex.Definition) (*serviceSeries, error) {
	at := hourOf{layout.EpochOf(t), layout.HourOf(t)}
	if l.hours[at] == nil {
		for l.hashes > maxSeriesHashes && len(l.recent) > 0 {
			l.forget(l.recent[0])
		}
		l.hours[at] = map[string]*serviceSeries{}
	}
	if n := len(l.recent); n == 0 || l.recent[n-1] != at {
		l.recent = append(slices.DeleteFunc(l.recent, func(o hourOf) bool { return o == at }), at)
	}
	service := def.Labels.Get(labelindex.LabelServiceName)
	if c := l.hours[at][service]; c != nil {
		return c, nil
	}
	c := &serviceSeries{seen: map[uint64]struct{}{}, reduced: map[uint64]struct{}{}}
	err := l.epochs.EachStreamOf(at.epoch, at.hour, service, func(d *labelindex.Definition) {
		set := c.seen
		if d.Labels.Has(labelReduced) {
			set = c.reduced
		}
		l.add(set, d, math.MaxInt)
	})
	if err != nil {
		l.hashes -= len(c.seen) + len(c.reduced)
		return nil, err
	}
	l.hours[at][strings.Clone(service)] = c
	return c, nil
}

// forget forgets an hour, which is counted anew when it is written again.
func (l *Limit) forget(at hourOf) {
	for _, c := range l.hours[at] {
		l.hashes -= len(c.seen) + len(c.reduced)
	}
	delete(l.hours, at)
	l.recent = slices.DeleteFunc(l.recent, func(o hourOf) bool { return o == at })
}
