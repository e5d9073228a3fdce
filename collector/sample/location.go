package sample

import (
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// A kind is the sort of code that a frame belongs to; it labels metrics.
type kind uint8

const (
	kindNative kind = iota
	kindKernel
	kindGo
	kindJVM
	kindPython
	kindNode
	kindOther // Ruby, PHP, Perl, .NET, Erlang, Lua
	kindError // a note that unwinding ended early
	numKinds
)

var kindNames = [numKinds]string{"native", "kernel", "go", "jvm", "python", "node", "other", "error"}

func (k kind) String() string { return kindNames[k] }

// A module is the binary, kernel or kernel module that a frame's code is in.
type module struct {
	name    string // base name of the file; "" if not known
	buildID string // GNU build ID in hexadecimal; "" if not known
}

// A line is a function and the place within it.
type line struct {
	function, file string
	number         int64 // 0 if not known
}

// A location is a frame as it is shown: the functions at one place, more than
// one where calls were inlined, innermost first. Locations are shared between
// stacktraces and compared by pointer; they do not change.
type location struct {
	module  module
	address uint64 // in the module; 0 where the function is known
	lines   []line // at least one
	kind    kind
	unknown bool // no symbol was found
}

// key identifies what the location shows.
func (l *location) key() string {
	var b strings.Builder
	b.WriteString(l.module.name)
	b.WriteByte(0)
	b.WriteString(l.module.buildID)
	for _, ln := range l.lines {
		b.WriteByte(0)
		b.WriteString(ln.function)
		b.WriteByte(0)
		b.WriteString(ln.file)
		b.WriteByte(0)
		for n := ln.number; n > 0; n >>= 7 {
			b.WriteByte(byte(n) | 0x80)
		}
	}
	return b.String()
}

// A stacktrace is a sample's locations, leaf first, with the labels of the
// series that it belongs to.
type stacktrace struct {
	labels    labels.Labels
	locations []*location
	spans     spanIDs
}

// spanIDs say what a sample was taken in: hexadecimal digits as in OpenTelemetry, "" where
// there is none. They are labels of samples and not of series, since every request has
// others.
type spanIDs struct {
	span  string // 16 digits
	trace string // 32 digits
}

// Labels of samples that have spanIDs. Pyroscope's older clients called a span a profile.
const (
	labelSpan    = "span_id"
	labelProfile = "profile_id"
	labelTrace   = "trace_id"
)

// idOf returns an ID if it has so many hexadecimal digits and is not zero, else "".
func idOf(s string, digits int) string {
	if len(s) != digits || strings.Trim(s, "0123456789abcdefABCDEF") != "" || strings.Trim(s, "0") == "" {
		return ""
	}
	return strings.ToLower(s)
}
