//go:build linux && (amd64 || arm64)

package sample

import (
	"path"
	"strings"

	"go.opentelemetry.io/ebpf-profiler/libpf/pfelf"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
)

// Sections with symbols.
const (
	sectionSymbols        = ".symtab"
	sectionDynamicSymbols = ".dynsym"
)

// showRubySymbols lets the library find the current thread of Ruby in a stripped libruby,
// as distributions ship it. The library looks for its symbol, ruby_current_ec, in .symtab
// only, but it is exported too. So the section with the exported symbols is listed a
// second time, as .symtab, in what the library knows of the file. The table is not changed.
func showRubySymbols(ref *pfelf.Reference, table *stackdeltatypes.IntervalData) (*stackdeltatypes.IntervalData, error) {
	if !strings.HasPrefix(path.Base(ref.FileName()), "libruby") {
		return table, nil
	}
	ef, err := ref.GetELF()
	if err != nil {
		return nil, err
	}
	if err := ef.LoadSections(); err != nil {
		return nil, err
	}
	exported := ef.Section(sectionDynamicSymbols)
	if exported == nil || ef.Section(sectionSymbols) != nil {
		return table, nil
	}
	symbols := *exported
	symbols.Name = sectionSymbols
	ef.Sections = append(ef.Sections, symbols)
	return table, nil
}
