package symbolize

import (
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	rtdebug "runtime/debug"

	"github.com/therootcompany/xz"

	"github.com/flameline/flameline/collector/untrusted"
)

// Bounds on MiniDebugInfo, which is compressed.
const (
	maxMiniDebug     = 64 << 20
	maxMiniDebugDict = 64 << 20
)

// A file is an open ELF file.
type file struct {
	Reader
	size int64       // in bytes, when it was opened
	info os.FileInfo // nil if it is not a file of a file system
}

// An opener opens a debug file by its path in the root of a process.
type opener func(path string) (*file, error)

// readTable reads all symbols of a binary: its .symtab, or else its .dynsym,
// its MiniDebugInfo and its separate debug file, where there are any. open opens
// further files in the root of the process.
func readTable(in *file, b Binary, open opener) (t *table, err error) {
	// debug/elf and xz are fuzzed, and so is this, but a file of someone else's
	// making must not end the collector.
	defer func() {
		if p := recover(); p != nil {
			t, err = nil, &untrusted.PanicError{Value: p, Stack: rtdebug.Stack()}
		}
	}()
	return buildTable(in, b, open)
}

func buildTable(in *file, b Binary, open opener) (*table, error) {
	f, err := untrusted.NewELF(untrusted.NewReader(in, in.size, buildBudget))
	if err != nil {
		return nil, err
	}
	var (
		ss   symbols
		errs error // the first one; a damaged table leaves the others usable
	)
	note := func(err error) {
		if err != nil && errs == nil {
			errs = err
		}
	}
	note(ss.add(f, elf.SHT_SYMTAB))
	exported := 0
	if len(ss.list) == 0 {
		note(ss.add(f, elf.SHT_DYNSYM))
		exported = len(ss.list)
		note(ss.addMiniDebug(f))
		note(ss.addDebugFile(f, b, open))
	}
	stripped := len(ss.list) == exported
	note(ss.addStubs(f))
	if ss.debug == nil && hasDWARF(f) {
		ss.debug = &debugPlace{}
	}
	for _, s := range f.Sections {
		note(untrusted.SectionError(s))
	}
	t, err := ss.table()
	if err != nil {
		return nil, cmp.Or(errs, err)
	}
	t.damage, t.stripped = errs, stripped
	return t, nil
}

// addMiniDebug adds the symbols of .gnu_debugdata: an xz-compressed ELF file
// that holds what .dynsym does not, as Fedora and its relatives ship it.
func (ss *symbols) addMiniDebug(f *elf.File) error {
	sec := f.Section(".gnu_debugdata")
	if sec == nil || sec.Type == elf.SHT_NOBITS {
		return nil
	}
	data, err := decompress(sec.Open())
	if err != nil {
		return fmt.Errorf("read .gnu_debugdata: %w", err)
	}
	mini, err := untrusted.NewELF(untrusted.NewReader(bytes.NewReader(data), int64(len(data)), buildBudget))
	if err != nil {
		return fmt.Errorf("read .gnu_debugdata: %w", err)
	}
	return ss.add(mini, elf.SHT_SYMTAB)
}

