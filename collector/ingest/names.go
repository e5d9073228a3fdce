package ingest

import (
	"strings"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/collector/funcname"
)

// maxMangledBytes bounds the mangled names of one profile that are demangled,
// which takes microseconds for each of the usual length, and more for those made
// to take long.
const maxMangledBytes = 16 << 20

// names shows the functions of one profile by the names of their source. The
// raw name stays the function's system name. What is not shown because there is
// too much of it keeps its raw name, which the report says.
type names struct {
	limits  Limits
	mangled int   // bytes that were demangled
	grown   int64 // bytes of the names that they gave
}

func newNames(l Limits) *names { return &names{limits: l} }

// shown returns the name to show for a function.
func (n *names) shown(name string) string {
	if !funcname.Mangled(name) {
		return name
	}
	if n.mangled += len(name); n.mangled > maxMangledBytes {
		n.limits.Report.Skip("name", "to demangle, since they are too many", 1)
		return name
	}
	shown := funcname.Pushed(name)
	if shown == "" || exceeds(len(shown), n.limits.MaxSymbolBytes) || exceeds(n.grown+int64(len(shown)), n.limits.MaxProfileBytes) {
		n.limits.Report.Skip("name", "to demangle, since it would be too long", 1)
		return name
	}
	if shown != name {
		n.grown += int64(len(shown))
	}
	return shown
}

// profile names the functions of a sound profile.
func (n *names) profile(p *googlev1.Profile) {
	known := map[int64]int64{} // index of a raw name: that of the shown one
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

// validText returns text as UTF-8, in which U+FFFD stands for what is not, and
// notes that.
func validText(s string, r *Report) string {
	valid := strings.ToValidUTF8(s, "\uFFFD")
	if valid != s {
		r.Correct("string", "that was not UTF-8", 1)
	}
	return valid
}
