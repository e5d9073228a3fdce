package ingest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A Report lists the parts of a push that were left out and the values that were
// corrected. The server puts it into a response header and its log, and counts its
// entries. A nil Report collects nothing. It is safe for concurrent use.
type Report struct {
	mu    sync.Mutex
	notes []Note
}

// A Note is one entry of a Report.
type Note struct {
	// Skipped says that it was left out; otherwise it was corrected.
	Skipped bool
	// Kind is a short constant name, such as event, label or time: the label of the
	// metric.
	Kind string
	// Detail describes the element for people, such as jdk.OldObjectSample.
	Detail string
	Count  int
}

// maxNotes bounds the entries of a report. Further ones are counted under a common
// detail.
const maxNotes = 20

// Skip records that n elements were left out.
func (r *Report) Skip(kind, detail string, n int) { r.add(Note{true, kind, detail, n}) }

// Correct records that n elements were corrected.
func (r *Report) Correct(kind, detail string, n int) { r.add(Note{false, kind, detail, n}) }

// merge adds the entries of another report.
func (r *Report) merge(o *Report) {
	if r == nil {
		return
	}
	for _, n := range o.Notes() {
		r.add(n)
	}
}

func (r *Report) add(n Note) {
	if r == nil || n.Count <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	same := func(o Note) bool { return o.Skipped == n.Skipped && o.Kind == n.Kind && o.Detail == n.Detail }
	i := slices.IndexFunc(r.notes, same)
	if i < 0 && len(r.notes) >= maxNotes {
		n.Detail = "and others"
		i = slices.IndexFunc(r.notes, same)
	}
	if i < 0 {
		r.notes = append(r.notes, n)
		return
	}
	r.notes[i].Count += n.Count
}

// Notes returns the entries, first those about what was left out.
func (r *Report) Notes() []Note {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.notes)
	slices.SortStableFunc(out, func(a, b Note) int {
		if a.Skipped != b.Skipped {
			if a.Skipped {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Detail, b.Detail))
	})
	return out
}

// String lists the notes in one line of printable ASCII, such as
// "skipped event jdk.OldObjectSample (12); corrected time of the profile (1)".
// It is empty if there are none.
func (r *Report) String() string {
	var parts []string
	for _, n := range r.Notes() {
		verb := "corrected"
		if n.Skipped {
			verb = "skipped"
		}
		quoted := fmt.Sprintf("%+.80q", n.Detail)
		parts = append(parts, fmt.Sprintf("%s %s %s (%d)", verb, n.Kind, strings.Trim(quoted, `"`), n.Count))
	}
	return strings.Join(parts, "; ")
}
