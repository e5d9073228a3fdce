package symbolize

import (
	"fmt"
	"path"

	"github.com/flameline/flameline/collector/untrusted"
)

// Bounds on one line table. Units of large programs that are optimised as a whole
// have some 10,000 files.
const (
	maxLineFiles  = 256 << 10 // and directories
	maxPathBytes  = 4096
	maxEntryForms = 16 // parts that DWARF 5 describes a file in; it names 5
)

// A lineTable is the line number table of a compilation unit, as DWARF 2 to 5
// describe it in their chapters 6.2. debug/dwarf has a reader of its own, which
// allocates by what the header claims and keeps whole paths for every file, so
// that some kilobytes ask for all memory. A lineTable keeps parts of the section
// instead of copies, and makes a path where a row or a call needs it.
type lineTable struct {
	version  uint64
	compDir  string
	dirs     [][]byte
	files    []lineFile // the first is nobody's before DWARF 5
	program  dwarfCursor
	minInst  uint64
	maxOps   uint64
	lineBase int64
	lineRng  uint64
	opBase   uint64
	lengths  [256]uint8 // operands of standard opcodes
}

// A lineFile is a file of a line table.
type lineFile struct {
	name  []byte
	dir   uint64
	index uint32 // of its path in a pool, plus 1; 0: not known yet
}

// Content types (DW_LNCT_*) and forms (DW_FORM_*) in headers of DWARF 5.
const (
	contentPath      = 1
	contentDirectory = 2

	formBlock2   = 0x03
	formData2    = 0x05
	formData4    = 0x06
	formData8    = 0x07
	formString   = 0x08
	formBlock    = 0x09
	formBlock1   = 0x0a
	formData1    = 0x0b
	formStrp     = 0x0e
	formUdata    = 0x0f
	formStrx     = 0x1a
	formStrpSup  = 0x1d
	formData16   = 0x1e
	formLineStrp = 0x1f
	formStrx1    = 0x25
	formStrx2    = 0x26
	formStrx3    = 0x27
	formStrx4    = 0x28
)

// openLineTable reads the header of the line table at an offset of .debug_line.
func (d dwarfSections) openLineTable(c dwarfCursor, offset uint64, compDir string) (*lineTable, error) {
	t := &lineTable{compDir: compDir}
	if err := t.readHeader(d, c, offset); err != nil {
		return nil, fmt.Errorf("line table at offset %d: %w", offset, err)
	}
	return t, nil
}

func (t *lineTable) readHeader(d dwarfSections, c dwarfCursor, offset uint64) error {
	c.bytes(offset)
	length, wide := c.unitLength()
	c.data = c.bytes(length)
	t.version = c.unsigned(2)
	if c.bad || t.version < 2 || t.version > 5 {
		return fmt.Errorf("version %d, %d bytes: %w", t.version, length, untrusted.ErrMalformed)
	}
	if t.version >= 5 {
		c.bytes(2) // sizes of addresses, which their opcodes repeat, and of segments
	}
	headerLength := c.offset(wide)
	h := dwarfCursor{data: c.bytes(headerLength), order: c.order}
	t.program = c
	t.minInst, t.maxOps = h.unsigned(1), 1
	if t.version >= 4 {
		t.maxOps = h.unsigned(1)
	}
	h.bytes(1) // whether rows begin statements
	t.lineBase, t.lineRng, t.opBase = int64(int8(h.unsigned(1))), h.unsigned(1), h.unsigned(1)
	if t.maxOps == 0 || t.lineRng == 0 || t.opBase == 0 {
		return fmt.Errorf("%d operations in an instruction, range of lines %d, first special opcode %d: %w", t.maxOps, t.lineRng, t.opBase, untrusted.ErrMalformed)
	}
	copy(t.lengths[1:], h.bytes(t.opBase-1))
	var err error
	if t.version >= 5 {
		err = t.readEntries(d, &h, wide)
	} else {
		err = t.readOldEntries(&h)
	}
	if err == nil && (c.bad || h.bad) {
		err = fmt.Errorf("header of %d bytes ends early: %w", headerLength, untrusted.ErrMalformed)
	}
	return err
}

// tooMany returns an error if a table has n files or directories and cannot have
// another one.
func tooMany(n uint64) error {
	if n > maxLineFiles {
		return fmt.Errorf("%d files or directories: %w of %d", n, untrusted.ErrTooLarge, maxLineFiles)
	}
	return nil
}

// readOldEntries reads directories and files as they are before DWARF 5: strings,
// and an empty one at the end. Directory 0 is that of the compilation, file 0 is
// none.
func (t *lineTable) readOldEntries(h *dwarfCursor) error {
	t.dirs = [][]byte{nil}
	for {
		dir := h.cstring()
		if len(dir) == 0 {
			break
		}
		t.dirs = append(t.dirs, dir)
		if err := tooMany(uint64(len(t.dirs))); err != nil {
			return err
		}
	}
	t.files = []lineFile{{}}
	for {
		more, err := t.readOldFile(h)
		if err != nil || !more {
			return err
		}
	}
}

