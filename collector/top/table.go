package top

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/pkg/profile"
)

// windowTime is the length of the windows that a session hands on.
const windowTime = time.Second

// maxFunctions bounds a table. Functions beyond it are added up in one row.
const maxFunctions = 1 << 17

// otherFunctions is the name of that row.
const otherFunctions = "[other functions]"

// A function is a row's key.
type function struct {
	process string // its name; "" if the table is of one process
	name    string
	where   string // base name of the source file, or of the binary; "" if unknown
}

// A Row is what a table shows of a function. Times are CPU time.
type Row struct {
	Process, Function, Where string
	Own, Total               time.Duration // lately, in Snapshot.Span
	AllOwn, AllTotal         time.Duration // since the beginning or Clear
}

// times are own and total CPU time in ns.
type times struct{ own, total int64 }

// A Table adds up the profiles of a session. It is safe for concurrent use.
type Table struct {
	processes bool // a row is of a process

	mu      sync.Mutex
	lately  map[function]times
	all     map[function]times
	windows map[int64]bool // since the last snapshot, by start in Unix ns
	lastly  Snapshot       // without rows
	began   time.Time      // of sampling
	until   time.Time      // the end of the last snapshot's span
}

// windowDelay is how long after its end a window may come.
const windowDelay = 800 * time.Millisecond

// NewTable returns an empty table. With processes it has a row for each function of each
// process name.
func NewTable(processes bool) *Table {
	return &Table{
		processes: processes,
		lately:    map[function]times{}, all: map[function]times{}, windows: map[int64]bool{},
	}
}

// A Snapshot is what a table shows at a time.
type Snapshot struct {
	Rows    []Row
	At      time.Time
	Span    time.Duration // that lately means
	CPU     time.Duration // used lately
	Samples int64         // lately
	Cut     int64         // of them, with a stacktrace that ends early
}

// Add adds the profiles of one or several windows, which have CPU time in ns.
func (t *Table) Add(ps []profile.Profile, process func(profile.Profile) string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range ps {
		name := ""
		if t.processes {
			name = printable(process(p))
		}
		t.windows[time.Unix(0, p.Pprof.TimeNanos).Truncate(windowTime).UnixNano()] = true
		t.add(p.Pprof, name)
	}
}

func (t *Table) add(p *googlev1.Profile, process string) {
	// The functions of each location, innermost first.
	byID := make(map[uint64]function, len(p.Function))
	for _, f := range p.Function {
		byID[f.Id] = function{process: process, name: printable(p.StringTable[f.Name]), where: printable(path.Base(p.StringTable[f.Filename]))}
	}
	modules := make(map[uint64]string, len(p.Mapping))
	for _, m := range p.Mapping {
		modules[m.Id] = printable(path.Base(p.StringTable[m.Filename]))
	}
	locations := make(map[uint64][]function, len(p.Location))
	for _, l := range p.Location {
		for _, ln := range l.Line {
			f := byID[ln.FunctionId]
			if f.where == "." {
				f.where = cmp.Or(modules[l.MappingId], "")
			}
			if f.where == "." {
				f.where = ""
			}
			locations[l.Id] = append(locations[l.Id], f)
		}
	}
	seen := map[function]bool{}
	for _, s := range p.Sample {
		clear(seen)
		v, first, cut := s.Value[0], true, false
		t.lastly.CPU += time.Duration(v)
		for _, id := range s.LocationId {
			for _, f := range locations[id] {
				var add times
				if first {
					add.own, first = v, false
				}
				cut = cut || strings.HasPrefix(f.name, "[stack incomplete")
				if !seen[f] {
					seen[f], add.total = true, v
				}
				t.count(f, add)
			}
		}
		n := v / max(p.Period, 1)
		t.lastly.Samples += n
		if cut {
			t.lastly.Cut += n
		}
	}
}

func (t *Table) count(f function, add times) {
	if add == (times{}) {
		return
	}
	for _, m := range []map[function]times{t.lately, t.all} {
		k := f
		if _, ok := m[k]; !ok && len(m) >= maxFunctions {
			k = function{name: otherFunctions}
		}
		sum := m[k]
		m[k] = times{sum.own + add.own, sum.total + add.total}
	}
}

// Clear forgets the times since the beginning.
func (t *Table) Clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.all)
}

// Begin says when sampling began.
func (t *Table) Begin(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.began, t.until = at, at
}

// Next returns when the next snapshot is due, an interval after the one before: when the
// windows up to a whole second have come.
func (t *Table) Next(interval time.Duration) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	end := t.until.Add(interval)
	if whole := end.Truncate(windowTime); whole.Before(end) {
		end = whole.Add(windowTime)
	}
	return end.Add(windowDelay)
}

// Snapshot returns the table's rows and begins anew with what is lately. The span ends with
// the last window that has come, and is longer if windows have come late.
func (t *Table) Snapshot(now time.Time) Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.lastly
	s.At = now
	var covered time.Duration
	for start := range t.windows {
		covered += min(windowTime, max(0, time.Unix(0, start).Add(windowTime).Sub(t.began)))
	}
	until := now.Add(-windowDelay).Truncate(windowTime)
	s.Span = max(until.Sub(t.until), covered)
	if s.Span <= 0 {
		s.Span = windowTime
	}
	if until.After(t.until) {
		t.until = until
	}
	for f, all := range t.all {
		l := t.lately[f]
		s.Rows = append(s.Rows, Row{
			Process: f.process, Function: f.name, Where: f.where,
			Own: time.Duration(l.own), Total: time.Duration(l.total),
			AllOwn: time.Duration(all.own), AllTotal: time.Duration(all.total),
		})
	}
	clear(t.lately)
	clear(t.windows)
	t.lastly = Snapshot{}
	return s
}

// An Order is by what rows are sorted, the largest first.
type Order int

// The orders.
const (
	ByOwn Order = iota
	ByTotal
	ByAllOwn
	ByAllTotal
	ByFunction
)

// Orders are their names, for flags and headings.
var Orders = []string{"own", "total", "all-own", "all-total", "function"}

// Sort sorts rows. Rows that are equal in an order are sorted by the other ones.
func (s *Snapshot) Sort(by Order) {
	slices.SortFunc(s.Rows, func(a, b Row) int {
		name := cmp.Or(strings.Compare(a.Function, b.Function), strings.Compare(a.Where, b.Where), strings.Compare(a.Process, b.Process))
		own, total := cmp.Compare(b.Own, a.Own), cmp.Compare(b.Total, a.Total)
		allOwn, allTotal := cmp.Compare(b.AllOwn, a.AllOwn), cmp.Compare(b.AllTotal, a.AllTotal)
		switch by {
		case ByTotal:
			return cmp.Or(total, own, allTotal, allOwn, name)
		case ByAllOwn:
			return cmp.Or(allOwn, allTotal, own, total, name)
		case ByAllTotal:
			return cmp.Or(allTotal, allOwn, total, own, name)
		case ByFunction:
			return name
		default:
			return cmp.Or(own, total, allOwn, allTotal, name)
		}
	})
}

// printable replaces what would change a terminal's state.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
