package symbolize

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/flameline/flameline/collector/untrusted"
)

// Bounds on PLT stubs: the code of a section, the stubs and the names of all.
const (
	maxStubBytes = 16 << 20
	maxStubs     = 256 << 10
	maxStubNames = 16 << 20
)

// A stub is an entry of the procedure linkage table: it jumps to what a slot
// of the global offset table holds.
type stub struct {
	addr, slot uint64
	size       uint32
	room       uint32
	name       uint32 // offset in the dynamic string table
}

// addStubs names the PLT stubs of a file after the function they jump to
// (memcpy@plt). The stubs are found by their code, so that every linker's
// layout will do: x86-64 and arm64.
func (ss *symbols) addStubs(f *elf.File) error {
	var stubs []stub
	for _, sec := range f.Sections {
		if sec.Type != elf.SHT_PROGBITS || sec.Flags&elf.SHF_EXECINSTR == 0 || sec.FileSize > maxStubBytes {
			continue
		}
		if sec.Name != ".plt" && sec.Name != ".plt.sec" && sec.Name != ".plt.got" {
			continue
		}
		if len(stubs) > maxStubs {
			break
		}
		code := make([]byte, sec.FileSize)
		if n, _ := readAt(sec, code, 0); n < len(code) {
			return fmt.Errorf("read %s: %d of %d bytes", sec.Name, n, len(code))
		}
		switch f.Machine {
		case elf.EM_X86_64:
			stubs = append(stubs, stubsAMD64(sec, code)...)
		case elf.EM_AARCH64:
			stubs = append(stubs, stubsARM64(sec, code)...)
		}
	}
	if len(stubs) > maxStubs {
		return fmt.Errorf("PLT stubs: %w of %d", untrusted.ErrTooLarge, maxStubs)
	}
	if len(stubs) == 0 {
		return nil
	}
	stubs, err := resolveStubs(f, stubs)
	if err != nil {
		return fmt.Errorf("read PLT relocations: %w", err)
	}
	return ss.nameStubs(f, stubs)
}

// stubsAMD64 finds jmp *disp(%rip), bare or behind endbr64 and bnd.
func stubsAMD64(sec *elf.Section, code []byte) []stub {
	entry := 16
	if sec.Entsize == 8 {
		entry = 8
	}
	var stubs []stub
	for off := 0; off+entry <= len(code); off += entry {
		b := code[off : off+entry]
		insn := bytes.TrimPrefix(b, []byte{0xf3, 0x0f, 0x1e, 0xfa})
		insn = bytes.TrimPrefix(insn, []byte{0xf2})
		if len(insn) < 6 || insn[0] != 0xff || insn[1] != 0x25 {
			continue
		}
		next := sec.Addr + uint64(off+len(b)-len(insn)) + 6
		disp := int64(int32(binary.LittleEndian.Uint32(insn[2:])))
		stubs = append(stubs, stub{
			addr: sec.Addr + uint64(off), slot: next + uint64(disp),
			size: uint32(entry), room: uint32(len(code) - off),
		})
	}
	return stubs
}

// stubsARM64 finds adrp x16, page; ldr x17, [x16, #off].
func stubsARM64(sec *elf.Section, code []byte) []stub {
	const btiC = 0xd503245f
	var stubs []stub
	for off := 0; off+16 <= len(code); off += 4 {
		adrp, ldr := binary.LittleEndian.Uint32(code[off:]), binary.LittleEndian.Uint32(code[off+4:])
		if adrp&0x9f00001f != 0x90000010 || ldr&0xffc003ff != 0xf9400211 {
			continue
		}
		pc := sec.Addr + uint64(off)
		imm := int64(int32((adrp>>5&0x7ffff<<2|adrp>>29&3)<<11)) >> 11
		s := stub{addr: pc, size: 16, slot: pc&^0xfff + uint64(imm<<12) + uint64(ldr>>10&0xfff)*8}
		if off >= 4 && binary.LittleEndian.Uint32(code[off-4:]) == btiC {
			s.addr, s.size = s.addr-4, 20
		}
		s.room = uint32(sec.Addr + uint64(len(code)) - s.addr)
		stubs = append(stubs, s)
	}
	return stubs
}

// resolveStubs sets the names of stubs from the relocations of their slots and
// drops stubs without one.
func resolveStubs(f *elf.File, stubs []stub) ([]stub, error) {
	dynsym := section(f, elf.SHT_DYNSYM)
	if dynsym == nil || f.Class != elf.ELFCLASS64 {
		return nil, nil
	}
	bySlot := make(map[uint64][]int, len(stubs))
	for i, s := range stubs {
		bySlot[s.slot] = append(bySlot[s.slot], i)
	}
	var out []stub
	const relaSize = 24
	for _, sec := range f.Sections {
		//nolint:misspell // the constant's name
		if sec.Type != elf.SHT_RELA || sec.Flags&elf.SHF_ALLOC == 0 || sec.FileSize == 0 {
			continue
		}
		buf := make([]byte, min(windowBytes/relaSize*relaSize, sec.FileSize))
		for off := int64(0); off < int64(sec.FileSize); off += int64(len(buf)) {
			n, _ := readAt(sec, buf, off)
			for b := buf[:n]; len(b) >= relaSize; b = b[relaSize:] {
				info := f.ByteOrder.Uint64(b[8:])
				indexes := bySlot[f.ByteOrder.Uint64(b)]
				if len(indexes) == 0 || elf.R_SYM64(info) == 0 {
					continue
				}
				var entry [elf.Sym64Size]byte
				if _, err := readAt(dynsym, entry[:], int64(elf.R_SYM64(info))*elf.Sym64Size); err != nil {
					return nil, err
				}
				for _, i := range indexes {
					stubs[i].name = f.ByteOrder.Uint32(entry[:])
					out = append(out, stubs[i])
				}
				delete(bySlot, f.ByteOrder.Uint64(b))
			}
			if n < len(buf) {
				break
			}
		}
	}
	return out, nil
}

func (ss *symbols) nameStubs(f *elf.File, stubs []stub) error {
	dynsym := section(f, elf.SHT_DYNSYM)
	if dynsym == nil || dynsym.Link == 0 || int(dynsym.Link) >= len(f.Sections) {
		return nil
	}
	slices.SortFunc(stubs, func(a, b stub) int { return cmp.Compare(a.name, b.name) })
	names := newWindow(f.Sections[dynsym.Link])
	limit := min(len(ss.blob)+maxStubNames, maxNameBytes)
	for _, s := range stubs {
		name, err := names.cstring(uint64(s.name))
		if err != nil {
			return fmt.Errorf("read names of PLT stubs: %w", err)
		}
		pos := uint32(len(ss.blob))
		if len(name) == 0 || len(ss.blob)+len(name)+len(pltSuffix)+1 > limit {
			continue
		}
		ss.blob = append(append(append(ss.blob, name...), pltSuffix...), 0)
		ss.list = append(ss.list, symbol{addr: s.addr, size: min(s.size, s.room), room: s.room, name: pos, rank: rankFunction | rankGlobal})
	}
	return nil
}
