package sample

import (
	"bufio"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
	"time"

	"github.com/flameline/flameline/collector/untrusted"
)

// A goTable finds the functions at an address of a Go program, those that were
// inlined there included. The unwinder names the outermost one only. What it
// reads is the runtime's own table (.gopclntab), which stripped programs have
// too; it reads a few bytes for each question and keeps none of it in memory.
type goTable struct {
	file   io.ReaderAt      // up to the size that it had when it was opened
	loads  []elf.ProgHeader // loaded segments
	header int64            // of the table, as offset in the file
	size   int64
	count  int // of functions

	names, units, files, values, funcs int64 // parts, as offsets from header

	index []uint32 // entry of every goIndexStep'th function; read when needed
	end   uint64   // of the last function, as offset from the start of the code; read with index

	spent, lookups int64 // bytes read for addresses, and how many were looked up

	text, gofunc uint64 // addresses
	quantum      uint64 // bytes of the smallest instruction
	layout       goLayout
}

// Facts about the table in all versions since Go 1.16.
const (
	goHeaderSize = 72  // that of Go 1.16 and 1.17 is shorter; something follows it
	goTextField  = 176 // in the module data

	goInlineIndex = 2 // number of the pcdata table with indexes of inlined calls
	goInlineTree  = 3 // number of the funcdata with inlined calls

	goIndexStep = 64

	goMaxFuncSize   = 44 // of all layouts
	goMaxInlineSize = 20

	goMaxInlined = 64      // deeper is corrupt
	goMaxName    = 4096    // bytes
	goMaxValues  = 1 << 20 // bytes of one table of a function; real ones have up to 100 KB
)

var (
	errGoTable   = fmt.Errorf("function table of Go: %w", untrusted.ErrMalformed)
	errGoAddress = errors.New("no Go function at this address")
)

// read fills p from an offset in the function table.
func (t *goTable) read(p []byte, offset int64) error {
	if offset < 0 || offset > t.size-int64(len(p)) {
		return errGoTable
	}
	if _, err := t.file.ReadAt(p, t.header+offset); err != nil {
		return readError(err)
	}
	return nil
}

// readError returns the error of a file that ends within its table, for
// instance because it was cut off meanwhile, or that cannot be read.
func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the file ends within it: %w", errGoTable)
	}
	return fmt.Errorf("read Go function table: %w", err)
}

// word reads 32 bits.
func (t *goTable) word(offset int64) (uint32, error) {
	var p [4]byte
	err := t.read(p[:], offset)
	return binary.LittleEndian.Uint32(p[:]), err
}

// string reads a string that ends with a zero byte.
func (t *goTable) string(offset int64) (string, error) {
	if offset < 0 || offset >= t.size {
		return "", errGoTable
	}
	r := bufio.NewReaderSize(io.NewSectionReader(t.file, t.header+offset, min(goMaxName, t.size-offset)), 256)
	s, err := r.ReadString(0)
	if err != nil {
		return "", readError(err)
	}
	return s[:len(s)-1], nil
}

// offset returns where an address is in the file.
func (t *goTable) offset(addr uint64) (int64, bool) {
	for _, p := range t.loads {
		if addr >= p.Vaddr && addr-p.Vaddr < p.Filesz {
			return int64(addr - p.Vaddr + p.Off), true
		}
	}
	return 0, false
}

// A goFunc is the record of one function.
type goFunc struct {
	entry   uint64 // offset from the start of the code
	record  int64  // offset in the table
	fixed   [goMaxFuncSize]byte
	pcdata  uint32 // number of tables
	funcdat uint8
}

func (f *goFunc) field(i int) uint32 { return binary.LittleEndian.Uint32(f.fixed[4*i:]) }

// goLookup bounds what one address may cost. The largest functions that
// compilers generate have some 100 KB of line numbers, which are read once for
// each inlined call.
var goLookup = untrusted.Budget{Bytes: 16 << 20, Time: 2 * time.Second}

// lines returns the functions at an address, the innermost inlined one first.
// The address of a caller must be within the call. What it reads of the file is
// bounded by goLookup.
func (t *goTable) lines(addr uint64) ([]line, error) {
	if t.index == nil {
		if err := t.readIndex(); err != nil {
			return nil, err
		}
	}
	bounded := *t
	r := untrusted.NewReader(t.file, t.header+t.size, goLookup)
	bounded.file = r
	lines, err := bounded.linesAt(addr)
	t.spent += r.Spent()
	t.lookups++
	return lines, err
}

