package java

import (
	"context"
	"errors"
	"io/fs"
	"runtime/debug"
	"slices"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/collector/untrusted"
)

// stopTimeout bounds what is done in a JVM to end its recording.
const stopTimeout = 10 * time.Second

// A session is the recording of one JVM, from attaching to the removal of all that was
// put into it. It is used by one goroutine.
type session struct {
	source   *Source
	jvm      *tracked
	process  *process
	labels   labels.Labels
	folder   *folder
	recorder recorder
	since    time.Time // when the present window of objects in use began
}

// run records until ctx ends or the JVM does. It returns nil for both, else an *Error.
func (s *session) run(ctx context.Context) error {
	var err error
	if s.folder, err = s.process.openFolder(); err != nil {
		return err
	}
	a := &attachment{process: s.process, guard: &s.source.guard, tmp: s.folder.tmp, signalled: s.jvm.signalled}
	if s.source.library != nil {
		s.recorder = &asyncProfiler{attachment: a, folder: s.folder, library: s.source.library, o: &s.source.o}
	} else {
		s.recorder = &flightRecorder{attachment: a, folder: s.folder, o: &s.source.o}
	}
	err = s.recorder.start(ctx)
	s.jvm.signalled = a.signalled
	if err == nil {
		s.source.recording(s)
		s.since = time.Now()
		err = s.loop(ctx)
		s.source.recorded(s)
	}
	return s.end(ctx, err)
}

// loop reads the recording every interval.
func (s *session) loop(ctx context.Context) error {
	ticks := time.NewTicker(s.source.o.Interval)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
		read := s.recorder.collect
		whole := time.Since(s.since) >= s.source.o.LiveWindow
		if whole {
			read = s.recorder.renew
		}
		if err := read(ctx, s.store); err != nil {
			return err
		}
		if whole {
			s.since = time.Now()
		}
	}
}

// end ends the recording, stores the rest of it, and removes the folder. err is why the
// session ends, which end returns unless the JVM or ctx has ended.
func (s *session) end(ctx context.Context, err error) error {
	stopping := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	alive := s.process.alive()
	var stopErr error
	if alive {
		stopErr = s.recorder.stop(ctx, s.store)
	} else if r, ok := s.recorder.(*asyncProfiler); ok && r.begun {
		// It ends its recording when the JVM ends.
		stopErr = r.take(s.store)
	}
	if errors.Is(stopErr, fs.ErrNotExist) && !s.process.alive() {
		stopErr = nil
	}
	removeErr := s.folder.Remove()
	switch {
	case !alive, stopping:
		if alive && stopErr != nil {
			s.source.log.Warn("recording of a JVM may go on", "pid", s.process.pid, "err", stopErr)
		}
		if removeErr != nil {
			s.source.log.Warn("files in a JVM's /tmp are left", "pid", s.process.pid, "err", removeErr)
		}
		return nil
	case err != nil:
		return err
	}
	return errors.Join(stopErr, removeErr)
}

// store decodes a chunk and stores its profiles. What is wrong with one chunk does not
// end the session.
func (s *session) store(r recorded) {
	err := r.err
	if err == nil {
		s.source.metrics.bytes.Add(float64(len(r.chunk)))
		err = s.decode(r.chunk)
	}
	if err != nil {
		s.source.failed(s.jvm, s.process.pid, because(BadRecording, "read its recording: %w", err))
	}
}

func (s *session) decode(chunk []byte) (err error) {
	defer func() { // of a reader over a stranger's bytes
		if v := recover(); v != nil {
			err = &untrusted.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	ps, err := s.source.o.Decode(Chunk{chunk, s.labels, s.recorder.allocInterval(), s.recorder.oldThreads()})
	if err != nil || len(ps) == 0 {
		return err
	}
	for _, p := range ps {
		if inUse(p.Pprof) {
			// Objects in use at the end of a window were followed from its beginning.
			end := p.Pprof.TimeNanos + p.Pprof.DurationNanos
			p.Pprof.TimeNanos = min(s.since.UnixNano(), end-1)
			p.Pprof.DurationNanos = end - p.Pprof.TimeNanos
		}
	}
	// Profiles of the shutdown are stored too.
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return s.source.o.Appender.Append(ctx, ps)
}

// inUse reports whether a profile has the objects in use.
func inUse(p *googlev1.Profile) bool {
	return slices.ContainsFunc(p.SampleType, func(t *googlev1.ValueType) bool {
		name := p.StringTable[t.Type]
		return name == "live" || name == "live_bytes"
	})
}

// alive reports whether the process still runs.
func (p *process) alive() bool {
	start, err := startOf(p.pid)
	return err == nil && start == p.start
}
