package tools

import (
	"bytes"
	"regexp"

	"github.com/flameline/flameline/collector/fold"
)

// legacyPprof matches the beginnings of the text formats that go tool pprof opens.
var legacyPprof = regexp.MustCompile(`^\s*((heap|goroutine|threadcreate|contention|mutex|block|heap_v2|growthz?|fragmentationz?|\w+) profile: |--- ?(heapz|growthz|contentionz?|mutex|threadz|Thread|cpu)|heap_v2/|%warn|sampling period=)`)

// sniff returns the format, one of Inputs, of a file by its beginning, decompressed.
func sniff(head []byte) string {
	start := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	switch {
	case bytes.HasPrefix(head, []byte("FLR\x00")):
		return jfr
	case fold.HasSample(head):
		return perfText
	case bytes.HasPrefix(start, []byte("<")) && bytes.Contains(bytes.ToLower(head[:min(len(head), 4096)]), []byte("<html")):
		return flameHTML
	case isUTF16(head): // from a shell of Windows
		return folded
	case isBinary(head):
		return pprofFile
	case len(start) > 0 && start[0] == '{':
		return sniffJSON(head)
	case legacyPprof.Match(head):
		return pprofFile
	case fold.IsPerf(head):
		return perfText
	}
	return folded
}

// sniffJSON tells the Firefox Profiler's files from speedscope's. Those of other programs
// get the error of speedscope's reader.
func sniffJSON(head []byte) string {
	if bytes.Contains(head, []byte("speedscope.app/file-format-schema.json")) {
		return speedscope
	}
	for _, key := range []string{`"preprocessedProfileVersion"`, `"stackTable"`, `"stackwalk"`} {
		if bytes.Contains(head, []byte(key)) {
			return gecko
		}
	}
	return speedscope
}

func isUTF16(head []byte) bool {
	return bytes.HasPrefix(head, []byte{0xff, 0xfe}) || bytes.HasPrefix(head, []byte{0xfe, 0xff})
}

// isBinary reports whether there are control characters that texts do not have.
func isBinary(head []byte) bool {
	for _, c := range head[:min(len(head), 4096)] {
		if c < ' ' && (c < '\t' || c > '\r') && c != 0x1b {
			return true
		}
	}
	return false
}
