package ingest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// pushOf is a push of samples without a rate, so that values stay as they are.
func pushOf(t testing.TB, name string) Push {
	t.Helper()
	m := Push{From: time.Unix(1_700_000_000, 0), Until: time.Unix(1_700_000_010, 0)}
	require.NoError(t, m.SetLabels(name, "test", Limits{}))
	return m
}

// foldedText is a profile as folded stacks, sorted.
func foldedText(p *googlev1.Profile) []string {
	var out []string
	for _, s := range p.Sample {
		out = append(out, fmt.Sprintf("%s %d", strings.Join(namesOf(p, s), ";"), s.Value[0]))
	}
	slices.Sort(out)
	return out
}

// namesOf are the functions of a sample, outermost first.
func namesOf(p *googlev1.Profile, s *googlev1.Sample) (names []string) {
	for _, id := range slices.Backward(s.LocationId) {
		f := p.Function[p.Location[id-1].Line[0].FunctionId-1]
		names = append(names, p.StringTable[f.Name])
	}
	return names
}

// sole returns the one profile, which has to be one that Pprof accepts.
func sole(t testing.TB, ps []profile.Profile, l Limits) *googlev1.Profile {
	t.Helper()
	require.Len(t, ps, 1)
	p := ps[0].Pprof
	l.MaxSymbols *= 4 // counts functions, locations, lines and strings one by one
	_, _, err := Pprof(encode(t, p), l)
	require.NoError(t, err)
	return p
}

// The editors of old Macs end lines by a carriage return alone.
func TestFoldedWithCarriageReturns(t *testing.T) {
	ps, _, err := Folded([]byte("a;b 10\ra;c 5\r"), pushOf(t, "shop"), Limits{})
	require.NoError(t, err)
	require.Equal(t, []string{"a;b 10", "a;c 5"}, foldedText(sole(t, ps, Limits{})))
}

func TestFolded(t *testing.T) {
	text := strings.Join([]string{
		"main;work 30", "main;operator new(unsigned long) 5", "", "main;work 1\r", "main 4", "main;; 2", "idle  2  ",
		"java;Lcom/example/Shop:::total_[j];[unknown];do_syscall_64_[k] 3", "zero 0",
		strings.Repeat("deep;", 3000) + "leaf 9", // longer than a line reader's buffer
	}, "\n")
	m := pushOf(t, "shop.alloc_objects{region=eu}")
	for name, body := range map[string][]byte{"plain": []byte(text), "gzip": gzipped(t, []byte(text)), "zstd": zstandard(t, []byte(text))} {
		ps, size, err := Folded(body, m, Limits{})
		require.NoError(t, err, name)
		require.Equal(t, len(text), size)
		p := sole(t, ps, Limits{})
		require.Equal(t, []string{
			strings.Repeat("deep;", 3000) + "leaf 9",
			"idle 2", "java;Lcom/example/Shop:::total_[j];[unknown];do_syscall_64_[k] 3",
			"main 6", "main;operator new(unsigned long) 5", "main;work 31",
		}, foldedText(p))
		require.Equal(t, `{__name__="memory", pyroscope_spy="test", region="eu", service_name="shop"}`, ps[0].Labels.String())
		require.Equal(t, m.From.UnixNano(), p.TimeNanos)
		require.Equal(t, int64(10*time.Second), p.DurationNanos)
	}
}

// One negative value does not cost the others.
func TestFoldedNegative(t *testing.T) {
	var report Report
	ps, _, err := Folded([]byte("main;a 7\nmain;b -1\nmain;c -0.5\nmain;d 2.0\n"), pushOf(t, "shop"), Limits{Report: &report})
	require.NoError(t, err)
	require.Equal(t, []string{"main;a 7", "main;d 2"}, foldedText(sole(t, ps, Limits{})))
	require.Equal(t, "skipped sample with a negative value (2)", report.String())
}

func TestLines(t *testing.T) {
	ps, _, err := Lines([]byte("main;work\nmain;work\n\nmain;a 7\n"), pushOf(t, "shop"), Limits{})
	require.NoError(t, err)
	require.Equal(t, []string{"main;a 7 1", "main;work 2"}, foldedText(sole(t, ps, Limits{})))
}

