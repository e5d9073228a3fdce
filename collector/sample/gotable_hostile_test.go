package sample

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/untrusted"
)

// A goProgram is a real program, where its tables are in the file, and what is
// written over it: a program that lies.
type goProgram struct {
	data               []byte
	sections, programs int64 // offsets of the headers
	sectionCount       int
	programCount       int
	pclntab            elf.SectionHeader
	pclntabIndex       int
	writable           int // index of a writable section
	heavy              uint64

	size    int64 // of the file that is claimed; beyond data are zeros
	patches []patch
	read    int64 // bytes
}

type patch struct {
	offset int64
	bytes  []byte
}

const sectionHeaderSize, programHeaderSize = 64, 56

func loadGoProgram(t testing.TB) *goProgram {
	t.Helper()
	data, err := os.ReadFile(buildBurn(t))
	require.NoError(t, err)
	f, err := elf.NewFile(bytes.NewReader(data))
	require.NoError(t, err)
	p := &goProgram{
		data: data, size: int64(len(data)), sectionCount: len(f.Sections), programCount: len(f.Progs),
		programs: int64(binary.LittleEndian.Uint64(data[32:])), sections: int64(binary.LittleEndian.Uint64(data[40:])),
	}
	for i, s := range f.Sections {
		if s.Name == ".gopclntab" {
			p.pclntab, p.pclntabIndex = s.SectionHeader, i
		}
		if s.Name == ".noptrdata" {
			p.writable = i
		}
	}
	require.NotZero(t, p.pclntabIndex)
	require.NotZero(t, p.writable)
	symbols, err := f.Symbols()
	require.NoError(t, err)
	for _, s := range symbols {
		if s.Name == "main.burnHeavy" {
			p.heavy = s.Value
		}
	}
	require.NotZero(t, p.heavy)
	return p
}

// with returns the program with nothing written over it.
func (p *goProgram) with() *goProgram {
	q := *p
	q.patches, q.read, q.size = nil, 0, int64(len(p.data))
	return &q
}

func (p *goProgram) put(offset int64, value uint64) *goProgram {
	p.patches = append(p.patches, patch{offset, binary.LittleEndian.AppendUint64(nil, value)})
	return p
}

// section writes a word of a section's header: 3 is the offset, 4 the size.
func (p *goProgram) section(index, word int, value uint64) *goProgram {
	return p.put(p.sections+int64(index)*sectionHeaderSize+int64(word)*8, value)
}

// table writes a word of the function table's header: 0 is the number of
// functions, 3 to 7 are the offsets of its parts.
func (p *goProgram) table(word int, value uint64) *goProgram {
	return p.put(int64(p.pclntab.Offset)+8+8*int64(word), value)
}

func (p *goProgram) Size() int64 { return p.size }

