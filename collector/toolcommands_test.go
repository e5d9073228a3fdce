package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	pprof "github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"
)

// perfText is the output of `perf script` with two events, a cut last sample and
// functions of the kernel, of Java and without a symbol.
const perfText = `# ========
# cmdline : /usr/bin/perf record -g
# ========
java 12/13 [001] 100.000001:   10101010 cycles:P: 
	ffffffff81000010 do_syscall_64+0x10 ([kernel.kallsyms])
	    7f0000000020 Ljava/io/PrintStream;::print (/tmp/perf-12.map)
	    7f0000000030 [unknown] (/usr/lib/libjvm.so)

V8 Worker 14/15 [000] 100.000002:   20202020 cycles:P: 
	    000000400577 work(int)+0x7 (/usr/bin/node)
	    0000004005b1 main+0x1 (/usr/bin/node)

V8 Worker 14/15 [000] 100.000002:          5 instructions: 
	    000000400577 count(int)+0x7 (/usr/bin/node)

java 12/13 [001] 100.000003:   10101010 cycles:P: 
	    7f0000000020 cut (/x)
`

// flamePage is a page as async-profiler 4 writes it.
const flamePage = `<!DOCTYPE html>
<html lang='en'>
<script>
const cpool = [
'all',
' java/lang/Thread.run',
' main'
];
unpack(cpool);

n(3,100)
u(9,60)
n(17,40)

search();
</script></body></html>
`

const speedscopeText = `{"$schema":"https://www.speedscope.app/file-format-schema.json","shared":{"frames":[{"name":"main"},{"name":"work"}]},
"profiles":[{"type":"sampled","name":"MainThread","unit":"seconds","startValue":0,"endValue":0.3,"samples":[[0,1],[0]],"weights":[0.2,0.1]}]}`

// goProfile is a CPU profile as Go writes it, compressed, in which work has the given
// value of CPU time in ns.
func goProfile(t *testing.T, work int64) string {
	t.Helper()
	main, called := &pprof.Function{ID: 1, Name: "main.main"}, &pprof.Function{ID: 2, Name: "main.work"}
	at := func(id uint64, f *pprof.Function) *pprof.Location {
		return &pprof.Location{ID: id, Line: []pprof.Line{{Function: f, Line: 7}}}
	}
	l1, l2 := at(1, main), at(2, called)
	p := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 10_000_000, TimeNanos: 1_700_000_000_000_000_000, DurationNanos: 10_000_000_000,
		Function: []*pprof.Function{main, called}, Location: []*pprof.Location{l1, l2},
		Sample: []*pprof.Sample{
			{Location: []*pprof.Location{l2, l1}, Value: []int64{work / 10_000_000, work}},
			{Location: []*pprof.Location{l1}, Value: []int64{1, 10_000_000}},
		},
	}
	var b bytes.Buffer
	require.NoError(t, p.Write(&b))
	return b.String()
}

// waitProfile is a profile of off-CPU time with the types that record writes.
func waitProfile(t *testing.T) string {
	t.Helper()
	f := &pprof.Function{ID: 1, Name: "main.main"}
	at := &pprof.Location{ID: 1, Line: []pprof.Line{{Function: f}}}
	p := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "blocks", Unit: "count"}, {Type: "off_cpu", Unit: "nanoseconds"}}, DefaultSampleType: "off_cpu",
		Function: []*pprof.Function{f}, Location: []*pprof.Location{at},
		Sample: []*pprof.Sample{{Location: []*pprof.Location{at}, Value: []int64{2, 1_000_000_000}}},
	}
	var b bytes.Buffer
	require.NoError(t, p.Write(&b))
	return b.String()
}

