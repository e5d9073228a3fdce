package symbolize

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/flameline/flameline/collector/untrusted"
)

const (
	defaultCacheBytes  = 32 << 20
	defaultIdleTimeout = 10 * time.Minute
	defaultRetryAfter  = time.Minute
	defaultOpenFiles   = 256
	defaultInflate     = 1 << 30

	// holdTime is how long a descriptor is held at least: long enough for the
	// samples of an ended process to arrive. One of a container's file, whose
	// path leads nowhere once the process is gone, is held for as long as the
	// binary is in use; not for longer, so that the file system of a stopped
	// container does not stay busy.
	holdTime = 2 * time.Minute
	// maxBinaries bounds the binaries that are known.
	maxBinaries = 32 << 10

	// openTimeout and readTimeout are how long opening a file and reading its
	// symbols may take, beyond which its file system is taken for one that does
	// not answer; maxStuck bounds the goroutines that wait for such ones.
	openTimeout = 5 * time.Second
	readTimeout = 20 * time.Second
	maxStuck    = 64
	// unreadableTimes is how many times longer than Options.RetryAfter a file is
	// left alone that is malformed or costs too much.
	unreadableTimes = 10
	// unreadableQuiet is the time between two log lines about such files.
	unreadableQuiet = 10 * time.Second
)

// A Symbolizer finds functions at addresses. Its tables are built at the first
// Lookup, kept within a byte budget and dropped when nobody asks any more.
type Symbolizer struct {
	o   Options
	log *slog.Logger
	// noInflateDir says once that nothing can be written to InflateDir.
	noInflateDir sync.Once
	metrics      *metrics
	perf         perfMaps
	stop         chan struct{}
	stopped      sync.WaitGroup

	// building admits one build at a time: it bounds transient memory.
	building sync.Mutex

	opening, reading, readingLines untrusted.Guard

	mu      sync.Mutex
	entries map[FileID]*entry
	recent  *list.List // of *entry, most recently used first
	held    []*entry   // with a descriptor, oldest first
	bytes   int64      // of all tables and lines
	closed  bool
	warned  time.Time // when an unreadable file was logged last

	inflated int64 // bytes of files that compressed DWARF was inflated to
}

// An entry is a known binary. Symbolizer.mu guards it.
type entry struct {
	id      FileID
	source  *source
	element *list.Element
	used    time.Time
	table   *table // nil if not built
	bytes   int64  // of table and its cached names
	retry   time.Time
	broken  bool // the last build found no symbols in the file
	passes  int  // by which names were found without a table, since the last one
	whole   bool // names cannot be found without a table
	large   bool // its table drives out those of others

	lines      *debugLines // nil: none were asked for
	linesRetry time.Time
	linesBusy  bool  // they are being read
	linesSteps int64 // that reading them took, less what the time until linesSince made up for
	linesSince time.Time
}

func newSymbolizer(o Options) *Symbolizer {
	o.ProcRoot = cmp.Or(o.ProcRoot, "/proc")
	o.CacheBytes = cmp.Or(o.CacheBytes, defaultCacheBytes)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, defaultIdleTimeout)
	o.RetryAfter = cmp.Or(o.RetryAfter, defaultRetryAfter)
	o.OpenFiles = cmp.Or(o.OpenFiles, defaultOpenFiles)
	o.InflateBytes = cmp.Or(o.InflateBytes, defaultInflate)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Symbolizer{
		o:       o,
		log:     o.Logger,
		metrics: newMetrics(o.Registerer),
		stop:    make(chan struct{}),
		entries: map[FileID]*entry{},
		recent:  list.New(),
		opening: untrusted.Guard{Limit: openTimeout, Stuck: maxStuck, Shorten: true},
		reading: untrusted.Guard{Limit: readTimeout, Stuck: maxStuck},

		readingLines: untrusted.Guard{Limit: linesTimeout, Stuck: maxSlowReads},
	}
	s.perf.guard = untrusted.Guard{Limit: openTimeout, Stuck: maxStuck, Shorten: true}
	s.perf.report = func(pid int, err error) { s.report("perf_map", fmt.Sprintf("perf-%d.map", pid), "", err) }
	s.perf.procRoot = o.ProcRoot
	s.perf.maxBytes = o.CacheBytes / 4
	s.stopped.Go(s.sweep)
	return s
}