// readOldFile reads one file as it is before DWARF 5, and in an opcode.
func (t *lineTable) readOldFile(c *dwarfCursor) (bool, error) {
	name := c.cstring()
	if len(name) == 0 {
		return false, nil
	}
	f := lineFile{name: name, dir: c.uleb()}
	c.uleb() // when it was changed
	c.uleb() // its size
	t.files = append(t.files, f)
	return !c.bad, tooMany(uint64(len(t.files)))
}

// A lineForm is a part of the description of a file or directory, in DWARF 5.
type lineForm struct{ content, form uint64 }

// readEntries reads directories and files as they are in DWARF 5: a description
// of what each consists of, how many there are, and they.
func (t *lineTable) readEntries(d dwarfSections, h *dwarfCursor, wide bool) error {
	for _, files := range []bool{false, true} {
		forms := make([]lineForm, h.unsigned(1))
		for i := range forms {
			forms[i] = lineForm{h.uleb(), h.uleb()}
		}
		count := h.uleb()
		if err := tooMany(count); err != nil {
			return err
		}
		// Each takes a byte at least, or the table could do without it.
		if count > 0 && len(forms) == 0 || count > uint64(len(h.data)) || len(forms) > maxEntryForms {
			return fmt.Errorf("%d files or directories of %d parts in %d bytes: %w", count, len(forms), len(h.data), untrusted.ErrMalformed)
		}
		for range count {
			f, err := d.readLineFile(h, forms, wide)
			if err != nil {
				return err
			}
			if files {
				t.files = append(t.files, f)
			} else {
				t.dirs = append(t.dirs, f.name)
			}
		}
	}
	return nil
}

// readLineFile reads a file or a directory as its forms describe it.
func (d dwarfSections) readLineFile(h *dwarfCursor, forms []lineForm, wide bool) (f lineFile, err error) {
	for _, part := range forms {
		var (
			text   []byte
			number uint64
		)
		switch part.form {
		case formString:
			text = h.cstring()
		case formStrp, formLineStrp:
			in := dwarfCursor{data: d["line_str"]}
			if part.form == formStrp {
				in.data = d["str"]
			}
			in.bytes(h.offset(wide))
			if text = in.cstring(); in.bad {
				h.bad = true
			}
		case formStrpSup:
			h.offset(wide) // a string of another file
		case formData1, formStrx1:
			number = h.unsigned(1)
		case formData2, formStrx2:
			number = h.unsigned(2)
		case formStrx3:
			number = h.unsigned(3)
		case formData4, formStrx4:
			number = h.unsigned(4)
		case formData8:
			number = h.unsigned(8)
		case formData16:
			h.bytes(16)
		case formUdata, formStrx:
			number = h.uleb()
		case formBlock:
			h.bytes(h.uleb())
		case formBlock1:
			h.bytes(h.unsigned(1))
		case formBlock2:
			h.bytes(h.unsigned(2))
		default:
			return f, fmt.Errorf("part %d of a file has form %#x: %w", part.content, part.form, untrusted.ErrMalformed)
		}
		switch part.content {
		case contentPath:
			f.name = text
		case contentDirectory:
			f.dir = number
		}
	}
	if h.bad {
		return f, fmt.Errorf("a file of %d parts ends early or names a string that is not there: %w", len(forms), untrusted.ErrMalformed)
	}
	return f, nil
}

// file returns the index in a pool of a file's path; 0 if the file has none. It
// returns an error for a path that no file can have.
func (t *lineTable) file(i uint64, paths *pool) (uint32, error) {
	if t == nil || i >= uint64(len(t.files)) || len(t.files[i].name) == 0 {
		return 0, nil
	}
	f := &t.files[i]
	if f.index > 0 {
		return f.index - 1, nil
	}
	parts := []string{"", "", ""}
	parts[2] = string(f.name[:min(len(f.name), maxPathBytes+1)])
	if !absolute(parts[2]) && f.dir < uint64(len(t.dirs)) {
		parts[1] = string(t.dirs[f.dir][:min(len(t.dirs[f.dir]), maxPathBytes+1)])
		if !absolute(parts[1]) {
			parts[0] = t.compilation()
		}
	}
	if len(parts[0])+len(parts[1])+len(parts[2]) > maxPathBytes {
		f.name = nil
		return 0, fmt.Errorf("path of file %d has more than %d bytes: %w", i, maxPathBytes, untrusted.ErrMalformed)
	}
	name := parts[2]
	if parts[0] != "" || parts[1] != "" {
		name = path.Join(parts...)
	}
	index := paths.add(name)
	f.index = index + 1
	return index, nil
}

// compilation returns the directory that others are relative to.
func (t *lineTable) compilation() string {
	if t.version >= 5 && len(t.dirs) > 0 && absolute(string(t.dirs[0][:min(len(t.dirs[0]), 3)])) {
		return string(t.dirs[0][:min(len(t.dirs[0]), maxPathBytes+1)])
	}
	return t.compDir
}

// absolute reports whether a path is, on Linux or, in a cross-compiled file, on
// Windows.
func absolute(name string) bool {
	return name != "" && (name[0] == '/' || name[0] == '\\' || len(name) > 2 && name[1] == ':' && (name[2] == '\\' || name[2] == '/'))
}
