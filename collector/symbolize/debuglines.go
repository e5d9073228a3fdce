package symbolize

import (
	"errors"
	"os"
	"runtime/debug"
	"time"

	"github.com/flameline/flameline/collector/untrusted"
)

// linesBudget is what one read of lines may cost, beside maxSteps. Its time is long:
// the collector may have to share a busy machine.
var linesBudget = untrusted.Budget{Bytes: 4 << 30, Time: 5 * time.Minute}

const (
	// maxSteps bounds the entries, rows and ranges of DWARF that one read of lines
	// passes over, some 10 s of CPU time.
	maxSteps = 256 << 20
	// maxBinarySteps are those that a binary may cost before its lines are put off.
	// Each second that passes makes up for some, about 5 % of a CPU.
	maxBinarySteps = 2 * maxSteps
	stepsPerSecond = 1 << 20

	// linesTimeout is how long lookups wait for lines. A read that takes longer goes
	// on, and what it finds is there for later ones.
	linesTimeout = 10 * time.Second
	maxSlowReads = 4
)

// A debugPlace is the file that has the debug information of a binary: the binary
// itself, or one of two kinds of separate debug files.
type debugPlace struct {
	installed string // path, as openDebug takes it
	kept      string // build ID, as Options.DebugFiles takes it
}

// debugLines are the lines and inlined calls of a binary that were asked for, and
// what finds others. Symbolizer.mu guards it; what it points to does not change.
type debugLines struct {
	place   debugPlace
	file    *indexedFile         // nil: not read yet
	units   map[uint64]*keptUnit // by offset
	answers map[uint64][]Line    // by address

	unitBytes, answerBytes int64
	clock                  uint64
}

// An indexedFile is what is kept of a file with DWARF.
type indexedFile struct {
	info     os.FileInfo // nil if it is not a file of a file system
	index    *unitIndex
	inflated *inflated // nil without compressed sections
	alt      *indexedFile
	damage   error // why parts of the file were not read; nil if all were
}

// A keptUnit is a unit that was read.
type keptUnit struct {
	info *lineInfo
	used uint64 // when, by debugLines.clock
}

// bytes is the memory that the lines hold.
func (l *debugLines) bytes() int64 {
	if l == nil {
		return 0
	}
	n := l.unitBytes + l.answerBytes
	for f := l.file; f != nil; f = f.alt {
		n += f.index.bytes()
	}
	return n
}

// inflatedBytes is the room of the file that compressed sections were inflated to.
func (f *indexedFile) inflatedBytes() (n int64) {
	for ; f != nil; f = f.alt {
		if f.inflated != nil && f.inflated.file != nil {
			n += f.inflated.size
		}
	}
	return n
}

// drop frees what compressed sections were inflated to.
func (f *indexedFile) drop() {
	for ; f != nil; f = f.alt {
		if f.inflated != nil {
			f.inflated.drop()
		}
	}
}

// use keeps what compressed sections were inflated to until the function that it
// returns is called. It returns nil for f if it was dropped already.
func (f *indexedFile) use() (used *indexedFile, done func()) {
	var all []func()
	done = func() {
		for _, done := range all {
			done()
		}
	}
	for part := f; part != nil; part = part.alt {
		if part.inflated == nil {
			continue
		}
		release, ok := part.inflated.use()
		if !ok {
			return nil, done
		}
		all = append(all, release)
	}
	return f, done
}

// A wantedLine is an address whose lines are wanted.
type wantedLine struct {
	address  uint64
	function string // at the address, with everything inlined into it
	at       int    // in the caller's list
	unit     *lineInfo
}

// addLines replaces the functions at addresses of a binary by the lines there, where
// these are known. It reads the units that it needs.
func (s *Symbolizer) addLines(e *entry, t *table, addrs []uint64, found [][]Line) {
	if t == nil || t.debug == nil || s.o.NoLines {
		return
	}
	if _, missing := s.knownLines(e, *t.debug, addrs, found); len(missing) == 0 {
		return
	}
	s.building.Lock()
	defer s.building.Unlock()
	// Somebody else may have read them meanwhile.
	l, missing := s.knownLines(e, *t.debug, addrs, found)
	if len(missing) == 0 {
		return
	}
	s.mu.Lock()
	file := l.file
	wait := e.linesBusy || time.Now().Before(e.linesRetry) || s.closed
	e.linesBusy = e.linesBusy || !wait
	s.mu.Unlock()
	if wait {
		return
	}
	read, err := untrusted.Do(&s.readingLines, func() (read *linesRead, err error) {
		begin := time.Now()
		defer func() {
			if p := recover(); p != nil {
				err = &untrusted.PanicError{Value: p, Stack: debug.Stack()}
			}
			s.keepLines(e, l, read, err, time.Since(begin))
		}()
		return s.readLines(e.source, l.place, file, missing)
	})
	switch {
	case errors.Is(err, untrusted.ErrBusy): // nothing was read
		s.keepLines(e, l, nil, err, 0)
	case read != nil:
		for _, w := range missing {
			if lines, ok := read.answers[w.address]; ok {
				found[w.at] = lines
			}
		}
	}
}

