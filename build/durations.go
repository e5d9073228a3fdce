package build

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// durations records how long sections took, and within them the tests of each Go package
// as `go test` prints it.
type durations struct {
	mu   sync.Mutex
	rows []duration
}

// A duration is a row of the table.
type duration struct {
	section string
	pkg     string // empty: the section as a whole
	took    time.Duration
	note    string // FAILED, cached
}

func (d *durations) add(r duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows = append(d.rows, r)
}

// resultLine matches the line that `go test` prints after a package's tests.
var resultLine = regexp.MustCompile(`^(ok|FAIL)\s+(\S+)\s+(?:([0-9.]+)s|(\(cached\))|(\[[^\]]*\]))`)

// repeatedLine matches the line that measuredTests prints of a test that failed and was run
// again, without its subtests.
var repeatedLine = regexp.MustCompile(`^repeated (\S+\.[^\s/]+): (.+)`)

// A watcher passes on output and records the durations in it.
type watcher struct {
	durations *durations
	section   string
	to        io.Writer
	line      []byte
}

func (w *watcher) Write(p []byte) (int, error) {
	w.line = append(w.line, p...)
	for {
		end := bytes.IndexByte(w.line, '\n')
		if end < 0 {
			return w.to.Write(p)
		}
		w.read(string(w.line[:end]))
		w.line = w.line[end+1:]
	}
}

func (w *watcher) read(line string) {
	if m := repeatedLine.FindStringSubmatch(line); m != nil {
		w.durations.add(duration{section: w.section, pkg: m[1], note: m[2]})
		return
	}
	m := resultLine.FindStringSubmatch(line)
	if m == nil {
		return
	}
	row := duration{section: w.section, pkg: m[2], note: strings.Trim(m[4]+m[5], "()[]")}
	if m[3] != "" {
		seconds, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return
		}
		row.took = time.Duration(seconds * float64(time.Second))
	}
	if m[1] == "FAIL" {
		row.note = strings.TrimSpace("FAILED " + row.note)
	}
	w.durations.add(row)
}

// table returns the sections in order, each with its packages, the slowest first.
func (d *durations) table() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%9s  %s\n", "seconds", "section, package")
	total := time.Duration(0)
	for _, s := range d.rows {
		if s.pkg != "" {
			continue
		}
		total += s.took
		fmt.Fprintf(&b, "%9.1f  %s\n", s.took.Seconds(), strings.TrimSpace(s.section+"  "+s.note))
		var packages []duration
		for _, p := range d.rows {
			if p.pkg != "" && p.section == s.section {
				packages = append(packages, p)
			}
		}
		slices.SortStableFunc(packages, func(a, b duration) int { return cmp.Compare(b.took, a.took) })
		for _, p := range packages {
			fmt.Fprintf(&b, "%9.1f    %s\n", p.took.Seconds(), strings.TrimSpace(p.pkg+"  "+p.note))
		}
	}
	fmt.Fprintf(&b, "%9.1f  all\n", total.Seconds())
	return b.String()
}

// watching is the context key of a function that wraps the output of commands.
type watching struct{}

// watch returns a context in which the durations of `go test` runs are recorded under a
// section.
func (d *durations) watch(ctx context.Context, section string) context.Context {
	return context.WithValue(ctx, watching{}, func(to io.Writer) io.Writer {
		return &watcher{durations: d, section: section, to: to}
	})
}

// watched returns the writer for a command's output.
func watched(ctx context.Context, to io.Writer) io.Writer {
	if wrap, ok := ctx.Value(watching{}).(func(io.Writer) io.Writer); ok {
		return wrap(to)
	}
	return to
}