// toolFiles makes a folder with the files that docs/tools.md speaks of.
func toolFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	jfr, err := os.ReadFile("ingest/testdata/jfr/jdk.jfr.gz")
	require.NoError(t, err)
	for name, text := range map[string]string{
		"perf.txt": perfText, "flame.html": flamePage, "pyspy.speedscope.json": speedscopeText, "recording.jfr": string(jfr),
		"pyspy.raw":     "<module> (a.py:7);work (a.py:3) 20\n<module> (a.py:7) 1\n",
		"before.folded": "main;old 5\nmain;work 10\n", "after.folded": "main;work 30\nmain 5\n",
		"before.collapsed": "main;old 5\nmain;work 10\n", "after.collapsed": "main;work 30\nmain 5\n",
		"off-cpu.pb.gz": waitProfile(t), "perf.data": "PERFILE2\x68\x00\x00\x00\x00\x00\x00\x00",
		"cpu.pb.gz": goProfile(t, 300_000_000), "before.pb.gz": goProfile(t, 100_000_000), "after.pb.gz": goProfile(t, 300_000_000),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	// `perf script` needs a recording and rights; its output does not.
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bin", "perf"), []byte("#!/bin/sh\ncat perf.txt\n"), 0o700)) //nolint:gosec // a program
	program, err := binary()
	require.NoError(t, err, "build the program")
	require.NoError(t, os.Symlink(program, filepath.Join(dir, "bin", "flameline")))
	return dir
}

// shell runs a line of a shell in a folder of toolFiles.
func shell(t *testing.T, dir, line string) (code int, stdout, stderr string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "bash", "-o", "pipefail", "-c", line)
	c.Dir = dir
	c.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	var out, err bytes.Buffer
	c.Stdout, c.Stderr = &out, &err
	_ = c.Run() // the exit code tells
	return c.ProcessState.ExitCode(), out.String(), err.String()
}

// Every command that docs/tools.md says to type for files works.
func TestToolsPage(t *testing.T) {
	page, err := os.ReadFile("../docs/tools.md")
	require.NoError(t, err)
	dir := toolFiles(t)
	p := launch(t, nil, "--ebpf.enabled=false", "--storage.path="+t.TempDir())
	p.waitReady(t)
	ran := 0
	for row := range strings.Lines(string(page)) {
		cells := regexp.MustCompile(`[^\\]\| `).Split(row, -1)
		code := regexp.MustCompile("^`([^`]+)` \\|$").FindStringSubmatch(strings.TrimSpace(cells[len(cells)-1]))
		if code == nil || !regexp.MustCompile(`flameline (convert|diff|import|export) `).MatchString(code[1]) {
			continue
		}
		ran++
		line := strings.ReplaceAll(strings.ReplaceAll(code[1], `\|`, "|"), "SERVER", p.url)
		exit, stdout, stderr := shell(t, dir, line)
		require.Zero(t, exit, "%s: %s", line, stderr)
		file := regexp.MustCompile(`(?:-o|>) (\S+)$`).FindStringSubmatch(line)
		if file == nil {
			require.True(t, stdout != "" || strings.Contains(stderr, "stored as shop"), "%s: %s", line, stderr)
			continue
		}
		require.Empty(t, stdout, line)
		b, err := os.ReadFile(filepath.Join(dir, file[1]))
		require.NoError(t, err, line)
		require.NoError(t, looksLike(file[1], b), line)
	}
	require.Greater(t, ran, 25)
}

