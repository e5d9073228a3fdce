//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The groups of figures, each a table.
const (
	groupPush    = "Push, disk and memory"
	groupQueries = "Queries"
	groupCold    = "Cold: the process restarted, its files not in the page cache"
	groupLong    = "Long ranges"
)

// Results are all figures of one run, with what they were measured on.
type Results struct {
	Ours, Peer string // name and version
	Machine    string
	CPUs       int
	// OthersPercent is the CPU use of other programs meanwhile, of all CPUs. On a busy
	// machine only ratios are meaningful.
	OthersPercent float64
	Data          string
	Compressed    bool // answers were asked for in gzip
	Began         time.Time
	Figures       []Figure
}

// A Figure is one row of a table.
type Figure struct {
	Group, Name, Unit string
	Values            [2]*Value // ours and the peer's; nil if it was not measured
	Ready             *Value    `json:",omitempty"` // our answer from a server that has it ready
	Marks             []string  // why it should not be trusted
}

// A Value is what one server did.
type Value struct {
	Median float64
	P95    *float64 `json:",omitempty"` // nil if it was measured once
	Runs   int      `json:",omitempty"`
	CPU    *float64 `json:",omitempty"` // ms a run; nil if it is not known
	Bytes  float64  `json:",omitempty"` // of an answer, as sent; median
	Count  int      `json:",omitempty"` // of what the last answer lists
	Of     string   `json:",omitempty"`
	Total  int64    `json:",omitempty"`

	Nanoseconds []int64 `json:",omitempty"` // of each run
}

func (f *Figure) mark(format string, args ...any) {
	f.Marks = append(f.Marks, fmt.Sprintf(format, args...))
}

// Ratio is the peer's median by ours; 0 if one is missing.
func (f Figure) Ratio() float64 {
	if f.Values[ours] == nil || f.Values[peer] == nil || f.Values[ours].Median == 0 {
		return 0
	}
	return f.Values[peer].Median / f.Values[ours].Median
}

func (r *Results) add(fs ...Figure) { r.Figures = append(r.Figures, fs...) }

// markLast marks all figures of the last group.
func (r *Results) markLast(format string, args ...any) {
	last := r.Figures[len(r.Figures)-1].Group
	for i := range r.Figures {
		if r.Figures[i].Group == last {
			r.Figures[i].mark(format, args...)
		}
	}
}

func milliseconds(ds []time.Duration) (out []float64) {
	for _, d := range ds {
		out = append(out, float64(d.Nanoseconds())/1e6)
	}
	return out
}

// summary returns the median and the 95th percentile of at least one number.
func summary(of []float64) *Value {
	sorted := slices.Sorted(slices.Values(of))
	// The smallest number that 95 % of all are not above.
	p95 := sorted[(len(sorted)*95+99)/100-1]
	return &Value{Median: median(of), P95: &p95, Runs: len(of)}
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Benchmark returns the runs of one server's queries in the format of Go's benchmarks
// (https://go.dev/design/14313-benchmark-format), which benchstat compares.
func (r *Results) Benchmark(which int) string {
	var b strings.Builder
	for _, f := range r.Figures {
		if f.Values[which] == nil {
			continue
		}
		name := strings.Map(func(c rune) rune {
			if c == ' ' || c == ',' {
				return '_'
			}
			return c
		}, f.Name)
		for _, ns := range f.Values[which].Nanoseconds {
			fmt.Fprintf(&b, "Benchmark/%s 1 %d ns/op\n", strings.ReplaceAll(name, "__", "_"), ns)
		}
	}
	return b.String()
}

// othersSince returns the CPU use of other programs since an earlier time, in percent of
// all CPUs, given the use of the measured ones.
func (l load) othersSince(before load, used time.Duration) float64 {
	total := l.total - before.total
	if total <= 0 {
		return 0
	}
	return 100 * max(0, (l.busy-before.busy-used).Seconds()) / total.Seconds()
}
