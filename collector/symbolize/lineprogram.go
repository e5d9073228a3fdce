package symbolize

import (
	"fmt"

	"github.com/flameline/flameline/collector/untrusted"
)

// Opcodes of line number programs (DW_LNS_*, and DW_LNE_* behind an opcode 0).
const (
	opExtended      = 0
	opCopy          = 1
	opAdvancePC     = 2
	opAdvanceLine   = 3
	opSetFile       = 4
	opConstAddPC    = 8
	opFixedAdvance  = 9
	opEndSequence   = 1
	opSetAddress    = 2
	opDefineFile    = 3
	checkEveryOp    = 4096 // opcodes between two looks at the time
	specialAdvance  = 255  // the special opcode by which opConstAddPC advances
	endOfSequence   = ^uint64(0)
	firstLine       = 1
	firstFileOfUnit = 1
)

// A lineState is the state of the machine that runs a line number program.
type lineState struct {
	addr, op uint64 // address, and operation in a long instruction
	file     uint64
	line     int64
}

// run runs the program of a table. It calls row with the state of every row, and
// with endOfSequence as the file after each stretch of code. check is called with the
// opcodes that come next.
func (t *lineTable) run(check func(steps int64) error, row func(lineState) error) error {
	c := t.program
	s := lineState{file: firstFileOfUnit, line: firstLine}
	advance := func(n uint64) {
		s.op += n
		s.addr += t.minInst * (s.op / t.maxOps)
		s.op %= t.maxOps
	}
	for n := 0; len(c.data) > 0; n++ {
		if n%checkEveryOp == 0 {
			if err := check(checkEveryOp); err != nil {
				return err
			}
		}
		op := c.unsigned(1)
		if op >= t.opBase {
			op -= t.opBase
			advance(op / t.lineRng)
			s.line += t.lineBase + int64(op%t.lineRng)
			if err := row(s); err != nil {
				return err
			}
			continue
		}
		switch op {
		case opExtended:
			if err := t.extended(&c, &s, row); err != nil {
				return err
			}
		case opCopy:
			if err := row(s); err != nil {
				return err
			}
		case opAdvancePC:
			advance(c.uleb())
		case opAdvanceLine:
			s.line += c.sleb()
		case opSetFile:
			s.file = c.uleb()
		case opConstAddPC:
			advance((specialAdvance - t.opBase) / t.lineRng)
		case opFixedAdvance:
			s.addr += c.unsigned(2)
			s.op = 0
		default:
			for range t.lengths[op] {
				c.uleb()
			}
		}
		if c.bad {
			return fmt.Errorf("line number program of %d bytes ends early: %w", len(t.program.data), untrusted.ErrMalformed)
		}
	}
	return nil
}

// extended runs an opcode that begins with its length.
func (t *lineTable) extended(c *dwarfCursor, s *lineState, row func(lineState) error) error {
	in := dwarfCursor{data: c.bytes(c.uleb()), order: c.order}
	if len(in.data) == 0 {
		return nil // or the opcode that ends early is bad
	}
	switch in.unsigned(1) {
	case opEndSequence:
		s.file = endOfSequence
		err := row(*s)
		*s = lineState{file: firstFileOfUnit, line: firstLine}
		return err
	case opSetAddress:
		s.addr, s.op = in.unsigned(uint64(len(in.data))), 0
	case opDefineFile:
		if _, err := t.readOldFile(&in); err != nil {
			return err
		}
	}
	if in.bad {
		return fmt.Errorf("line number program: an operation ends early: %w", untrusted.ErrMalformed)
	}
	return nil
}