// Add makes a binary known under an ID. It reads nothing but holds a
// descriptor of the file for a while, so that the binary of a process that
// ends soon, or whose file was deleted, can still be read. Adding a known ID
// again offers another process to read it from, which is cheap: call it for
// every new pair of process and binary. An empty Path is then the known one.
func (s *Symbolizer) Add(id FileID, b Binary) {
	now := time.Now()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	e, known := s.entries[id]
	if !known {
		e = &entry{id: id, source: newSource(s.o.ProcRoot, b), used: now}
		e.element = s.recent.PushFront(e)
		s.entries[id] = e
		s.trim()
	}
	settled := e.table != nil || e.broken && now.Before(e.retry)
	s.mu.Unlock()

	type result struct{ news, opened bool }
	r, err := untrusted.Do(&s.opening, func() (r result, err error) {
		r.news = e.source.offer(b)
		if known && !r.news || settled || b.Open != nil || b.Path == vdsoPath {
			return result{}, nil
		}
		r.opened, err = e.source.hold(now)
		return r, err
	})
	if err != nil {
		s.report("native", b.Name, b.BuildID, err)
		s.log.Debug("binary cannot be opened", "module", b.Name, "pid", b.PID, "err", err)
		return
	}
	if !r.news {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.retry = time.Time{}
	if r.opened {
		s.held = append(s.held, e)
	}
	for i := 0; len(s.held) > s.o.OpenFiles && i < len(s.held); {
		if s.held[i].source.release(now.Add(time.Hour)) {
			s.held = append(s.held[:i], s.held[i+1:]...)
		} else {
			i++
		}
	}
	s.metrics.files.Set(float64(len(s.held)))
}

// Lookup returns the lines at an ELF virtual address of a binary, innermost
// inlined function first. The slice is shared and must not be changed. It
// reports false if the binary or the address is unknown. The first Lookup in a
// binary reads its symbols.
func (s *Symbolizer) Lookup(id FileID, addr uint64) ([]Line, bool) {
	lines, result := s.lookup(id, addr)
	s.metrics.lookups.WithLabelValues("native", result).Inc()
	return lines, result == resultOK
}

// LookupAll is Lookup of several addresses of a binary: nil for those that are unknown.
// For a binary that is not looked up in often it reads the names of these addresses only.
func (s *Symbolizer) LookupAll(id FileID, addrs []uint64) [][]Line {
	found := make([][]Line, len(addrs))
	e, t := s.use(id)
	if e != nil && t == nil {
		if t = s.buildAt(e, addrs); t == nil {
			t = s.build(e)
		}
	}
	for i, addr := range addrs {
		result := resultUnknown
		switch {
		case t != nil:
			found[i], result = s.lookupIn(e, t, addr)
		case e != nil:
			result = resultNoTable
		}
		s.metrics.lookups.WithLabelValues("native", result).Inc()
	}
	s.addLines(e, t, addrs, found)
	return found
}

func (s *Symbolizer) lookup(id FileID, addr uint64) ([]Line, string) {
	e, t := s.use(id)
	if e == nil {
		return nil, resultUnknown
	}
	if t == nil {
		if t = s.build(e); t == nil {
			return nil, resultNoTable
		}
	}
	lines, result := s.lookupIn(e, t, addr)
	if result != resultOK {
		return nil, result
	}
	found := [][]Line{lines}
	s.addLines(e, t, []uint64{addr}, found)
	return found[0], resultOK
}

// lookupIn looks up the function at an address in a table of a binary.
func (s *Symbolizer) lookupIn(e *entry, t *table, addr uint64) ([]Line, string) {
	lines, grown, ok := t.lookup(addr, s.o.Style, functionName)
	if !ok {
		return nil, resultNoFunc
	}
	if grown > 0 {
		s.mu.Lock()
		if e.table == t {
			e.bytes += grown
			s.bytes += grown
			s.trim()
		}
		s.mu.Unlock()
	}
	return lines, resultOK
}

// use returns the entry of a binary and its table, if it is built.
func (s *Symbolizer) use(id FileID) (*entry, *table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[id]
	if e == nil {
		return nil, nil
	}
	e.used = time.Now()
	s.recent.MoveToFront(e.element)
	return e, e.table
}

// build returns the table of a binary; nil if it has none, or had none lately.
func (s *Symbolizer) build(e *entry) *table {
	s.mu.Lock()
	wait := time.Now().Before(e.retry) || s.closed
	s.mu.Unlock()
	if wait {
		return nil
	}
	s.building.Lock()
	defer s.building.Unlock()
	s.mu.Lock()
	built, wait := e.table, time.Now().Before(e.retry) || s.closed
	s.mu.Unlock()
	if built != nil || wait {
		return built
	}

	begin := time.Now()
	t, err := untrusted.Do(&s.reading, func() (t *table, err error) {
		err = e.source.read(func(in *file) (err error) {
			t, err = readTable(in, e.source.binary, e.source.openDebug)
			if t == nil && !errors.Is(err, errNoSymbols) {
				return err
			}
			kept, keptErr := s.readKept(in, e.source.binary, t)
			if keptErr != nil {
				s.report("native", e.source.binary.Name, e.source.binary.BuildID, keptErr)
			}
			if t = kept; t != nil {
				return nil
			}
			return err
		})
		return t, err
	})
	took := time.Since(begin)
	s.metrics.latency.Observe(took.Seconds())

	bad := err != nil && s.report("native", e.source.binary.Name, e.source.binary.BuildID, err)
	if err == nil && t.damage != nil {
		s.report("part", e.source.binary.Name, e.source.binary.BuildID, t.damage)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		e.retry = time.Now().Add(s.o.RetryAfter)
		if bad {
			e.retry = time.Now().Add(unreadableTimes * s.o.RetryAfter)
		}
		e.broken = !errors.Is(err, errUnavailable)
		s.metrics.builds.WithLabelValues("error").Inc()
		s.log.Debug("binary has no readable symbols", "module", e.source.binary.Name, "path", e.source.binary.Path, "err", err)
		return nil
	}
	s.metrics.builds.WithLabelValues("ok").Inc()
	s.log.Debug("symbols read", "module", e.source.binary.Name, "ranges", len(t.starts), "bytes", t.bytes(), "took", took)
	if s.closed || s.entries[e.id] != e {
		return t // forgotten meanwhile; good for this lookup
	}
	e.table, e.bytes, e.passes = t, t.bytes(), 0
	e.large = e.bytes > s.o.CacheBytes/4
	s.bytes += e.bytes
	s.metrics.tables.Inc()
	s.trim()
	return t
}

// maxPasses is how many times names are read without a table before one is built, which
// takes about as long as all of them.
const maxPasses = 8

// buildAt returns a table of a binary that knows some addresses, or nil if the whole one
// is to be built.
func (s *Symbolizer) buildAt(e *entry, addrs []uint64) *table {
	s.mu.Lock()
	build := e.whole || e.passes >= maxPasses && !e.large || time.Now().Before(e.retry) || s.closed
	if !build {
		e.passes++
	}
	s.mu.Unlock()
	if build {
		return nil
	}
	s.building.Lock()
	defer s.building.Unlock()
	begin := time.Now()
	t, err := untrusted.Do(&s.reading, func() (t *table, err error) {
		err = e.source.read(func(in *file) (err error) {
			t, err = readTableAt(in, addrs)
			return err
		})
		return t, err
	})
	s.metrics.passes.Observe(time.Since(begin).Seconds())
	if err != nil {
		s.mu.Lock()
		e.whole = e.whole || errors.Is(err, errWhole)
		s.mu.Unlock()
		return nil
	}
	return t
}

// Renew has the symbols of a binary read again at its next Lookup, if they lacked the
// debug file with a build ID when they were read.
func (s *Symbolizer) Renew(buildID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		id := e.source.binary.BuildID
		switch {
		case e.table != nil && e.table.wants == buildID:
			s.drop(e, "renewed")
			e.linesRetry = time.Time{}
		case e.table == nil && (id == buildID || id == ""):
			e.retry = time.Time{}
		}
	}
	s.metrics.bytes.Set(float64(s.bytes + s.perf.size()))
}

