package target

import (
	"cmp"
	"container/list"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/untrusted"
)

const (
	defaultCacheSize = 8192

	// A process is assumed to run the same program for trustTime; if the sampler reports
	// another executable, for trustOther.
	trustTime  = time.Second
	trustOther = 50 * time.Millisecond

	// A process is read again after firstReread, after twice that time and so on: an SDK
	// publishes its context when it starts, and a process may be moved to another group.
	firstReread = 10 * time.Second
	lastReread  = time.Hour

	// readTimeout bounds reading about a process, maxStuck the reads that have exceeded
	// it and are still blocked; silentTime is how long a process is not read again after
	// that.
	readTimeout = 2 * time.Second
	maxStuck    = 64
	silentTime  = 10 * time.Minute
	silentQuiet = 10 * time.Second // least time between two log messages
)

// A Resolver finds the labels of processes. It is safe for concurrent use.
type Resolver struct {
	o       Options
	log     *slog.Logger
	node    string
	procfs  procfs
	own     struct{ id, pod string } // of this process' container, if its path hides it
	reading untrusted.Guard
	lookups *prometheus.CounterVec
	bad     *prometheus.CounterVec
	size    prometheus.Gauge

	mu     sync.Mutex
	silent map[int]time.Time     // until when processes whose files did not answer are not read, by PID
	warned time.Time             // time of the last log message about one of them
	known  map[int]*list.Element // by PID
	recent *list.List            // of *entry, most recently used first
	// finished are the labels of processes and containers, by the hash of Raw's labels.
	finished map[uint64]finished
}

// An entry is a process whose labels are known.
type entry struct {
	pid     int
	image   image
	comm    string
	exe     string
	labels  labels.Labels // of Raw
	checked time.Time
	// reread is when the process is read again in any case, and pause how long after the
	// time before.
	reread time.Time
	pause  time.Duration
}

// New returns a Resolver. It holds nothing that has to be closed.
func New(o Options) *Resolver {
	o.ProcRoot = cmp.Or(o.ProcRoot, "/proc")
	o.CacheSize = cmp.Or(o.CacheSize, defaultCacheSize)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Node == "" {
		o.Node, _ = os.Hostname()
	}
	r := &Resolver{
		o:       o,
		log:     o.Logger,
		node:    labelValue(cmp.Or(o.Node, "unknown")),
		procfs:  procfs{o.ProcRoot},
		reading: untrusted.Guard{Limit: readTimeout, Stuck: maxStuck},
		silent:  map[int]time.Time{},
		bad: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_target_unreadable_processes_total",
			Help: "Processes whose files in procfs could not be read, by reason (timeout, busy, panic).",
		}, []string{"reason"}),
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "flameline_target_lookups_total",
			Help: "Processes looked up, by where their labels came from (cache, procfs, hint).",
		}, []string{"source"}),
		size: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flameline_target_processes", Help: "Processes whose labels are kept.",
		}),
		known:  map[int]*list.Element{},
		recent: list.New(),

		finished: map[uint64]finished{},
	}
	r.own.id, r.own.pod = r.procfs.ownContainer()
	if o.Registerer != nil {
		o.Registerer.MustRegister(r.lookups, r.bad, r.size)
	}
	return r
}

// Node is the value of the node label.
func (r *Resolver) Node() string { return r.node }

