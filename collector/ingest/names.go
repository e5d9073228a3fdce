package ingest

import (
	"strings"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/collector/funcname"
)

// maxMangledBytes bounds the mangled names of one profile that are demangled. A name of
// usual length takes microseconds, but names can be crafted to take longer.
const maxMangledBytes = 16 << 20

// names translates the function names of one profile to those of the source code. The
// raw name stays the function's system name. Names beyond maxMangledBytes stay raw, and
// the report says so.
type names struct {
	limits  Limits
	mangled int   // bytes of mangled names so far
	grown   int64 // bytes of demangled names so far
}

func newNames(l Limits) *names { return &names{limits: l} }

// shown returns the name to display for a function.
func (n *names) shown(name string) string {
	if !funcname.Mangled(name) {
		return name
	}
	if n.mangled += len(name); n.mangled > maxMangledBytes {
		n.limits.Report.Skip("name", "beyond what is demangled of one profile, kept as it is", 1)
		return name
	}
	shown := funcname.Pushed(name)
	if shown == "" || exceeds(len(shown), n.limits.MaxSymbolBytes) || exceeds(n.grown+int64(len(shown)), n.limits.MaxProfileBytes) {
		n.limits.Report.Skip("name", "too long when demangled, kept as it is", 1)
		return name
	}
	if shown != name {
		n.grown += int64(len(shown))
	}
	return shown
}

// profile sets the displayed names of a valid profile's functions.
func (n *names) profile(p *googlev1.Profile) {
	known := map[int64]int64{} // index of the displayed name, by that of the raw name
	for _, f := range p.Function {
		raw := f.Name
		to, ok := known[raw]
		if !ok {
			name := p.StringTable[raw]
			to = raw
			if shown := n.shown(name); shown != name {
				to = int64(len(p.StringTable))
				p.StringTable = append(p.StringTable, shown)
			}
			known[raw] = to
		}
		if to == raw {
			continue
		}
		f.Name = to
		if f.SystemName == 0 {
			f.SystemName = raw
		}
	}
}

// validText returns text with U+FFFD in place of invalid UTF-8, and reports a change.
func validText(s string, r *Report) string {
	valid := strings.ToValidUTF8(s, "\uFFFD")
	if valid != s {
		r.Correct("string", "that was not UTF-8", 1)
	}
	return valid
}
