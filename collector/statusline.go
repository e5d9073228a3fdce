package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// A statusLine shows progress in one line of a terminal. If it does not write to a
// terminal it shows only what is said. It is safe for concurrent use.
type statusLine struct {
	mu       sync.Mutex
	w        io.Writer
	terminal *os.File // nil if w is none
	quiet    bool
	shown    int // characters of the line
}

func newStatusLine(w io.Writer, quiet bool) *statusLine {
	s := &statusLine{w: w, quiet: quiet}
	if f, ok := w.(*os.File); ok && isTerminal(w) && !quiet {
		s.terminal = f
	}
	return s
}

// live reports whether progress is shown.
func (s *statusLine) live() bool { return s.terminal != nil }

// show replaces the line.
func (s *statusLine) show(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal == nil {
		return
	}
	if width, _, err := term.GetSize(int(s.terminal.Fd())); err == nil && width > 1 && utf8.RuneCountInString(text) >= width {
		text = string([]rune(text)[:width-1])
	}
	n := utf8.RuneCountInString(text)
	fmt.Fprint(s.w, "\r", text, strings.Repeat(" ", max(0, s.shown-n)))
	s.shown = n
}

// clear removes the line.
func (s *statusLine) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe()
}

func (s *statusLine) wipe() {
	if s.shown > 0 {
		fmt.Fprint(s.w, "\r", strings.Repeat(" ", s.shown), "\r")
		s.shown = 0
	}
}

// say writes a line that stays.
func (s *statusLine) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quiet {
		return
	}
	s.wipe()
	fmt.Fprintf(s.w, "flameline: %s\n", text)
}

// Write writes lines of a log above the line.
func (s *statusLine) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe()
	return s.w.Write(p)
}

// counted writes a number and what is counted.
func counted(n int64, what string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(what, "s"):
		what += "es"
	default:
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// share writes a part in per cent.
func share(part, of int64) string {
	if of == 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(of))
}

// shortTime writes a duration with one digit after the second.
func shortTime(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
