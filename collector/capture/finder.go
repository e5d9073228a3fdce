package capture

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/sample"
	"github.com/flameline/flameline/collector/target"
	"github.com/flameline/flameline/pkg/profile"
)

const (
	// labelPatience is how long the sampler waits for labels of a container that is new.
	labelPatience = 50 * time.Millisecond
	// secondLook is when processes are looked at again if none matches: one that was just
	// started may not run its program yet, or its container not be known.
	secondLook = time.Second
)

// A finder finds the processes that match a request, and is the sampler's source of labels.
// all and begun are called by one goroutine.
type finder struct {
	targets *target.Resolver
	request *request
	// looked is how often a process was looked at. It has other labels once it runs
	// another program, or when its container is known.
	looked map[int]int
	chosen map[int]bool
}

func newFinder(t *target.Resolver, r *request) *finder {
	return &finder{targets: t, request: r, looked: map[int]int{}, chosen: map[int]bool{}}
}

// all returns the processes that match now, or a second later if none does.
func (f *finder) all(ctx context.Context) ([]int, error) {
	pids, err := f.begun(ctx)
	if err != nil || len(pids) > 0 {
		return pids, err
	}
	select {
	case <-ctx.Done():
		return nil, nil // with the answer of the first look
	case <-time.After(secondLook):
		return f.begun(ctx)
	}
}

// begun returns the processes that match and were not returned before. Those that are new
// are looked at twice, others now and then.
func (f *finder) begun(ctx context.Context) (pids []int, err error) {
	running, err := f.targets.PIDs()
	if err != nil {
		return nil, err
	}
	for _, pid := range running {
		f.looked[pid]++
		if n := f.looked[pid]; f.chosen[pid] || n > 2 && n%8 != 0 {
			continue
		}
		if f.labels(ctx, f.targets.Raw(pid, target.Hint{Check: true})).IsEmpty() {
			continue
		}
		f.chosen[pid] = true
		pids = append(pids, pid)
	}
	for pid := range f.looked {
		if _, ok := slices.BinarySearch(running, pid); !ok {
			delete(f.looked, pid)
			delete(f.chosen, pid)
		}
	}
	return pids, nil
}

// labels returns the labels of a series, none if they do not match.
func (f *finder) labels(ctx context.Context, raw labels.Labels) labels.Labels {
	ls := f.targets.Finish(ctx, raw)
	if ls.IsEmpty() || !f.request.matches(ls) {
		return labels.EmptyLabels()
	}
	return ls
}

// Labels implements sample.Labeler: of processes that do not match there are none.
func (f *finder) Labels(pid int, hint target.Hint) labels.Labels {
	raw := f.targets.Raw(pid, hint)
	ctx, cancel := context.WithTimeout(context.Background(), labelPatience)
	defer cancel()
	if f.labels(ctx, raw).IsEmpty() {
		return labels.EmptyLabels()
	}
	return raw
}

// finisher returns what makes the labels of a capture's series.
func (f *finder) finisher(id string) sample.Finisher {
	return func(ctx context.Context, raw labels.Labels) labels.Labels {
		ls := f.labels(ctx, raw)
		if ls.IsEmpty() {
			return ls
		}
		b := labels.NewBuilder(ls)
		b.Set(profile.LabelCapture, id)
		return b.Labels()
	}
}
