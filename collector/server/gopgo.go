package server

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/google/pprof/profile"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
)

// goPGO reduces an uncompressed pprof profile to what the Go toolchain reads for
// profile-guided optimization, which is a fraction of its size: of each stacktrace the
// keep_locations locations nearest to the leaf (0 for all), and, with aggregate_callees,
// leaves without their line, so that the samples within one function are added up.
//
// Where a leaf's location is also a caller's, the caller keeps its line: it is the call
// site that the compiler looks for.
func goPGO(raw []byte, pgo *typesv1.GoPGO) ([]byte, error) {
	p, err := profile.ParseUncompressed(raw)
	if err != nil {
		return nil, fmt.Errorf("reduce the profile: %w", err)
	}
	leaves := map[uint64]*profile.Location{}
	last := uint64(0)
	for _, l := range p.Location {
		last = max(last, l.ID)
	}
	for _, s := range p.Sample {
		if n := int(pgo.KeepLocations); n > 0 && len(s.Location) > n {
			s.Location = s.Location[:n]
		}
		if !pgo.AggregateCallees || len(s.Location) == 0 {
			continue
		}
		leaf := s.Location[0]
		if leaves[leaf.ID] == nil {
			last++
			bare := *leaf
			bare.ID, bare.Address, bare.Line = last, 0, slices.Clone(leaf.Line)
			if len(bare.Line) > 0 {
				bare.Line[0].Line, bare.Line[0].Column = 0, 0
			} else {
				bare.Address = leaf.Address // the location has no function, only an address
			}
			leaves[leaf.ID] = &bare
			p.Location = append(p.Location, &bare)
		}
		s.Location[0] = leaves[leaf.ID]
	}
	var b bytes.Buffer
	if err := p.Compact().WriteUncompressed(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
