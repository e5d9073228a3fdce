package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flameline/flameline/collector/sample"
	"github.com/flameline/flameline/pkg/profile"
)

// progressEvery is how often Progress is called.
const progressEvery = 500 * time.Millisecond

// A recorder collects the profiles of a session.
type recorder struct {
	o Options

	mu    sync.Mutex
	merge *merger
	names map[string]bool // of processes
	inUse snapshots       // of allocations
}

// take adds the profiles of a second.
func (r *recorder) take(ps []profile.Profile) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range ps {
		name := p.Labels.Get(LabelComm)
		r.names[name] = true
		if r.o.Event == Alloc && isInUse(p.Pprof) {
			r.inUse.take(p)
			continue
		}
		r.add(p)
	}
}

// add merges a profile.
func (r *recorder) add(p profile.Profile) {
	countAndValue(p.Pprof, r.o.Event)
	r.merge.add(p.Pprof, rootFrames(!r.o.Selection.One(), r.o.Threads, p.Labels.Get(LabelComm), p.Labels.Get(LabelPID),
		p.Labels.Get(sample.LabelThreadName), p.Labels.Get(sample.LabelThreadID))...)
}

func (r *recorder) progress(elapsed time.Duration) Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Progress{Elapsed: elapsed, Samples: r.merge.total(), Cut: r.merge.cut}
}

// Run records, and returns what was recorded when the duration is over, ctx is done,
// or the processes or the command have ended. The command, if there is one, is
// returned as soon as it was started, also with an error: it may still run, and the
// caller waits for it. The error wraps ErrNoSamples if nothing was sampled.
func Run(ctx context.Context, o Options) (*Recording, *Command, error) {
	var command *Command
	if len(o.Selection.Command) > 0 {
		var err error
		if command, err = prepare(o); err != nil {
			return nil, nil, err
		}
	}
	r := &recorder{o: o, merge: newMerger(o.Include, o.Exclude), names: map[string]bool{}}
	session, err := Start(ctx, o.SessionOptions, r.take)
	if err != nil && ctx.Err() != nil {
		if command != nil {
			return nil, nil, fmt.Errorf("interrupted before sampling began: %s was not started", o.Selection.Command[0])
		}
		return nil, nil, errors.New("interrupted before sampling began: nothing was recorded")
	}
	if err != nil {
		return nil, nil, err
	}
	if o.Started != nil {
		o.Started()
	}
	if command != nil {
		if err := session.startCommand(ctx, command); err != nil {
			return nil, nil, errors.Join(err, session.Close())
		}
	}
	start := session.Began()
	if command != nil {
		start = time.Now()
	}
	watched := session.members.now()
	before := cpuTicks(watched)
	var waiting map[int]uint64
	if o.Event.offCPU() {
		waiting = switchesOf(watched)
	}
	end := r.wait(ctx, session, command, start)
	took := time.Since(start)
	var stay int64
	if o.Event.offCPU() {
		stay = stayed(waiting, switchesOf(watched))
	}
	idle := o.Selection.PIDs != nil && cpuTicks(watched) == before
	err = session.Close()

	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.inUse.last() {
		r.add(p)
	}
	rec := &Recording{
		Pprof: r.merge.out, Start: start, Duration: took,
		Samples: r.merge.total(), Cut: r.merge.cut, LeftOut: r.merge.leftOut, Beyond: r.merge.beyond,
		Name: r.name(), Waiting: stay,
	}
	if session.family != nil {
		rec.Unseen = int64(session.family.lost)
	}
	rec.Pprof.TimeNanos, rec.Pprof.DurationNanos = start.UnixNano(), int64(took)
	if len(rec.Pprof.SampleType) > SampleValue {
		rec.Pprof.DefaultSampleType = rec.Pprof.SampleType[SampleValue].Type
	}
	if err != nil {
		return nil, command, err
	}
	if end == endFailed && len(rec.Pprof.Sample) == 0 {
		return nil, command, errors.New("sampling ended by itself: the unwinder broke down; `flameline doctor` says what this system allows")
	}
	if len(rec.Pprof.Sample) == 0 {
		return nil, command, fmt.Errorf("%w of %s in %v: %s", ErrNoSamples, o.Selection, took.Round(10*time.Millisecond), r.why(rec, session, end, idle))
	}
	return rec, command, nil
}

// An ending says why a recording ended.
type ending int

