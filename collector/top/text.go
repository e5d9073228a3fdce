package top

import (
	"fmt"
	"strings"
	"time"
)

// heads are the titles of the columns with numbers, in the order of Order.
var heads = []string{"OWN %", "TOTAL %", "OWN s", "TOTAL s"}

// headLine is the line above the rows.
func headLine(processes bool) string {
	text := fmt.Sprintf("%8s %8s %9s %9s  ", heads[0], heads[1], heads[2], heads[3])
	if processes {
		text += fmt.Sprintf("%-15s  ", "PROCESS")
	}
	return text + "FUNCTION"
}

// line is a row as text.
func (r Row) line(s *Snapshot, processes bool) string {
	percent := func(d time.Duration) float64 { return 100 * float64(d) / float64(s.Span) }
	text := fmt.Sprintf("%8.1f %8.1f %9.2f %9.2f  ", percent(r.Own), percent(r.Total), r.AllOwn.Seconds(), r.AllTotal.Seconds())
	if processes {
		text += fmt.Sprintf("%-15s  ", r.Process)
	}
	text += r.Function
	if r.Where != "" && !strings.HasPrefix(r.Function, r.Where+"+0x") {
		text += " (" + r.Where + ")"
	}
	return text
}

// summary says what was sampled lately.
func (s *Snapshot) summary() string {
	text := fmt.Sprintf("%.1f %% of a CPU, %d samples in %.0f s", 100*float64(s.CPU)/float64(s.Span), s.Samples, s.Span.Seconds())
	if s.Cut > 0 {
		text += fmt.Sprintf(", %.1f %% of stacktraces cut", 100*float64(s.Cut)/float64(s.Samples))
	}
	return text
}

// Print writes a snapshot as plain text: a line that says what was sampled, the titles and
// up to n rows, and an empty line.
func (s *Snapshot) Print(w interface{ Write([]byte) (int, error) }, processes bool, by Order, n int) error {
	s.Sort(by)
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s\n%s\n", s.At.Format("15:04:05"), s.summary(), headLine(processes))
	for _, r := range s.Rows[:min(n, len(s.Rows))] {
		b.WriteString(strings.TrimRight(r.line(s, processes), " ") + "\n")
	}
	b.WriteString("\n")
	_, err := w.Write([]byte(b.String()))
	return err
}
