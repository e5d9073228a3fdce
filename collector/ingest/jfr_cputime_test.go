package ingest

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const cpuType = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"

// A sample of CPU time counts its own period, which is in ticks; lost ones show
// with the mean of those, and failed ones as unknown.
func TestJFRCPUTime(t *testing.T) {
	for _, ticks := range []uint64{1e9, 2_500_000_000, 10_000_000} {
		w := jfrWriter{begin: recordedAt, duration: 20 * time.Second, ticks: ticks}
		period := func(d time.Duration) map[string]uint64 { return map[string]uint64{"samplingPeriod": w.inTicks(d)} }
		w.add(jfrCPUTimeSample, time.Second, []string{"a"}, period(10*time.Millisecond))
		w.add(jfrCPUTimeSample, 6*time.Second, []string{"a"}, period(30*time.Millisecond))
		failed := period(20 * time.Millisecond)
		failed["failed"] = 1
		w.add(jfrCPUTimeSample, 6*time.Second, nil, failed)
		w.add(jfrCPUTimeSamplesLost, 11*time.Second, nil, map[string]uint64{"lostSamples": 7})
		w.add(jfrExecutionSample, time.Second, []string{"x"}, nil)
		report := &Report{}
		ps, _, err := JFR(w.bytes(t), nil, undated(recordedAt.Add(time.Minute)), Limits{Report: report})
		require.NoError(t, err)
		assert.Equal(t, []string{
			"1700000000.000+5: Main.a[10000000]",
			"1700000005.000+5: Main.a[30000000], [unknown][20000000]",
			"1700000010.000+5: [lost samples][140000000]",
		}, placed(t, ps, "process_cpu"))
		assert.Equal(t, map[string]int64{cpuType: 200e6}, totals(t, ps))
		assert.Equal(t, int64(20e6), ps[0].Pprof.Period)
		assert.Equal(t, "skipped event jdk.ExecutionSample (1)", report.String())
	}
}

// Where all samples were lost, the setting says what each was.
func TestJFRCPUTimeLost(t *testing.T) {
	for throttle, want := range map[string]int64{"10ms": 10e6, "20 ms": 20e6, "500us": 500e3, "100/s": 10e6, "": 10e6} {
		w := jfrWriter{begin: recordedAt, duration: 2 * time.Second, settings: map[jfrSetting]string{{jfrCPUTimeSample, "throttle"}: throttle}}
		w.add(jfrCPUTimeSamplesLost, time.Second, nil, map[string]uint64{"lostSamples": 3})
		ps, _, err := JFR(w.bytes(t), nil, undated(recordedAt.Add(time.Minute)), Limits{})
		require.NoError(t, err)
		require.Len(t, ps, 1)
		assert.Equal(t, map[string]int64{"[lost samples]": 3 * want}, folded(ps[0].Pprof), throttle)
	}
	w := jfrWriter{begin: recordedAt, duration: 2 * time.Second}
	w.add(jfrCPUTimeSamplesLost, time.Second, nil, map[string]uint64{"lostSamples": 1 << 60})
	_, _, err := JFR(w.bytes(t), nil, undated(recordedAt.Add(time.Minute)), Limits{})
	require.ErrorContains(t, err, "event jdk.CPUTimeSamplesLost: 1152921504606846976 samples of 10000000 ns are too many")
}

// Each chunk's CPU time is of one kind of event.
func TestJFRCPUTimeByChunk(t *testing.T) {
	chunk := func(begin time.Time, enabled string, events ...string) []byte {
		w := jfrWriter{begin: begin, duration: 2 * time.Second, settings: map[jfrSetting]string{
			{jfrCPUTimeSample, "enabled"}: enabled, {jfrExecutionSample, "period"}: "50 ms",
		}}
		for _, e := range events {
			w.add(e, time.Second, []string{"a"}, map[string]uint64{"samplingPeriod": 1e6})
		}
		return w.bytes(t)
	}
	later := recordedAt.Add(2 * time.Second)
	for name, c := range map[string]struct {
		first, second []byte
		want          int64
		report        string
	}{
		"both": {chunk(recordedAt, "true", jfrCPUTimeSample, jfrExecutionSample), chunk(later, "true", jfrCPUTimeSample), 2e6,
			"skipped event jdk.ExecutionSample (1)"},
		"both in one of them":        {chunk(recordedAt, "true", jfrCPUTimeSample), chunk(later, "true", jfrExecutionSample), 1e6, "skipped event jdk.ExecutionSample (1)"},
		"switched on in between":     {chunk(recordedAt, "false", jfrExecutionSample), chunk(later, "true", jfrCPUTimeSample), 51e6, ""},
		"on, but not on this system": {chunk(recordedAt, "true", jfrExecutionSample), chunk(later, "true", jfrExecutionSample), 100e6, ""},
	} {
		report := &Report{}
		ps, _, err := JFR(slices.Concat(c.first, c.second), nil, undated(later), Limits{Report: report})
		require.NoError(t, err)
		assert.Equal(t, map[string]int64{cpuType: c.want}, totals(t, ps), name)
		assert.Equal(t, c.report, report.String(), name)
	}
}

// A recording of which nothing is read is refused by what is in it, unless its
// program was watched for what is read, and idle.
func TestJFRNothingRead(t *testing.T) {
	leaks := []jfrWritten{
		{"jdk.OldObjectSample", time.Second, []string{"a"}, nil}, {"jdk.OldObjectSample", time.Second, []string{"a"}, nil},
		{"jdk.OldObjectSample", time.Second, nil, nil}, {"jdk.CPULoad", time.Second, nil, nil},
	}
	const all = "jdk.OldObjectSample (3), jdk.CPULoad (1)"
	for name, c := range map[string]struct {
		events   []jfrWritten
		settings map[jfrSetting]string
		err      string
		report   string
	}{
		"leaks alone":           {leaks, nil, "jfr: events: there are none of a supported kind, only " + all, ""},
		"no sampler on":         {leaks, map[jfrSetting]string{{jfrExecutionSample, "enabled"}: "false"}, "jdk.OldObjectSample (3), jdk.ActiveSetting (1), jdk.CPULoad (1)", ""},
		"idle":                  {leaks, map[jfrSetting]string{{jfrExecutionSample, "enabled"}: "true"}, "", "skipped event jdk.OldObjectSample (2)"},
		"idle, by JDK 25's":     {leaks, map[jfrSetting]string{{jfrCPUTimeSample, "enabled"}: "true"}, "", "skipped event jdk.OldObjectSample (2)"},
		"about the machine":     {leaks[3:], nil, "", ""},
		"leaks without a stack": {leaks[2:], nil, "", ""},
		"an empty recording":    {nil, nil, "", ""},
		"beside what is read":   {append(slices.Clone(leaks), jfrWritten{"jdk.SocketRead", time.Second, []string{"r"}, nil}, jfrWritten{jfrExecutionSample, time.Second, nil, nil}), nil, "", "skipped event jdk.OldObjectSample (2); skipped event jdk.SocketRead (1)"},
	} {
		w := jfrWriter{begin: recordedAt, duration: 2 * time.Second, events: c.events, settings: c.settings}
		report := &Report{}
		_, _, err := JFR(w.bytes(t), nil, undated(recordedAt.Add(time.Minute)), Limits{Report: report})
		if c.err != "" {
			require.ErrorContains(t, err, c.err, name)
			continue
		}
		require.NoError(t, err, name)
		assert.Equal(t, c.report, report.String(), name)
	}
}