const (
	endDuration ending = iota
	endAsked           // by ctx or a signal
	endProcesses
	endCommand
	endFailed
)

// wait returns when the recording is to end.
func (r *recorder) wait(ctx context.Context, s *Session, c *Command, start time.Time) ending {
	var over <-chan time.Time
	if r.o.Duration > 0 {
		timer := time.NewTimer(time.Until(start.Add(r.o.Duration)))
		defer timer.Stop()
		over = timer.C
	}
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	asked := ctx.Done()
	var exited, given <-chan struct{}
	if c != nil {
		// A signal goes to the command, which may have things to do before it ends.
		asked, exited, given = nil, c.exited, c.insisted
	}
	for {
		select {
		case <-over:
			return endDuration
		case <-asked:
			return endAsked
		case <-given:
			return endAsked
		case <-s.Ended():
			return endProcesses
		case <-exited:
			return endCommand
		case <-s.Failed():
			return endFailed
		case <-tick.C:
			if r.o.Progress != nil {
				r.o.Progress(r.progress(time.Since(start)))
			}
		}
	}
}

// name names what was recorded, for titles and files.
func (r *recorder) name() string {
	if s := r.o.Selection; s.All || s.Container != "" || s.CGroup != "" || len(r.names) != 1 {
		return s.String()
	}
	for name := range r.names {
		return name
	}
	return ""
}

// why says why there are no samples and what to do.
func (r *recorder) why(rec *Recording, s *Session, end ending, idle bool) string {
	sel := r.o.Selection
	switch {
	case rec.LeftOut > 0:
		return fmt.Sprintf("--include and --exclude left out all %d of them", rec.LeftOut)
	case (sel.Comm != nil || sel.CGroup != "") && len(s.members.now()) == 0 && len(s.members.seen) == 0:
		return "no process matches; `ps -eo pid,comm,cgroup` shows names and control groups"
	case sel.Comm == nil && sel.CGroup == "" && r.o.Event == OffCPU:
		return "none of its threads left a CPU meanwhile; waits that began before the recording and lasted longer are not seen"
	case r.o.Event == Alloc && !s.source.AllocationsFound():
		return noProbes
	case r.o.Event == Alloc:
		return "its allocator, which reports samples, reported none meanwhile: it allocated less than one sample stands for, usually 512 KiB, or before the program was known"
	case sel.Comm == nil && sel.CGroup == "" && r.o.Event == PageFaults:
		return "it got no memory from the kernel meanwhile: what it has it had before, or it takes it from memory that it gave back to its own allocator"
	case end == endCommand || end == endProcesses:
		hint := ""
		if !sel.Subprocesses {
			hint = ", or work that is done in child processes needs --subprocesses"
		}
		return fmt.Sprintf("it used less CPU time than one sample stands for (%v); a higher -F sees more of it%s", r.period(), hint)
	case idle && len(sel.PIDs) > 0:
		return "it used no CPU time" + r.states() + "; -e off-cpu shows what waiting threads wait for, and --subprocesses adds child processes"
	case end == endAsked:
		return "the recording ended before one was taken"
	}
	hint := ""
	if len(sel.Command) > 0 && !sel.Subprocesses {
		hint = "; work that is done in child processes needs --subprocesses"
	}
	return fmt.Sprintf("less CPU time was used than one sample stands for (%v): record for longer with -d, or more often with -F%s", r.period(), hint)
}

func (r *recorder) period() time.Duration {
	if r.o.FrequencyHz <= 0 {
		return time.Second / sample.DefaultFrequency
	}
	return time.Second / time.Duration(r.o.FrequencyHz)
}

// stateNames are the states of threads in /proc/PID/stat.
var stateNames = map[byte]string{
	'S': "it waits", 'D': "it waits for a disk or a file system", 'T': "it is stopped by a signal", 't': "it is stopped by a debugger", 'I': "it is idle",
}

// states says in which states the chosen processes are.
func (r *recorder) states() string {
	var found []string
	for _, pid := range r.o.Selection.PIDs {
		if s, err := stateOf(pid); err == nil && stateNames[s.state] != "" && !slices.Contains(found, stateNames[s.state]) {
			found = append(found, stateNames[s.state])
		}
	}
	if len(found) == 0 {
		return ""
	}
	return " (" + strings.Join(found, ", ") + ")"
}