// report counts and logs a file that could not be read, if the file is at fault,
// and reports whether it is.
func (s *Symbolizer) report(kind, name, buildID string, err error) bool {
	reason := untrusted.Reason(err)
	if reason == "" {
		return false
	}
	s.metrics.bad.WithLabelValues(kind, reason).Inc()
	level, now := slog.LevelDebug, time.Now()
	s.mu.Lock()
	if now.Sub(s.warned) >= unreadableQuiet {
		s.warned, level = now, slog.LevelWarn
	}
	s.mu.Unlock()
	s.log.Log(context.Background(), level, "symbols of a file are not readable", "file", name, "build_id", buildID, "kind", kind, "reason", reason, "err", err)
	return true
}

// trim keeps within the budgets: it drops the tables used least lately, but
// never the one used last, and forgets binaries beyond maxBinaries. The caller
// holds mu.
func (s *Symbolizer) trim() {
	for el := s.recent.Back(); el != nil && s.bytes > s.o.CacheBytes && el != s.recent.Front(); el = el.Prev() {
		s.drop(el.Value.(*entry), "bytes")
	}
	for s.recent.Len() > maxBinaries {
		e := s.recent.Back().Value.(*entry)
		s.drop(e, "bytes")
		s.recent.Remove(e.element)
		delete(s.entries, e.id)
	}
	s.metrics.bytes.Set(float64(s.bytes + s.perf.size()))
}

