package symbolize

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/flameline/flameline/collector/untrusted"
)

// linesRead is what reading lines has as its result.
type linesRead struct {
	file    *indexedFile
	units   map[uint64]*lineInfo // by offset; as many as may be kept
	answers map[uint64][]Line    // by address
	damage  error                // of a unit, or of the file; nil if there is none
	steps   int64                // that it took
}

// readLines reads the units that have the code at addresses. known is what an earlier
// call returned, nil for the first. With an error it returns what it has read.
func (s *Symbolizer) readLines(from *source, place debugPlace, known *indexedFile, wanted []wantedLine) (read *linesRead, err error) {
	known, done := known.use()
	defer done()
	err = from.read(func(in *file) (err error) {
		debug := in
		switch {
		case place.installed != "":
			debug, err = from.openDebug(place.installed)
		case place.kept != "":
			debug, err = s.openKept(place.kept)
		}
		if err != nil {
			return err
		}
		if debug != in {
			defer debug.Close()
			if known != nil && !sameContent(known.info, debug.info) {
				known = nil
			}
		}
		read, err = s.readUnits(debug, known, cmp.Or(place.installed, from.binary.Path), from.openDebug, wanted)
		return err
	})
	return read, err
}

// readUnits is readLines of an open file. name is the file's path and open opens the
// file that dwz moved entries to.
func (s *Symbolizer) readUnits(in *file, known *indexedFile, name string, open opener, wanted []wantedLine) (*linesRead, error) {
	r := untrusted.NewReader(in, in.size, linesBudget)
	f, err := untrusted.NewELF(r)
	if err != nil {
		return &linesRead{}, err
	}
	alt := s.openAlt(f, name, open)
	if alt != nil {
		defer alt.Close()
	}
	if known != nil && ((known.alt == nil) != (alt == nil) || alt != nil && !sameContent(known.alt.info, alt.info)) {
		known = nil
	}
	read := &linesRead{units: map[uint64]*lineInfo{}, answers: map[uint64][]Line{}}
	fresh := known == nil
	if fresh {
		known = &indexedFile{info: in.info}
	}
	steps := &stepCounter{check: r.Check}
	defer func() { read.steps = steps.n }()
	d, err := s.openDWARF(r, f, known, steps)
	if err == nil && alt != nil {
		d.alt, err = s.openAltDWARF(alt, known, steps)
	}
	if err != nil {
		if fresh {
			known.drop()
		}
		return read, err
	}
	if read.file = known; fresh {
		read.damage = known.damage
	}
	return read, s.readWanted(d, wanted, read)
}

// openDWARF describes the DWARF of a file. It inflates its compressed sections and
// makes its index, if known has none yet.
func (s *Symbolizer) openDWARF(r *untrusted.Reader, f *elf.File, known *indexedFile, steps *stepCounter) (d *dwarfFile, err error) {
	fresh := known.index == nil
	plain, dir := known.inflated, s.o.InflateDir
	if !fresh {
		dir = "" // others use known by now
	}
	if plain == nil {
		plain, err = inflate(r, f, dir, steps, s.inflateRoom)
		if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
			s.noInflateDir.Do(func() {
				s.log.Info("compressed DWARF is inflated into memory: programs with more than 16 MiB of it have no lines", "err", err)
			})
			plain, err = inflate(r, f, "", steps, nil)
		}
		if err != nil {
			return nil, err
		}
		if plain != nil && plain.file != nil {
			known.inflated = plain // what is in memory is not kept
		}
	}
	if d, err = newDWARF(f, plain, steps); err != nil {
		return nil, err
	}
	if !fresh {
		d.index = known.index
		return d, nil
	}
	known.index, known.damage, err = d.readIndex(textOf(f))
	return d, err
}

// openAltDWARF describes the DWARF of the file that dwz moved entries of another
// one to.
func (s *Symbolizer) openAltDWARF(alt *file, known *indexedFile, steps *stepCounter) (*dwarfFile, error) {
	if known.alt == nil {
		known.alt = &indexedFile{info: alt.info}
	}
	r := untrusted.NewReader(alt, alt.size, linesBudget)
	f, err := untrusted.NewELF(r)
	if err != nil {
		return nil, err
	}
	d, err := s.openDWARF(r, f, known.alt, steps)
	if err != nil {
		return nil, err
	}
	d.isAlt, d.alt = true, d
	return d, nil
}

// readWanted reads the units of addresses. One that is malformed or too large counts
// as one without lines.
func (s *Symbolizer) readWanted(d *dwarfFile, wanted []wantedLine, read *linesRead) error {
	byUnit := map[uint64][]wantedLine{}
	for _, w := range wanted {
		if offset, ok := d.index.find(w.address); ok {
			byUnit[offset] = append(byUnit[offset], w)
		}
	}
	offsets := make([]uint64, 0, len(byUnit))
	for offset := range byUnit {
		offsets = append(offsets, offset)
	}
	slices.Sort(offsets)
	kept := int64(0)
	for _, offset := range offsets {
		info, err := d.readLines(offset)
		switch reason := untrusted.Reason(err); {
		case reason == "malformed" || reason == "too_large" && !errors.Is(err, errSteps):
			read.damage = cmp.Or(read.damage, fmt.Errorf("read DWARF: %w", err))
			info = &lineInfo{}
		case err != nil:
			return fmt.Errorf("read DWARF: %w", err)
		}
		for _, w := range byUnit[offset] {
			read.answers[w.address] = info.at(w.address, w.function, s.o.Style)
		}
		if n := info.bytes(); kept+n <= s.o.CacheBytes/4 {
			read.units[offset] = info
			kept += n
		}
	}
	return nil
}

// openAlt opens the file that dwz moved entries of a debug file to, by its path or by
// its build ID; nil if there is none.
func (s *Symbolizer) openAlt(f *elf.File, name string, open opener) *file {
	link, id := altLink(f)
	if link == "" {
		return nil
	}
	if !path.IsAbs(link) {
		link = path.Join(path.Dir(path.Clean("/"+name)), link)
	}
	for _, name := range []string{link, "/usr/lib/debug/.build-id/" + id[:2] + "/" + id[2:] + ".debug"} {
		if in, err := open(name); err == nil {
			if alt, err := untrusted.NewELF(untrusted.NewReader(in, in.size, buildBudget)); err == nil && untrusted.BuildID(alt) == id {
				return in
			}
			in.Close()
		}
	}
	if s.o.DebugFiles == nil {
		return nil
	}
	in, err := s.openKept(id)
	if err != nil {
		return nil
	}
	return in
}

// altLink returns the path and the build ID, in hexadecimal, of the file that dwz
// moved entries of a debug file to; "" without one.
func altLink(f *elf.File) (name, id string) {
	sec := f.Section(".gnu_debugaltlink")
	if sec == nil || sec.Type == elf.SHT_NOBITS || sec.FileSize > maxPathBytes {
		return "", ""
	}
	data := make([]byte, sec.FileSize)
	if n, _ := readAt(sec, data, 0); n < len(data) {
		return "", ""
	}
	link, sum, ok := bytes.Cut(data, []byte{0})
	if !ok || len(link) == 0 || len(sum) < 2 {
		return "", ""
	}
	return string(link), hex.EncodeToString(sum)
}
