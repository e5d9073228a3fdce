package usdt

import (
	"debug/elf"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A Place says where an argument is.
type Place uint8

// Places.
const (
	Constant Place = iota // Offset is the value
	Register              // in Base, shifted to the right by Shift
	Memory                // at Base + Offset
	Indexed               // at Base + Index<<Shift + Offset
)

// An Argument is where a probe has an argument when the program is there.
type Argument struct {
	Place  Place
	Size   int  // bytes: 1, 2, 4 or 8
	Signed bool // of less than 8 bytes, it is to be extended by its sign
	Offset int64
	// Base and Index are registers, by their offset in struct pt_regs in bytes.
	Base, Index uint16
	Shift       uint8 // bits
}

// errForm says that a description has a form that compilers do not write.
var errForm = errors.New("is not SIZE@REGISTER, SIZE@CONSTANT or SIZE@MEMORY")

// ParseArguments reads the description of a probe's arguments, such as
// "8@%rdi -4@$5 8@-16(%rbp)" on x86-64 and "8@x0 -4@5 8@[sp, 8]" on arm64. Errors name
// the argument, counted from 1, and its text.
func ParseArguments(machine elf.Machine, text string) ([]Argument, error) {
	if len(text) > maxArguments {
		return nil, fmt.Errorf("arguments of %d bytes: at most %d are read", len(text), maxArguments)
	}
	parse := parseX86
	switch machine {
	case elf.EM_X86_64:
	case elf.EM_AARCH64:
		parse = parseARM
	default:
		return nil, fmt.Errorf("arguments for %v: only those of x86-64 and arm64 are read", machine)
	}
	var as []Argument
	for i, one := range split(text) {
		a, err := parseArgument(one, parse)
		if err != nil {
			return nil, fmt.Errorf("argument %d: %.64q: %w", i+1, one, err)
		}
		as = append(as, a)
	}
	return as, nil
}

// split cuts a description at spaces outside of brackets.
func split(text string) (parts []string) {
	depth, start := 0, 0
	for i := range len(text) + 1 {
		if i < len(text) {
			switch text[i] {
			case '[', '(':
				depth++
			case ']', ')':
				depth--
			}
			if depth > 0 || text[i] != ' ' && text[i] != '\t' {
				continue
			}
		}
		if i > start {
			parts = append(parts, text[start:i])
		}
		start = i + 1
	}
	return parts
}

func parseArgument(text string, parse func(a *Argument, place string) error) (a Argument, err error) {
	size, place, ok := strings.Cut(text, "@")
	if !ok {
		return a, errForm
	}
	n, err := strconv.ParseInt(size, 10, 8)
	if err != nil {
		return a, fmt.Errorf("size %q is not a number of bytes of an integer", size)
	}
	a.Signed = n < 0
	if a.Size = int(max(n, -n)); a.Size != 1 && a.Size != 2 && a.Size != 4 && a.Size != 8 {
		return a, fmt.Errorf("size %d is not 1, 2, 4 or 8 bytes", n)
	}
	if err := parse(&a, strings.TrimSpace(place)); err != nil {
		return a, err
	}
	return a, nil
}

// constant reads a number in the notation of C, which may need 64 bits without a sign.
func constant(text string) (int64, error) {
	if n, err := strconv.ParseInt(text, 0, 64); err == nil {
		return n, nil
	}
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("%.32q is not a number of 64 bits", text)
	}
	return int64(n), nil
}

// x86Memory matches OFFSET(BASE,INDEX,SCALE), of which most may be absent.
var x86Memory = regexp.MustCompile(`^(-?(?:0x)?[0-9a-fA-F]*)\((?:%([a-z0-9]+))?(?:,\s*%([a-z0-9]+)(?:,\s*([1248]))?)?\)$`)

