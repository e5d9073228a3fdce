package ingest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grafana/jfr-parser/parser/types"
	"github.com/grafana/jfr-parser/parser/types/def"
)

// A scan goes through a chunk before github.com/grafana/jfr-parser parses it, which
// cannot be done without as of version 0.18 of that library:
//
//   - It allocates by counts of strings, attributes, children, constants, frames and
//     characters before it looks whether there are as many: 64 GB for five bytes, of
//     which no process recovers (TestJFRParserTrustsCounts).
//   - It follows the constant pools wherever they lead, also in a circle, and reads
//     events beyond their size, so that each may cost as much as the whole chunk.
//   - It skips the events that it has no struct for without a word: CPU time of JDK
//     25, native methods, and how long a batch of wall-clock samples took.
//
// So every count is compared with the bytes that are left and with the limits,
// and the pools come to an end. What a class, a field or an event is, the library
// says (jfr_metadata.go, jfr_value.go). BenchmarkJFR has the scan's share of the
// time. The format is that of the JDK's jdk.jfr.internal.consumer.

const (
	jfrMagic      = 0x464c5200 // "FLR\0"
	jfrHeaderSize = 68
	jfrDepth      = 4 // of objects within objects
	// jfrAttributes is more than a class or a field ever has.
	jfrAttributes = 64
	// jfrLongestChunk is more than any chunk takes.
	jfrLongestChunk = int64(366 * 24 * time.Hour)
)

// A jfrChunk is what a scan finds out about a chunk, apart from the samples that
// the parser reads.
type jfrChunk struct {
	base, size int
	// begin and end are its times in ns since 1970. begin is that of startTicks.
	begin, end int64
	ticks      uint64 // per second: the unit of an event's time and duration
	startTicks uint64
	lastTicks  uint64 // of the events that are read
	classes    map[uint64]*jfrClass
	settings   map[jfrSetting]string
	// cpuTimed says that CPU time is that of jdk.CPUTimeSample.
	cpuTimed bool
	// own are samples of events that the parser does not know, in their order.
	own []jfrSample
	// batches are how long each profiler.WallClockSample took, in ticks, which the
	// parser leaves out.
	batches []uint64
}

// A jfrSample is an event that the parser does not know.
type jfrSample struct {
	event      string
	at         uint64 // ticks
	stacktrace types.StackTraceRef
	// value is the time of a jdk.CPUTimeSample, in ticks, and the number of samples
	// of a jdk.CPUTimeSamplesLost.
	value uint64
}

// A jfrClass is a class of values, of constants or of events.
type jfrClass struct {
	*def.Class
	// sample is how events of the class are read by jfrScanner.sample.
	sample *types.BindObjectAllocationSample
	// Of events: how many there are, and how many of those have a stacktrace, which
	// is not counted where they are read.
	events, stacktraces int
}

// A jfrSetting names one jdk.ActiveSetting, such as the period of an event.
type jfrSetting struct{ event, name string }

// jfrSettings are the settings that say what a sample is, and which events there
// may be.
var jfrSettings = []string{"enabled", "event", "interval", "period", "throttle", "wall"}

// Names of events.
const (
	jfrCPUTimeSample      = "jdk.CPUTimeSample"
	jfrCPUTimeSamplesLost = "jdk.CPUTimeSamplesLost"
	jfrExecutionSample    = "jdk.ExecutionSample"
	jfrNativeMethodSample = "jdk.NativeMethodSample"
	jfrWallClockSample    = "profiler.WallClockSample"
	jfrFree               = "profiler.Free"
)

// jfrRead are the events of which something is read. All others are skipped by
// their size.
var jfrRead = map[string]bool{
	"jdk.ActiveSetting":               true,
	jfrCPUTimeSample:                  true,
	jfrCPUTimeSamplesLost:             true,
	jfrExecutionSample:                true,
	"jdk.JavaMonitorEnter":            true,
	jfrNativeMethodSample:             true,
	"jdk.ObjectAllocationInNewTLAB":   true,
	"jdk.ObjectAllocationOutsideTLAB": true,
	"jdk.ObjectAllocationSample":      true,
	"jdk.ThreadPark":                  true,
	jfrFree:                           true,
	"profiler.LiveObject":             true,
	"profiler.Malloc":                 true,
	jfrWallClockSample:                true,
}

