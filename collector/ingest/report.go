package ingest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A Report collects what a push contained that was not stored as it was sent:
// parts that were left out, and values that were corrected. The server names
// them in a response header and in its log, and counts them. A nil Report
// collects nothing. It is safe for concurrent use.
type Report struct {
	mu    sync.Mutex
	notes []Note
}

// A Note is one kind of thing that was left out or corrected.
type Note struct {
	// Skipped says that it was left out; otherwise it was corrected.
	Skipped bool
	// Kind is a short constant name, the label of the metric, such as event,
	// label, time.
	Kind string
	// Detail names the thing, such as jdk.OldObjectSample, for people.
	Detail string
	Count  int
}

// maxNotes bounds the kinds of things that one report names. A push with more of
// them is still counted, under a detail that says so.
const maxNotes = 20

// Skip notes that n things were left out.
func (r *Report) Skip(kind, detail string, n int) { r.add(Note{true, kind, detail, n}) }

// Correct notes that n things were corrected.
func (r *Report) Correct(kind, detail string, n int) { r.add(Note{false, kind, detail, n}) }

// merge adds what another report holds.
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

// Notes returns what was collected, what was left out first.
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
