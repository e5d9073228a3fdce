package symbolize

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/flameline/flameline/collector/untrusted"
)

// A lie is a real binary with words written over it, and a size of its own;
// what is beyond the bytes of the binary are zeros.
type lie struct {
	data  []byte
	size  int64
	words map[int64]uint64 // by offset
}

func (l *lie) ReadAt(b []byte, off int64) (int, error) {
	if off >= l.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), l.size-off))
	clear(b[:n])
	if off < int64(len(l.data)) {
		copy(b[:n], l.data[off:])
	}
	for at, word := range l.words {
		for i := range int64(8) {
			if p := at + i - off; p >= 0 && p < int64(n) {
				b[p] = byte(word >> (8 * i))
			}
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (l *lie) Close() error { return nil }

// header returns the offset of a word of a section's header.
func header(data []byte, section, word int) int64 {
	return int64(binary.LittleEndian.Uint64(data[40:])) + int64(section)*64 + int64(word)*8
}

func sectionCount(data []byte) int { return int(binary.LittleEndian.Uint16(data[60:])) }

// readLie reads a table as the Symbolizer does, and returns the memory that it
// took.
func readLie(t testing.TB, l *lie) (*table, uint64, error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	table, err := readTable(&file{Reader: l, size: l.size}, Binary{Path: "/x/y"}, func(string) (*file, error) {
		return nil, errors.New("no debug files")
	})
	runtime.ReadMemStats(&after)
	return table, after.TotalAlloc - before.TotalAlloc, err
}

// TestReadTableLies writes large numbers over every word of every section's
// header, with files that end where they did and files that have gigabytes of
// zeros. Tables need no more memory than for the binary itself.
func TestReadTableLies(t *testing.T) {
	data, err := os.ReadFile(compile(t, "gcc", "shape.c", "-g", "-O1"))
	require.NoError(t, err)
	_, honest, err := readLie(t, &lie{data: data, size: int64(len(data))})
	require.NoError(t, err)
	panics := 0
	values := []uint64{0, 1 << 20, 1 << 32, 1 << 40, 1<<63 - 1, 1 << 63, ^uint64(0)}
	if testing.Short() {
		values = []uint64{1 << 40, ^uint64(0)}
	}
	for section := range sectionCount(data) {
		for word := range 8 {
			for _, value := range values {
				for _, size := range []int64{int64(len(data)), 1 << 36} {
					table, allocated, err := readLie(t, &lie{data: data, size: size, words: map[int64]uint64{header(data, section, word): value}})
					require.Less(t, allocated, honest+64<<20, "section %d word %d value %#x size %d", section, word, value, size)
					if p := (*untrusted.PanicError)(nil); errors.As(err, &p) {
						panics++
						t.Logf("section %d word %d value %#x: %v", section, word, value, err)
					}
					if err == nil {
						checkTable(t, table)
					}
				}
			}
		}
	}
	require.Zero(t, panics)
}

// A reader that does not answer, as of a file system without a server.
type silent struct{ release chan struct{} }

func (s silent) ReadAt([]byte, int64) (int, error) {
	<-s.release
	return 0, io.EOF
}

func (silent) Close() error { return nil }

type panicking struct{ silent }

func (panicking) ReadAt([]byte, int64) (int, error) { panic("a bug for this file") }

// TestSilentFile checks that a file which does not answer, or whose reader
// panics, ends neither the process nor the lookups in others, and is named once.
func TestSilentFile(t *testing.T) {
	var log bytes.Buffer
	s := open(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s.reading.Limit = 1 // ns
	release := make(chan struct{})
	defer close(release)
	s.Add(FileID{1}, Binary{Name: "silent.so", Open: func() (Reader, int64, error) { return silent{release}, 1 << 20, nil }})
	for range 3 {
		_, ok := s.Lookup(FileID{1}, 0x1000)
		require.False(t, ok)
	}
	require.Equal(t, 1.0, testutil.ToFloat64(s.metrics.bad.WithLabelValues("native", "timeout")), "it is tried once")
	require.Contains(t, log.String(), "silent.so")

	s.reading.Limit = 0 // the default
	s.Add(FileID{2}, Binary{Name: "panics.so", Open: func() (Reader, int64, error) { return panicking{}, 1 << 20, nil }})
	for range 3 {
		_, ok := s.Lookup(FileID{2}, 0x1000)
		require.False(t, ok)
	}
	require.Equal(t, 1.0, testutil.ToFloat64(s.metrics.bad.WithLabelValues("native", "panic")))

	path := compile(t, "gcc", "shape.c")
	s.Add(FileID{3}, Binary{Path: path})
	requireFunction(t, s, FileID{3}, addrOf(t, path, "main"), "main")
}

// TestPerfMapIrregular puts a pipe and a file of a terabyte without a line into
// the place of a perf map.
func TestPerfMapIrregular(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	writeFile(t, filepath.Join(dir, "proc/500/status"), []byte("Name:\tnode\nPid:\t500\n"))
	require.NoError(t, os.Symlink(root, filepath.Join(dir, "proc/500/root")))
	file := filepath.Join(root, "tmp/perf-500.map")
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	s := open(t, Options{ProcRoot: filepath.Join(dir, "proc")})

	require.NoError(t, unix.Mkfifo(file, 0o600))
	_, ok := s.LookupPerfMap(500, 0x1000)
	require.False(t, ok)
	require.Equal(t, 1.0, testutil.ToFloat64(s.metrics.bad.WithLabelValues("perf_map", "irregular")))

	require.NoError(t, os.Remove(file))
	writeFile(t, file, []byte("1000 10 first\n"))
	require.NoError(t, os.Truncate(file, 1<<40))
	delete(s.perf.maps, 500)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	lines, ok := s.LookupPerfMap(500, 0x1000)
	runtime.ReadMemStats(&after)
	require.True(t, ok)
	require.Equal(t, "first", lines[0].Function)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))

	// 100 MB of lines.
	writeFile(t, file, []byte(strings.Repeat("1000 10 "+strings.Repeat("x", 1<<10)+"\n", 100<<10)))
	delete(s.perf.maps, 500)
	_, ok = s.LookupPerfMap(500, 0x1000)
	require.True(t, ok)
	require.LessOrEqual(t, s.perf.maps[500].bytes, int64(maxPerfMapBytes))
}

// TestReadLinesEnds gives 20,000 compilation units one line table of a million
// rows. Reading it all would take an hour; it ends when the time does.
func TestReadLinesEnds(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "bomb.s"), []byte(bombSource))
	run(t, dir, "gcc", "-nostdlib", "-shared", "-o", "bomb", "bomb.s")
	data, err := os.ReadFile(filepath.Join(dir, "bomb"))
	require.NoError(t, err)
	d, err := dwarfOf(data)
	require.NoError(t, err)
	require.Len(t, d.index.offsets, 20000)
	asked := 0
	d.steps.check = func() error {
		if asked++; asked > 1000 {
			return untrusted.ErrTimeout
		}
		return nil
	}
	for _, offset := range d.index.offsets {
		if _, err = d.readLines(offset); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, untrusted.ErrTimeout)
}