// A jfrScanner walks one chunk. Offsets in messages count from the start of the
// recording.
type jfrScanner struct {
	b       []byte
	at      int
	end     int // of what is walked now
	base    int // offset of b
	limits  Limits
	symbols int
	types   *def.TypeMap
	chunk   jfrChunk
}

// scanJFR walks the first chunk in b, which is at offset base of the recording.
func scanJFR(b []byte, base int, l Limits) (*jfrChunk, error) {
	s := jfrScanner{
		b: b, end: len(b), base: base, limits: l,
		chunk: jfrChunk{base: base, classes: map[uint64]*jfrClass{}, settings: map[jfrSetting]string{}},
	}
	pools, metadata, err := s.header()
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	s.b, s.end = b[:s.chunk.size], s.chunk.size
	if err := s.metadata(metadata); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if err := s.pools(pools); err != nil {
		return nil, fmt.Errorf("constant pool: %w", err)
	}
	if err := s.events(); err != nil {
		return nil, err
	}
	return &s.chunk, nil
}

// header reads the chunk's header and returns where its constant pools and its
// metadata begin.
func (s *jfrScanner) header() (pools, metadata int, err error) {
	if len(s.b) < jfrHeaderSize {
		return 0, 0, s.errorf("%d bytes where %d are due", len(s.b), jfrHeaderSize)
	}
	u64 := func(at int) uint64 { return binary.BigEndian.Uint64(s.b[at:]) }
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(s.b[at:]) }
	if u32(0) != jfrMagic {
		return 0, 0, s.errorf("%q is not how a recording begins", s.b[:4])
	}
	if major := u32(4) >> 16; major != 2 {
		return 0, 0, s.errorf("version %d.%d is not 2", major, u32(4)&0xffff)
	}
	if u32(64)&1 == 0 {
		return 0, 0, s.errorf("integers are not compressed, which is not supported")
	}
	size, poolsAt, metadataAt := u64(8), u64(16), u64(24)
	switch {
	case size == 0 || poolsAt == 0 || metadataAt == 0:
		return 0, 0, s.errorf("the recording was copied before it ended")
	case size > uint64(len(s.b)) || size < jfrHeaderSize:
		return 0, 0, s.errorf("the chunk has %d bytes, of which %d are there", size, len(s.b))
	case poolsAt < jfrHeaderSize || poolsAt >= size:
		return 0, 0, s.errorf("the constant pool is at %d of %d", poolsAt, size)
	case metadataAt < jfrHeaderSize || metadataAt >= size:
		return 0, 0, s.errorf("the metadata is at %d of %d", metadataAt, size)
	}
	s.chunk.size = int(size)
	s.chunk.begin = min(max(int64(u64(32)), 0), latestSample)
	s.chunk.end = s.chunk.begin + min(max(int64(u64(40)), 0), jfrLongestChunk)
	s.chunk.startTicks, s.chunk.ticks = u64(48), u64(56)
	return int(poolsAt), int(metadataAt), nil
}

// event goes to an event at an offset of the chunk and bounds what follows to
// it.
func (s *jfrScanner) event(at int) (class uint64, err error) {
	s.at, s.end = at, len(s.b)
	size, err := s.long()
	if err != nil {
		return 0, err
	}
	if size > uint64(len(s.b)-at) || size < uint64(s.at-at)+1 {
		return 0, s.errorf("an event of %d bytes where %d are left", size, len(s.b)-at)
	}
	s.end = at + int(size)
	return s.long()
}

