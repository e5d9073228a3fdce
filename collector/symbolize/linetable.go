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
// that some kilobytes ask for all memory. A lineTable makes a path where a row or a
// call needs it.
type lineTable struct {
	version  uint64
	compDir  string
	dirs     []lineText
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
	name  lineText
	dir   uint64
	index uint32 // of its path in a pool, plus 1; 0: not known yet
}

// A lineText is a name in a line table, in the table itself or at an offset of
// another section.
type lineText struct {
	inline  []byte
	section *dwarfSection // nil: inline is used
	offset  uint64
}

// none reports whether there is no name.
func (t lineText) none() bool { return t.section == nil && len(t.inline) == 0 }

// read returns the name, cut at one byte more than a path may have.
func (t lineText) read() (string, error) {
	text := t.inline[:min(len(t.inline), maxPathBytes+1)]
	if t.section != nil {
		var err error
		if text, err = t.section.cstring(t.offset, maxPathBytes+1); err != nil {
			return "", err
		}
	}
	return string(text), nil
}

// Content types (DW_LNCT_*) in headers of DWARF 5.
const (
	contentPath      = 1
	contentDirectory = 2
)

// openLineTable reads the header of the line table at an offset of .debug_line.
func (d *dwarfFile) openLineTable(offset uint64, compDir string) (*lineTable, error) {
	t := &lineTable{compDir: compDir}
	if err := t.readHeader(d, offset); err != nil {
		return nil, fmt.Errorf("line table at offset %d: %w", offset, err)
	}
	return t, nil
}

func (t *lineTable) readHeader(d *dwarfFile, offset uint64) error {
	var (
		length, header uint64
		wide           bool
	)
	err := d.sections["line"].at(offset, 12, func(c *dwarfCursor) error {
		before := len(c.data)
		length, wide = c.unitLength()
		header = uint64(before - len(c.data))
		return nil
	})
	if err != nil {
		return err
	}
	data, err := d.sections["line"].bytes(offset+header, length, maxLines)
	if err != nil {
		return err
	}
	c := dwarfCursor{data: data, order: d.order}
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
	t.dirs = []lineText{{}}
	for {
		dir := h.cstring()
		if len(dir) == 0 {
			break
		}
		t.dirs = append(t.dirs, lineText{inline: dir})
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
	f := lineFile{name: lineText{inline: name}, dir: c.uleb()}
	c.uleb() // when it was changed
	c.uleb() // its size
	t.files = append(t.files, f)
	return !c.bad, tooMany(uint64(len(t.files)))
}

// A lineForm is a part of the description of a file or directory, in DWARF 5.
type lineForm struct {
	content uint64
	form    form
}

// readEntries reads directories and files as they are in DWARF 5: a description
// of what each consists of, how many there are, and they.
func (t *lineTable) readEntries(d *dwarfFile, h *dwarfCursor, wide bool) error {
	for _, files := range []bool{false, true} {
		forms := make([]lineForm, h.unsigned(1))
		for i := range forms {
			forms[i] = lineForm{h.uleb(), form(min(h.uleb(), 1<<16-1))}
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
			if err := d.steps.add(1); err != nil {
				return err
			}
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
func (d *dwarfFile) readLineFile(h *dwarfCursor, forms []lineForm, wide bool) (f lineFile, err error) {
	for _, part := range forms {
		var (
			text   lineText
			number uint64
		)
		switch part.form {
		case formString:
			text.inline = h.cstring()
		case formStrp, formLineStrp:
			if text.section = d.sections["line_str"]; part.form == formStrp {
				text.section = d.sections["str"]
			}
			if text.offset = h.offset(wide); text.section == nil || text.offset >= text.section.size {
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
	if t == nil || i >= uint64(len(t.files)) || t.files[i].name.none() {
		return 0, nil
	}
	f := &t.files[i]
	if f.index > 0 {
		return f.index - 1, nil
	}
	var (
		parts = []string{"", "", ""}
		err   error
	)
	if parts[2], err = f.name.read(); err != nil {
		return 0, err
	}
	if !absolute(parts[2]) && f.dir < uint64(len(t.dirs)) {
		if parts[1], err = t.dirs[f.dir].read(); err != nil {
			return 0, err
		}
		if !absolute(parts[1]) {
			if parts[0], err = t.compilation(); err != nil {
				return 0, err
			}
		}
	}
	if len(parts[0])+len(parts[1])+len(parts[2]) > maxPathBytes {
		f.name = lineText{}
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
func (t *lineTable) compilation() (string, error) {
	if t.version >= 5 && len(t.dirs) > 0 {
		if dir, err := t.dirs[0].read(); err != nil || absolute(dir) {
			return dir, err
		}
	}
	return t.compDir, nil
}

// absolute reports whether a path is, on Linux or, in a cross-compiled file, on
// Windows.
func absolute(name string) bool {
	return name != "" && (name[0] == '/' || name[0] == '\\' || len(name) > 2 && name[1] == ':' && (name[2] == '\\' || name[2] == '/'))
}
