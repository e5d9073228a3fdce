package untrusted

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDo(t *testing.T) {
	g := &Guard{}
	n, err := Do(g, func() (int, error) { return 7, io.EOF })
	require.Equal(t, 7, n)
	require.ErrorIs(t, err, io.EOF)

	_, err = Do(g, func() (int, error) { return []int{1}[len(t.Name())], nil })
	var p *PanicError
	require.ErrorAs(t, err, &p)
	require.Contains(t, string(p.Stack), "TestDo")
	require.Equal(t, "panic", Reason(err))
}

// TestDoGivesUp has work that does not return: it is given up, no more than the
// allowed number of times, until it does return.
func TestDoGivesUp(t *testing.T) {
	g := &Guard{Limit: time.Millisecond, Stuck: 3}
	release := make(chan struct{})
	wait := func() (int, error) { <-release; return 0, nil }
	for range 3 {
		_, err := Do(g, wait)
		require.ErrorIs(t, err, ErrTimeout)
	}
	_, err := Do(g, wait)
	require.ErrorIs(t, err, ErrBusy)
	require.Equal(t, 3, g.Waiting())
	close(release)
	for g.Waiting() > 0 {
		runtime.Gosched()
	}
	g.Limit = 0
	n, err := Do(g, func() (int, error) { return 1, nil })
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

// TestDoCounts has work return at about the time that it is given up.
func TestDoCounts(t *testing.T) {
	g := &Guard{Limit: 50 * time.Microsecond, Stuck: 1000}
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			_, _ = Do(g, func() (int, error) { time.Sleep(50 * time.Microsecond); return 0, nil })
		})
	}
	all.Wait()
	for g.Waiting() > 0 {
		runtime.Gosched()
	}
	require.Zero(t, g.Waiting())
}

func TestReader(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 100)
	// The file has grown since its size was taken.
	r := NewReader(bytes.NewReader(data), 500, Budget{Bytes: 1000})
	p := make([]byte, 100)
	n, err := r.ReadAt(p, 450)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, 50, n)
	_, err = r.ReadAt(p, 500)
	require.ErrorIs(t, err, io.EOF)
	_, err = r.ReadAt(p, -1)
	require.Equal(t, "malformed", Reason(err))
	for err = nil; err == nil; {
		_, err = r.ReadAt(p, 0)
	}
	require.ErrorIs(t, err, ErrTooLarge)
	require.Less(t, r.Spent(), int64(1200))

	late := NewReader(bytes.NewReader(data), 500, Budget{Time: time.Nanosecond})
	for late.Check() == nil {
		runtime.Gosched()
	}
	_, err = late.ReadAt(p, 0)
	require.ErrorIs(t, err, ErrTimeout)
}

func TestSizeOf(t *testing.T) {
	size, err := SizeOf(bytes.NewReader(make([]byte, 7)))
	require.NoError(t, err)
	require.EqualValues(t, 7, size)
	dir, err := os.Open(t.TempDir())
	require.NoError(t, err)
	defer dir.Close()
	_, err = SizeOf(dir)
	require.ErrorIs(t, err, ErrIrregular)
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	_, err = SizeOf(null)
	require.ErrorIs(t, err, ErrIrregular)
}

// program returns this test's own program, an ELF file.
func program(t testing.TB) []byte {
	t.Helper()
	name, err := os.Executable()
	require.NoError(t, err)
	data, err := os.ReadFile(filepath.Clean(name))
	require.NoError(t, err)
	return data
}

// header returns the offset of a word of a section's header.
func header(data []byte, section, word int) int {
	return int(binary.LittleEndian.Uint64(data[40:])) + section*64 + word*8
}

func TestNewELF(t *testing.T) {
	data := program(t)
	want, err := elf.NewFile(bytes.NewReader(data))
	require.NoError(t, err)
	got, err := NewELF(NewReader(bytes.NewReader(data), int64(len(data)), Budget{}))
	require.NoError(t, err)
	require.Equal(t, len(want.Sections), len(got.Sections))
	for i, s := range got.Sections {
		require.NoError(t, SectionError(s))
		require.Equal(t, want.Sections[i].SectionHeader, s.SectionHeader)
	}
	// A section that lies has no bytes; the others are as they were.
	lying := bytes.Clone(data)
	at := -1
	for i, s := range want.Sections {
		if s.Name == ".gopclntab" {
			at = i
		}
	}
	binary.LittleEndian.PutUint64(lying[header(data, at, 4):], 1<<40)
	got, err = NewELF(NewReader(bytes.NewReader(lying), int64(len(lying)), Budget{}))
	require.NoError(t, err)
	require.ErrorIs(t, SectionError(got.Sections[at]), ErrMalformed)
	require.ErrorContains(t, SectionError(got.Sections[at]), ".gopclntab")
	require.Zero(t, got.Sections[at].FileSize)
	require.Equal(t, want.Sections[1].SectionHeader, got.Sections[1].SectionHeader)
}