// knownLines puts what is known of lines at addresses into found, and returns those
// for which a unit must be read.
func (s *Symbolizer) knownLines(e *entry, place debugPlace, addrs []uint64, found [][]Line) (l *debugLines, missing []wantedLine) {
	var ready []wantedLine
	s.mu.Lock()
	if l = e.lines; l == nil || l.place != place {
		s.dropLines(e)
		l = &debugLines{place: place, units: map[uint64]*keptUnit{}, answers: map[uint64][]Line{}}
		e.lines = l
	}
	l.clock++
	for i, addr := range addrs {
		if len(found[i]) == 0 {
			continue
		}
		if known, ok := l.answers[addr]; ok {
			found[i] = known
			continue
		}
		w := wantedLine{address: addr, function: found[i][0].Function, at: i}
		if l.file == nil {
			missing = append(missing, w)
			continue
		}
		offset, ok := l.file.index.find(addr)
		if !ok {
			continue
		}
		if u := l.units[offset]; u != nil {
			u.used, w.unit = l.clock, u.info
			ready = append(ready, w)
		} else {
			missing = append(missing, w)
		}
	}
	s.mu.Unlock()
	for _, w := range ready {
		found[w.at] = w.unit.at(w.address, w.function, s.o.Style)
	}
	if len(ready) > 0 {
		s.mu.Lock()
		for _, w := range ready {
			s.keepAnswer(e, l, w.address, found[w.at])
		}
		s.trim()
		s.mu.Unlock()
	}
	return l, missing
}

// keepAnswer keeps lines of an address. The caller holds mu.
func (s *Symbolizer) keepAnswer(e *entry, l *debugLines, addr uint64, lines []Line) {
	if _, ok := l.answers[addr]; ok || e.lines != l {
		return
	}
	if n := answerBytes(lines); l.answerBytes+n > s.o.CacheBytes/8 {
		s.bytes -= l.answerBytes
		l.answerBytes = 0
		clear(l.answers)
	}
	n := answerBytes(lines)
	l.answers[addr] = lines
	l.answerBytes += n
	s.bytes += n
}

// keepLines keeps what was read, and decides when lines of the binary may be read
// again.
func (s *Symbolizer) keepLines(e *entry, l *debugLines, read *linesRead, err error, took time.Duration) {
	s.metrics.lines.Observe(took.Seconds())
	bad := err != nil && s.report("part", e.source.binary.Name, e.source.binary.BuildID, err)
	if err != nil && !bad {
		s.log.Debug("lines of a binary are not read", "module", e.source.binary.Name, "err", err)
	}
	if read != nil && read.damage != nil {
		s.report("part", e.source.binary.Name, e.source.binary.BuildID, read.damage)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	e.linesBusy = false
	e.linesSteps = max(0, e.linesSteps-int64(now.Sub(e.linesSince).Seconds()*stepsPerSecond))
	e.linesSince = now
	if read != nil {
		e.linesSteps += read.steps
	}
	switch {
	case bad || e.linesSteps > maxBinarySteps:
		e.linesRetry = now.Add(unreadableTimes * s.o.RetryAfter)
	case err != nil:
		e.linesRetry = now.Add(s.o.RetryAfter)
	}
	if read == nil || read.file == nil {
		return
	}
	if e.lines != l || s.closed || s.entries[e.id] != e {
		if read.file != l.file {
			read.file.drop()
		}
		return
	}
	s.bytes -= l.bytes()
	if read.file != l.file {
		s.inflated += read.file.inflatedBytes() - l.file.inflatedBytes()
		l.file.drop()
		l.file, l.unitBytes, l.answerBytes = read.file, 0, 0
		clear(l.units)
		clear(l.answers)
	}
	for offset, info := range read.units {
		if n := info.bytes(); l.units[offset] == nil && l.makeRoom(n, s.o.CacheBytes/4) {
			l.units[offset] = &keptUnit{info, l.clock}
			l.unitBytes += n
		}
	}
	s.bytes += l.bytes()
	for addr, lines := range read.answers {
		s.keepAnswer(e, l, addr, lines)
	}
	s.trim()
}

// makeRoom drops units that were not used for longest, so that those that are kept
// take most bytes at most with another one. It reports whether they can.
func (l *debugLines) makeRoom(bytes, most int64) bool {
	if bytes > most {
		return false
	}
	for l.unitBytes+bytes > most {
		var oldest uint64
		for offset, u := range l.units {
			if o := l.units[oldest]; o == nil || u.used < o.used {
				oldest = offset
			}
		}
		l.unitBytes -= l.units[oldest].info.bytes()
		delete(l.units, oldest)
	}
	return true
}

// dropLines frees the lines of an entry. The caller holds mu.
func (s *Symbolizer) dropLines(e *entry) {
	if e.lines == nil {
		return
	}
	s.bytes -= e.lines.bytes()
	s.inflated -= e.lines.file.inflatedBytes()
	e.lines.file.drop()
	e.lines = nil
}

// inflateRoom drops lines of binaries that were not used for longest until there
// is room for another file that compressed sections are inflated to.
func (s *Symbolizer) inflateRoom(bytes int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for el := s.recent.Back(); el != nil && s.inflated+bytes > s.o.InflateBytes; el = el.Prev() {
		if e := el.Value.(*entry); e.lines != nil && e.lines.file.inflatedBytes() > 0 {
			s.dropLines(e)
		}
	}
	if s.inflated+bytes > s.o.InflateBytes {
		return errNoRoom
	}
	return nil
}

// errNoRoom says that Options.InflateBytes are less than one binary needs.
var errNoRoom = errors.New("no room for the compressed DWARF of a binary")
