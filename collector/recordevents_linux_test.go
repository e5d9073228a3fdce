package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Sleeps are off-CPU time, and both kinds of time together the time of the clock.
func TestLiveRecordOffCPU(t *testing.T) {
	requireSampling(t)
	dir := t.TempDir()
	script := filepath.Join(dir, "nap.py")
	require.NoError(t, os.WriteFile(script, []byte(`
import time
def nap():
    time.sleep(0.1)
def work():
    end = time.monotonic() + 0.05
    while time.monotonic() < end: pass
while True:
    nap()
    work()
`), 0o600))
	napper := background(t, requireTool(t, "python3", "python3"), script)
	time.Sleep(time.Second)
	sum := func(event string, frames ...string) float64 {
		r := runTool(t, dir, nil, "record", "-p", pidOf(napper), "-d", "4", "-e", event, "-o", "out.pb.gz")
		require.Zero(t, r.code)
		p := readPprof(t, filepath.Join(dir, "out.pb.gz"))
		var found float64
		for _, s := range p.Sample {
			names := map[string]bool{}
			for _, l := range s.Location {
				for _, ln := range l.Line {
					names[ln.Function.Name] = true
				}
			}
			has := true
			for _, f := range frames {
				has = has && names[f]
			}
			if has {
				found += float64(s.Value[1])
			}
		}
		return found / float64(p.DurationNanos)
	}
	require.InDelta(t, 1, sum("wall"), 0.05)
	slept := sum("off-cpu", "nap", "[sleep]")
	require.Less(t, slept, 0.75)
	require.Greater(t, slept, 0.3)
	require.Less(t, sum("cpu", "nap"), 0.1)
}

// A program that grows by 100 MiB is found by its page faults.
func TestLiveRecordPageFaults(t *testing.T) {
	requireSampling(t)
	dir := t.TempDir()
	source := filepath.Join(dir, "grow.c")
	require.NoError(t, os.WriteFile(source, []byte(`
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
__attribute__((noinline)) void grow(void)
{
	for (int i = 0; i < 100; i++) {
		memset(malloc(1 << 20), 1, 1 << 20);
		usleep(10000);
	}
}
int main(void) { grow(); return 0; }
`), 0o600))
	bin := filepath.Join(dir, "grow")
	runBuild(t, requireTool(t, "gcc", "gcc and libc6-dev"), "-O1", "-o", bin, source)
	r := runTool(t, dir, nil, "record", "-e", "page-faults", "-o", "out.pb.gz", "--", bin)
	require.Zero(t, r.code)
	p := readPprof(t, filepath.Join(dir, "out.pb.gz"))
	require.Equal(t, "page_faults", p.DefaultSampleType)
	require.Equal(t, "bytes", p.SampleType[1].Unit)
	require.InDelta(t, 100<<20, sumOf(p, 1), 5<<20)
	require.InDelta(t, sumOf(p, 1)/4096, sumOf(p, 0), 100)
}

// buildHeap builds a program that allocates once somebody listens: 70 MiB in much and 30 MiB
// in little, a MiB each time, of which it frees 20 MiB of much's.
func buildHeap(t *testing.T, dir string) string {
	source := filepath.Join(dir, "heap.c")
	require.NoError(t, os.WriteFile(source, []byte(`
#include <stdlib.h>
#include <unistd.h>
#include "probes.h"
static void *taken[70];
__attribute__((noinline)) void *take(void)
{
	void *p = malloc(1 << 20);
	probe_alloc(p, 1 << 20, 1 << 20);
	return p;
}
__attribute__((noinline)) void much(void) { for (int i = 0; i < 70; i++) taken[i] = take(); }
__attribute__((noinline)) void little(void) { for (int i = 0; i < 30; i++) take(); }
__attribute__((noinline)) void give(void) { for (int i = 0; i < 20; i++) { probe_free(taken[i]); free(taken[i]); } }
int main(void)
{
	while (!otel_memory_alloc_semaphore)
		usleep(1000);
	much();
	little();
	give();
	return 0;
}
`), 0o600))
	headers, err := filepath.Abs("sample/testdata/alloc")
	require.NoError(t, err)
	bin := filepath.Join(dir, "heap")
	runBuild(t, requireTool(t, "gcc", "gcc and libc6-dev"), "-O1", "-fno-optimize-sibling-calls", "-DSEMAPHORES", "-I", headers, "-o", bin, source)
	return bin
}

// A recording of allocations has what was allocated, and what was in use at the end.
func TestLiveRecordAlloc(t *testing.T) {
	requireSampling(t)
	dir := t.TempDir()
	cmd := background(t, buildHeap(t, dir))
	r := runTool(t, dir, nil, "doctor", "--pid", pidOf(cmd))
	require.Contains(t, r.stdout, "heap has the probes otel_memory:alloc and otel_memory:free")
	r = runTool(t, dir, nil, "record", "-e", "alloc", "-p", pidOf(cmd), "-d", "60", "-o", "out.pb.gz")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stderr, "100 objects of heap")
	p := readPprof(t, filepath.Join(dir, "out.pb.gz"))
	require.Equal(t, "alloc_space", p.DefaultSampleType)
	require.Equal(t, "space", p.PeriodType.Type)
	of := func(function string) (sums [4]int64) {
		for _, s := range p.Sample {
			for _, l := range s.Location {
				for _, ln := range l.Line {
					if ln.Function.Name == function {
						for i := range sums {
							sums[i] += s.Value[i]
						}
					}
				}
			}
		}
		return sums
	}
	require.Len(t, p.SampleType, 4)
	require.Equal(t, "inuse_space", p.SampleType[3].Type)
	require.Equal(t, [4]int64{70, 70 << 20, 50, 50 << 20}, of("much"))
	require.Equal(t, [4]int64{30, 30 << 20, 30, 30 << 20}, of("little"))
	require.Equal(t, [4]int64{100, 100 << 20, 80, 80 << 20}, of("main"), "stacktraces are whole")
}

// A process whose allocator reports nothing is named, and what to do about it.
func TestLiveRecordAllocWithoutProbes(t *testing.T) {
	requireSampling(t)
	cmd := background(t, requireTool(t, "sleep", "coreutils"), "100")
	r := runTool(t, t.TempDir(), nil, "record", "-e", "alloc", "-p", pidOf(cmd), "-d", "1")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "allocations of process "+pidOf(cmd)+" cannot be recorded: no file that it maps has the probe otel_memory:alloc")
	require.Contains(t, r.stderr, "libdd-profiling-heap-allocator")
	r = runTool(t, t.TempDir(), nil, "record", "-e", "alloc", "--", "sleep", "1")
	require.Equal(t, 125, r.code)
	require.Contains(t, r.stderr, "no file that it maps has the probe otel_memory:alloc")
	r = runTool(t, t.TempDir(), nil, "doctor", "--pid", pidOf(cmd))
	require.Contains(t, r.stdout, "no file that it maps has the probe otel_memory:alloc")
}
