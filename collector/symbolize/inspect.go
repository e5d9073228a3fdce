package symbolize

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime/debug"
	"time"

	"github.com/flameline/flameline/collector/untrusted"
)

// An Inspection says what a binary has for naming and unwinding its code.
type Inspection struct {
	Wide      bool   // a 64-bit program
	BuildID   string // GNU build ID in hexadecimal
	Symbols   bool   // .symtab: every function has a name
	MiniDebug bool   // .gnu_debugdata: so has every function
	DebugFile bool   // a separate debug file is installed, with every function
	Exported  bool   // .dynsym: exported functions have names
	EHFrame   bool   // .eh_frame or .debug_frame: unwinding needs no frame pointers
	Go        bool   // the function table of a Go program
	Lines     bool   // .debug_line, here or in the debug file: lines and inlined calls
	// Values are those of the 32-bit variables that were asked for, by name.
	Values map[string]uint32
}

// Named reports whether all functions have names.
func (i *Inspection) Named() bool { return i.Symbols || i.MiniDebug || i.DebugFile || i.Go }

// inspectBudget is what Inspect may cost: one file's tables, not their content.
var inspectBudget = untrusted.Budget{Bytes: 512 << 20, Time: 5 * time.Second}

// inspectGuard bounds the time that files of silent file systems take.
var inspectGuard = &untrusted.Guard{Limit: 10 * time.Second}

// Inspect reads what a binary has, with the bounds of a Symbolizer. values are the names
// of exported 32-bit variables whose initial values are wanted.
func Inspect(procRoot string, b Binary, values ...string) (*Inspection, error) {
	return untrusted.Do(inspectGuard, func() (*Inspection, error) {
		s := newSource(procRoot, b)
		s.offer(b)
		var out *Inspection
		err := s.read(func(in *file) (err error) {
			out, err = inspect(in, b, s.openDebug, values)
			return err
		})
		return out, err
	})
}

func inspect(in *file, b Binary, open opener, values []string) (i *Inspection, err error) {
	defer func() {
		if p := recover(); p != nil {
			i, err = nil, &untrusted.PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	f, err := untrusted.NewELF(untrusted.NewReader(in, in.size, inspectBudget))
	if err != nil {
		return nil, err
	}
	has := func(f *elf.File, names ...string) bool {
		for _, name := range names {
			if sec := f.Section(name); sec != nil && sec.Type != elf.SHT_NOBITS && sec.FileSize > 0 {
				return true
			}
		}
		return false
	}
	i = &Inspection{
		Wide:      f.Class == elf.ELFCLASS64,
		BuildID:   untrusted.BuildID(f),
		Symbols:   section(f, elf.SHT_SYMTAB) != nil,
		Exported:  section(f, elf.SHT_DYNSYM) != nil,
		MiniDebug: has(f, ".gnu_debugdata"),
		EHFrame:   has(f, ".eh_frame", ".debug_frame"),
		Go:        has(f, ".gopclntab", ".data.rel.ro.gopclntab"),
		Lines:     has(f, ".debug_line", ".zdebug_line"),
		Values:    map[string]uint32{},
	}
	if !i.Symbols {
		ss := symbols{}
		// The error is of another file, which names nothing then.
		_ = ss.addDebugFile(f, b, open)
		i.DebugFile = len(ss.list) > 0
	}
	for _, name := range values {
		if v, ok := value(f, name); ok {
			i.Values[name] = v
		}
	}
	return i, nil
}

// value returns the initial value of an exported 32-bit variable.
func value(f *elf.File, name string) (uint32, bool) {
	for _, typ := range []elf.SectionType{elf.SHT_DYNSYM, elf.SHT_SYMTAB} {
		sec := section(f, typ)
		if sec == nil || f.Class != elf.ELFCLASS64 || int(sec.Link) >= len(f.Sections) || sec.FileSize/elf.Sym64Size > maxSymbols {
			continue
		}
		names := f.Sections[sec.Link]
		buf := make([]byte, min(windowBytes/elf.Sym64Size*elf.Sym64Size, int(sec.FileSize)))
		want := append([]byte(name), 0)
		got := make([]byte, len(want))
		for off := int64(0); off < int64(sec.FileSize); off += int64(len(buf)) {
			n, err := readAt(sec, buf, off)
			if err != nil && !errors.Is(err, io.EOF) {
				return 0, false
			}
			for b := buf[:n]; len(b) >= elf.Sym64Size; b = b[elf.Sym64Size:] {
				sym := decodeSymbol(f, b)
				if sym.Size != 4 || sym.Name == 0 {
					continue
				}
				if m, _ := readAt(names, got, int64(sym.Name)); m < len(want) || !bytes.Equal(got, want) {
					continue
				}
				return wordAt(f, sym.Value)
			}
			if n < len(buf) {
				break
			}
		}
	}
	return 0, false
}

// wordAt reads 32 bits of a loaded segment.
func wordAt(f *elf.File, addr uint64) (uint32, bool) {
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || addr < p.Vaddr || addr-p.Vaddr >= p.Filesz {
			continue
		}
		var b [4]byte
		if n, _ := p.ReadAt(b[:], int64(addr-p.Vaddr)); n == len(b) {
			return f.ByteOrder.Uint32(b[:]), true
		}
	}
	return 0, false
}

// ReadIn reads up to limit bytes of a regular file as a process with another root sees it.
func ReadIn(procRoot string, pid int, name string, limit int64) ([]byte, error) {
	return untrusted.Do(inspectGuard, func() ([]byte, error) {
		f, err := openIn(path.Join(procRoot, fmt.Sprint(pid), "root"), name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, limit))
	})
}

// OpenIn opens a regular file as a process with another root sees it.
func OpenIn(procRoot string, pid int, name string) (*os.File, error) {
	return openIn(path.Join(procRoot, fmt.Sprint(pid), "root"), name)
}
