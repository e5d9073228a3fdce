package symbolize

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flameline/flameline/collector/untrusted"
)

// dwarfPrograms are small programs with debug information of all kinds: each is the
// file and, if dwz moved entries of it, the file that has these.
func dwarfPrograms(f *testing.F) (programs [][2][]byte) {
	read := func(name string) []byte {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	for _, flags := range [][]string{{"-g", "-gz"}, {"-gdwarf-4"}} {
		programs = append(programs, [2][]byte{read(compile(f, "gcc", "shape.c", append(flags, "-O2")...))})
	}
	if _, err := exec.LookPath("clang"); err == nil {
		programs = append(programs, [2][]byte{read(compile(f, "clang", "shape.c", "-gdwarf-5", "-O2"))})
	}
	if _, err := exec.LookPath("dwz"); err == nil {
		a, b := compile(f, "g++", "shape.cc", "-g", "-O2"), compile(f, "g++", "shape.cc", "-g", "-O1")
		common := filepath.Join(f.TempDir(), "common")
		run(f, "", "dwz", "-m", common, a, b)
		programs = append(programs, [2][]byte{read(a), read(common)})
	}
	return programs
}

// sectionsOf returns the places of the sections of DWARF in a file.
func sectionsOf(f *testing.F, data []byte) (places [][2]int64) {
	e, err := untrusted.NewELF(untrusted.NewReader(bytes.NewReader(data), int64(len(data)), untrusted.Budget{}))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range e.Sections {
		if strings.HasPrefix(s.Name, ".debug_") && s.FileSize > 0 {
			places = append(places, [2]int64{int64(s.Offset), int64(s.FileSize)})
		}
	}
	return places
}

// FuzzDWARF writes over the sections of DWARF of real programs: each eight bytes are
// a section, how many bytes are written, an offset of 24 bits and three bytes. Whatever
// they are, reading lines neither panics nor takes more steps or memory than is allowed,
// and what is found is well-formed.
func FuzzDWARF(f *testing.F) {
	programs := dwarfPrograms(f)
	places := make([][2][][2]int64, len(programs))
	for i, p := range programs {
		for j, data := range p {
			if data != nil {
				places[i][j] = sectionsOf(f, data)
			}
		}
		f.Add(byte(i), []byte{})
		for section := range byte(len(places[i][0])) {
			f.Add(byte(i), []byte{section, 1, 0, 0, 4, 255, 0, 0, section, 3, 0, 0, 40, 255, 255, 255})
		}
	}
	f.Fuzz(func(t *testing.T, which byte, writes []byte) {
		i := int(which) % len(programs)
		files := [2][]byte{bytes.Clone(programs[i][0]), bytes.Clone(programs[i][1])}
		for ; len(writes) >= 8; writes = writes[8:] {
			j := int(writes[0]>>7) & 1
			if len(places[i][j]) == 0 {
				j = 0
			}
			place := places[i][j][int(writes[0]&0x7f)%len(places[i][j])]
			at := int64(binary.BigEndian.Uint32(writes[1:])&0xffffff) % place[1]
			copy(files[j][place[0]+at:place[0]+place[1]], writes[5:5+min(writes[1]%4, 3)])
		}
		s := New(Options{NoLines: true})
		defer s.Close()
		open := func(data []byte) *file {
			return &file{Reader: nopCloser{bytes.NewReader(data)}, size: int64(len(data))}
		}
		alt := func(string) (*file, error) {
			if files[1] == nil {
				return nil, os.ErrNotExist
			}
			return open(files[1]), nil
		}
		read, err := s.readUnits(open(files[0]), nil, "/x", alt, nil)
		if err == nil && read.file != nil {
			var wanted []wantedLine
			for i, start := range read.file.index.starts {
				if wanted = append(wanted, wantedLine{address: start + uint64(i%7), function: "f"}); len(wanted) > 50 {
					break
				}
			}
			read, err = s.readUnits(open(files[0]), read.file, "/x", alt, wanted)
		}
		if err != nil && untrusted.Reason(err) == "" && !strings.Contains(err.Error(), "file does not exist") {
			t.Fatalf("error without a reason: %v", err)
		}
		if read.steps > maxSteps+maxLines {
			t.Fatalf("%d steps", read.steps)
		}
		for _, info := range read.units {
			for i, row := range info.rows {
				if i > 0 && row.addr <= info.rows[i-1].addr || int(row.file) >= len(info.files) {
					t.Fatalf("row %d: %+v", i, row)
				}
			}
			for i, sp := range info.inlined {
				if sp.end <= sp.start || i > 0 && sp.start < info.inlined[i-1].end {
					t.Fatalf("span %d: %+v", i, sp)
				}
				info.at(sp.start, "f", Short)
			}
		}
	})
}