// pools walks the constant pools, from the last back to the first.
func (s *jfrScanner) pools(at int) error {
	for {
		if class, err := s.event(at); err != nil {
			return err
		} else if class != 1 {
			return s.errorf("event type %d where 1 is due", class)
		}
		var head [3]uint64 // start, duration, distance to the pools before
		for i := range head {
			var err error
			if head[i], err = s.long(); err != nil {
				return err
			}
		}
		if _, err := s.int(); err != nil { // flags
			return err
		}
		n, err := s.count(2)
		if err != nil {
			return err
		}
		for range n {
			if err := s.pool(); err != nil {
				return err
			}
		}
		distance := int64(head[2])
		if distance == 0 {
			return nil
		}
		before := int64(at) + distance
		if distance > 0 || before < jfrHeaderSize {
			return s.errorf("the pools before those at %d are at %d", at, before)
		}
		// Those before must end before these begin: no loops, no overlaps.
		if _, err := s.event(int(before)); err != nil {
			return err
		}
		if s.end > at {
			return s.errorf("the pools at %d overlap those at %d", before, at)
		}
		at = int(before)
	}
}

// pool walks the constants of one class.
func (s *jfrScanner) pool() error {
	id, err := s.long()
	if err != nil {
		return err
	}
	class := s.chunk.classes[id]
	if class == nil {
		return s.errorf("class %d is unknown", id)
	}
	switch class.Name {
	case "jdk.types.ChunkHeader": // a copy of it, which the parser skips so
		return s.skip(jfrHeaderSize)
	case "boolean", "short", "int", "long":
		return s.errorf("of %s: is not supported", class.Name)
	}
	n, err := s.count(1)
	if err != nil {
		return fmt.Errorf("of %s: %w", class.Name, err)
	}
	if err := s.tally(n); err != nil {
		return err
	}
	for i := range n {
		if _, err := s.long(); err != nil { // the constant's key
			return fmt.Errorf("of %s: [%d]: %w", class.Name, i, err)
		}
		if err := s.value(id, 0); err != nil {
			return fmt.Errorf("of %s: [%d]: %w", class.Name, i, err)
		}
	}
	return nil
}

// events walks all events. Of those that are read, the fields are checked.
func (s *jfrScanner) events() error {
	for at := jfrHeaderSize; at < len(s.b); at = s.end {
		id, err := s.event(at)
		if err != nil {
			return fmt.Errorf("event: %w", err)
		}
		class := s.chunk.classes[id]
		if class == nil {
			continue
		}
		class.events++
		if !jfrRead[class.Name] {
			if s.hasStacktrace(class) {
				class.stacktraces++
			}
			continue
		}
		content := s.b[s.at:s.end]
		if err := s.value(id, 0); err != nil {
			return fmt.Errorf("event %s: %w", class.Name, err)
		}
		if err := s.found(class, content); err != nil {
			return fmt.Errorf("event %s: parse: %w", class.Name, err)
		}
	}
	return nil
}

// found keeps what the parser does not tell of an event.
func (s *jfrScanner) found(class *jfrClass, content []byte) error {
	c := &s.chunk
	if class.Name == "jdk.ActiveSetting" { // may be of before the chunk
		e, err := s.setting(class, content)
		if of := c.classes[e.Id]; of != nil && slices.Contains(jfrSettings, e.Name) && utf8.ValidString(e.Value) {
			c.settings[jfrSetting{of.Name, strings.Clone(e.Name)}] = strings.Clone(e.Value)
		}
		return err
	}
	e, err := s.sample(class, content)
	if err != nil {
		return err
	}
	switch class.Name {
	case jfrNativeMethodSample, jfrCPUTimeSample, jfrCPUTimeSamplesLost:
		c.own = append(c.own, jfrSample{class.Name, e.StartTime, e.StackTrace, e.Weight})
	case jfrWallClockSample:
		c.batches = append(c.batches, e.Weight)
	}
	c.lastTicks = max(c.lastTicks, e.StartTime)
	return nil
}
