package untrusted

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// maxNotes bounds the sections of notes that are searched for a build ID, and
// maxNote the bytes of one.
const (
	maxNotes = 64
	maxNote  = 64 << 10
)

// BuildID returns the GNU build ID of a file in hexadecimal, "" if it has none.
func BuildID(f *elf.File) string {
	notes := 0
	for _, s := range f.Sections {
		if s.Type != elf.SHT_NOTE || s.FileSize > maxNote {
			continue
		}
		if notes++; notes > maxNotes {
			break
		}
		data := make([]byte, s.FileSize)
		n := 0
		if s.ReaderAt != nil {
			n, _ = s.ReadAt(data, 0)
		}
		if id := buildIDNote(f.ByteOrder, data[:n]); len(id) > 0 {
			return fmt.Sprintf("%x", id)
		}
	}
	return ""
}

// buildIDNote finds the descriptor of the note GNU, type 3.
func buildIDNote(bo binary.ByteOrder, data []byte) []byte {
	align := func(n uint64) uint64 { return (n + 3) &^ 3 }
	for len(data) >= 12 {
		nameSize, descSize, typ := uint64(bo.Uint32(data)), uint64(bo.Uint32(data[4:])), bo.Uint32(data[8:])
		data = data[12:]
		if align(nameSize)+descSize > uint64(len(data)) {
			return nil
		}
		name, desc := data[:nameSize], data[align(nameSize):align(nameSize)+descSize]
		if typ == 3 && bytes.Equal(name, []byte("GNU\x00")) {
			return desc
		}
		data = data[min(align(nameSize)+align(descSize), uint64(len(data))):]
	}
	return nil
}
