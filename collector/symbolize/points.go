package symbolize

import (
	"debug/elf"
	"errors"
	"slices"
	"strings"

	"github.com/flameline/flameline/collector/untrusted"
)

// maxRounds bounds how often a symbol table is read for some addresses.
const maxRounds = 4

// errWhole says that the whole table of a binary has to be built.
var errWhole = errors.New("names of single addresses take the whole table")

// readTableAt is tableAt of a file that may be of someone else's making.
func readTableAt(in *file, addrs []uint64) (t *table, err error) {
	defer func() {
		if p := recover(); p != nil {
			t, err = nil, errWhole // which reads the file again, and reports it
		}
	}()
	return tableAt(in, addrs)
}

// tableAt builds a table that has, at some addresses, what that of buildTable has there.
// It reads the symbol table twice in place of sorting it, which takes a fraction of the
// time and of the memory. It returns errWhole for a binary without symbol table, whose
// symbols are in several places, and where something is damaged.
func tableAt(in *file, addrs []uint64) (*table, error) {
	f, err := untrusted.NewELF(untrusted.NewReader(in, in.size, buildBudget))
	if err != nil {
		return nil, errWhole
	}
	for _, s := range f.Sections {
		if untrusted.SectionError(s) != nil {
			return nil, errWhole
		}
	}
	var ss symbols
	if hasDWARF(f) {
		ss.debug = &debugPlace{}
	}
	if err := ss.addAt(f, addrs); err != nil {
		return nil, errWhole
	}
	if inStubs(f, addrs) {
		if err := ss.addStubs(f); err != nil {
			return nil, errWhole
		}
	}
	if len(ss.list) == 0 {
		return newTable(nil, nil), nil
	}
	return ss.table()
}

// inStubs reports whether one of some addresses is in a procedure linkage table.
func inStubs(f *elf.File, addrs []uint64) bool {
	for _, sec := range f.Sections {
		if strings.HasPrefix(sec.Name, ".plt") && slices.ContainsFunc(addrs, func(a uint64) bool { return a >= sec.Addr && a-sec.Addr < sec.Size }) {
			return true
		}
	}
	return false
}

// addAt reads the functions of a symbol table that determine the names of some
// addresses: those that cover an address, and for an address that none covers those that
// begin last before it, with what covers them, and first after it.
func (ss *symbols) addAt(f *elf.File, addrs []uint64) error {
	sec := section(f, elf.SHT_SYMTAB)
	if sec == nil || sec.Link == 0 || int(sec.Link) >= len(f.Sections) {
		return errWhole
	}
	p := points{addrs: slices.Compact(slices.Sorted(slices.Values(addrs))), labels: map[uint64]bool{}}
	for range maxRounds {
		if err := p.find(f, sec); err != nil {
			return err
		}
		ss.list = ss.list[:0]
		err := eachFunction(f, sec, func(s symbol) error {
			i, _ := slices.BinarySearch(p.needed, s.addr)
			if i < len(p.needed) && p.needed[i]-s.addr < max(1, uint64(s.size)) {
				ss.list = append(ss.list, s)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(ss.list) == 0 && p.anyFunction {
			return nil
		}
		ss.blob = ss.blob[:0]
		if err := ss.readNames(&window{sec: f.Sections[sec.Link], step: 1 << 10}, 0); err != nil {
			return err
		}
		if len(ss.list) == 0 {
			return errWhole
		}
		if ok, err := p.settled(ss.list); ok || err != nil {
			return err
		}
	}
	return errWhole
}

// points are the addresses that names are wanted for, and where symbols begin that
// determine them.
type points struct {
	addrs  []uint64        // sorted
	labels map[uint64]bool // where only symbols begin that name no function

	anyFunction bool
	named       []bool   // by address: a symbol with a size covers it
	begins      []uint64 // of symbols around addresses that none covers
	needed      []uint64 // sorted: addrs and begins, of which all symbols are needed
}

// A coverage tells which of some sorted addresses symbols cover.
type coverage struct {
	addrs  []uint64
	change []int // by index: of the number of symbols that cover the address, against the one before
}

func newCoverage(addrs []uint64) *coverage {
	return &coverage{addrs: addrs, change: make([]int, len(addrs)+1)}
}

// add adds a symbol, and returns the index of the first address where it begins or later.
func (c *coverage) add(s symbol) int {
	first, _ := slices.BinarySearch(c.addrs, s.addr)
	if first < len(c.addrs) && c.addrs[first]-s.addr < uint64(s.size) {
		end, _ := slices.BinarySearch(c.addrs, s.addr+uint64(s.size))
		c.change[first]++
		c.change[end]--
	}
	return first
}

// covered returns for each address whether a symbol covers it.
func (c *coverage) covered() []bool {
	covered, n := make([]bool, len(c.addrs)), 0
	for i := range covered {
		n += c.change[i]
		covered[i] = n > 0
	}
	return covered
}

// find sets what depends on the symbols of a symbol table.
func (p *points) find(f *elf.File, sec *elf.Section) error {
	n := len(p.addrs)
	p.anyFunction = false
	named := newCoverage(p.addrs)
	// Where the first and the last symbol begin after address i-1 up to address i.
	first, last, has := make([]uint64, n+1), make([]uint64, n+1), make([]bool, n+1)
	err := eachFunction(f, sec, func(s symbol) error {
		p.anyFunction = true
		i := named.add(s)
		if len(p.labels) > 0 && p.labels[s.addr] {
			return nil
		}
		if !has[i] {
			first[i], last[i], has[i] = s.addr, s.addr, true
		}
		first[i], last[i] = min(first[i], s.addr), max(last[i], s.addr)
		return nil
	})
	if err != nil {
		return err
	}
	p.named = named.covered()
	p.begins = nil
	for i := range p.addrs {
		if p.named[i] {
			continue
		}
		for j := i; j >= 0; j-- {
			if has[j] {
				p.begins = append(p.begins, last[j])
				break
			}
		}
		for j := i + 1; j <= n; j++ {
			if has[j] {
				p.begins = append(p.begins, first[j])
				break
			}
		}
	}
	p.needed = slices.Sorted(slices.Values(slices.Concat(p.addrs, p.begins)))
	return nil
}

// settled reports whether symbols are all that are needed: where only labels begin,
// others are.
func (p *points) settled(list []symbol) (bool, error) {
	begin, named := map[uint64]bool{}, newCoverage(p.addrs)
	for _, s := range list {
		begin[s.addr] = true
		named.add(s)
	}
	if !slices.Equal(named.covered(), p.named) {
		return false, errWhole // a label has a size
	}
	before := len(p.labels)
	for _, addr := range p.begins {
		if !begin[addr] {
			p.labels[addr] = true
		}
	}
	return len(p.labels) == before, nil
}
