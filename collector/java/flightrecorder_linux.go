package java

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// recordingOurs is the name of our flight recordings.
	recordingOurs = "flameline"
	settingsName  = "settings.jfc"
	dumpName      = "recording.jfr"
	// maxKept bounds what the JVM keeps of a recording on its disk.
	maxKept = "64m"
)

// flightRecorder records with the JDK's own flight recorder.
type flightRecorder struct {
	*attachment
	folder *folder
	o      *Options

	begun  bool
	old    map[uint64]bool
	latest uint64    // when the last chunk that was read began, in ns since 1970
	until  time.Time // when the last chunk that was read ended
}

func (r *flightRecorder) allocInterval() int64 { return 0 }

func (r *flightRecorder) oldThreads() map[uint64]bool { return r.old }

func (r *flightRecorder) start(ctx context.Context) error {
	if err := r.folder.removeFiles(); err != nil {
		return &Error{NoFolder, err}
	}
	reply, err := r.jcmd(ctx, "VM.version")
	if err != nil {
		return err
	}
	jdk := reply.jdk()
	if jdk == 0 {
		return because(Refused, "its version is unknown: %s", reply.quote())
	}
	if reply, err = r.jcmd(ctx, "JFR.check"); err != nil {
		return err
	}
	names := reply.recordings()
	if i := slices.IndexFunc(names, func(n string) bool { return n != recordingOurs }); i >= 0 {
		return because(OtherRecording, "the flight recording %q runs in it, to which ours would add events; it is recorded once that has ended", names[i])
	}
	for range names { // of a collector that crashed
		if _, err := r.jcmd(ctx, "JFR.stop name="+recordingOurs); err != nil {
			return err
		}
	}
	if err := r.folder.write(settingsName, 0o400, flightSettings(jdk, r.o.LockThreshold, r.o.AllocRate)); err != nil {
		return err
	}
	r.old = r.threads()
	reply, err = r.jcmd(ctx, fmt.Sprintf("JFR.start name=%s settings=%s/%s disk=true maxage=%ds maxsize=%s",
		recordingOurs, r.folder.path, settingsName, int(2*r.o.Interval/time.Second)+60, maxKept))
	if err != nil {
		return err
	}
	if !strings.Contains(reply.text, "Started recording") {
		return because(Refused, "the flight recorder does not start: %s", reply.quote())
	}
	r.begun = true
	return nil
}

// jcmd has the JVM execute a diagnostic command.
func (r *flightRecorder) jcmd(ctx context.Context, command string) (answer, error) {
	reply, err := r.command(ctx, "jcmd", command)
	if err == nil && reply.code != 0 {
		err = because(Refused, "command %q: %s; java.async_profiler can record JVMs without a flight recorder", strings.Fields(command)[0], reply.quote())
	}
	return reply, err
}

// collect has the JVM end its chunk and write those that end after the last one that was
// read. The last one is among them if clocks agree, and is known by its beginning.
func (r *flightRecorder) collect(ctx context.Context, take func(recorded)) error {
	command := fmt.Sprintf("JFR.dump name=%s filename=%s/%s", recordingOurs, r.folder.path, dumpName)
	if !r.until.IsZero() {
		command += " begin=" + r.until.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	reply, err := r.jcmd(ctx, command)
	if err != nil {
		return err
	}
	if !strings.Contains(reply.text, "Dumped recording") {
		return because(Refused, "the flight recorder does not write: %s", reply.quote())
	}
	_, err = r.folder.readChunks(r.guard, dumpName, 0, r.o.MaxChunkBytes, r.wanted, take)
	return errors.Join(err, r.folder.remove(dumpName))
}

// wanted reports whether a chunk is later than all before.
func (r *flightRecorder) wanted(c chunk) bool {
	if c.begin <= r.latest {
		return false
	}
	r.latest = c.begin
	r.until = time.Unix(0, int64(c.begin+c.length))
	return true
}

// renew does nothing: the flight recorder keeps what is in use to itself.
func (r *flightRecorder) renew(context.Context, func(recorded)) error { return nil }

func (r *flightRecorder) stop(ctx context.Context, take func(recorded)) error {
	if !r.begun {
		return nil
	}
	err := r.collect(ctx, take)
	_, e := r.jcmd(ctx, "JFR.stop name="+recordingOurs)
	r.begun = e != nil
	return errors.Join(err, e)
}