func decompress(r io.Reader) ([]byte, error) {
	z, err := xz.NewReader(r, maxMiniDebugDict)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(z, maxMiniDebug+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxMiniDebug {
		return nil, fmt.Errorf("decompressed: %w of %d bytes", untrusted.ErrTooLarge, maxMiniDebug)
	}
	return data, nil
}

// addDebugFile adds the symbols of the separate debug file that build ID or
// .gnu_debuglink name. A file that belongs to another build is passed over.
func (ss *symbols) addDebugFile(f *elf.File, b Binary, open opener) error {
	if open == nil {
		return nil
	}
	id := cmp.Or(untrusted.BuildID(f), b.BuildID)
	try := func(name string, belongs func(in *untrusted.Reader, debug *elf.File) bool) (bool, error) {
		in, err := open(name)
		if err != nil {
			return false, nil // not installed: the usual case
		}
		defer in.Close()
		r := untrusted.NewReader(in, in.size, buildBudget)
		debug, err := untrusted.NewELF(r)
		if err != nil {
			return false, fmt.Errorf("read debug file %s: %w", name, err)
		}
		if debug.Machine != f.Machine || !belongs(r, debug) {
			return false, nil
		}
		before := len(ss.list)
		if err := ss.add(debug, elf.SHT_SYMTAB); err != nil {
			return false, fmt.Errorf("read debug file %s: %w", name, err)
		}
		if hasDWARF(debug) {
			ss.debug = &debugPlace{installed: name}
		}
		return len(ss.list) > before, nil
	}
	if len(id) > 2 {
		found, err := try("/usr/lib/debug/.build-id/"+id[:2]+"/"+id[2:]+".debug",
			func(_ *untrusted.Reader, debug *elf.File) bool { return untrusted.BuildID(debug) == id })
		if found || err != nil {
			return err
		}
	}
	link, crc := debugLink(f)
	dir := path.Dir(path.Clean("/" + b.Path))
	if link == "" || b.Path == "" {
		return nil
	}
	for _, name := range []string{path.Join(dir, link), path.Join(dir, ".debug", link), path.Join("/usr/lib/debug", dir, link)} {
		if name == path.Clean(b.Path) {
			continue
		}
		found, err := try(name, func(in *untrusted.Reader, debug *elf.File) bool {
			if own := untrusted.BuildID(debug); id != "" && own != "" {
				return own == id
			}
			sum := crc32.NewIEEE()
			_, err := io.Copy(sum, io.NewSectionReader(in, 0, in.Size()))
			return err == nil && sum.Sum32() == crc
		})
		if found || err != nil {
			return err
		}
	}
	return nil
}

// debugLink returns the base name and checksum of the separate debug file that
// .gnu_debuglink names.
func debugLink(f *elf.File) (name string, crc uint32) {
	sec := f.Section(".gnu_debuglink")
	if sec == nil || sec.Type == elf.SHT_NOBITS || sec.FileSize < 8 || sec.FileSize > 4096 {
		return "", 0
	}
	data := make([]byte, sec.FileSize)
	if n, _ := readAt(sec, data, 0); n < len(data) {
		return "", 0
	}
	end := bytes.IndexByte(data, 0)
	if end <= 0 || bytes.ContainsRune(data[:end], '/') {
		return "", 0
	}
	return string(data[:end]), f.ByteOrder.Uint32(data[len(data)-4:])
}

// readKept reads the symbols that a kept debug file has for a binary whose own table
// is t, nil if the binary has none. It returns t if there is no such file, or if the
// file is not readable.
func (s *Symbolizer) readKept(in *file, b Binary, t *table) (*table, error) {
	if s.o.DebugFiles == nil || t != nil && !t.stripped {
		return t, nil
	}
	id := b.BuildID
	if id == "" {
		f, err := untrusted.NewELF(untrusted.NewReader(in, in.size, buildBudget))
		if err != nil {
			return t, nil
		}
		if id = untrusted.BuildID(f); id == "" {
			return t, nil
		}
	}
	debug, err := s.openKept(id)
	if err != nil {
		if t != nil && errors.Is(err, os.ErrNotExist) {
			t.wants = id
		}
		return t, nil
	}
	defer debug.Close()
	kept, err := readTable(debug, Binary{Name: b.Name, BuildID: id}, nil)
	if err != nil {
		return t, fmt.Errorf("read debug file of build ID %s: %w", id, err)
	}
	if kept.debug != nil {
		kept.debug.kept = id
	}
	kept.next = t // has what the debug file has not, such as stubs
	return kept, nil
}

// openKept opens the kept debug file of a build ID.
func (s *Symbolizer) openKept(buildID string) (*file, error) {
	f, err := s.o.DebugFiles.OpenDebugFile(buildID)
	if err != nil {
		return nil, err
	}
	return opened(f)
}
