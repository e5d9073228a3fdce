package ingest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/pprof/profile"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// decodeOther decodes one of pprof's older formats, given the error of decoding
// profile.proto. For any other body its error names the format.
func decodeOther(raw []byte, l Limits, protoErr error) (*googlev1.Profile, error) {
	if !isLegacy(raw) {
		if what := kindOfText(raw); what != "" {
			return nil, fmt.Errorf("this is %s", what)
		}
		return nil, protoErr
	}
	if err := checkLegacy(raw, l); err != nil {
		return nil, err
	}
	old, err := parseLegacy(fromJemalloc(raw))
	if err != nil {
		return nil, err
	}
	if isJemalloc(raw) {
		old.DropFrames += "|" + jemallocFrames
	}
	nameGoroutines(old, raw)
	var b bytes.Buffer
	if err := old.WriteUncompressed(&b); err != nil {
		return nil, err
	}
	return decodeSlowly(b.Bytes(), l)
}

// legacyHeads match the beginnings of the text formats that pprof reads besides
// profile.proto: those of gperftools and tcmalloc, of jemalloc, of Java's agent, and of
// Go's net/http/pprof with debug=1.
var legacyHeads = []*regexp.Regexp{
	regexp.MustCompile(`^heap profile: *\d+: *\d+ *\[`),
	regexp.MustCompile(`^heap_v2/\d+\s`),
	regexp.MustCompile(`^\S+ profile: total \d+\s`),
	regexp.MustCompile(`^--- (contentionz? |contention:|mutex:|threadz \d+ ---|Thread |heapz )`),
}

// isLegacy reports whether raw may be in one of pprof's older formats.
func isLegacy(raw []byte) bool {
	head := raw[:min(len(raw), 256)]
	for _, re := range legacyHeads {
		if re.Match(head) {
			return true
		}
	}
	return isOldCPU(raw)
}

// isOldCPU reports whether raw is a CPU profile of gperftools: words of 32 or 64 bits in
// the machine's byte order, which are 0, 3, 0 (1 for Java), the period in microseconds,
// 0.
func isOldCPU(raw []byte) bool {
	for _, size := range []int{4, 8} {
		for _, little := range []bool{true, false} {
			word := func(i int) (w uint64) {
				for j := range size {
					at := i*size + j
					if little {
						at = i*size + size - 1 - j
					}
					w = w<<8 | uint64(raw[at])
				}
				return w
			}
			if len(raw) >= 5*size && word(0) == 0 && word(1) == 3 && word(2) <= 1 && word(3) > 0 && word(4) == 0 {
				return true
			}
		}
	}
	return false
}

// checkLegacy checks a profile in an older format against the limits before it is
// parsed. It counts lines and addresses; each address becomes a location.
func checkLegacy(raw []byte, l Limits) error {
	if isOldCPU(raw) {
		if exceeds(len(raw)/4, 8*l.MaxSymbols) {
			return fmt.Errorf("a CPU profile of gperftools with more than %d words (8 for each of limits.max_symbols)", 8*l.MaxSymbols)
		}
		return nil
	}
	samples := 0
	addresses := map[string]struct{}{}
	for line := range bytes.Lines(raw) {
		if bytes.IndexByte(line, '@') >= 0 || bytes.HasPrefix(line, []byte("--- Thread ")) {
			if samples++; exceeds(samples-1, l.MaxSamples) { // the header may be counted too
				return fmt.Errorf("sample: more than %d samples (limits.max_samples)", l.MaxSamples)
			}
		}
		for word := range bytes.FieldsSeq(line) {
			if !bytes.HasPrefix(word, []byte("0x")) {
				continue
			}
			addresses[string(word)] = struct{}{}
			if exceeds(len(addresses), l.MaxSymbols) {
				return fmt.Errorf("more than %d addresses (limits.max_symbols)", l.MaxSymbols)
			}
		}
	}
	return nil
}

// parseLegacy parses one of pprof's older formats. A panic of the library becomes an
// error of this profile.
func parseLegacy(raw []byte) (p *profile.Profile, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("broken profile in one of pprof's older formats: %v", v)
		}
	}()
	return profile.ParseData(raw)
}

// jemallocCounts matches the line with a stacktrace's sums over all threads in
// jemalloc's heap profiles: objects and bytes in use, and in brackets those ever
// allocated, if accumulation was enabled.
var jemallocCounts = regexp.MustCompile(`^\s*t\*: *(\d+): *(\d+) *\[ *(\d+): *(\d+) *\]`)

var jemallocHead = []byte("heap_v2/")

func isJemalloc(raw []byte) bool { return bytes.HasPrefix(raw, jemallocHead) }