// TestNewELFNames gives all sections of a file one name of megabytes, which
// debug/elf would copy for each.
func TestNewELFNames(t *testing.T) {
	const sections, names = 60000, 4 << 20
	data := make([]byte, 64+sections*64+names)
	copy(data, program(t)[:64])
	binary.LittleEndian.PutUint64(data[40:], 64)
	binary.LittleEndian.PutUint16(data[56:], 0) // programs
	binary.LittleEndian.PutUint16(data[60:], sections)
	binary.LittleEndian.PutUint16(data[62:], 1)
	binary.LittleEndian.PutUint32(data[64+64+4:], uint32(elf.SHT_STRTAB))
	binary.LittleEndian.PutUint64(data[header(data, 1, 3):], 64+sections*64)
	binary.LittleEndian.PutUint64(data[header(data, 1, 4):], names)
	for i := range names - 1 {
		data[64+sections*64+i] = 'x'
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := NewELF(NewReader(bytes.NewReader(data), int64(len(data)), Budget{}))
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, ErrMalformed)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20))
}

// FuzzNewELF writes words over the headers of a program: each ten bytes are a
// section, a word of its header or, beyond those, an offset, and a value.
func FuzzNewELF(f *testing.F) {
	data := program(f)
	data = append(bytes.Clone(data[:4096]), data[binary.LittleEndian.Uint64(data[40:]):]...)
	binary.LittleEndian.PutUint64(data[40:], 4096)
	f.Add([]byte{})
	f.Add(bytes.Clone(data))
	for section := range 40 {
		f.Add(binary.LittleEndian.AppendUint64([]byte{byte(section), 4}, 1<<63-1))
		f.Add(binary.LittleEndian.AppendUint64([]byte{byte(section), 1}, uint64(elf.SHF_COMPRESSED)))
	}
	f.Fuzz(func(t *testing.T, words []byte) {
		lying := bytes.Clone(data)
		if len(words) > 64 && string(words[:4]) == elf.ELFMAG {
			lying = bytes.Clone(words)
		}
		for ; len(words) >= 10; words = words[10:] {
			value := binary.LittleEndian.Uint64(words[2:])
			at := header(data, int(words[0]), int(words[1])%8)
			if words[1] > 127 {
				at = int(words[0])
			}
			if at >= 0 && at+8 <= len(lying) {
				binary.LittleEndian.PutUint64(lying[at:], value)
			}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := NewReader(bytes.NewReader(lying), int64(len(lying)), Budget{Bytes: 64 << 20})
		file, err := NewELF(r)
		runtime.ReadMemStats(&after)
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 64<<20 {
			t.Fatalf("%d bytes of memory", allocated)
		}
		if err != nil {
			if Reason(err) == "" && !errors.Is(err, io.EOF) {
				t.Fatalf("error without a reason: %v", err)
			}
			return
		}
		for _, s := range file.Sections {
			if s.Type != elf.SHT_NOBITS && s.Offset+s.FileSize > uint64(len(lying)) && s.FileSize > 0 {
				t.Fatalf("section %q reaches beyond the file", s.Name)
			}
		}
	})
}

// TestDoShortens has work that does not return: the more there is, the less time
// the next gets, and the first got all of it.
func TestDoShortens(t *testing.T) {
	g := &Guard{Limit: 200 * time.Millisecond, Stuck: 3, Shorten: true}
	release := make(chan struct{})
	defer close(release)
	for _, want := range []string{"no answer for 200ms", "no answer for 100ms", "no answer for 66.666666ms"} {
		_, err := Do(g, func() (int, error) { <-release; return 0, nil })
		require.ErrorContains(t, err, want)
	}
}
