package java

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/flameline/flameline/pkg/profile"
)

// OptOut is the variable in a process' environment that, with the value off, keeps this
// package from touching the process.
const OptOut = "FLAMELINE_JAVA"

// An Appender stores profiles, and returns once they are safe.
type Appender interface {
	Append(ctx context.Context, ps []profile.Profile) error
}

// A Chunk is a finished part of a recording, as the JVM has written it.
type Chunk struct {
	Data   []byte
	Labels labels.Labels // of the process
	// AllocInterval is the mean number of allocated bytes between two samples, 0 where
	// samples have weights of their own.
	AllocInterval int64
	// OldThreads are the threads, by their number in the JVM's PID namespace, that ran
	// before the recording and have no sample of an allocation yet. The weight of their
	// first one includes what they allocated before. Decode deletes threads from it.
	OldThreads map[uint64]bool
}

// Options configure a Source. Appender, Labels and Decode are required.
type Options struct {
	Appender Appender
	// Labels returns the labels of a process.
	Labels func(pid int) labels.Labels
	// Decode reads one finished chunk of a recording.
	Decode func(Chunk) ([]profile.Profile, error)

	// Selector chooses JVMs by their labels; nil chooses all.
	Selector []*labels.Matcher
	// AsyncProfiler is the path of libasyncProfiler.so on this machine. If it is empty,
	// the JDK's flight recorder records.
	AsyncProfiler string
	// Interval is the time between two readings of a recording; 0 is 60 s.
	Interval time.Duration
	// AllocInterval is the mean number of allocated bytes between two samples of
	// async-profiler; 0 is 512 KiB.
	AllocInterval int64
	// LockThreshold is the least time that a thread has waited for a lock that is
	// recorded; 0 is 10 ms.
	LockThreshold time.Duration
	// LiveWindow is how long allocated objects are followed to find out which are still
	// in use, which takes async-profiler; 0 is 10 minutes.
	LiveWindow time.Duration
	// AllocRate is how many allocations per second the flight recorder of JDK 16 and later
	// samples at most; 0 is 150. What it leaves out is in the weight of the next sample, so
	// a few samples have much of what a JVM allocates that would give more.
	AllocRate int
	// MaxProcesses bounds the JVMs that are attached at once; 0 is 64.
	MaxProcesses int
	// MaxChunkBytes bounds one chunk of a recording; 0 is 32 MiB.
	MaxChunkBytes int64
	// Rescan is the time between two searches for JVMs; 0 is 15 s. JVMs that are younger
	// than MinAge, 0 for 10 s, are left to the next search.
	Rescan, MinAge time.Duration

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil registers nothing
}

// setDefaults replaces zero values.
func (o *Options) setDefaults() {
	o.Interval = cmp.Or(o.Interval, time.Minute)
	o.AllocInterval = cmp.Or(o.AllocInterval, 512<<10)
	o.LockThreshold = cmp.Or(o.LockThreshold, 10*time.Millisecond)
	o.LiveWindow = cmp.Or(o.LiveWindow, 10*time.Minute)
	o.AllocRate = cmp.Or(o.AllocRate, 150)
	o.MaxProcesses = cmp.Or(o.MaxProcesses, 64)
	o.MaxChunkBytes = cmp.Or(o.MaxChunkBytes, 32<<20)
	o.Rescan = cmp.Or(o.Rescan, 15*time.Second)
	o.MinAge = cmp.Or(o.MinAge, 10*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}