func TestFoldedNamesTheLine(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		l    Limits
		want string
	}{
		"no number":         {"a;b 1\na;b\n", Limits{}, `folded: line 2: "a;b" has no space`},
		"no number at all":  {"a;b 1\n\na;b 1.5s\n", Limits{}, `folded: line 3: "1.5s" is not a number of samples`},
		"a comma":           {"a;b 1,234\n", Limits{}, `folded: line 1: "1,234" has a comma, which may separate thousands or a fraction`},
		"infinite":          {"a;b inf\n", Limits{}, `folded: line 1: "inf" is not a number of samples`},
		"negative fraction": {"a;b -0.5\n", Limits{}, "folded: line 1: the value -0.5 is negative"},
		"too large":         {"a;b 9223372036854775808\n", Limits{}, "folded: line 1: 9223372036854775808 is more than 9223372036854775807"},
		"large exponent":    {"a;b 1e400\n", Limits{}, "folded: line 1: 1e400 is more than 9223372036854775807"},
		"two columns":       {"# diff\nmain;work 10 20\nmain;idle 5 5\nmain 1 0\n", Limits{}, "folded: line 2: two numbers: this is a comparison"},
		"most two columns":  {"main;work 10 20\nmain;idle 5.5\t5\nmain 1\n", Limits{}, "folded: line 1: two numbers"},
		"JSON":              {`{"$schema":"https://www.speedscope.app/file-format-schema.json"}`, Limits{}, "folded: this is a speedscope file (format=speedscope)"},
		"other JSON":        {`[{"a":1}]`, Limits{}, "folded: this is JSON"},
		"cpuprofile":        {`{"nodes":[{"id":1,"callFrame":{}}]}`, Limits{}, "folded: this is a profile of V8"},
		"HTML":              {"\n<!DOCTYPE html>\n<html>", Limits{}, "folded: this is an HTML page"},
		"SVG":               {"<?xml version=\"1.0\"?>\n<!DOCTYPE svg PUBLIC \"-//W3C//DTD SVG 1.1//EN\">\n<svg version=\"1.1\">", Limits{}, "folded: this is an SVG picture"},
		"perf script":       {"# cmdline : /usr/bin/perf script\njava 25607 4794564.109216: cycles: \n\t7f_dead foo (lib.so)\n", Limits{}, "folded: this is the output of `perf script`"},
		"perf script's CPU": {"swapper     0 [002]  5076.836336:    1000000 cpu-clock:pppH: \n", Limits{}, "folded: this is the output of `perf script`"},
		"bpftrace":          {"Attaching 1 probe...\n@[\n", Limits{}, "folded: this is bpftrace's output"},
		"JFR":               {"FLR\x00\x00\x02", Limits{}, "folded: this is "},
		"binary":            {"a\x00\x01\x02", Limits{}, "folded: this is binary, no text"},
		"pprof":             {string(encode(t, sound())), Limits{}, "folded: this is a pprof profile (format=pprof)"},
		"half of UTF-16":    {"\xff\xfea\x00b", Limits{}, "folded: UTF-16 with an odd number of bytes, 3"},
		"negative":          {"a;b -1\n", Limits{}, "folded: line 1: the value -1 is negative"},
		"overflow":          {"a 9223372036854775807\na 1\n", Limits{}, "folded: line 2: the values of one stacktrace add up to more than"},
		"samples":           {"a 1\nb 1\na 1\nc 1\n", Limits{MaxSamples: 2}, "folded: line 4: more than 2 stacktraces (limits.max_samples)"},
		"depth":             {"a;b 1\na;b;c 1\n", Limits{MaxStackDepth: 2}, "folded: line 2: a stacktrace of more than 2 frames (limits.max_stack_depth)"},
		"symbols":           {"a;b;c 1\n", Limits{MaxSymbols: 5}, "folded: line 1: more than 5 functions and nodes of the call tree (limits.max_symbols)"},
		"symbol":            {"a;bcde 1\n", Limits{MaxSymbolBytes: 3}, "folded: line 1: a name of 4 bytes is longer than 3 (limits.max_symbol_bytes)"},
		"bytes":             {"a;b 1\n", Limits{MaxProfileBytes: 5}, "folded: too large: more than 5 bytes after decompression (limits.max_profile_bytes)"},
		"unfolded":          {"a;b 1\na;b;c 1\n", Limits{MaxProfileBytes: 14}, ""},
		"type":              {"a 1\n", Limits{}, ""},
		"cut gzip":          {"\x1f\x8b", Limits{}, "folded: gzip: "},
		"value times scale": {"a 9223372036854775807\n", Limits{}, "folded: line 1: the value 9223372036854775807, times the 10000000 ns of a sample, is more than"},
	} {
		t.Run(name, func(t *testing.T) {
			m := pushOf(t, "shop")
			if name == "value times scale" {
				m.SampleRate = 100
			}
			_, _, err := Folded([]byte(tc.in), m, tc.l)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
		})
	}
	_, _, err := Folded(nil, pushOf(t, "shop.what"), Limits{})
	require.ErrorContains(t, err, `name: "shop.what" ends in "what", which is not a profile type`)
	_, _, err = Folded([]byte("a 1"), pushOf(t, "shop{service_name=a}"), Limits{MaxLabels: 3})
	require.ErrorContains(t, err, "folded: labels: 4 labels are more than 3 (limits.max_labels)")
	_, _, err = Folded(nil, pushOf(t, ".cpu"), Limits{})
	require.ErrorContains(t, err, `name: ".cpu" has a profile type, but no application`)
}