// looksLike returns an error if a file is not of the format of its name.
func looksLike(name string, b []byte) error {
	switch filepath.Ext(name) {
	case ".svg":
		d := xml.NewDecoder(bytes.NewReader(b))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	case ".gz", ".pprof":
		_, err := pprof.ParseData(b)
		return err
	case ".html", ".json":
		if !bytes.Contains(b, []byte("flameline")) {
			return io.ErrUnexpectedEOF
		}
	default:
		if !regexp.MustCompile(`(?m)\A(.+ \d+$\n)+\z`).Match(b) {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// What the commands print, where scripts depend on it.
func TestToolCommands(t *testing.T) {
	dir := toolFiles(t)
	for name, tc := range map[string]struct {
		line           string
		code           int
		stdout, stderr string
	}{
		"perf": {line: "flameline convert perf.txt", stdout: "V8_Worker;main;work 20202020\njava;[libjvm.so];java/io/PrintStream:::print;do_syscall_64 10101010\n",
			stderr: "flameline: note: perf.txt: left out 1 samples of the event instructions; --event-filter selects an event, of which cycles:P is used\n" +
				"flameline: note: perf.txt: left out the last sample, in line 16: the empty line after it is missing, so the file may have been cut\n"},
		"perf, options":        {line: "flameline convert --all --addrs perf.txt 2>/dev/null", stdout: "V8_Worker;main;work 20202020\njava;[libjvm.so <7f0000000030>];java/io/PrintStream:::print_[j];do_syscall_64_[k] 10101010\n"},
		"perf, another event":  {line: "flameline convert --event-filter instructions perf.txt 2>/dev/null", stdout: "V8_Worker;count 5\n"},
		"perf, no such event":  {line: "flameline convert --event-filter x perf.txt 2>&1 | tail -1", code: 1, stdout: "flameline: perf.txt: no sample of the event x; there are samples of cycles:P, instructions\n"},
		"perf, gzip":           {line: "gzip -c perf.txt | flameline convert - 2>/dev/null | wc -l", stdout: "2\n"},
		"perf, no stacks":      {line: "printf 'a.out 12 1.5: 7 cycles: 4005 f (x)\\n' | flameline convert --input perf", code: 1, stderr: "flameline: standard input: no complete sample: the empty line after the one in line 1 is missing; was it recorded without stacktraces (perf record -g)?\n"},
		"perf, no thread":      {line: "printf 'a.out cycles:\\n\\t4005 f (x)\\n\\n' | flameline convert --pid 2>&1 | tail -1", code: 1, stdout: "flameline: standard input: no samples: line 1 is no part of one: \"a.out cycles:\"; run perf script -F comm,pid,tid,cpu,time,event,ip,sym,dso\n"},
		"through every format": {line: "for f in pb.gz speedscope.json gecko.json folded; do flameline convert before.folded -o x.$f && flameline convert x.$f; done | sort | uniq -c | awk '{print $1, $2, $3}'", stdout: "4 main;old 5\n4 main;work 10\n"},
		"types":                {line: "flameline convert --type samples cpu.pb.gz", stdout: "main.main 1\nmain.main;main.work 30\n"},
		"default type": {line: "flameline convert cpu.pb.gz", stdout: "main.main 10000000\nmain.main;main.work 300000000\n",
			stderr: "flameline: note: cpu.pb.gz: shows cpu; --type selects one of samples, cpu\n"},
		"unknown type":  {line: "flameline convert --type alloc cpu.pb.gz", code: 2, stderr: "flameline: cpu.pb.gz: --type: \"alloc\" is not in the file, which has samples, cpu\n"},
		"HTML":          {line: "flameline convert flame.html", stdout: "java/lang/Thread.run 60\nmain 40\n"},
		"speedscope":    {line: "flameline convert pyspy.speedscope.json", stdout: "main 100000000\nmain;work 200000000\n"},
		"recording":     {line: "flameline convert recording.jfr 2>/dev/null | sed -n 1p | cut -c1-40", stdout: "Shop.<clinit>;java/lang/management/Manag\n"},
		"diff":          {line: "flameline diff before.folded after.folded", stdout: "main 0 5\nmain;old 5 0\nmain;work 10 30\n"},
		"diff, shares":  {line: "flameline diff -n before.folded after.folded", stdout: "main 0 5\nmain;old 11 0\nmain;work 24 30\n"},
		"diff, rates":   {line: "flameline diff --per-second before.pb.gz after.pb.gz", stdout: "main.main 10000000 10000000\nmain.main;main.work 100000000 300000000\n"},
		"diff, no time": {line: "flameline diff --per-second before.folded after.folded", code: 1, stderr: "flameline: --per-second: before.folded does not say how long it was recorded\n"},
		"elided":        {line: "flameline diff --elided before.folded after.folded", stdout: "main;old 5\n"},
		"diff to pprof": {line: "flameline diff before.folded after.folded -o x.pb.gz", code: 2, stderr: "flameline: a comparison cannot be written as pprof, only as table, folded, svg, html\n"},
		"diff, both have": {line: "flameline diff before.folded cpu.pb.gz | LC_ALL=C sort", stdout: "main.main 0 1\nmain.main;main.work 0 30\nmain;old 5 0\nmain;work 10 0\n",
			stderr: "flameline: note: compares samples (count), which both have, and not cpu of cpu.pb.gz\n"},
		"diff, type":     {line: "flameline diff --type samples before.folded cpu.pb.gz | LC_ALL=C sort | head -1", stdout: "main.main 0 1\n"},
		"units":          {line: "flameline diff before.folded off-cpu.pb.gz", code: 1, stderr: "flameline: before.folded and off-cpu.pb.gz: the units differ: samples in count, and off_cpu in nanoseconds; --type selects a type of both, and --normalize compares shares\n"},
		"on and off CPU": {line: "flameline diff cpu.pb.gz off-cpu.pb.gz", code: 1, stderr: "flameline: cpu.pb.gz has cpu and off-cpu.pb.gz has off_cpu, which measure different things; --type selects a type of both, and --normalize compares shares\n"},
		"on and off CPU, n": {line: "flameline diff -n cpu.pb.gz off-cpu.pb.gz | cut -d ' ' -f 1 | LC_ALL=C sort", stdout: "main.main\nmain.main;main.work\n",
			stderr: "flameline: note: compares the shares of different things: of cpu in cpu.pb.gz and of off_cpu in off-cpu.pb.gz\n"},
		"perf.data":          {line: "flameline convert perf.data", code: 1, stderr: "flameline: perf.data: this is a perf.data file, which only perf can read; run perf script -i FILE > perf.txt and give perf.txt\n"},
		"perf.data, diff":    {line: "flameline diff before.folded perf.data 2>&1 | cut -c1-46", code: 1, stdout: "flameline: perf.data: this is a perf.data file\n"},
		"perf.data, import":  {line: "flameline import --server http://127.0.0.1:1 perf.data 2>&1 | cut -c1-46", code: 1, stdout: "flameline: perf.data: this is a perf.data file\n"},
		"perf.data, options": {line: "flameline convert --pid - < perf.data 2>&1 | cut -c1-51", code: 1, stdout: "flameline: standard input: this is a perf.data file\n"},
		"py-spy":             {line: "flameline convert pyspy.raw", stdout: "<module> 1\n<module>;work 20\n"},
		"py-spy, files":      {line: "flameline convert pyspy.raw -o y.pb.gz && go tool pprof -raw y.pb.gz 2>/dev/null | grep -c 'work a.py:3.* s=0'", stdout: "1\n"},
		"two columns":        {line: "flameline diff before.folded after.folded | flameline convert", stdout: "main 0 5\nmain;old 5 0\nmain;work 10 30\n"},
		"table":              {line: "flameline diff --to table --top 1 before.folded after.folded | awk '{print $NF}'", stdout: "function\nold\nfunctions\nall\n"},
		"both from stdin":    {line: "flameline diff - - < before.folded", code: 2, stderr: "flameline: only one side can be the standard input\n"},
		"no file":            {line: "flameline convert missing", code: 1, stderr: "flameline: open missing: no such file or directory\n"},
		"empty":              {line: "flameline convert < /dev/null", code: 1, stderr: "flameline: standard input: is empty\n"},
		"a folder":           {line: "flameline convert bin", code: 1, stderr: "flameline: bin: is a directory\n"},
		"bad line":           {line: "printf 'a;b 1\\nc x\\n' | flameline convert", code: 1, stderr: "flameline: standard input: folded: line 2: \"x\" is not a number of samples\n"},
		"cut pprof":          {line: "head -c 100 cpu.pb.gz | flameline convert", code: 1, stderr: "flameline: standard input: gzip: unexpected EOF\n"},
		"bad extension":      {line: "flameline convert before.folded -o x.png 2>&1 | cut -c1-60", code: 2, stdout: "flameline: x.png: the extension names no format; known are .\n"},
		"bad format":         {line: "flameline convert before.folded --to png", code: 2, stderr: "flameline: format \"png\" is not one of folded, pprof, speedscope, gecko, svg, html\n"},
		"no partial file":    {line: "printf 'a x\\n' | flameline convert -o y.svg 2>/dev/null; ls -A | grep y.svg", code: 1},
		"closed pipe":        {line: "flameline convert recording.jfr --to html 2>/dev/null | head -c 1 | wc -c; true", stdout: "1\n"},
		"import of two":      {line: "flameline import diff2.folded < /dev/null", code: 1, stderr: "flameline: open diff2.folded: no such file or directory\n"},
		"no server":          {line: "flameline import before.folded --server http://127.0.0.1:1 2>&1 | grep -c 'before.folded: .*connection refused'", code: 1, stdout: "1\n"},
		"bad label":          {line: "flameline import before.folded --label x", code: 2, stderr: "flameline: --label: \"x\" is not name=value\n"},
		"bad range":          {line: "flameline export a:b:c:d:e --from now --until now-1h 2>&1 | cut -c1-50", code: 2, stdout: "flameline: --from/--until: the time range is empty\n"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := shell(t, dir, tc.line)
			require.Equal(t, tc.stdout, stdout, stderr)
			require.Equal(t, tc.code, code, stderr)
			require.Equal(t, tc.stderr, stderr)
		})
	}
}