func (t *goTable) linesAt(addr uint64) ([]line, error) {
	f, err := t.find(addr)
	if err != nil {
		return nil, err
	}
	var lines []line
	for pc := addr - t.text; len(lines) <= goMaxInlined; {
		ln, err := t.place(f, pc)
		if err != nil {
			return nil, err
		}
		name, parent, inlined, err := t.inlined(f, pc)
		if err != nil {
			return nil, err
		}
		if !inlined {
			ln.function, err = t.string(t.names + int64(f.field(1)))
			return append(lines, ln), err
		}
		ln.function = name
		lines = append(lines, ln)
		pc = f.entry + uint64(parent)
	}
	return nil, errGoTable
}

// expensive reports whether looking up addresses cost much more than it does in
// any real program: the file was made for it.
func (t *goTable) expensive() bool {
	return t.spent > 64<<20+t.lookups*(256<<10)
}

// entryAt returns where a function begins, as offset from the start of the code,
// and where its record is, from an entry of the list of functions.
func (t *goTable) entryAt(p []byte) (entry, record uint64) {
	if t.layout.wide {
		return binary.LittleEndian.Uint64(p) - t.text, binary.LittleEndian.Uint64(p[8:])
	}
	return uint64(binary.LittleEndian.Uint32(p)), uint64(binary.LittleEndian.Uint32(p[4:]))
}

// readIndex reads where every goIndexStep'th function begins.
func (t *goTable) readIndex() error {
	size := t.layout.entrySize()
	if t.count < 0 || t.count > goMaxFuncs || t.funcs < 0 || t.funcs > t.size-size*int64(t.count) {
		return errGoTable
	}
	index := make([]uint32, 0, t.count/goIndexStep+1)
	r := bufio.NewReaderSize(io.NewSectionReader(t.file, t.header+t.funcs, size*int64(t.count)), 64<<10)
	buf := make([]byte, size)
	for i := range t.count {
		if _, err := io.ReadFull(r, buf); err != nil {
			return readError(err)
		}
		if i%goIndexStep == 0 {
			entry, _ := t.entryAt(buf)
			index = append(index, uint32(min(entry, 1<<32-1)))
		}
	}
	// The list ends with where the last function does: code of C follows it where a
	// C linker made the program.
	last := make([]byte, size)
	if err := t.read(last[:size/2], t.funcs+size*int64(t.count)); err != nil {
		return err
	}
	t.end, _ = t.entryAt(last)
	t.index = index
	return nil
}

// find returns the function at an address.
func (t *goTable) find(addr uint64) (*goFunc, error) {
	if addr < t.text {
		return nil, errGoAddress
	}
	pc := addr - t.text
	if t.index == nil {
		if err := t.readIndex(); err != nil {
			return nil, err
		}
	}
	if pc >= t.end {
		return nil, errGoAddress
	}
	// The last step that begins at or before pc, then the last function in it.
	step := sort.Search(len(t.index), func(i int) bool { return uint64(t.index[i]) > pc }) - 1
	if step < 0 {
		return nil, errGoAddress
	}
	first, size := step*goIndexStep, int(t.layout.entrySize())
	entries := make([]byte, size*min(goIndexStep, t.count-first))
	if err := t.read(entries, t.funcs+int64(size)*int64(first)); err != nil {
		return nil, err
	}
	n := sort.Search(len(entries)/size, func(i int) bool {
		entry, _ := t.entryAt(entries[size*i:])
		return entry > pc
	}) - 1
	if n < 0 {
		return nil, errGoTable
	}
	entry, record := t.entryAt(entries[size*n:])
	if record > uint64(t.size) {
		return nil, errGoTable
	}
	f := &goFunc{entry: entry, record: t.funcs + int64(record)}
	if t.layout.wide {
		f.record += 4 // the entry has four bytes more, the rest is the same
	}
	if err := t.read(f.fixed[:t.layout.record], f.record); err != nil {
		return nil, err
	}
	f.pcdata, f.funcdat = f.field(7), f.fixed[t.layout.record-1]
	return f, nil
}

// place returns file and line at an offset from the start of the code.
func (t *goTable) place(f *goFunc, pc uint64) (line, error) {
	file, err1 := t.value(f, f.field(5), pc)
	number, err2 := t.value(f, f.field(6), pc)
	if err := errors.Join(err1, err2); err != nil {
		return line{}, err
	}
	if file < 0 || number < 0 {
		return line{}, nil
	}
	at, err := t.word(t.units + 4*(int64(f.field(8))+int64(file)))
	if err != nil || at == ^uint32(0) {
		return line{number: int64(number)}, err
	}
	name, err := t.string(t.files + int64(at))
	return line{file: name, number: int64(number)}, err
}