// What other tools write, on other systems, is the same profile.
func TestFoldedOfOtherTools(t *testing.T) {
	want := []string{"main;work 30", "main;w\u00f6rk 2", "thread 7 5"}
	text := "main;work 30\nmain;w\u00f6rk 2\nthread 7 5\n"
	utf16 := func(order binary.AppendByteOrder, mark bool) []byte {
		var b []byte
		if mark {
			b = order.AppendUint16(b, 0xfeff)
		}
		for _, r := range text {
			b = order.AppendUint16(b, uint16(r))
		}
		return b
	}
	for name, body := range map[string][]byte{
		"UTF-8 with a mark":    []byte("\xef\xbb\xbf" + text),
		"UTF-16LE":             utf16(binary.LittleEndian, true),
		"UTF-16BE":             utf16(binary.BigEndian, true),
		"UTF-16LE, no mark":    utf16(binary.LittleEndian, false),
		"UTF-16BE, no mark":    utf16(binary.BigEndian, false),
		"lines end as on DOS":  []byte(strings.ReplaceAll(text, "\n", "\r\n")),
		"no end of line":       []byte(strings.TrimSuffix(text, "\n")),
		"tabs":                 []byte("main;work\t30\nmain;w\u00f6rk\t 2\nthread 7\t5"),
		"comments":             []byte("# total 37\n#!header\n// by hand\n\n#\n" + text + "# end 12\n"),
		"separators at an end": []byte("main;work; 30\nmain;w\u00f6rk;; 2\nthread 7 5\n"),
		"exponents":            []byte("main;work 3e1\nmain;w\u00f6rk 2.000\nthread 7 5.\n"),
	} {
		ps, size, err := Folded(body, pushOf(t, "shop"), Limits{})
		require.NoError(t, err, name)
		require.Equal(t, len(body), size)
		require.Equal(t, want, foldedText(sole(t, ps, Limits{})), name)
	}
	// A private method of JavaScript is not a comment.
	ps, _, err := Folded([]byte("#connect;read 3\n"), pushOf(t, "shop"), Limits{})
	require.NoError(t, err)
	require.Equal(t, []string{"#connect;read 3"}, foldedText(sole(t, ps, Limits{})))
}

// Fractions are rounded so that the sum is right, and become time exactly where
// there is a rate.
func TestFoldedRoundsFractions(t *testing.T) {
	text := []byte("a 0.4\nb 0.4\nc 0.4\nd 0.000\ne 1.5\nf 0.3\n") // 3.0
	r := &Report{}
	ps, _, err := Folded(text, pushOf(t, "shop.alloc_objects"), Limits{Report: r})
	require.NoError(t, err)
	require.Equal(t, []string{"b 1", "e 2"}, foldedText(sole(t, ps, Limits{})))
	require.Equal(t, "corrected value with a fraction, which was rounded (5)", r.String())
	m := pushOf(t, "shop")
	m.SampleRate = 100
	r = &Report{}
	ps, _, err = Folded(text, m, Limits{Report: r})
	require.NoError(t, err)
	require.Equal(t, []string{"a 4000000", "b 4000000", "c 4000000", "e 15000000", "f 3000000"}, foldedText(sole(t, ps, Limits{})))
	require.Empty(t, r.String())
}