// jemallocFrames matches the functions by which a program enters jemalloc, with the
// prefixes that it is built with, and Rust's allocation functions. pprof's own list of
// functions to drop has most of gperftools'.
const jemallocFrames = `(_rjem_)?(je_)?(malloc|calloc|realloc|valloc|memalign|aligned_alloc|posix_memalign|mallocx|rallocx|xallocx)(_default)?` +
	`|(_rjem_)?(je_)?(imalloc(_body|_sample)?|do_rallocx|prof_alloc_prep|prof_tctx_create|prof_backtrace(_impl)?)` +
	`|(__rustc::)?__(rust|rdl|rg)_(re)?alloc(_zeroed)?|alloc::alloc::(re)?alloc(_zeroed)?` +
	`|<\w*jemalloc\w*::Jemalloc as .*|(<)?alloc::alloc::Global(::| as ).*`

// fromJemalloc converts a heap profile of jemalloc (heap_v2, as its prof.dump writes it)
// to gperftools' format, which pprof reads, and returns other profiles unchanged.
// jemalloc writes a stacktrace on its own line, then a line of counts for all threads
// and one per thread. Both formats sample by bytes at random, and are scaled alike.
func fromJemalloc(raw []byte) []byte {
	head, rest, _ := bytes.Cut(raw, []byte("\n"))
	if !isJemalloc(raw) {
		return raw
	}
	rate := bytes.TrimPrefix(head, jemallocHead)
	rateText := strings.TrimSpace(string(rate))
	var out bytes.Buffer
	var stack []byte
	s := bufio.NewScanner(bytes.NewReader(rest))
	s.Buffer(nil, len(raw)+1)
	samples, allocated := bytes.Buffer{}, false
	for s.Scan() {
		line := s.Bytes()
		switch counts := jemallocCounts.FindSubmatch(line); {
		case bytes.HasPrefix(line, []byte("@")):
			stack = bytes.Clone(bytes.TrimSpace(line[1:]))
		case counts != nil && stack != nil:
			allocated = allocated || string(counts[3]) != "0"
			fmt.Fprintf(&samples, "%s: %s [%s: %s] @ %s\n", counts[1], counts[2], counts[3], counts[4], stack)
			stack = nil
		case bytes.HasPrefix(line, []byte("MAPPED_LIBRARIES")):
			samples.WriteString("\n")
			fallthrough
		default:
			if !bytes.HasPrefix(bytes.TrimSpace(line), []byte("t")) { // counts of one thread
				samples.Write(append(bytes.Clone(line), '\n'))
			}
		}
	}
	total := 0
	if allocated {
		total = 1 // makes the header announce cumulative values
	}
	fmt.Fprintf(&out, "heap profile: 0: 0 [%d: %d] @ heap_v2/%s\n", total, total, rateText)
	_, _ = samples.WriteTo(&out)
	return out.Bytes()
}

// goroutineFrame matches a line that gives an address's function in Go's profiles with
// debug=1: the address, the function with an offset, the file and the line.
var goroutineFrame = regexp.MustCompile(`^#\s+(0x[0-9a-f]+)\s+(\S.*?)\+0x[0-9a-f]+\s+(\S.*):(\d+)$`)

// nameGoroutines gives locations the functions that Go's text names. pprof ignores those
// lines, since it uses the binary's symbols.
func nameGoroutines(p *profile.Profile, raw []byte) {
	if !bytes.Contains(raw, []byte("\n#\t0x")) {
		return
	}
	type place struct {
		name, file string
		line       int64
	}
	places := map[uint64]place{}
	for line := range bytes.Lines(raw) {
		if len(line) == 0 || line[0] != '#' {
			continue
		}
		m := goroutineFrame.FindSubmatch(bytes.TrimSpace(line))
		if m == nil {
			continue
		}
		address, err := strconv.ParseUint(string(m[1]), 0, 64)
		number, err2 := strconv.ParseInt(string(m[4]), 10, 64)
		if errors.Join(err, err2) == nil {
			places[address] = place{string(m[2]), string(m[3]), number}
		}
	}
	functions := map[place]*profile.Function{}
	for _, l := range p.Location {
		at, ok := places[l.Address]
		if !ok { // pprof subtracts 1 from return addresses
			at, ok = places[l.Address+1]
		}
		if !ok || len(l.Line) > 0 {
			continue
		}
		key := place{name: at.name, file: at.file}
		f := functions[key]
		if f == nil {
			f = &profile.Function{ID: uint64(len(p.Function)) + 1, Name: at.name, SystemName: at.name, Filename: at.file}
			functions[key] = f
			p.Function = append(p.Function, f)
		}
		l.Line = []profile.Line{{Function: f, Line: at.line}}
	}
}
