package ingest

import (
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// NameAddresses gives the locations of a valid profile that have no function the one
// that name returns for their address; "" means unknown, and such a location stays as it
// is. Names are then treated as those that a profile brings: they are demangled, and
// frames that match drop_frames, such as an allocator's own, are dropped.
//
// A name that exceeds a limit is left out, and Limits.Report says so.
func NameAddresses(p *googlev1.Profile, name func(address uint64) string, l Limits) {
	var used ids
	for _, f := range p.Function {
		used.put(f.Id)
	}
	symbols := len(p.SampleType) + len(p.Mapping) + len(p.Location) + len(p.Function) + len(p.StringTable)
	for _, at := range p.Location {
		symbols += len(at.Line)
	}
	functions := map[string]uint64{}
	mappings := map[uint64]bool{} // with a named location
	for _, at := range p.Location {
		if len(at.Line) > 0 || at.Address == 0 {
			continue
		}
		text := name(at.Address)
		if text == "" {
			continue
		}
		if exceeds(len(text), l.MaxSymbolBytes) {
			l.Report.Skip("name", "of an address, longer than limits.max_symbol_bytes", 1)
			continue
		}
		id, known := functions[text]
		cost := 1 // a line
		if !known {
			cost = 3 // a function and its name besides
		}
		if symbols += cost; exceeds(symbols, l.MaxSymbols) {
			symbols -= cost
			l.Report.Skip("name", "of an address, beyond limits.max_symbols", 1)
			continue
		}
		if !known {
			id = used.fresh()
			functions[text] = id
			n := int64(len(p.StringTable))
			p.StringTable = append(p.StringTable, validText(text, l.Report))
			p.Function = append(p.Function, &googlev1.Function{Id: id, Name: n, SystemName: n})
		}
		at.Line = []*googlev1.Line{{FunctionId: id}}
		mappings[at.MappingId] = true
	}
	if len(functions) == 0 {
		return
	}
	for _, m := range p.Mapping {
		m.HasFunctions = m.HasFunctions || mappings[m.Id]
	}
	newNames(l).profile(p)
	if p.DropFrames != 0 {
		dropFrames(p, l.Report)
	}
}
