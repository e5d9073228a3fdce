package ingest

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// pySpyText is what py-spy record --format raw --native --threads wrote.
const pySpyText = `thread (0x7F12): "MainThread";<module> (shop/cart.py:30);Cart.total (shop/cart.py:12);PyDict_New (python3.11) 3
thread (0x7F12): "MainThread";<module> (shop/cart.py:31);Cart.total (shop/cart.py:13) 4
thread (0x7F12): "MainThread";_find_and_load (<frozen importlib._bootstrap>:1027) 1
`

func TestIsPySpy(t *testing.T) {
	require.True(t, IsPySpy([]byte(pySpyText)))
	for _, other := range []string{
		"", "a;b 1\n", "main (main.go:12);work (work.go:3) 5\n", "read (libc.so.6);write (libc.so.6) 3\n",
		"a;b 1\nc;d 2\nwork (a.py:3) 1\n", "work (a.py) 1\n", "work(a.py:1) 1\n", "f (x>:3) 1\n",
	} {
		require.False(t, IsPySpy([]byte(other)), other)
	}
}

func TestPySpyFunctions(t *testing.T) {
	for frame, want := range map[string]function{
		"work (a.py:3)":                        {name: "work", file: "a.py", line: 3},
		"<listcomp> (/srv/my app(2)/a.py:7)":   {name: "<listcomp>", file: "/srv/my app(2)/a.py", line: 7},
		"f (<string>:1)":                       {name: "f", file: "<string>", line: 1},
		"PyDict_New (python3.11)":              {name: "PyDict_New", file: "python3.11"},
		"read (libc.so.6)":                     {name: "read", file: "libc.so.6"},
		"thread (0x7F12)":                      {name: "thread (0x7F12)"},
		`process 12:"python3 a.py (b)"`:        {name: `process 12:"python3 a.py (b)"`},
		"operator() (anonymous)":               {name: "operator() (anonymous)"},
		"work (a.py:-3)":                       {name: "work (a.py:-3)"},
		"work (a.py:99999999999999999999)":     {name: "work (a.py:99999999999999999999)"},
		" (a.py:3)":                            {name: " (a.py:3)"},
		"":                                     {name: ""},
		"Foo<int>::bar(int) (lib/foo.cpp:312)": {name: "Foo<int>::bar(int)", file: "lib/foo.cpp", line: 312},
	} {
		require.Equal(t, want, pySpyFunction([]byte(frame)), frame)
	}
}

func pySpyPush() Push {
	now := time.Now()
	return Push{App: "file", Labels: labels.FromStrings("service_name", "file"), From: now, Until: now, PySpy: true}
}

// TestPySpy checks that functions have the names that the sampler gives them, and that
// files and lines are kept.
func TestPySpy(t *testing.T) {
	ps, _, err := Folded([]byte(pySpyText), pySpyPush(), Limits{})
	require.NoError(t, err)
	p := ps[0].Pprof
	at := map[string][]int64{} // lines by function and file
	for _, l := range p.Location {
		f := p.Function[l.Line[0].FunctionId-1]
		name := p.StringTable[f.Name] + "|" + p.StringTable[f.Filename]
		at[name] = append(at[name], l.Line[0].Line)
	}
	require.Equal(t, map[string][]int64{
		`thread (0x7F12): "MainThread"|`: {0}, "<module>|shop/cart.py": {30, 31}, "Cart.total|shop/cart.py": {12, 13},
		"PyDict_New|python3.11": {0}, "_find_and_load|<frozen importlib._bootstrap>": {1027},
	}, at)
	push := pySpyPush()
	push.PySpy = false
	ps, _, err = Folded([]byte(pySpyText), push, Limits{})
	require.NoError(t, err)
	require.Contains(t, ps[0].Pprof.StringTable, "Cart.total (shop/cart.py:12)", "pushed names stay")
}

// FuzzPySpy checks that no value is lost and that memory is bounded by the limits.
func FuzzPySpy(f *testing.F) {
	f.Add(pySpyText)
	f.Add("a (b:1;c (d:2) 3\n")
	f.Add(" (x.py:1) 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		IsPySpy([]byte(text))
		l := Limits{MaxSymbols: 1000, MaxStackDepth: 100, MaxProfileBytes: 1 << 20}
		sum := func(push Push) (sum int64, err error) {
			ps, _, err := Folded([]byte(text), push, l)
			for _, p := range ps {
				for _, s := range p.Pprof.Sample {
					sum += s.Value[0]
				}
			}
			return sum, err
		}
		plain := pySpyPush()
		plain.PySpy = false
		want, err1 := sum(plain)
		got, err2 := sum(pySpyPush())
		if err1 == nil && err2 == nil && got != want {
			t.Fatalf("%d instead of %d", got, want)
		}
	})
}
