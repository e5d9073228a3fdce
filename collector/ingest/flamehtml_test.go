package ingest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// flamePage is a page as async-profiler 4 writes it, as far as it is read: 100 samples,
// of which main has 90 and its callees 60 and 20.
const flamePage = `<!DOCTYPE html>
<html lang='en'>
<h1>CPU profile</h1>
<script>
const cpool = [
'all',
' It\'s.main',
'%inner',
' java/lang/Thread.run_[0]',
'*\\String.f'
];
unpack(cpool);

n(3,100)
u(12,90)
u(17,60,1,2,3)
n(35,20)
f(25,1,50,10)

search();
</script></body></html>
`

func TestFlameHTML(t *testing.T) {
	ps, size, err := FlameHTML([]byte(flamePage), filePush, Limits{})
	require.NoError(t, err)
	require.Equal(t, len(flamePage), size)
	require.Equal(t, []string{
		"It's.main 10", "It's.main;It's.inner 60", `It's.main;java/lang/\String.f 20`, "java/lang/Thread.run_[0] 10",
	}, stacksOf(ps))

	// A comparison's values are those of the newer profile. A total that is missing is
	// that of the call before.
	page := strings.Replace(flamePage, "u(12,90)\nu(17,60,1,2,3)\nn(35,20)\nf(25,1,50,10)", "d=5\nu(12)\nd=U\nu(17)", 1)
	ps, _, err = FlameHTML([]byte(strings.ReplaceAll(page, "\n", "\r\n")), filePush, Limits{})
	require.NoError(t, err)
	require.Equal(t, []string{"It's.main;It's.inner 100"}, stacksOf(ps))

	// Samples of time by the push's rate.
	push := filePush
	push.SampleRate = 100
	ps, _, err = FlameHTML([]byte(flamePage), push, Limits{})
	require.NoError(t, err)
	require.Contains(t, stacksOf(ps), "It's.main 100000000")
}

func TestFlameHTMLMistakes(t *testing.T) {
	for name, tc := range map[string]struct{ old, new, want string }{
		"another page":    {"const cpool", "const x", "html: this is no flame graph of async-profiler 3 or 4"},
		"cut":             {"\nsearch();\n</script></body></html>\n", "", "html: ends after line 18 within the flame graph"},
		"prefix":          {"'%inner'", "'zinner'", "html: line 8: \"zinner\" does not say how much"},
		"no name":         {"u(17,", "u(170,", `html: line 16: "u(170,60,1,2,3)": name 21 of 5`},
		"level":           {"f(25,1", "f(25,9", `html: line 18: "f(25,9,50,10)": level 9 below a call of level 2`},
		"too much":        {"n(35,20)", "n(35,50)", "html: line 17: \"n(35,50)\": the callees have more samples than their caller"},
		"no number":       {"n(35,20)", "n(x,20)", `html: line 17: "n(x,20)": argument 1 is not a number from 0`},
		"negative":        {"n(35,20)", "n(35,-1)", `argument 2 is not a number from 0`},
		"overflow":        {"n(35,20)", "n(35,99999999999999999999)", `argument 2 is not a number from 0`},
		"another call":    {"n(35,20)", "alert(1)", `html: line 17: "alert(1)" is not a call of f, u or n`},
		"three arguments": {"f(25,1,50,10)", "f(25,1)", `has fewer than three arguments`},
	} {
		t.Run(name, func(t *testing.T) {
			page := strings.Replace(flamePage, tc.old, tc.new, 1)
			require.NotEqual(t, flamePage, page)
			_, _, err := FlameHTML([]byte(page), filePush, Limits{})
			require.ErrorContains(t, err, tc.want)
		})
	}
	long := strings.Replace(flamePage, "'%inner'", "' "+strings.Repeat("x", 200)+"'"+strings.Repeat(",\n'~'", 1000), 1)
	_, _, err := FlameHTML([]byte(long), filePush, Limits{MaxProfileBytes: 1 << 14})
	require.ErrorIs(t, err, ErrTooLarge)
}

func FuzzFlameHTML(f *testing.F) {
	f.Add([]byte(flamePage))
	f.Fuzz(func(t *testing.T, b []byte) {
		ps, _, err := FlameHTML(b, filePush, Limits{MaxProfileBytes: 1 << 20, MaxSymbols: 10_000, MaxSamples: 10_000, MaxStackDepth: 1000})
		if err != nil {
			require.True(t, strings.HasPrefix(err.Error(), "html: "), err)
			return
		}
		for _, p := range ps {
			require.NoError(t, (&checker{profile: p.Pprof}).check())
		}
	})
}

func TestFoldedSides(t *testing.T) {
	left, right, ok, err := FoldedSides([]byte("# x\na;b 1 2\n\na c 3.5 0\n"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "\na;b 1\n\na c 3.5\n", string(left))
	require.Equal(t, "\na;b 2\n\na c 0\n", string(right))
	_, _, ok, err = FoldedSides([]byte("a 1\nb 2\n"))
	require.NoError(t, err)
	require.False(t, ok)
	_, _, _, err = FoldedSides([]byte("a 1 2\nb 2 3\nc 4\n"))
	require.EqualError(t, err, "folded: line 3: has one number, but most lines have two")
}