// Names that are not UTF-8 keep what is valid of them, and mangled ones are shown
// demangled, without Rust's hash.
func TestFoldedNames(t *testing.T) {
	r := &Report{}
	ps, _, err := Folded([]byte("a\xffb;_ZN4shop8checkoutEi_[i] 1\npoll::h0123456789abcdef 2\npoll::hfedcba9876543210 3\nx;;y 1\n"), pushOf(t, "shop"), Limits{Report: r})
	require.NoError(t, err)
	p := sole(t, ps, Limits{})
	require.Equal(t, []string{"a\ufffdb;shop::checkout_[i] 1", "poll 5", "x;[unknown];y 1"}, foldedText(p))
	require.Equal(t, "corrected string that was not UTF-8 (1)", r.String())
	require.Equal(t, "_ZN4shop8checkoutEi_[i]", p.StringTable[p.Function[1].SystemName])
}

// Stacktraces that share all but their leaf are short as a tree and long as
// pprof, where each has all its locations.
func TestFoldedRefusesWhatUnfolds(t *testing.T) {
	var b bytes.Buffer
	line := strings.Repeat("a;", 400)
	for i := range 400 {
		fmt.Fprintf(&b, "%s%d 1\n", line[:2*i+2], i)
	}
	l := Limits{MaxProfileBytes: int64(b.Len())}
	_, _, err := Folded(b.Bytes(), pushOf(t, "shop"), l)
	require.NoError(t, err, "a text has its locations written out as well")
	_, _, err = Tree(chain(3000), pushOf(t, "shop"), l)
	require.ErrorContains(t, err, "bytes as pprof (limits.max_profile_bytes)")
}

// fuzzLimits keep fuzz tests small.
var fuzzLimits = Limits{
	MaxProfileBytes: 1 << 20, MaxSamples: 1000, MaxSymbols: 10_000, MaxStackDepth: 100, MaxSymbolBytes: 1000,
	MaxLabels: 10, MaxLabelValueBytes: 100,
}

// FuzzFolded checks that what is accepted keeps its sum, and is a sound profile.
func FuzzFolded(f *testing.F) {
	f.Add([]byte("main;work 30\nmain 2\n"), true)
	f.Add([]byte("main;work\nmain;work\n"), false)
	f.Add([]byte(";; 1\n 2\n;a; 3\n"), true)
	f.Add(gzipped(f, []byte("a;b 1\n")), true)
	f.Add([]byte("\xff\xfea\x00 \x001\x00"), true)
	f.Add([]byte("# x\na 1.5\n_ZN1aEv 1e3\na::h0123456789abcdef 2\n"), true)
	f.Add([]byte("a 1 2\nb\xff 3\n"), true)
	f.Fuzz(func(t *testing.T, b []byte, counted bool) {
		read, format := Lines, "lines: "
		if counted {
			read, format = Folded, "folded: "
		}
		ps, _, err := read(b, pushOf(t, "shop"), fuzzLimits)
		checkRead(t, ps, err, format)
	})
}

// checkRead checks the outcome of a reader on any bytes.
func checkRead(t *testing.T, ps []profile.Profile, err error, prefix string) {
	t.Helper()
	if err != nil {
		if !strings.HasPrefix(err.Error(), prefix) {
			t.Fatalf("error without context: %v", err)
		}
		return
	}
	for _, p := range ps {
		require.NotEmpty(t, p.Pprof.Sample)
		sole(t, []profile.Profile{p}, fuzzLimits)
		seen := map[string]bool{}
		for _, s := range p.Pprof.Sample {
			stack := fmt.Sprintf("%q", namesOf(p.Pprof, s)) // in which names may have semicolons, or be empty
			require.False(t, seen[stack], stack)
			seen[stack] = true
		}
	}
}
