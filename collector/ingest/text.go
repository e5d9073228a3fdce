package ingest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf16"

	"golang.org/x/text/encoding/unicode"
)

// plainText returns text as UTF-8 without a byte order mark. It recognises UTF-16, which
// Windows' shells write, by its byte order mark or by every other byte being 0.
func plainText(raw []byte, l Limits) ([]byte, error) {
	if rest, ok := bytes.CutPrefix(raw, []byte("\xef\xbb\xbf")); ok {
		return rest, nil
	}
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(raw, []byte{0xff, 0xfe}):
		order, raw = binary.LittleEndian, raw[2:]
	case bytes.HasPrefix(raw, []byte{0xfe, 0xff}):
		order, raw = binary.BigEndian, raw[2:]
	case len(raw) >= 4 && raw[0] != 0 && raw[1] == 0 && raw[2] != 0 && raw[3] == 0:
		order = binary.LittleEndian
	case len(raw) >= 4 && raw[0] == 0 && raw[1] != 0 && raw[2] == 0 && raw[3] != 0:
		order = binary.BigEndian
	default:
		return raw, nil
	}
	if len(raw)%2 != 0 {
		return nil, fmt.Errorf("UTF-16 with an odd number of bytes, %d", len(raw))
	}
	// Two bytes become up to three.
	size := 0
	for i := 0; i < len(raw); i += 2 {
		switch c := order.Uint16(raw[i:]); {
		case c < 0x80:
			size++
		case c < 0x800 || utf16.IsSurrogate(rune(c)):
			size += 2
		default:
			size += 3
		}
	}
	if exceeds(int64(size), l.MaxProfileBytes) {
		return nil, tooLarge(l.MaxProfileBytes)
	}
	endian := unicode.LittleEndian
	if order == binary.ByteOrder(binary.BigEndian) {
		endian = unicode.BigEndian
	}
	return unicode.UTF16(endian, unicode.IgnoreBOM).NewDecoder().Bytes(raw)
}

// perfScript matches the first line of a sample in the output of `perf script`: a
// command; a thread, a CPU and a time, some of which may be missing; and an event with a
// colon.
var perfScript = regexp.MustCompile(`^\S[^;]*\s((\[\d+\]\s+)?\d+\.\d+|\d+(/\d+)?(\s+\[\d+\])?):?\s+(\d+\s+)?[\w:/.,-]+:$`)

// foreign are formats that are not read here, by their beginnings, with a name and
// advice for error messages.
var foreign = []struct {
	head *regexp.Regexp
	is   string
}{
	{regexp.MustCompile(`^FLR\x00`), "a recording of Java (format=jfr)"},
	{regexp.MustCompile(`^PERFILE2`), "perf.data, which only perf can read: give what `perf script` makes of it (`perf script | flameline convert` or `import`)"},
	{regexp.MustCompile(`^\x7fELF`), "an ELF binary"},
	{regexp.MustCompile(`^PK\x03\x04`), "a ZIP archive"},
	{regexp.MustCompile(`(?i)^\s*(<\?xml[^>]*>\s*|<!doctype[^>]*>\s*|<!--[^>]*>\s*)*<svg`), "an SVG picture"},
	{regexp.MustCompile(`(?i)^\s*<(!doctype\s+html|html|head|body)`), "an HTML page"},
	{regexp.MustCompile(`^\s*<(\?xml|!doctype|!DOCTYPE)`), "an XML document"},
	{regexp.MustCompile(`^\s*(\{\s*("|\}|$)|\[\s*[\[{"\]])`), "JSON"},
	{regexp.MustCompile(`^Attaching \d+ probes?|^@\w*\[`), "bpftrace's output; fold it with stackcollapse-bpftrace.pl"},
	{regexp.MustCompile(`^--- Execution profile ---`), "async-profiler's text; ask it for -o collapsed"},
	{regexp.MustCompile(`^goroutine \d+ \[[^\]]+\]:`), "a list of Go's goroutines (debug=2), which has no values"},
	{regexp.MustCompile(`^(PeriodType: |File: .*\n(Build ID: .*\n)?Type: |Showing nodes accounting for )`), "what `go tool pprof` prints; send the profile itself"},
	{regexp.MustCompile(`^digraph `), "a graph in DOT's format"},
	{regexp.MustCompile(`^# To display the perf\.data header info`), "the output of `perf report`; send that of `perf script` by `flameline import`"},
}

// kindOfText returns the name of the format of a body that was sent as another format,
// "" for folded stacks and if the format is unknown.
func kindOfText(raw []byte) string {
	head := raw[:min(len(raw), 4096)]
	for _, f := range foreign {
		if !f.head.Match(head) {
			continue
		}
		if f.is != "JSON" {
			return f.is
		}
		return kindOfJSON(head)
	}
	for line := range bytes.Lines(head) {
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		if perfScript.Match(line) {
			return "the output of `perf script`; send it by `flameline import`, or fold it by `flameline convert`"
		}
		break
	}
	return ""
}

func kindOfJSON(head []byte) string {
	switch s := string(head); {
	case strings.Contains(s, "speedscope.app/file-format-schema"):
		return "a speedscope file (format=speedscope)"
	case strings.Contains(s, `"traceEvents"`):
		return "a trace of Chrome's, in JSON; convert it with speedscope or to pprof"
	case strings.Contains(s, `"callFrame"`) || strings.Contains(s, `"timeDeltas"`):
		return "a profile of V8 (.cpuprofile or .heapprofile), in JSON; convert it to pprof"
	}
	return "JSON; the only JSON format that is read is speedscope's (format=speedscope)"
}

// IsPerfData reports whether a file is one that `perf record` writes, of either byte order,
// by its first bytes.
func IsPerfData(head []byte) bool {
	return bytes.HasPrefix(head, []byte("PERFILE2")) || bytes.HasPrefix(head, []byte("2ELIFREP"))
}

// kindOfBinary returns the name of the format of a body that was sent as text but has
// bytes that no text has, "" for text.
func kindOfBinary(raw []byte, l Limits) string {
	if bytes.IndexByte(raw[:min(len(raw), 4096)], 0) < 0 && (len(raw) == 0 || raw[0] != '\n') {
		return ""
	}
	if IsPerfData(raw) {
		return "a perf.data file, of which `perf script` makes text"
	}
	// Without memory to decode it, it is only said to be binary.
	switch p, _ := decode(raw, l, newReservation(raw, false, l)); {
	case p != nil && len(p.SampleType) > 0 && len(p.StringTable) > 0, isOldCPU(raw):
		return "a pprof profile (format=pprof)"
	case len(raw) > 0 && raw[0] == '\n':
		return ""
	}
	return "binary, no text"
}
