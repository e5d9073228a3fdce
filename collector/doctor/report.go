package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// A Status says what a check found.
type Status string

// Statuses, from good to bad.
const (
	OK   Status = "ok"
	Note Status = "note" // nothing is wrong, but good to know
	Warn Status = "warn" // something is missing in what is shown
	Fail Status = "fail" // it does not work
)

// A Check is one line of a report.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Found is what is there, Fix what to change; it may be empty.
	Found string `json:"found"`
	Fix   string `json:"fix,omitempty"`
}

// A Report is what was found.
type Report struct {
	// Works is false if a check failed.
	Works  bool    `json:"works"`
	PID    int     `json:"pid,omitempty"`
	Checks []Check `json:"checks"`
}

func (r *Report) add(name string, s Status, found, fix string) {
	if s == Fail {
		r.Works = false
	}
	r.Checks = append(r.Checks, Check{name, s, oneLine(found), oneLine(fix)})
}

// oneLine replaces characters of files and processes that would change a terminal's state.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// Text writes a line for each check: its status, its name, what was found and what to
// change.
func (r *Report) Text(w io.Writer) error {
	width := 0
	for _, c := range r.Checks {
		width = max(width, len(c.Name))
	}
	for _, c := range r.Checks {
		line := fmt.Sprintf("%-4s  %-*s  %s", c.Status, width, c.Name, c.Found)
		if c.Fix != "" {
			line += ": " + c.Fix
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// JSON writes the report as one object.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// Failed lists the names of checks that failed.
func (r *Report) Failed() (names []string) {
	for _, c := range r.Checks {
		if c.Status == Fail {
			names = append(names, c.Name)
		}
	}
	return names
}
