package record

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"

	"github.com/flameline/flameline/pkg/profile"
)

// SameSignal is the time within which a second SIGINT or SIGTERM is the first one again:
// timeout(1) sends its signal to the program, and then to the process group, of which the
// program is part.
const SameSignal = 100 * time.Millisecond

// Options configure a recording.
type Options struct {
	SessionOptions
	// Duration ends the recording; 0 records until the processes or the command
	// have ended or the context is done.
	Duration time.Duration
	// Include and Exclude choose stacktraces by their functions and files: kept are
	// those that match one of Include, if there are any, and none of Exclude.
	Include, Exclude []*regexp.Regexp
	// Progress, if set, is called about twice a second, by one goroutine at a time.
	Progress func(Progress)
	// Started, if set, is called once sampling has begun, before a command starts.
	Started func()

	// User is who the command runs as; "" is the user who called sudo, or else ours.
	User           string
	Stdin          io.Reader // of the command, as the next two
	Stdout, Stderr io.Writer
}

// A Progress says how far a recording is.
type Progress struct {
	Elapsed time.Duration
	Samples int64
	Cut     int64 // samples whose stacktrace ends early
}

// A Recording is what was sampled.
type Recording struct {
	// Pprof has the sample types samples (count) and cpu (nanoseconds), or blocks and
	// off_cpu, or samples and wall, or alloc_objects and alloc_space with inuse_objects and
	// inuse_space at the end. A stacktrace begins with a frame for its process, if there may be several, and
	// with one for its thread, if threads were asked for.
	Pprof    *googlev1.Profile
	Start    time.Time
	Duration time.Duration
	Samples  int64
	Cut      int64 // samples whose stacktrace ends early, and says why
	LeftOut  int64 // samples that Include and Exclude left out
	Beyond   int64 // samples whose stacktraces were too many, under one frame
	Waiting  int64 // threads that waited all the time, and are not in it, of off-CPU and wall-clock time
	Unseen   int64 // processes that began and may be missing, with Subprocesses
	Name     string
}

// Indexes of a Recording's sample types.
const (
	SampleCount = 0
	SampleValue = 1
)

// Tree returns the call tree of one of the sample types.
func (r *Recording) Tree(sampleType int) *profile.Tree {
	p := r.Pprof
	b := profile.NewBuilder(2 * len(p.Sample))
	names := make([]int32, len(p.Function)+1)
	for _, f := range p.Function {
		names[f.Id] = b.Name(p.StringTable[f.Name])
	}
	for _, s := range p.Sample {
		node := int32(0)
		for i := len(s.LocationId) - 1; i >= 0; i-- {
			lines := p.Location[s.LocationId[i]-1].Line
			for j := len(lines) - 1; j >= 0; j-- {
				node = b.Child(node, names[lines[j].FunctionId])
			}
		}
		b.Add(node, s.Value[sampleType])
	}
	return b.Tree()
}

// ErrNoSamples is wrapped by the error of a recording that has no samples, which
// says why.
var ErrNoSamples = errors.New("no samples")

// A CommandError is a command that could not be started.
type CommandError struct {
	Name     string
	NotFound bool
	Err      error
}

func (e *CommandError) Error() string { return fmt.Sprintf("%s: %v", e.Name, e.Err) }

// Unwrap returns the reason.
func (e *CommandError) Unwrap() error { return e.Err }

// pageBytes are the bytes of a page that page faults are counted in.
const pageBytes = 4096

// countAndValue replaces the sample types of package sample's profiles by those of a
// Recording: a number, and time or bytes. e is what is recorded.
func countAndValue(p *googlev1.Profile, e Event) {
	text := func(s string) int64 {
		p.StringTable = append(p.StringTable, s)
		return int64(len(p.StringTable) - 1)
	}
	if e == Alloc {
		allAllocTypes(p)
		return
	}
	t, counts := e.Type(), "samples"
	switch e {
	case OffCPU:
		counts = "blocks"
	case PageFaults:
		counts = "pages"
	}
	waits, period := len(p.SampleType) > 1, max(p.Period, 1)
	if e == PageFaults {
		period = pageBytes
	}
	if t.PeriodType == "" {
		p.PeriodType, p.Period = nil, 0
	}
	p.SampleType = []*googlev1.ValueType{{Type: text(counts), Unit: text("count")}, {Type: text(t.SampleType), Unit: text(t.SampleUnit)}}
	for _, s := range p.Sample {
		if waits {
			s.Value = []int64{s.Value[1], s.Value[0]}
		} else {
			s.Value = []int64{s.Value[0] / period, s.Value[0]}
		}
	}
}

