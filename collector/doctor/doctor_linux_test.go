package doctor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseMappings(t *testing.T) {
	m := parseMappings([]byte(`55d000000000-55d000001000 r--p 00000000 fe:01 10                 /usr/bin/app
55d000001000-55d000003000 r-xp 00001000 fe:01 10                 /usr/bin/app
7f0000000000-7f0000001000 rwxp 00000000 00:00 0
7f0000002000-7f0000003000 r-xp 00000000 fe:01 11                 /opt/lib x/libq.so (deleted)
7f0000004000-7f0000005000 r--p 00000000 fe:01 12                 /usr/share/data
7f0000005000-7f0000006000 r-xp 00000000 fe:01 10                 /usr/bin/app
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0                  [vdso]
nonsense
zz-11 r-xp 0 0 0 /x
`))
	require.Equal(t, []string{"/usr/bin/app", "/opt/lib x/libq.so", "/usr/share/data"}, m.paths)
	require.Len(t, m.files, 2)
	require.Equal(t, &mappedFile{path: "/usr/bin/app", start: 0x55d000001000, end: 0x55d000003000, size: 0x3000}, m.files[0])
	require.True(t, m.files[1].deleted)
	require.EqualValues(t, 0x1000, m.anonymous)
}

func FuzzParseMappings(f *testing.F) {
	f.Add([]byte("55d000001000-55d000003000 r-xp 00001000 fe:01 10 /usr/bin/app\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := parseMappings(data)
		require.LessOrEqual(t, len(m.files), maxFiles)
		for _, file := range m.files {
			require.LessOrEqual(t, file.start, file.end)
		}
	})
}

func TestFileNames(t *testing.T) {
	find := func(path string) string {
		all := findRuntimes(1<<22+1, &mappings{files: []*mappedFile{{path: "/usr/bin/other"}, {path: path}}, paths: []string{path, "/usr/lib/x86_64-linux-gnu/perl/5.36.0/auto/POSIX/POSIX.so"}})
		if len(all) == 0 {
			return ""
		}
		return all[0].name + " " + all[0].version
	}
	for path, want := range map[string]string{
		"/usr/bin/python3.11": "CPython 3.11", "/opt/libpython3.13.so.1.0": "CPython 3.13", "/usr/lib/libpython3.6m.so.1.0": "CPython 3.6",
		"/usr/lib/libruby-3.1.so.3.1.2": "Ruby 3.1", "/usr/bin/php8.2": "PHP 8.2", "/usr/lib/apache2/modules/libphp8.2.so": "PHP 8.2",
		"/usr/sbin/php-fpm8.1": "PHP 8.1", "/usr/bin/perl": "Perl 5.36",
		"/usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.11/libcoreclr.so": ".NET 8.0",
		"/usr/lib/erlang/erts-15.2/bin/beam.smp":                              "Erlang/OTP 27",
		"/usr/lib/erlang/erts-13.1.5/bin/beam.smp":                            "Erlang/OTP 25",
		"/usr/bin/luajit-2.1.0-beta3":                                         "LuaJIT ",
		"/usr/lib/libm.so.6":                                                  "", "/usr/bin/pythonista": "", "/usr/bin/perldoc": "", "/usr/bin/nodemon": "",
	} {
		require.Equal(t, want, find(path), path)
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name, version, problem string
		status                 Status
		text                   string
	}{
		{"CPython", "3.11", "", OK, "CPython 3.11: functions have names"},
		{"CPython", "3.5", "", Warn, "CPython 3.5 is too old to be unwound: functions have names with 3.6 to 3.14"},
		{"CPython", "3.15", "", Warn, "CPython 3.15 is newer than this version of flameline knows"},
		{"CPython", "3.14.2", "", OK, "CPython 3.14.2"},
		{"CPython", "3.13", "no lock", Warn, "CPython 3.13: no lock"},
		{"JVM", "25.0.1", "", OK, "JVM 25.0.1"},
		{"JVM", "", "", Note, "JVM, whose version cannot be found out"},
		{"Go", "1.26.7", "", OK, "Go 1.26.7"},
		{"Go", "1.27rc1", "", OK, "Go 1.27rc1"},
		{"LuaJIT", "", "", OK, "LuaJIT: functions have names"},
	} {
		status, found, _ := runtimeFound{name: c.name, version: c.version, problem: c.problem}.judge()
		require.Equal(t, c.status, status, c)
		require.Contains(t, found, c.text)
	}
}

func TestDebianPackage(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "libx1:amd64.list"), []byte("/.\n/lib\n/lib/libx.so.1.0\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tool.list"), []byte("/usr/bin/tool\n"), 0o600))
	require.Equal(t, "tool", debianPackage(dir, "/usr/bin/tool"))
	require.Equal(t, "libx1", debianPackage(dir, "/usr/lib/libx.so.1.0"), "/lib is a link to /usr/lib")
	require.Equal(t, "", debianPackage(dir, "/usr/lib/libx.so"))
	require.Equal(t, "debian", distribution([]byte("NAME=x\nVERSION_ID=1\nID=\"debian\"\n")))
}

func TestReport(t *testing.T) {
	r := &Report{Works: true}
	r.add("kernel", OK, "6.1", "")
	r.add("symbols", Warn, "evil\x1b[2J\nname", "do this")
	require.True(t, r.Works)
	r.add("access", Fail, "no", "")
	require.False(t, r.Works)
	require.Equal(t, []string{"access"}, r.Failed())
	var text, object bytes.Buffer
	require.NoError(t, r.Text(&text))
	require.Equal(t, "ok    kernel   6.1\nwarn  symbols  evil?[2J?name: do this\nfail  access   no\n", text.String())
	require.NoError(t, r.JSON(&object))
	var again Report
	require.NoError(t, json.Unmarshal(object.Bytes(), &again))
	require.Equal(t, *r, again)
}

// Our own process can be looked at.
func TestProcess(t *testing.T) {
	r := Process(os.Getpid())
	require.True(t, r.Works, fmt.Sprint(r.Checks))
	var names []string
	for _, c := range r.Checks {
		names = append(names, c.Name)
	}
	require.Contains(t, strings.Join(names, " "), "process access runtime")
	require.False(t, Process(1<<22+1).Works)
}