func parseX86(a *Argument, place string) error {
	if text, ok := strings.CutPrefix(place, "$"); ok {
		n, err := constant(text)
		a.Place, a.Offset = Constant, n
		return err
	}
	if name, ok := strings.CutPrefix(place, "%"); ok {
		r, shift, ok := x86Register(name)
		if !ok {
			return fmt.Errorf("register %%%.16s is not a general one", name)
		}
		a.Place, a.Base, a.Shift = Register, r, shift
		return nil
	}
	m := x86Memory.FindStringSubmatch(place)
	if m == nil || m[2] == "" {
		return errForm
	}
	a.Place = Memory
	var err error
	if m[1] != "" {
		if a.Offset, err = constant(m[1]); err != nil {
			return err
		}
	}
	var ok bool
	if a.Base, _, ok = x86Register(m[2]); !ok {
		return fmt.Errorf("register %%%.16s is not a general one", m[2])
	}
	if m[3] == "" {
		return nil
	}
	a.Place = Indexed
	if a.Index, _, ok = x86Register(m[3]); !ok {
		return fmt.Errorf("register %%%.16s is not a general one", m[3])
	}
	if m[4] != "" {
		a.Shift = uint8(strings.Index("1248", m[4]))
	}
	return nil
}

// x86Offsets are the offsets of registers in struct pt_regs of x86-64.
var x86Offsets = map[string]uint16{
	"15": 0, "14": 8, "13": 16, "12": 24, "bp": 32, "bx": 40, "11": 48, "10": 56,
	"9": 64, "8": 72, "ax": 80, "cx": 88, "dx": 96, "si": 104, "di": 112, "sp": 152,
}

// x86Register returns the offset of a register by any of its names, and by how many bits
// the part that is named is to be shifted: rax, eax, ax, al, ah, r8, r8d, r8w, r8b.
func x86Register(name string) (offset uint16, shift uint8, ok bool) {
	short := name
	switch {
	case len(name) >= 2 && name[0] == 'r' && name[1] >= '0' && name[1] <= '9':
		short = strings.TrimRight(name[1:], "dwb")
	case len(name) == 3 && (name[0] == 'r' || name[0] == 'e'):
		short = name[1:]
	case len(name) == 3 && name[2] == 'l': // sil
		short = name[:2]
	case len(name) == 2 && (name[1] == 'l' || name[1] == 'h'):
		if name[1] == 'h' {
			shift = 8
		}
		short = name[:1] + "x"
	}
	offset, ok = x86Offsets[short]
	return offset, shift, ok
}

// armMemory matches [BASE], [BASE, OFFSET], [BASE, INDEX] and [BASE, INDEX, lsl SHIFT].
var armMemory = regexp.MustCompile(`^\[\s*([a-z0-9]+)\s*(?:,\s*(?:#?(-?[0-9]+)|([a-z][a-z0-9]+)(?:\s*,\s*lsl\s*#?([0-4]))?)\s*)?\]$`)

func parseARM(a *Argument, place string) error {
	if r, ok := armRegister(place); ok {
		a.Place, a.Base = Register, r
		return nil
	}
	if m := armMemory.FindStringSubmatch(place); m != nil {
		var ok bool
		a.Place = Memory
		if a.Base, ok = armRegister(m[1]); !ok {
			return fmt.Errorf("register %.16s is not a general one", m[1])
		}
		if m[2] != "" {
			n, err := constant(m[2])
			a.Offset = n
			return err
		}
		if m[3] == "" {
			return nil
		}
		a.Place = Indexed
		if a.Index, ok = armRegister(m[3]); !ok {
			return fmt.Errorf("register %.16s is not a general one", m[3])
		}
		if m[4] != "" {
			a.Shift = m[4][0] - '0'
		}
		return nil
	}
	if place == "" || strings.Trim(place[:1], "0123456789-#") != "" {
		return errForm
	}
	n, err := constant(strings.TrimPrefix(place, "#"))
	a.Place, a.Offset = Constant, n
	return err
}

// armRegister returns the offset of a register in struct pt_regs of arm64.
func armRegister(name string) (uint16, bool) {
	switch name {
	case "sp", "wsp":
		return 31 * 8, true
	case "fp":
		return 29 * 8, true
	case "lr":
		return 30 * 8, true
	}
	if len(name) < 2 || len(name) > 3 || name[0] != 'x' && name[0] != 'w' {
		return 0, false
	}
	n, err := strconv.ParseUint(name[1:], 10, 8)
	if err != nil || n > 30 {
		return 0, false
	}
	return uint16(n) * 8, true
}
