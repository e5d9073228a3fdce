package java

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	javaMaps = "7f00-7f01 r-xp 00000000 08:01 5 /usr/lib/jvm/java-17/lib/server/libjvm.so\n"
	ours     = "7f02-7f03 r-xp 00000000 08:01 6 /tmp/.flameline-java-7/libflamelineprofiler-0123.so (deleted)\n"
	theirs   = "7f02-7f03 r-xp 00000000 08:01 6 /tmp/libasyncProfiler-linux-x64-1f.so (deleted)\n"
)

func TestMappings(t *testing.T) {
	for maps, want := range map[string]bool{
		"":                           false,
		"7f00-7f01 rw-p 0 00:00 0\n": false,
		javaMaps:                     true,
		javaMaps + "1-2 r-xp 0 08:01 7 /opt/ibm/java/lib/default/libj9vm29.so\n": false,
		"1-2 r-xp 0 08:01 7 /opt/my libjvm.so.txt\n":                             false,
	} {
		require.Equal(t, want, (&process{}).mappings([]byte(maps)), maps)
	}
	p := &process{inner: 7}
	require.True(t, p.mappings([]byte(javaMaps+ours+ours)))
	require.Len(t, p.profilers, 1)
	require.NoError(t, (&process{inner: 7, profilers: p.profilers}).permitted())
	p = &process{inner: 7}
	require.True(t, p.mappings([]byte(javaMaps+theirs)))
	require.Equal(t, OtherProfiler, reasonOf(p.permitted(), ""))
	// Our name in another place is not ours.
	require.Equal(t, OtherProfiler, reasonOf((&process{inner: 8, profilers: []string{"/tmp/.flameline-java-7/libflamelineprofiler-0123.so"}}).permitted(), ""))
}

func TestStatus(t *testing.T) {
	p := &process{pid: 9}
	require.NoError(t, p.status([]byte("Uid:\t0\t1000\t0\t1000\nGid:\t0\t1001\t0\t0\nNSpid:\t9\t4\t1\nSigCgt:\t0000000101005ccf\n")))
	require.Equal(t, process{pid: 9, inner: 1, uid: 1000, gid: 1001, quit: true}, *p)
	require.NoError(t, p.status([]byte("Uid:\t0\t0\nGid:\t0\t0\nSigCgt:\t0000000101005cc3\n")))
	require.Equal(t, process{pid: 9, inner: 9}, *p)
	for _, bad := range []string{"", "Uid:\t0\n", "Uid:\tx\ty\nGid:\t0\t0\n", "Uid:\t0\t0\nGid:\t0\t0\nNSpid:\n"} {
		require.Error(t, p.status([]byte(bad)), bad)
	}
}

// FuzzProcess never panics over what procfs shows, of which names are the process'.
func FuzzProcess(f *testing.F) {
	f.Add([]byte(javaMaps + ours + theirs))
	f.Add([]byte("Uid:\t0\t1000\t0\t1000\nGid:\t0\t1001\t0\t0\nNSpid:\t9\t4\t1\nSigCgt:\t0000000101005ccf\n"))
	f.Add([]byte("4711 (a (b) c) S 1 1 1 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3 11"))
	f.Add([]byte("FLAMELINE_JAVA=OFF\x00JAVA_TOOL_OPTIONS=-a -b"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		p := &process{environ: b}
		p.mappings(b)
		_ = p.status(b)
		_, _ = parseStart(b)
		_ = p.permitted()
	})
}
