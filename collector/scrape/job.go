package scrape

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
)

// A job is a Config with its targets. The Manager's mu guards it.
type job struct {
	manager *Manager
	config  Config
	client  *http.Client
	ctx     context.Context // of the running targets; nil before start

	targets []*target // by key
	// dropped are the targets that are not scraped, up to keep_dropped_targets of
	// droppedCount. invalid is the number of those with an error.
	dropped               []DroppedTarget
	droppedCount, invalid int
}

// newJob makes a job with the targets of static_configs, without starting it. An
// invalid one of these is an error.
func (m *Manager) newJob(c Config) (*job, error) {
	client, err := promconfig.NewClientFromConfig(c.HTTPClientConfig, c.JobName, promconfig.WithUserAgent(userAgent))
	if err != nil {
		return nil, err
	}
	if err := c.checkStatic(m.o.LabelLimits); err != nil {
		return nil, err
	}
	j := &job{manager: m, config: c, client: client}
	j.sync(nil)
	return j, nil
}

// checkStatic returns an error for the first target of static_configs that cannot be.
func (c *Config) checkStatic(limits LabelLimits) error {
	b := labels.NewBuilder(labels.EmptyLabels())
	for i, group := range c.StaticConfigs {
		for _, given := range group.Targets {
			c.discoveredLabels(b, given, group.Labels)
			if _, err := c.target(b, limits); err != nil {
				return fmt.Errorf("static_configs[%d]: target %q: %w", i, given[model.AddressLabel], err)
			}
		}
	}
	return nil
}

// start runs the targets, and those that are discovered later, until ctx ends or stop is
// called.
func (j *job) start(ctx context.Context) {
	j.ctx = ctx
	for _, t := range j.targets {
		t.start(ctx)
	}
}

// stop ends the job, and returns when its targets have stopped.
func (j *job) stop() {
	j.cancel(j.targets)
	for _, t := range j.targets {
		t.done.Wait()
	}
}

func (*job) cancel(targets []*target) {
	for _, t := range targets {
		if t.stop != nil {
			t.stop()
		}
	}
}

// sync makes the targets of static_configs and of the discovered groups those of the
// job. Targets that were there before go on undisturbed, with what is known of their
// counters; those that are gone stop in the background.
func (j *job) sync(discovered []*targetgroup.Group) {
	before := make(map[string]*target, len(j.targets))
	for _, t := range j.targets {
		before[t.key] = t
	}
	found := j.relabel(j.config.groups(discovered))
	j.limit(found, before)
	next := make([]*target, 0, len(found))
	for key, t := range found {
		old := before[key]
		if old == nil {
			t.newLoops(j.manager, &j.config, j.client)
			if j.ctx != nil {
				t.start(j.ctx)
			}
			next = append(next, t)
			continue
		}
		old.discovered = t.discovered
		next = append(next, old)
		delete(before, key)
	}
	slices.SortFunc(next, func(a, b *target) int { return cmp.Compare(a.key, b.key) })
	j.targets = next
	for _, t := range before {
		j.cancel([]*target{t})
		j.manager.background.Go(t.done.Wait)
	}
}

// relabel returns the targets of groups by key, and sets those that are dropped.
// Duplicates are neither.
func (j *job) relabel(groups []*targetgroup.Group) map[string]*target {
	invalid, first := j.invalid, error(nil)
	j.dropped, j.droppedCount, j.invalid = nil, 0, 0
	found := map[string]*target{}
	b := labels.NewBuilder(labels.EmptyLabels())
	for _, g := range groups {
		for _, given := range g.Targets {
			j.config.discoveredLabels(b, given, g.Labels)
			all := b.Labels()
			t, err := j.config.target(b, j.manager.o.LabelLimits)
			switch {
			case t == nil:
				first = cmp.Or(first, err)
				j.drop(all, err)
			case found[t.key] == nil:
				found[t.key] = t
			}
		}
	}
	if j.invalid > 0 && j.invalid != invalid {
		j.manager.log.Warn("discovered targets cannot be scraped", "job", j.config.JobName, "targets", j.invalid, "first", first)
	}
	return found
}

func (j *job) drop(discovered labels.Labels, err error) {
	if err != nil {
		j.invalid++
	}
	j.droppedCount++
	if most := j.config.KeepDroppedTargets; most == 0 || len(j.dropped) < int(most) {
		j.dropped = append(j.dropped, DroppedTarget{discovered, err})
	}
}

// limit drops targets beyond target_limit: new ones before those that are scraped.
func (j *job) limit(found, before map[string]*target) {
	most := int(j.config.TargetLimit)
	if most == 0 || len(found) <= most {
		return
	}
	keys := make([]string, 0, len(found))
	for key := range found {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if old := before[a] != nil; old != (before[b] != nil) {
			if old {
				return -1
			}
			return 1
		}
		return cmp.Compare(a, b)
	})
	for _, key := range keys[most:] {
		j.drop(found[key].discovered, fmt.Errorf("the job has more than %d targets (target_limit)", most))
		delete(found, key)
	}
}