// drop frees the table and the lines of an entry. The caller holds mu.
func (s *Symbolizer) drop(e *entry, reason string) {
	s.dropLines(e)
	if e.table == nil {
		return
	}
	s.bytes -= e.bytes
	e.table, e.bytes = nil, 0
	s.metrics.tables.Dec()
	s.metrics.evictions.WithLabelValues(reason).Inc()
}

// sweep frees what was not used for a while, until Close.
func (s *Symbolizer) sweep() {
	tick := time.NewTicker(max(min(s.o.IdleTimeout, holdTime)/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case now := <-tick.C:
			s.expire(now)
		}
	}
}

// expire drops idle tables and closes descriptors held for long enough.
func (s *Symbolizer) expire(now time.Time) {
	s.perf.expire(now.Add(-s.o.IdleTimeout))
	s.mu.Lock()
	defer s.mu.Unlock()
	for el := s.recent.Back(); el != nil; el = el.Prev() {
		e := el.Value.(*entry)
		if now.Sub(e.used) < s.o.IdleTimeout {
			break
		}
		s.drop(e, "idle")
	}
	kept := s.held[:0]
	for _, e := range s.held {
		inUse := now.Sub(e.used) < s.o.IdleTimeout && !e.source.inOwnRoot()
		if inUse || !e.source.release(now.Add(-holdTime)) {
			kept = append(kept, e)
		}
	}
	clear(s.held[len(kept):])
	s.held = kept
	s.metrics.files.Set(float64(len(s.held)))
	s.metrics.bytes.Set(float64(s.bytes + s.perf.size()))
}

// LookupPerfMap returns the function at an address of a process' memory
// according to the perf map that its just-in-time compiler writes
// (/tmp/perf-PID.map in the process' own root and PID namespace). The slice is
// shared and must not be changed.
func (s *Symbolizer) LookupPerfMap(pid int, addr uint64) ([]Line, bool) {
	lines, result := s.perf.lookup(pid, addr)
	s.metrics.lookups.WithLabelValues("perf_map", result).Inc()
	return lines, result == resultOK
}

// Close drops all tables and descriptors. Lookups find nothing afterwards.
func (s *Symbolizer) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	s.stopped.Wait()
	// A build that still reads its file ends first.
	s.building.Lock()
	defer s.building.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.held {
		e.source.release(time.Now().Add(time.Hour))
	}
	s.held = nil
	for _, e := range s.entries {
		s.dropLines(e)
	}
	s.entries = map[FileID]*entry{}
	s.recent.Init()
	s.bytes = 0
	return nil
}
