//go:build linux

package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Markdown writes all figures as tables, with footnotes for those that should
// not be trusted.
func (r *Results) Markdown() string {
	var b strings.Builder
	encoding := "not compressed"
	if r.Compressed {
		encoding = "compressed with gzip"
	}
	fmt.Fprintf(&b, "%s beside %s, %s, on %d CPUs (%s). Data: %s. Answers are %s. Other programs used %.0f %% of the CPUs.\n",
		r.Ours, r.Peer, r.Began.Format(time.DateOnly), r.CPUs, r.Machine, r.Data, encoding, r.OthersPercent)
	var notes []string
	for _, group := range []string{groupQueries, groupCold, groupLong, groupPush} {
		var rows []string
		for _, f := range r.Figures {
			if f.Group != group {
				continue
			}
			name := f.Name
			for _, m := range f.Marks {
				notes = append(notes, m)
				name += fmt.Sprintf(" [%d]", len(notes))
			}
			rows = append(rows, f.row(name))
		}
		if len(rows) > 0 {
			fmt.Fprintf(&b, "\n%s:\n\n%s%s", group, header(group, r), strings.Join(rows, ""))
		}
	}
	if len(notes) > 0 {
		b.WriteString("\nDoubtful:\n\n")
		for i, n := range notes {
			fmt.Fprintf(&b, "- [%d] %s\n", i+1, strings.Join(strings.Fields(n), " "))
		}
	}
	return b.String()
}

func header(group string, r *Results) string {
	first := func(s string) string { name, _, _ := strings.Cut(s, " "); return name }
	ours, peer := first(r.Ours), first(r.Peer)
	if group == groupPush {
		return fmt.Sprintf("| | %s | %s | %[2]s / %[1]s |\n|---|---|---|---|\n", ours, peer)
	}
	return fmt.Sprintf("| median | %s | p95 | CPU | %s | p95 | CPU | %[2]s / %[1]s | answer of %[1]s | of %[2]s | if it is ready |\n"+
		"|---|---|---|---|---|---|---|---|---|---|---|\n", ours, peer)
}

// row is a figure as a row of its group's table.
func (f Figure) row(name string) string {
	cells := []string{name}
	for _, v := range f.Values {
		if f.Group == groupPush {
			cell := v.median(f.Unit)
			if v != nil && v.P95 != nil {
				cell += ", p95 " + v.p95(f.Unit)
			}
			cells = append(cells, cell)
			continue
		}
		cells = append(cells, v.median(f.Unit), v.p95(f.Unit), v.cpu())
	}
	ratio := none
	if x := f.Ratio(); x > 0 {
		ratio = number(x)
	}
	cells = append(cells, ratio)
	if f.Group != groupPush {
		cells = append(cells, f.Values[ours].answer(), f.Values[peer].answer(), f.Ready.median(f.Unit))
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

// line is a figure for people who watch.
func (f Figure) line(ours, peer string) string {
	text := fmt.Sprintf("%s: %s %s, %s %s", f.Name, ours, f.Values[0].median(f.Unit), peer, f.Values[1].median(f.Unit))
	for _, m := range f.Marks {
		text += "; " + m
	}
	return text
}

// none is a cell of what was not measured.
const none = "n/a"

func (v *Value) median(unit string) string {
	if v == nil {
		return none
	}
	return number(v.Median) + " " + unit
}

func (v *Value) p95(unit string) string {
	if v == nil || v.P95 == nil {
		return none
	}
	return number(*v.P95) + " " + unit
}

func (v *Value) cpu() string {
	if v == nil || v.CPU == nil {
		return none
	}
	return number(*v.CPU) + " ms"
}

// answer says how much an answer holds.
func (v *Value) answer() string {
	if v == nil {
		return none
	}
	return fmt.Sprintf("%d %s, %s kB", v.Count, v.Of, number(v.Bytes/1e3))
}

// number writes three digits that count.
func number(x float64) string {
	switch {
	case x >= 100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	case x >= 1:
		return strconv.FormatFloat(x, 'f', 2, 64)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}
