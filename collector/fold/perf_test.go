package fold

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func folded(t *testing.T, text string, o Options) (string, *Stacks) {
	t.Helper()
	s, err := Perf(strings.NewReader(text), o)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, s.WriteFolded(&b))
	return b.String(), s
}

// shared has outputs of `perf script` and what stackcollapse-perf.pl makes of them.
const shared = "../../../shared/testdata/perf-script"

// options are those of the script, by the names of the shared cases.
var options = map[string]Options{
	"pid": {PID: true}, "tid": {TID: true}, "kernel": {Kernel: true}, "jit": {JIT: true},
	"addrs": {Addrs: true}, "all": {Kernel: true, JIT: true},
}

// The shared cases are not part of the repository, since their licence is not ours; where
// they are not, the cases below stand for them.
func TestSharedCases(t *testing.T) {
	for _, dir := range []string{shared, filepath.Join("..", shared)} {
		texts, err := filepath.Glob(filepath.Join(dir, "*.txt"))
		require.NoError(t, err)
		for _, text := range texts {
			in, err := os.ReadFile(text)
			require.NoError(t, err)
			for name, o := range options {
				want, err := os.ReadFile(strings.TrimSuffix(text, ".txt") + "." + name + ".folded")
				require.NoError(t, err)
				got, _ := folded(t, string(in), o)
				require.Equal(t, string(want), got, "%s --%s", text, name)
			}
		}
	}
}

