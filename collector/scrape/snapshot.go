package scrape

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
)

// A snapshot holds the counters of a process at one time.
type snapshot struct {
	time     int64     // Unix ns
	answered time.Time // with a monotonic clock reading
	period   int64     // the profile's sampling period
	buildID  string    // of the program; empty if unknown
	types    []string  // sample types, the columns of values
	// estimated are the columns that may fall while the process runs: numbers of objects
	// that are estimated from a stacktrace's average size, which changes.
	estimated []bool
	ended     bool // the process has ended, even if later counters are larger

	keys   []uint64         // of the distinct samples, the rows of values
	index  map[uint64]int32 // of keys
	values []int64          // by row, then by column

	rows []int32 // by sample of the profile; nil after the comparison
}

func (s *snapshot) len() int { return len(s.keys) }

// at returns the counters of a row. They must not be changed.
func (s *snapshot) at(row int32) []int64 {
	n := len(s.types)
	return s.values[int(row)*n : int(row+1)*n]
}

// A counting takes snapshots that are comparable with each other.
type counting struct{ seed maphash.Seed }

func newCounting() counting { return counting{maphash.MakeSeed()} }

// snapshot adds up the counters of samples with the same stacktrace and labels.
func (c counting) snapshot(p *googlev1.Profile, columns []int) *snapshot {
	out := &snapshot{period: p.Period}
	if len(columns) == 0 {
		return out
	}
	out.index, out.rows = make(map[uint64]int32, len(p.Sample)), make([]int32, len(p.Sample))
	// A profile's strings may share memory with its encoding, which must not be kept
	// alive.
	if len(p.Mapping) > 0 {
		out.buildID = strings.Clone(p.StringTable[p.Mapping[0].BuildId])
	}
	for _, column := range columns {
		typ := strings.Clone(p.StringTable[p.SampleType[column].Type])
		out.types = append(out.types, typ)
		out.estimated = append(out.estimated, typ == "alloc_objects" && native(p) && p.Period > 1)
	}
	locations := c.locations(p)
	for i, s := range p.Sample {
		key := c.key(p, s, locations)
		row, ok := out.index[key]
		if !ok {
			row = int32(len(out.keys))
			out.index[key] = row
			out.keys = append(out.keys, key)
			out.values = append(out.values, make([]int64, len(columns))...)
		}
		out.rows[i] = row
		sums := out.at(row)
		for j, column := range columns {
			sums[j] = addCounts(sums[j], s.Value[column])
		}
	}
	return out
}

// native reports whether a profile has addresses alone, as those of gperftools and
// jemalloc do. It has one sample of each stacktrace.
func native(p *googlev1.Profile) bool { return len(p.Function) == 0 }

// locations returns a hash of each location by its ID. Unlike the ID, the hash is the
// same in every profile of a process. It is that of the functions and lines, or, where
// no function has a name, of the address: addresses come second because runtimes with
// JIT compilers have none, or number them anew in each profile.
func (c counting) locations(p *googlev1.Profile) map[uint64]uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	functions := make(map[uint64]uint64, len(p.Function))
	for _, f := range p.Function {
		h.Reset()
		if f.Name == 0 && f.SystemName == 0 {
			continue
		}
		for _, i := range []int64{f.Name, f.SystemName, f.Filename} {
			writeText(&h, p.StringTable[i])
		}
		functions[f.Id] = h.Sum64()
	}
	out := make(map[uint64]uint64, len(p.Location))
	for _, l := range p.Location {
		h.Reset()
		named := func(line *googlev1.Line) bool { return functions[line.FunctionId] != 0 }
		if !slices.ContainsFunc(l.Line, named) {
			writeNumber(&h, l.Address)
		}
		for _, line := range l.Line {
			writeNumber(&h, functions[line.FunctionId])
			writeNumber(&h, uint64(line.Line))
		}
		out[l.Id] = h.Sum64()
	}
	return out
}

// key identifies a sample by its stacktrace and its labels; Go distinguishes allocations
// of different sizes by a label. In native profiles that label is left out, since it is
// the average size of the stacktrace's objects.
func (c counting) key(p *googlev1.Profile, s *googlev1.Sample, locations map[uint64]uint64) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	for _, id := range s.LocationId {
		writeNumber(&h, locations[id])
	}
	for _, l := range s.Label {
		if native(p) && l.Str == 0 && p.StringTable[l.Key] == "bytes" {
			continue
		}
		writeText(&h, p.StringTable[l.Key])
		writeText(&h, p.StringTable[l.Str])
		writeNumber(&h, uint64(l.Num))
	}
	return h.Sum64()
}

func writeNumber(h *maphash.Hash, n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	h.Write(b[:])
}

func writeText(h *maphash.Hash, s string) {
	writeNumber(h, uint64(len(s)))
	h.WriteString(s)
}