// PIDs lists the processes of this machine, threads of the kernel included, in ascending
// order.
func (r *Resolver) PIDs() (pids []int, err error) {
	entries, err := os.ReadDir(r.o.ProcRoot)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// Raw returns what is known about a process, for Finish. It is cached by PID and start of
// the program. hint is used if the process has ended already. PID 0 is the kernel.
func (r *Resolver) Raw(pid int, hint Hint) labels.Labels {
	if pid == 0 {
		return r.rawLabels(&process{stat: stat{comm: cmp.Or(hint.Comm, "swapper"), kernel: true}})
	}
	now := time.Now()
	if ls, ok := r.cached(pid, hint, now); ok {
		r.lookups.WithLabelValues("cache").Inc()
		return ls
	}
	p, err := readProcess(r, pid, r.procfs.process)
	if err != nil || !p.kernel && p.exe == "" && len(p.args) == 0 {
		return r.endedLabels(pid, hint)
	}
	p.exe = cmp.Or(p.exe, hint.Exe)
	r.complete(&p.cgroup, hint)
	ls := r.rawLabels(&p)
	r.remember(&entry{pid: pid, image: p.image, comm: p.comm, exe: p.exe, labels: ls, checked: now})
	r.lookups.WithLabelValues("procfs").Inc()
	return ls
}

// complete adds the container that a control group's path does not show: the one that
// the sampler found, or this process' own, whose name a cgroup namespace hides.
func (r *Resolver) complete(c *cgroup, hint Hint) {
	switch {
	case len(c.containers) > 0:
	case hint.ContainerID != "":
		c.containers = []string{hint.ContainerID}
	case c.path == "/" && r.own.id != "":
		c.containers, c.pod = []string{r.own.id}, r.own.pod
	}
	if c.pod == "" && r.own.pod != "" && strings.HasPrefix(c.path, "/../") && strings.Count(c.path, "/") == 2 {
		c.pod = r.own.pod // another container of the same pod
	}
}

// cached returns the cached labels of a process that still runs the same program.
func (r *Resolver) cached(pid int, hint Hint, now time.Time) (labels.Labels, bool) {
	r.mu.Lock()
	el := r.known[pid]
	if el == nil {
		r.mu.Unlock()
		return labels.EmptyLabels(), false
	}
	r.recent.MoveToFront(el)
	e := *el.Value.(*entry)
	r.mu.Unlock()

	trust := trustTime
	if hint.Exe != "" && hint.Exe != e.exe {
		trust = trustOther
	}
	if !hint.Check && now.Sub(e.checked) < trust {
		return e.labels, true
	}
	if now.After(e.reread) {
		return labels.EmptyLabels(), false
	}
	same, err := readProcess(r, pid, func(pid int) (bool, error) {
		s, err := r.procfs.stat(pid)
		if err != nil || s.image != e.image || s.comm != e.comm && !s.kernel {
			return false, err // it has ended, runs another program, or has another name
		}
		// If addresses are hidden or not random, exec is visible by the link to the
		// executable.
		exe := r.procfs.exe(pid)
		return exe == "" || exe == e.exe, nil
	})
	if err != nil || !same {
		return labels.EmptyLabels(), false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if el := r.known[pid]; el != nil {
		el.Value.(*entry).checked = now
	}
	return e.labels, true
}

// readProcess calls a function that reads about a process, with a timeout. Some of procfs is in
// the memory of the process (its arguments and its environment), which may be mapped
// from a file system that does not answer. Such a process is not read again for
// silentTime.
func readProcess[T any](r *Resolver, pid int, read func(pid int) (T, error)) (T, error) {
	var none T
	r.mu.Lock()
	silent := time.Now().Before(r.silent[pid])
	r.mu.Unlock()
	if silent {
		return none, untrusted.ErrTimeout
	}
	result, err := untrusted.Do(&r.reading, func() (T, error) { return read(pid) })
	reason := untrusted.Reason(err)
	if reason == "" {
		return result, err
	}
	r.bad.WithLabelValues(reason).Inc()
	now, level := time.Now(), slog.LevelDebug
	r.mu.Lock()
	if len(r.silent) >= r.o.CacheSize {
		clear(r.silent)
	}
	if reason != "busy" { // which is other processes' fault
		r.silent[pid] = now.Add(silentTime)
	}
	if now.Sub(r.warned) >= silentQuiet {
		r.warned, level = now, slog.LevelWarn
	}
	r.mu.Unlock()
	r.log.Log(context.Background(), level, "process is not readable", "pid", pid, "reason", reason, "err", err, "next_try", silentTime)
	return none, err
}

// endedLabels returns the labels of a process that cannot be read any more: the cached ones,
// else those that follow from the hint.
func (r *Resolver) endedLabels(pid int, hint Hint) labels.Labels {
	r.mu.Lock()
	el := r.known[pid]
	r.mu.Unlock()
	r.lookups.WithLabelValues("hint").Inc()
	if el != nil {
		if e := el.Value.(*entry); hint.Exe == "" || hint.Exe == e.exe {
			return e.labels
		}
	}
	p := process{
		stat:    stat{comm: hint.Comm},
		exe:     hint.Exe,
		service: resourceFromEnv(func(name string) string { return hint.Env[name] }),
	}
	r.complete(&p.cgroup, hint)
	return r.rawLabels(&p)
}

// remember caches the labels of a process, and drops those that were not used for the
// longest time.
func (r *Resolver) remember(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.pause = firstReread
	if el := r.known[e.pid]; el != nil {
		if before := el.Value.(*entry); before.image == e.image {
			e.pause = min(2*before.pause, lastReread)
		}
	}
	e.reread = e.checked.Add(e.pause)
	if el := r.known[e.pid]; el != nil {
		el.Value = e
		r.recent.MoveToFront(el)
		return
	}
	r.known[e.pid] = r.recent.PushFront(e)
	for r.recent.Len() > r.o.CacheSize {
		oldest := r.recent.Back()
		r.recent.Remove(oldest)
		delete(r.known, oldest.Value.(*entry).pid)
	}
	r.size.Set(float64(r.recent.Len()))
}