// isInUse reports whether a profile of package sample is of the memory in use.
func isInUse(p *googlev1.Profile) bool {
	return len(p.SampleType) > 1 && p.StringTable[p.SampleType[0].Type] == "inuse_objects"
}

// allocTypes are the sample types of a recording of allocations, as Go's heap profiles
// have them.
var allocTypes = [...]struct{ name, unit string }{{"alloc_objects", "count"}, {"alloc_space", "bytes"}, {"inuse_objects", "count"}, {"inuse_space", "bytes"}}

// allAllocTypes replaces the sample types of a profile of allocations, or of memory in use,
// by all of them.
func allAllocTypes(p *googlev1.Profile) {
	at := 0
	if isInUse(p) {
		at = 2
	}
	p.SampleType = nil
	for _, t := range allocTypes {
		p.StringTable = append(p.StringTable, t.name, t.unit)
		n := int64(len(p.StringTable))
		p.SampleType = append(p.SampleType, &googlev1.ValueType{Type: n - 2, Unit: n - 1})
	}
	for _, s := range p.Sample {
		v := make([]int64, len(allocTypes))
		copy(v[at:], s.Value)
		s.Value = v
	}
}

// snapshots are the last profiles of the memory that each process has in use: what is in
// use is not added up over time.
type snapshots map[string][]profile.Profile // by PID

// take takes a profile in place of older ones of its process, which has several with one
// time if threads are told apart.
func (s *snapshots) take(p profile.Profile) {
	if *s == nil {
		*s = snapshots{}
	}
	pid := p.Labels.Get(LabelPID)
	if old := (*s)[pid]; len(old) > 0 && old[0].Pprof.TimeNanos != p.Pprof.TimeNanos {
		if old[0].Pprof.TimeNanos > p.Pprof.TimeNanos {
			return
		}
		delete(*s, pid)
	}
	(*s)[pid] = append((*s)[pid], p)
}

// last returns them, less what is zero.
func (s snapshots) last() (ps []profile.Profile) {
	for _, pid := range slices.Sorted(maps.Keys(s)) {
		for _, p := range s[pid] {
			p.Pprof.Sample = slices.DeleteFunc(p.Pprof.Sample, func(s *googlev1.Sample) bool { return s.Value[1] == 0 })
			ps = append(ps, p)
		}
	}
	return ps
}

// rootFrames are the frames that begin the stacktraces of a process or thread.
func rootFrames(processes, threads bool, name, pid, thread, tid string) (frames []string) {
	if processes {
		frames = append(frames, name)
	}
	if threads {
		if processes {
			frames[0] = fmt.Sprintf("%s (%s)", name, pid)
		}
		if tid == "" { // time of a wait that was measured and not sampled
			frames = append(frames, "[unknown thread]")
		} else {
			frames = append(frames, fmt.Sprintf("%s (%s)", thread, tid))
		}
	}
	return frames
}

// A Cut is why stacktraces end early.
type Cut struct {
	Reason  string // such as "new process"
	Samples int64
}

// Cuts returns why stacktraces end early, the commonest reason first.
func (r *Recording) Cuts() []Cut {
	counts := map[string]int64{}
	p := r.Pprof
	for _, s := range p.Sample {
		for _, id := range s.LocationId {
			for _, ln := range p.Location[id-1].Line {
				if reason, ok := strings.CutPrefix(p.StringTable[p.Function[ln.FunctionId-1].Name], cutMark); ok {
					counts[strings.Trim(reason, ": ]")] += s.Value[SampleCount]
				}
			}
		}
	}
	var cuts []Cut
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		cuts = append(cuts, Cut{Reason: reason, Samples: counts[reason]})
	}
	slices.SortStableFunc(cuts, func(a, b Cut) int { return cmp.Compare(b.Samples, a.Samples) })
	return cuts
}

// unnamed matches a frame of a binary without symbols, such as libx.so+0x12ab.
var unnamed = regexp.MustCompile(`\+0x[0-9a-f]+$`)

// Unnamed returns how many samples were in a function without a name.
func (r *Recording) Unnamed() (n int64) {
	p := r.Pprof
	for _, s := range p.Sample {
		if len(s.LocationId) == 0 {
			continue
		}
		if ln := p.Location[s.LocationId[0]-1].Line; len(ln) > 0 && unnamed.MatchString(p.StringTable[p.Function[ln[0].FunctionId-1].Name]) {
			n += s.Value[SampleCount]
		}
	}
	return n
}
