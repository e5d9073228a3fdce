package ingest

import (
	"errors"
	"fmt"
)

// tally counts what takes memory when it is parsed.
func (s *jfrScanner) tally(n int) error {
	if err := s.mayTally(n); err != nil {
		return err
	}
	s.symbols += n
	return nil
}

func (s *jfrScanner) mayTally(n int) error {
	if exceeds(s.symbols+n, s.limits.MaxSymbols) {
		return s.errorf("more than %d strings, classes, fields and constants (limits.max_symbols)", s.limits.MaxSymbols)
	}
	return nil
}

var errCut = errors.New("the bytes end too early")

func (s *jfrScanner) errorf(format string, args ...any) error {
	return fmt.Errorf(format+", at byte %d", append(args, s.base+s.at)...)
}

// long reads a compressed integer of up to 64 bits.
func (s *jfrScanner) long() (uint64, error) {
	var v uint64
	for shift := 0; ; shift += 7 {
		if s.at >= s.end {
			return 0, s.errorf("%w", errCut)
		}
		c := s.b[s.at]
		s.at++
		if shift == 56 { // the ninth byte holds eight bits
			return v | uint64(c)<<shift, nil
		}
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, nil
		}
	}
}

// int reads one of up to 32 bits.
func (s *jfrScanner) int() (uint32, error) {
	v, err := s.long()
	if err == nil && v > 1<<32-1 {
		err = s.errorf("%d has more than 32 bits", v)
	}
	return uint32(v), err
}

// count reads how many things follow, each of them at least size bytes.
func (s *jfrScanner) count(size int) (int, error) {
	n, err := s.int()
	if err == nil && int64(n)*int64(size) > int64(s.end-s.at) {
		err = s.errorf("%d of something in %d bytes", n, s.end-s.at)
	}
	return int(n), err
}

func (s *jfrScanner) skip(n int) error {
	if n > s.end-s.at {
		return s.errorf("%w", errCut)
	}
	s.at += n
	return nil
}

// text goes through a string.
func (s *jfrScanner) text() error {
	if s.at >= s.end {
		return s.errorf("%w", errCut)
	}
	encoding := s.b[s.at]
	s.at++
	switch encoding {
	case 0, 1: // null, empty
		return nil
	case 2: // in the pool
		_, err := s.long()
		return err
	case 3, 4, 5: // UTF-8, characters, Latin-1
	default:
		return s.errorf("encoding %d of a string is unknown", encoding)
	}
	n, err := s.count(1)
	if err != nil {
		return err
	}
	if exceeds(n, s.limits.MaxSymbolBytes) {
		return s.errorf("a string of %d characters is longer than %d (limits.max_symbol_bytes)", n, s.limits.MaxSymbolBytes)
	}
	if encoding != 4 {
		return s.skip(n)
	}
	for range n {
		if _, err := s.int(); err != nil {
			return err
		}
	}
	return nil
}