// ReadAt reads the program with what is written over it.
func (p *goProgram) ReadAt(b []byte, off int64) (int, error) {
	if off >= p.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), p.size-off))
	p.read += int64(n)
	clear(b[:n])
	if off < int64(len(p.data)) {
		copy(b[:n], p.data[off:])
	}
	for _, w := range p.patches {
		from, to := max(w.offset, off), min(w.offset+int64(len(w.bytes)), off+int64(n))
		if from < to {
			copy(b[from-off:to-off], w.bytes[from-w.offset:])
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// lookUp does with a program what the sampler does: it reads the segments, opens
// the table and looks up addresses. It returns the memory that it took.
func lookUp(p *goProgram, addrs ...uint64) (lines [][]line, lookupErrors []error, allocated uint64, openError error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	t, err := openGoTable(p)
	if err == nil {
		for _, addr := range addrs {
			l, err := t.lines(addr)
			lines, lookupErrors = append(lines, l), append(lookupErrors, err)
		}
	}
	runtime.ReadMemStats(&after)
	return lines, lookupErrors, after.TotalAlloc - before.TotalAlloc, err
}

// TestGoTableLies patches a word or two of a Go program. Nothing may be allocated
// by what the words claim.
func TestGoTableLies(t *testing.T) {
	p := loadGoProgram(t)
	lines, errs, _, err := lookUp(p, p.heavy)
	require.NoError(t, err)
	require.NoError(t, errs[0])
	require.Equal(t, "main.burnHeavy", lines[0][len(lines[0])-1].function)

	const most = 1<<63 - 1
	const gib = 1 << 30
	sparse := func(p *goProgram) *goProgram { p.size = 64 * gib; return p }
	for name, lie := range map[string]*goProgram{
		// The size of .gopclntab and the number of functions.
		"two words":                 p.with().section(p.pclntabIndex, 4, most).table(0, most/8),
		"size":                      p.with().section(p.pclntabIndex, 4, most),
		"size of all":               p.with().section(p.pclntabIndex, 4, ^uint64(0)),
		"offset":                    p.with().section(p.pclntabIndex, 3, most),
		"functions":                 p.with().table(0, p.pclntab.Size/8),
		"functions, more":           p.with().table(0, most),
		"part":                      p.with().table(7, most),
		"sparse table":              sparse(p.with().section(p.pclntabIndex, 4, 32*gib).table(0, 4*gib)),
		"no section names":          p.with().section(int(binary.LittleEndian.Uint16(p.data[62:])), 4, most),
		"sections":                  p.with().put(40, most),
		"many sections":             sparse(p.with().put(56, 64<<16|56)).section(0, 4, gib),
		"no address":                p.with().section(p.pclntabIndex, 2, 0),
		"names of sections, sparse": sparse(p.with().section(int(binary.LittleEndian.Uint16(p.data[62:])), 4, gib)),
	} {
		_, _, allocated, err := lookUp(lie, p.heavy)
		require.Error(t, err, name)
		require.NotEmpty(t, untrusted.Reason(err), "%s: %v", name, err)
		require.Less(t, allocated, uint64(8<<20), name)
		require.Less(t, lie.read, int64(8<<20), name)
	}
}

// TestGoTableSparseData gives a program writable sections of gigabytes, none of
// which holds the module data.
func TestGoTableSparseData(t *testing.T) {
	p := loadGoProgram(t)
	lie := p.with()
	lie.size = 64 << 30
	for i := range p.sectionCount {
		if i == p.pclntabIndex || i == int(binary.LittleEndian.Uint16(p.data[62:])) {
			continue
		}
		lie.section(i, 0, uint64(elf.SHT_PROGBITS)<<32).section(i, 1, uint64(elf.SHF_WRITE|elf.SHF_ALLOC)).
			section(i, 3, uint64(len(p.data))).section(i, 4, 32<<30)
	}
	// Unnamed sections leave .gopclntab the only one with its name.
	_, _, allocated, err := lookUp(lie, p.heavy)
	require.ErrorIs(t, err, errNoGoTable)
	require.Less(t, allocated, uint64(8<<20))
	require.Less(t, lie.read, int64(goMaxSearch+(8<<20)))
}

// TestGoTableEndlessValues gives a function tables of values that never come to
// the address: every entry covers no code.
func TestGoTableEndlessValues(t *testing.T) {
	p := loadGoProgram(t)
	lie := p.with()
	end := int64(len(p.data))
	const size = 256 << 20
	lie.size = end + size
	// The table begins where it did and reaches to the new end of the file; all
	// values are read from there.
	lie.section(p.pclntabIndex, 4, uint64(lie.size-int64(p.pclntab.Offset)))
	lie.table(6, uint64(end-int64(p.pclntab.Offset)))
	endless := &endlessValues{goProgram: lie, from: end}
	table, err := openGoTable(endless)
	require.NoError(t, err)
	before := lie.read
	_, err = table.lines(p.heavy)
	require.ErrorIs(t, err, untrusted.ErrMalformed)
	require.Less(t, lie.read-before, int64(4<<20))
	for range 1000 {
		if table.expensive() {
			break
		}
		_, err = table.lines(p.heavy)
		require.Error(t, err)
	}
	require.True(t, table.expensive(), "%d bytes for %d addresses", table.spent, table.lookups)
}

// endlessValues is a program whose bytes from an offset on are pairs of a
// difference of one and a length of zero.
type endlessValues struct {
	*goProgram
	from int64
}

func (e *endlessValues) ReadAt(b []byte, off int64) (int, error) {
	n, err := e.goProgram.ReadAt(b, off)
	for i := range n {
		if at := off + int64(i); at >= e.from {
			b[i] = byte(at-e.from)&1 ^ 1
			b[i] *= 2
		}
	}
	return n, err
}

// TestGoTableCutOff cuts a file off after its table was opened.
func TestGoTableCutOff(t *testing.T) {
	p := loadGoProgram(t)
	name := filepath.Join(t.TempDir(), "burn")
	require.NoError(t, os.WriteFile(name, p.data, 0o755))
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	table, err := openGoTable(f)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(name, int64(p.pclntab.Offset)+4096))
	_, err = table.lines(p.heavy)
	require.ErrorIs(t, err, untrusted.ErrMalformed)
}

// TestGoTableIrregular offers what is no file.
func TestGoTableIrregular(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	_, err = openGoTable(r)
	require.ErrorIs(t, err, untrusted.ErrIrregular)
}

// FuzzGoTable writes words over a real Go program, at the places whose lies are
// the worst and at any other, and changes the file's size. No program makes the
// reader panic, loop, allocate or read beyond its bounds.
//
// Each nine bytes of words are a place and a value.
func FuzzGoTable(f *testing.F) {
	p := loadGoProgram(f)
	word := func(place byte, value uint64) []byte { return binary.LittleEndian.AppendUint64([]byte{place}, value) }
	grow := func(words []byte, by int64) []byte { return append(words, word(255, uint64(by))...) }
	f.Add([]byte{}, p.heavy)
	f.Add(append(word(4, 1<<63-1), word(8, (1<<63-1)/8)...), p.heavy)
	f.Add(grow(append(word(4, 1<<40), word(8, 1<<37)...), 1<<41), p.heavy)
	f.Add(grow(word(20, 1<<32), 1<<33), p.heavy)
	for version := range goLayouts {
		f.Add(word(251, uint64(version)), p.heavy)
		// The offsets of the parts as Go 1.16 has them, one word earlier.
		f.Add(append(word(251, uint64(version)), word(15, p.pclntab.Size/2)...), p.heavy)
	}
	for place := range byte(32) {
		f.Add(word(place, 1<<63-1), p.heavy)
		f.Add(grow(word(place, 1<<31), 1<<32), p.heavy)
		f.Add(grow(word(place, 0), -1000), p.heavy)
	}
	f.Fuzz(func(t *testing.T, words []byte, addr uint64) {
		lie := p.with()
		for ; len(words) >= 9; words = words[9:] {
			value := binary.LittleEndian.Uint64(words[1:])
			switch place := int(words[0]); {
			case place < 8: // a word of the header of .gopclntab
				lie.section(p.pclntabIndex, place, value)
			case place < 17: // a word of the header of the function table
				lie.table(place-8, value)
			case place < 25: // a word of the header of the section with the module data
				lie.section(p.writable, place-17, value)
			case place < 32: // a word of the file header
				lie.put(8*int64(place-24), value)
			case place < 48: // a word of a program header
				lie.put(p.programs+int64(value>>56)%int64(p.programCount)*programHeaderSize+8*int64(place%7), value<<8>>8)
			case place < 96: // a word of a section header
				lie.section(int(value>>56)%p.sectionCount, place%8, value<<8>>8)
			case place < 176: // a byte of the function table
				lie.patches = append(lie.patches, patch{int64(p.pclntab.Offset + value%p.pclntab.Size), words[:1]})
			case place == 251: // another version of the function table
				magic := goLayouts[value%uint64(len(goLayouts))].magic
				lie.patches = append(lie.patches, patch{int64(p.pclntab.Offset), binary.LittleEndian.AppendUint32(nil, magic)})
			case place >= 252: // the size of the file
				lie.size = max(0, int64(len(p.data))+min(int64(value), 1<<62))
			default: // 32 bits anywhere
				lie.patches = append(lie.patches, patch{int64(value>>32) % int64(len(p.data)), words[1:5]})
			}
		}
		lines, errs, allocated, err := lookUp(lie, addr, p.heavy, addr+1)
		if allocated > 160<<20 {
			t.Fatalf("%d bytes of memory", allocated)
		}
		if limit := goOpening.Bytes + 3*goLookup.Bytes + 16*goMaxFuncs; lie.read > limit {
			t.Fatalf("%d bytes read", lie.read)
		}
		if err != nil {
			return
		}
		for i, l := range lines {
			if errs[i] == nil && len(l) == 0 || len(l) > goMaxInlined+1 {
				t.Fatalf("%d lines, error %v", len(l), errs[i])
			}
			for _, ln := range l {
				if len(ln.function) > goMaxName || len(ln.file) > goMaxName || ln.number < 0 {
					t.Fatalf("line %+v", ln)
				}
			}
		}
	})
}