const bombSource = `
	.text
	.globl _start
_start:	ret
	.section .debug_abbrev,"",@progbits
	.uleb128 1, 0x11
	.byte 0
	.uleb128 0x10, 0x17, 0, 0
	.byte 0
	.section .debug_info,"",@progbits
	.rept 20000
	.long 2f-1f
1:	.short 4
	.long .debug_abbrev
	.byte 8
	.uleb128 1
	.long .debug_line
2:
	.endr
	.section .debug_line,"",@progbits
	.long 9f-8f
8:	.short 4
	.long 7f-6f
6:	.byte 1, 1, 1, -5, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1
	.byte 0
	.asciz "a.c"
	.byte 0, 0, 0, 0
7:	.byte 0, 9, 2
	.quad 0x1000
	.fill 1000000, 1, 1
9:
`

// FuzzReadTableLies writes words over the headers of real binaries and changes
// their sizes: each ten bytes are a section, a word of its header (or, beyond
// the sections, an offset in the file) and a value.
func FuzzReadTableLies(f *testing.F) {
	binaries := seeds(f)
	debug, err := os.ReadFile(compile(f, "gcc", "shape.c", "-g", "-O1"))
	if err != nil {
		f.Fatal(err)
	}
	binaries = append(binaries, debug)
	for i, data := range binaries {
		f.Add(byte(i), []byte{}, int64(0))
		step := 1
		if testing.Short() {
			step = 4
		}
		for section := 0; section < sectionCount(data); section += step {
			f.Add(byte(i), binary.LittleEndian.AppendUint64([]byte{byte(section), 4}, 1<<40), int64(1)<<41)
			f.Add(byte(i), binary.LittleEndian.AppendUint64([]byte{byte(section), 3}, 1<<63-1), int64(0))
		}
	}
	f.Fuzz(func(t *testing.T, which byte, words []byte, grow int64) {
		data := binaries[int(which)%len(binaries)]
		l := &lie{data: data, size: max(0, int64(len(data))+min(grow, 1<<62)), words: map[int64]uint64{}}
		for ; len(words) >= 10; words = words[10:] {
			at, value := header(data, int(words[0]), int(words[1])%8), binary.LittleEndian.Uint64(words[2:])
			if int(words[0]) >= sectionCount(data) {
				at = int64(value>>32) % int64(len(data))
			}
			l.words[at] = value
		}
		table, allocated, err := readLie(t, l)
		// A fixed allowance for windows, names and the xz dictionary.
		if allocated > 600<<20 {
			t.Fatalf("%d bytes of memory", allocated)
		}
		if p := (*untrusted.PanicError)(nil); errors.As(err, &p) {
			t.Fatalf("%v\n%s", err, p.Stack)
		}
		if err == nil {
			checkTable(t, table)
		}
	})
}