// The expected lines are what stackcollapse-perf.pl of FlameGraph (41fee1f) prints, except
// where a comment says otherwise.
func TestFold(t *testing.T) {
	const frames = "\t    7f01 leaf (/bin/a)\n\t    7f02 main (/bin/a)\n\n"
	for name, tc := range map[string]struct {
		o        Options
		in, want string
	}{
		"thread only":           {in: "a.out 12 10.5: cycles:\n" + frames, want: "a.out;main;leaf 1\n"},
		"thread only, --tid":    {Options{TID: true}, "a.out 12 10.5: cycles:\n" + frames, "a.out-?/12;main;leaf 1\n"},
		"thread only, --pid":    {Options{PID: true}, "a.out 12 10.5: cycles:\n" + frames, "a.out-?;main;leaf 1\n"},
		"process and thread":    {Options{TID: true}, "a.out 12/13 [001] 10.5: 250 cycles:u:\n" + frames, "a.out-12/13;main;leaf 250\n"},
		"process, --pid":        {Options{PID: true}, "a.out 12/13 [001] 10.5: 250 cycles:u:\n" + frames, "a.out-12;main;leaf 250\n"},
		"thread 0 is no number": {Options{TID: true}, "swapper 0/0 [001] 10.5: 250 cycles:\n" + frames, "swapper-?/0;main;leaf 250\n"},
		"command with spaces":   {in: "V8 Worker Thread 12/13 10.5: 7 cycles:\n" + frames, want: "V8_Worker_Thread;main;leaf 7\n"},
		"command with digits":   {in: "kworker/1:2 77 10.5: 7 cycles:\n" + frames, want: "kworker/1:2;main;leaf 7\n"},
		"command of one letter": {in: "a   12 10.5: 7 cycles:\n" + frames, want: "a_;main;leaf 7\n"},
		"one letter, one space": {in: "a 12 10.5: 7 cycles:\n" + frames, want: "a_12_10.5:;main;leaf 7\n"},
		"command with numbers":  {in: "job 7 12 10.5: 3 cycles:\n" + frames, want: "job;main;leaf 3\n"},
		"semicolon in command":  {in: "aa;b 12 10.5: 3 cycles:\n" + frames + "aa 12 10.5: 3 cycles:\n\t1 leaf (x)\n\t2 main (x)\n\t3 b (x)\n\n", want: "aa;b;main;leaf 6\n"},
		"period 0":              {in: "a.out 12 10.5: 0 cycles:\n" + frames, want: "a.out;main;leaf 1\n"},
		"no event":              {in: "a.out 12 10.5: sched:sched_switch: prev_comm=a\n" + frames, want: "a.out;main;leaf 1\n"},
		"first event": {in: "a.out 12 1: 5 cycles:\n" + frames + "a.out 12 2: 9 instructions:\n" + frames + "a.out 12 3: 6 cycles:\n" + frames,
			want: "a.out;main;leaf 11\n"},
		"event filter": {o: Options{Event: "instructions"}, in: "a.out 12 1: 5 cycles:\n" + frames + "a.out 12 2: 9 instructions:\n" + frames,
			want: "a.out;main;leaf 9\n"},
		"offsets":        {in: "a.out 12 1: 5 cycles:\n\t1 f+0x1f (x)\n\t2 g+0xZZ (x)\n\t3 h+0x1+0x2 (x)\n\n", want: "a.out;h+0x1;g+0xZZ;f 5\n"},
		"arguments":      {in: "a.out 12 1: 5 cycles:\n\t1 f(int, char*) (x)\n\t2 (anonymous namespace)::g(int) (x)\n\t3 a::(anonymous namespace)::h(b (*)(c)) (x)\n\n", want: "a.out;a::(anonymous namespace)::h;f 5\n"},
		"methods of Go":  {in: "a.out 12 1: 5 cycles:\n\t1 net/http.(*Client).Do (x)\n\t2 main.(*T).f(0x1) (x)\n\n", want: "a.out;main.(*T).f(0x1);net/http.(*Client).Do 5\n"},
		"quotes":         {in: "a.out 12 1: 5 cycles:\n\t1 RegExp:[&<>\\\"\\'] (/tmp/perf-1.map)\n\n", want: "a.out;RegExp:[&<>\\\\] 5\n"},
		"semicolons":     {in: "a.out 12 1: 5 cycles:\n\t1 LBusy;::main (/tmp/perf-1.map)\n\n", want: "a.out;LBusy:::main 5\n"},
		"Java":           {in: "java 12 1: 5 cycles:\n\t1 Lorg/x/Y;.f(Lorg/z;)V (/tmp/perf-1.map)\n\t2 LBusy;::main (/tmp/perf-1.map)\n\n", want: "java;LBusy:::main;org/x/Y:.f 5\n"},
		"Java, inlined":  {in: "java 12 1: 5 cycles:\n\t1 La/B;::f->Lc/D;::g->h_[i] (/tmp/perf-1.map)\n\n", want: "java;a/B:::f;c/D:::g_[i];h_[i] 5\n"},
		"Java by prefix": {in: "javac 12 1: 5 cycles:\n\t1 La/B;::f (/tmp/perf-1.map)\n\n", want: "javac;a/B:::f 5\n"},
		// The script prints java-12/13;a/B:::f, the results beside it keep the L.
		"Java, --tid":        {Options{TID: true}, "java 12/13 1: 5 cycles:\n\t1 La/B;::f (/tmp/perf-1.map)\n\n", "java-12/13;La/B:::f 5\n"},
		"not Java":           {in: "node 12 1: 5 cycles:\n\t1 La/B;::f (/tmp/perf-1.map)\n\n", want: "node;La/B:::f 5\n"},
		"arrows at ends":     {in: "java 12 1: 5 cycles:\n\t1 f-> (x)\n\t2 ->g (x)\n\t3 -> (x)\n\n", want: "java;;g_[i];f 5\n"},
		"unknown":            {in: "a.out 12 1: 5 cycles:\n\t1 [unknown] (/usr/lib/libc.so.6)\n\t2 [unknown] ([unknown])\n\n", want: "a.out;[unknown];[libc.so.6] 5\n"},
		"unknown, --addrs":   {Options{Addrs: true}, "a.out 12 1: 5 cycles:\n\t1 [unknown] (/usr/lib/libc.so.6)\n\tabc [unknown] ([unknown])\n\n", "a.out;[unknown <abc>];[libc.so.6 <1>] 5\n"},
		"process names":      {in: "a.out 12 1: 5 cycles:\n\t1 (a.out) (x)\n\t2 main (x)\n\n", want: "a.out;main 5\n"},
		"deleted file":       {in: "a.out 12 1: 5 cycles:\n\t1 main (/tmp/a.out (deleted))\n\n", want: "a.out;main  5\n"},
		"no symbol":          {in: "a.out 12 1: 5 cycles:\n\t400577 (/bin/a)\n\n", want: "a.out;7 5\n"},
		"spaces for symbol":  {in: "a.out 12 1: 5 cycles:\n\t400577   (/bin/a)\n\n", want: "a.out;  5\n"},
		"inlined lines":      {in: "a.out 12 1: 5 cycles:\n\t1 std::min<int> (inlined)\n\t1 main (/bin/a)\n\n", want: "a.out;main;std::min<int> 5\n"},
		"--kernel":           {Options{Kernel: true}, "a.out 12 1: 5 cycles:\n\t1 a ([kernel.kallsyms])\n\t2 b (/lib/x/vmlinux)\n\t3 c ([nf_nat])\n\t4 d ([vdso])\n\t5 [unknown] ([unknown])\n\t6 e (/bin/a)\n\t7 f (/boot/vmlinux-5)\n\n", "a.out;f;e;[unknown];d_[k];c_[k];b_[k];a_[k] 5\n"},
		"--jit":              {Options{JIT: true}, "a.out 12 1: 5 cycles:\n\t1 a (/tmp/perf-1.map)\n\t2 b_[j] (/tmp/perf-1.map)\n\t3 c (/tmp/perf-x.map)\n\t4 d (/proc/1/root/tmp/perf-2.map)\n\n", "a.out;d_[j];c;b_[j];a_[j] 5\n"},
		"--all":              {Options{Kernel: true, JIT: true}, "a.out 12 1: 5 cycles:\n\t1 a->b ([x])\n\t2 c (/tmp/perf-1.map)\n\n", "a.out;c_[j];a_[k];b_[i] 5\n"},
		"without frames":     {in: "a.out 12 1: 5 cycles:\n\n", want: "a.out 5\n"},
		"not indented":       {in: "java 12 cycles:\n7f02 main (/bin/a)\n\n", want: "java;main 1\n"},
		"comments":           {in: "# ========\n# cmdline : x\na.out 12 1: 5 cycles:\n# y\n" + frames, want: "a.out;main;leaf 5\n"},
		"cut":                {in: "a.out 12 1: 5 cycles:\n" + frames + "a.out 12 1: 5 cycles:\n\t1 lost (x)\n", want: "a.out;main;leaf 5\n"},
		"cut within a line":  {in: "a.out 12 1: 5 cycles:\n" + frames + "a.out 1", want: "a.out;main;leaf 5\n"},
		"begins in a sample": {in: "\t1 lost (x)\n\n" + "a.out 12 1: 5 cycles:\n" + frames, want: "a.out;main;leaf 5\n"},
		"no empty line":      {in: "a.out 12 1: 5 cycles:\n\t1 f (x)\nb.out 12 1: 6 cycles:\n\t1 g (x)\n\n", want: "b.out;g;f 6\n"},
		"left out in sample": {in: "a.out 12 1: 5 cycles:\n\t1 f (x)\nb.out 12 1: 6 other:\n\t1 g (x)\n\n", want: "a.out;g;f 5\n"},
		// The script takes no line of Windows for the end of a sample, and prints nothing.
		"line ends of DOS": {in: "a.out 12 1: 5 cycles:\r\n\t1 f (x)\r\n\r\n", want: "a.out;f 5\n"},
		"order of bytes": {in: "a 1 12 1: 1 c:\n\t1 z (x)\n\t2 f (x)\n\n" + "a 1 12 1: 1 c:\n\t1 f g (x)\n\n" + "a 1 12 1: 1 c:\n\t1 f (x)\n\n" + "a 1 12 1: 1 c:\n\t1 f<b (x)\n\n",
			want: "a_1;f 1\na_1;f g 1\na_1;f;z 1\na_1;f<b 1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := folded(t, tc.in, tc.o)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestNotes(t *testing.T) {
	_, s := folded(t, "x\na.out 12 1: 5 cycles:u:\n\t1 f (x)\n?\n\na.out 12 1: 5 b:\n\t1 f (x)\n\na.out 12 1: 5 cycles:u:\n\t1 f (x)\n", Options{})
	require.Equal(t, Notes{Samples: 1, OtherEvents: map[string]int{"b": 1}, Unrecognized: 2, Line: 1, Text: "x", Incomplete: 9}, s.Notes)
	require.Equal(t, "cycles:u", s.Event)
	require.True(t, s.Periods)
}

// Pieces of any size give the same lines.
func TestSmallReads(t *testing.T) {
	text := "a.out 12 1: 5 cycles:\n\t1 " + strings.Repeat("long", 100_000) + " (x)\n\n"
	s, err := Perf(iotest.OneByteReader(strings.NewReader(text)), Options{})
	require.NoError(t, err)
	require.EqualValues(t, 5, s.Tree.Total())
	require.Equal(t, 400_000, len(s.Tree.Names[2]))
}

func TestBounds(t *testing.T) {
	for name, tc := range map[string]struct {
		in   io.Reader
		o    Options
		want string
	}{
		"period":   {strings.NewReader("a.out 12 1: 9223372036854775808 c:\n\n"), Options{}, "line 1: the period 9223372036854775808 is more than"},
		"sum":      {strings.NewReader(strings.Repeat("a.out 12 1: 9223372036854775807 c:\n\n", 2)), Options{}, "line 4: the periods add up to more than"},
		"calls":    {strings.NewReader("a.out 12 1: 1 c:\n\t1 f (x)\n\t2 g (x)\n\n"), Options{MaxCalls: 3}, "line 4: more than 3 different calls"},
		"line":     {io.MultiReader(strings.NewReader("a.out 12 1: 1 c:\n"), &endless{"x"}), Options{}, fmt.Sprintf("line 2: longer than %d bytes", maxLine)},
		"frames":   {io.MultiReader(strings.NewReader("a.out 12 1: 1 c:\n"), &endless{"\t1 f (x)\n"}), Options{}, "the sample that begins in line 1 has more than"},
		"an error": {io.MultiReader(strings.NewReader("a.out 12 1: 1 c:\n"), iotest.ErrReader(io.ErrUnexpectedEOF)), Options{}, "line 2: unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Perf(tc.in, tc.o)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

// endless repeats a text.
type endless struct{ text string }

func (e *endless) Read(b []byte) (n int, err error) {
	for n+len(e.text) <= len(b) {
		n += copy(b[n:], e.text)
	}
	if n == 0 {
		n = copy(b, e.text)
	}
	return n, nil
}

// The tree and the folded text have the same stacktraces.
func FuzzPerf(f *testing.F) {
	f.Add("a.out 12/13 [001] 10.5: 250 cycles:u:\n\t7f01 leaf+0x1 (/bin/a)\n\n", true, false)
	f.Add("java 12 1: 5 cycles:\n\t1 La/B;::f->Lc/D;::g (/tmp/perf-1.map)\n\t2 [unknown] ([unknown])\n\n", false, true)
	f.Add("a 1 cycles:\n1 (anonymous namespace)::f(x) ([k])\n\n#\n\r\n", true, true)
	f.Fuzz(func(t *testing.T, text string, all, tid bool) {
		s, err := Perf(strings.NewReader(text), Options{TID: tid, Kernel: all, JIT: all, Addrs: all})
		if err != nil {
			return
		}
		var b bytes.Buffer
		require.NoError(t, s.WriteFolded(&b))
		sum, last := int64(0), ""
		for line := range strings.Lines(b.String()) {
			i := strings.LastIndexByte(line, ' ')
			var v int64
			_, err := fmt.Sscan(line[i+1:], &v)
			require.NoError(t, err, line)
			sum += v
			require.True(t, last == "" || last < line[:i] || line[:i] == "", "%q, %q", last, line[:i])
			last = line[:i]
		}
		require.Equal(t, s.Tree.Total(), sum)
	})
}