// inlined returns the call that was inlined at an offset from the start of the
// code, and where its caller is, relative to the function's entry.
func (t *goTable) inlined(f *goFunc, pc uint64) (name string, parent uint32, ok bool, err error) {
	if f.pcdata <= goInlineIndex || f.funcdat <= goInlineTree {
		return "", 0, false, nil
	}
	tables, err := t.word(f.record + t.layout.record + 4*goInlineIndex)
	if err != nil {
		return "", 0, false, err
	}
	index, err := t.value(f, tables, pc)
	if err != nil || index < 0 {
		return "", 0, false, err
	}
	tree, err := t.inlineTree(f)
	if err != nil || tree == 0 {
		return "", 0, false, err
	}
	at, found := t.offset(tree + uint64(index)*uint64(t.layout.inlineSize))
	if !found {
		return "", 0, false, errGoTable
	}
	var call [goMaxInlineSize]byte
	if _, err := t.file.ReadAt(call[:t.layout.inlineSize], at); err != nil {
		return "", 0, false, fmt.Errorf("read inlined Go calls: %w", err)
	}
	name, err = t.string(t.names + int64(binary.LittleEndian.Uint32(call[t.layout.inlineName:])))
	return name, binary.LittleEndian.Uint32(call[t.layout.inlineName+4:]), true, err
}

// inlineTree returns the address of the calls that were inlined into a function;
// 0 if there are none.
func (t *goTable) inlineTree(f *goFunc) (uint64, error) {
	after := f.record + t.layout.record + 4*int64(f.pcdata) // the pcdata tables
	if t.layout.wide {
		// Pointers, at a multiple of their size.
		var p [8]byte
		err := t.read(p[:], (after+7)&^7+8*goInlineTree)
		return binary.LittleEndian.Uint64(p[:]), err
	}
	tree, err := t.word(after + 4*goInlineTree)
	if err != nil || tree == ^uint32(0) {
		return 0, err
	}
	return t.gofunc + uint64(tree), nil
}

// value looks up an offset from the start of the code in one of the tables of
// a function: pairs of differences of value and place. It is -1 where there is
// none.
func (t *goTable) value(f *goFunc, table uint32, pc uint64) (int32, error) {
	if table == 0 {
		return -1, nil
	}
	from := t.values + int64(table)
	if from < 0 || from >= t.size {
		return 0, errGoTable
	}
	values := numberReader{file: t.file, offset: t.header + from, end: t.header + from + min(t.size-from, goMaxValues)}
	value, at := int32(-1), f.entry
	for first := true; ; first = false {
		change, err := values.next()
		if err != nil {
			return 0, valueError(err)
		}
		if change == 0 && !first {
			return -1, nil
		}
		length, err := values.next()
		if err != nil {
			return 0, valueError(err)
		}
		value += int32(-(uint32(change) & 1) ^ (uint32(change) >> 1))
		at += uint64(uint32(length)) * t.quantum
		if pc < at {
			return value, nil
		}
	}
}

// A numberReader reads numbers of variable length (LEB128) from a part of a file.
type numberReader struct {
	file        io.ReaderAt
	offset, end int64  // of what is not read yet
	rest        []byte // read, but not decoded yet: of buffer
	buffer      [256]byte
}

// next returns the next number. It returns io.ErrUnexpectedEOF at the end and
// errGoTable for a number of more than 64 bits.
func (r *numberReader) next() (uint64, error) {
	v, n := binary.Uvarint(r.rest)
	if n == 0 {
		kept := copy(r.buffer[:], r.rest)
		more := r.buffer[kept:min(int64(len(r.buffer)), int64(kept)+r.end-r.offset)]
		if len(more) == 0 {
			return 0, io.ErrUnexpectedEOF
		}
		read, err := r.file.ReadAt(more, r.offset)
		if read == 0 && err != nil {
			return 0, err
		}
		r.offset += int64(read)
		r.rest = r.buffer[:kept+read]
		v, n = binary.Uvarint(r.rest)
	}
	if n == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	if n < 0 {
		return 0, errGoTable
	}
	r.rest = r.rest[n:]
	return v, nil
}

// valueError returns the error of a table of values that cannot be read: beside
// errors of reading, numbers of more than 64 bits.
func valueError(err error) error {
	if untrusted.Reason(err) != "" {
		return err
	}
	return errGoTable
}
