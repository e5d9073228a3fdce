package ingest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

var recordedAt = time.Unix(1_700_000_001, 0)

// undated is a push that does not say when its profile was.
func undated(received time.Time) Push {
	m := shop
	m.From, m.Until = received, received
	return m
}

// placed lists profiles of a type: begin and length in seconds, for windows
// without their first millisecond, and the values by stack.
func placed(t testing.TB, ps []profile.Profile, name string) []string {
	t.Helper()
	var out []string
	for _, p := range ps {
		if p.Labels.Get("__name__") != name {
			continue
		}
		require.NoError(t, check(p.Pprof, Limits{}))
		begin := p.Pprof.TimeNanos
		if (begin-1e6)%windowLength == 0 {
			begin -= 1e6
		}
		var stacks []string
		for i, s := range p.Pprof.Sample {
			one := emptied(p.Pprof)
			one.Sample = p.Pprof.Sample[i : i+1]
			for stack := range folded(one) {
				stacks = append(stacks, fmt.Sprint(stack, s.Value))
			}
		}
		slices.Sort(stacks)
		out = append(out, fmt.Sprintf("%.3f+%.3g: %s", float64(begin)/1e9, float64(p.Pprof.DurationNanos)/1e9, strings.Join(stacks, ", ")))
	}
	return out
}

// phases25 is a recording of a Temurin 25.0.3, of a program that computes in
// early for 3 s, is parked in rest for 7 s and computes in late for 2 s:
//
//	settings=none,+jdk.CPUTimeSample#enabled=true,+jdk.CPUTimeSample#throttle=20ms,
//	+jdk.CPUTimeSamplesLost#enabled=true,+jdk.ExecutionSample#enabled=true,
//	+jdk.ExecutionSample#period=50ms,+jdk.ThreadPark#enabled=true,
//	+jdk.ThreadPark#threshold=1s,+jdk.ThreadPark#stackTrace=true, and some others
//
// What is wanted is from `jfr print --json` of that JDK.
func TestJFRPlacesEvents(t *testing.T) {
	raw := recorded(t, "phases25")
	report := &Report{}
	ps, _, err := JFR(raw, nil, undated(time.Unix(1_795_883_700, 0)), Limits{Report: report})
	require.NoError(t, err)
	sums := map[string]int64{}
	for _, p := range ps {
		name := p.Labels.Get("__name__")
		assert.Equal(t, int64(5e9), p.Pprof.DurationNanos)
		for stack, v := range folded(p.Pprof) {
			if name == "process_cpu" {
				sums[fmt.Sprint(name, p.Pprof.TimeNanos)] += v
				for _, phase := range []string{"Phases.early", "Phases.late"} {
					if strings.Contains(stack, phase) {
						sums[fmt.Sprint(phase, p.Pprof.TimeNanos)] += v
					}
				}
			}
		}
		for _, s := range p.Pprof.Sample {
			if name == "block" {
				sums[fmt.Sprint("parked", p.Pprof.TimeNanos)] += s.Value[1]
				sums["parks"] += s.Value[0]
			}
		}
	}
	assert.Equal(t, map[string]int64{
		"process_cpu1795883680001000000": 55 * 20e6, "process_cpu1795883685001000000": 12 * 20e6, "process_cpu1795883690001000000": 99 * 20e6,
		"Phases.early1795883680001000000": 55 * 20e6, "Phases.early1795883685001000000": 12 * 20e6, "Phases.late1795883690001000000": 99 * 20e6,
		// From 16:34:45.481183609 for 7.000099342 s.
		"parked1795883685001000000": 4_518_816_391, "parked1795883690001000000": 2_481_282_951, "parks": 1,
	}, sums)
	assert.Equal(t, "skipped event jdk.ExecutionSample (89); skipped event jdk.JavaExceptionThrow (5); skipped event jdk.ThreadSleep (1)", report.String())
}

// Ticks are of other lengths than a nanosecond; an event on the border of two
// windows belongs to the earlier one.
func TestJFRWindows(t *testing.T) {
	for _, ticks := range []uint64{1e9, 2_496_000_000, 10_000_000} {
		w := jfrWriter{begin: recordedAt, duration: 60 * time.Second, ticks: ticks}
		w.add(jfrExecutionSample, 0, []string{"a", "main"}, nil)                                                         // 1_700_000_001
		w.add(jfrExecutionSample, 4*time.Second, []string{"a", "main"}, nil)                                             // …005
		w.add(jfrExecutionSample, 4*time.Second+time.Millisecond, []string{"b"}, nil)                                    // …005.001
		w.add(jfrExecutionSample, 50*time.Second, []string{"a", "main"}, nil)                                            // …051
		w.add(jfrExecutionSample, 5*time.Second, nil, nil)                                                               // …006
		w.add("jdk.ThreadPark", 2*time.Second, []string{"p"}, map[string]uint64{"duration": w.inTicks(8 * time.Second)}) // …003 to …011
		w.add(jfrWallClockSample, 9*time.Second, []string{"w"}, map[string]uint64{"samples": 100, "timeSpan": w.inTicks(4 * time.Second)})
		ps, _, err := JFR(w.bytes(t), nil, undated(recordedAt.Add(time.Minute)), Limits{})
		require.NoError(t, err)
		assert.Equal(t, []string{
			"1700000000.000+5: Main.main;Main.a[20000000]",
			"1700000005.000+5: Main.b[10000000], [unknown][10000000]",
			"1700000050.000+5: Main.main;Main.a[10000000]",
		}, placed(t, ps, "process_cpu"))
		assert.Equal(t, []string{
			"1700000000.000+5: Main.p[1 2000000000]", "1700000005.000+5: Main.p[0 5000000000]", "1700000010.000+5: Main.p[0 1000000000]",
		}, placed(t, ps, "block"))
		assert.Equal(t, []string{"1700000010.000+5: Main.w[5000000000]"}, placed(t, ps, "wall"), "100 samples of 50 ms, from …010 to …014")
	}
}

// stamped lists the samples of profiles of a type by the times that they keep, in ms since
// recordedAt; "-" are those that keep none.
func stamped(t testing.TB, ps []profile.Profile, name string) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	for _, p := range ps {
		require.NoError(t, check(p.Pprof, Limits{}))
		for _, s := range p.Pprof.Sample {
			at := "-"
			for _, l := range s.Label {
				if p.Pprof.StringTable[l.Key] == profile.LabelSampleTime {
					at = fmt.Sprint((l.Num - recordedAt.UnixNano()) / 1e6)
					require.True(t, l.Num > p.Pprof.TimeNanos-1e6 && l.Num <= p.Pprof.TimeNanos-1e6+p.Pprof.DurationNanos, "in its profile's window")
				}
			}
			if p.Labels.Get("__name__") == name {
				out[at] += s.Value[len(s.Value)-1]
			}
		}
	}
	return out
}

// Samples keep the end of the 20 ms that they were taken in, also those of short recordings;
// what lasts longer keeps no time.
func TestJFRKeepsTimes(t *testing.T) {
	w := jfrWriter{begin: recordedAt, duration: 60 * time.Second, ticks: 1e9}
	w.add(jfrExecutionSample, 0, []string{"a", "main"}, nil)
	w.add(jfrExecutionSample, 21*time.Millisecond, []string{"a", "main"}, nil)
	w.add(jfrExecutionSample, 39*time.Millisecond, []string{"a", "main"}, nil)
	w.add(jfrExecutionSample, 39*time.Millisecond, []string{"b"}, nil)
	w.add(jfrExecutionSample, 50*time.Second, []string{"a", "main"}, nil)
	w.add("jdk.ThreadPark", 2*time.Second, []string{"p"}, map[string]uint64{"duration": w.inTicks(time.Second)})
	w.add("jdk.ThreadPark", 2*time.Second, []string{"p"}, map[string]uint64{"duration": w.inTicks(8 * time.Millisecond)})
	push := undated(recordedAt.Add(time.Minute))
	ps, _, err := JFR(w.bytes(t), nil, push, Limits{SampleTimes: true})
	require.NoError(t, err)
	assert.Equal(t, map[string]int64{"0": 10e6, "40": 30e6, "50000": 10e6}, stamped(t, ps, "process_cpu"))
	assert.Equal(t, map[string]int64{"2000": 0, "2020": 8e6, "-": 1e9}, stamped(t, ps, "block"))
	without, _, err := JFR(w.bytes(t), nil, push, Limits{})
	require.NoError(t, err)
	assert.Equal(t, map[string]int64{"-": 50e6}, stamped(t, without, "process_cpu"))

	short := jfrWriter{begin: recordedAt, duration: 2 * time.Second, ticks: 1e9}
	short.add(jfrExecutionSample, 1010*time.Millisecond, []string{"a"}, nil)
	ps, _, err = JFR(short.bytes(t), nil, push, Limits{SampleTimes: true})
	require.NoError(t, err)
	assert.Equal(t, map[string]int64{"1020": 10e6}, stamped(t, ps, "process_cpu"))
}

// Live objects at the end of a chunk are not divided into windows: they are a state.
func TestJFRKeepsLiveObjectsTogether(t *testing.T) {
	w := jfrWriter{begin: recordedAt, duration: 20 * time.Second}
	w.add("profiler.LiveObject", time.Second, []string{"a"}, nil)
	w.add("profiler.LiveObject", 11*time.Second, []string{"a"}, nil)
	ps, _, err := JFR(w.bytes(t), nil, undated(recordedAt.Add(time.Minute)), Limits{})
	require.NoError(t, err)
	require.Len(t, ps, 1)
	assert.Equal(t, recordedAt.UnixNano(), ps[0].Pprof.TimeNanos)
	assert.Equal(t, int64(20e9), ps[0].Pprof.DurationNanos)
	assert.Equal(t, map[string]int64{"Main.a": 2}, folded(ps[0].Pprof))
}

// The recording's own times hold if they are near those of the push, and it is
// moved otherwise.
func TestJFRClock(t *testing.T) {
	hour := time.Hour
	for name, c := range map[string]struct {
		begin, from, until time.Time
		want               string
		report             string
	}{
		"the push's times":     {recordedAt, recordedAt, recordedAt.Add(20 * time.Second), "1700000005", ""},
		"rounded":              {recordedAt, recordedAt.Add(-time.Second), recordedAt.Add(21 * time.Second), "1700000005", ""},
		"near":                 {recordedAt, recordedAt.Add(30 * time.Second), recordedAt.Add(50 * time.Second), "1700000005", ""},
		"only part of it":      {recordedAt, recordedAt.Add(15 * time.Second), recordedAt.Add(20 * time.Second), "1700000005", ""},
		"until alone":          {recordedAt, recordedAt.Add(hour), recordedAt.Add(20 * time.Second), "1700000005", ""},
		"neither":              {recordedAt, recordedAt.Add(hour), recordedAt.Add(hour), "1700000005", ""},
		"a wrong clock":        {recordedAt, recordedAt.Add(hour), recordedAt.Add(hour + 20*time.Second), "1700003605", "corrected time of the recording, which was moved to end at until (1)"},
		"ahead":                {recordedAt, recordedAt.Add(-hour), recordedAt.Add(20*time.Second - hour), "1699996405", "corrected time of the recording, which was moved to end at until (1)"},
		"wrong, until alone":   {recordedAt, recordedAt.Add(2 * hour), recordedAt.Add(hour + 20*time.Second), "1700003605", "corrected time of the recording, which was moved to end at until (1)"},
		"since boot":           {time.Unix(5000, 0), recordedAt.Add(20 * time.Second), recordedAt.Add(20 * time.Second), "1700000005", "corrected time of the profile, which is before 1990 (1)"},
		"since boot, and when": {time.Unix(5000, 0), recordedAt, recordedAt.Add(20 * time.Second), "1700000005", "corrected time of the recording, which was moved to end at until (1)"},
	} {
		w := jfrWriter{begin: c.begin, duration: 20 * time.Second}
		w.add(jfrExecutionSample, 8*time.Second, []string{"a"}, nil)
		m := shop
		m.From, m.Until = c.from, c.until
		if c.from.After(c.until) {
			m.From, m.UntilGiven = c.until, true // as the server says it
		}
		report := &Report{}
		ps, _, err := JFR(w.bytes(t), nil, m, Limits{Report: report})
		require.NoError(t, err, name)
		assert.Equal(t, []string{c.want + ".000+5: Main.a[10000000]"}, placed(t, ps, "process_cpu"), name)
		assert.Equal(t, c.report, report.String(), name)
	}
}

// The last window of a recording that has just ended is not in the future, where a
// query until now would miss a part of it.
func TestJFREndsWhenPushed(t *testing.T) {
	w := jfrWriter{begin: recordedAt, duration: 16 * time.Second}
	w.add(jfrExecutionSample, 5*time.Second, []string{"a"}, nil)
	w.add(jfrExecutionSample, 15500*time.Millisecond, []string{"a"}, nil)
	ps, _, err := JFR(w.bytes(t), nil, undated(recordedAt.Add(16*time.Second)), Limits{})
	require.NoError(t, err)
	require.Len(t, ps, 2)
	assert.Equal(t, int64(5e9), ps[0].Pprof.DurationNanos)
	assert.Equal(t, int64(1_700_000_015_001e6), ps[1].Pprof.TimeNanos)
	assert.Equal(t, recordedAt.Add(16*time.Second).UnixNano(), ps[1].Pprof.TimeNanos+ps[1].Pprof.DurationNanos)
}

// A thread may wait for days, and an event may claim what it likes.
func TestJFRLongEvents(t *testing.T) {
	for name, c := range map[string]struct {
		at, lasts time.Duration
		oldest    time.Time
		want      []string // the first, and the last
		windows   int
		report    string
	}{
		"from before the chunk": {-28 * time.Second, 30 * time.Second, time.Time{}, []string{"1699999970.000+5: Main.p[1 2000000000]", "1700000000.000+5: Main.p[0 3000000000]"}, 7, ""},
		"hours":                 {-4 * time.Hour, 4 * time.Hour, time.Time{}, []string{"1699985600.000+5: Main.p[1 4000000000]", "1700000000.000+5: Main.p[0 1000000000]"}, 52, ""},
		"too old a part": {-2 * time.Hour, 2 * time.Hour, recordedAt.Add(-time.Hour), nil, 0,
			"skipped time of events that began before the retention (1)"},
		"out of the chunk":   {72 * time.Hour, 2 * time.Second, time.Time{}, []string{"1700000015.000+5: Main.p[1 1000000000]", "1700000020.000+5: Main.p[0 1000000000]"}, 2, "corrected time of events outside of their chunk (1)"},
		"before the chunk":   {-72 * time.Hour, 2 * time.Second, time.Time{}, nil, 0, "corrected time of events outside of their chunk (1)"},
		"since the big bang": {0, 200 * 365 * 24 * time.Hour, time.Time{}, nil, 0, "corrected time of events outside of their chunk (1)"},
	} {
		w := jfrWriter{begin: recordedAt, duration: 20 * time.Second}
		w.add("jdk.ThreadPark", c.at, []string{"p"}, map[string]uint64{"duration": uint64(c.lasts)})
		m := undated(recordedAt.Add(time.Minute))
		m.Oldest = c.oldest
		report := &Report{}
		ps, _, err := JFR(w.bytes(t), nil, m, Limits{Report: report})
		require.NoError(t, err, name)
		got, sum := placed(t, ps, "block"), int64(0)
		for _, p := range ps {
			for _, s := range p.Pprof.Sample {
				sum += s.Value[1]
			}
			if !c.oldest.IsZero() {
				assert.GreaterOrEqual(t, p.Pprof.TimeNanos, c.oldest.UnixNano(), name)
			}
		}
		if c.oldest.IsZero() {
			assert.Equal(t, int64(c.lasts), sum, name)
		} else {
			assert.InDelta(t, int64(time.Hour), sum, float64(2*time.Minute), name)
		}
		assert.LessOrEqual(t, len(got), spreadOver+32, name)
		if c.windows > 0 {
			assert.Len(t, got, c.windows, name)
			assert.Equal(t, c.want, []string{got[0], got[len(got)-1]}, name)
		}
		assert.Equal(t, c.report, report.String(), name)
	}
}

// Events over years make no windows in between, and not more than there may be.
func TestJFRSparse(t *testing.T) {
	w := jfrWriter{begin: recordedAt, duration: 365 * 24 * time.Hour}
	for i := range 300 {
		w.add(jfrExecutionSample, time.Duration(i)*24*time.Hour, []string{"a"}, nil)
	}
	ps, _, err := JFR(w.bytes(t), nil, undated(recordedAt.Add(w.duration)), Limits{})
	require.NoError(t, err)
	assert.Len(t, ps, 300)
	for i := range 5000 {
		w.add(jfrExecutionSample, time.Duration(i)*6*time.Second, []string{"a"}, nil)
	}
	report := &Report{}
	ps, _, err = JFR(w.bytes(t), nil, undated(recordedAt.Add(w.duration)), Limits{Report: report})
	require.NoError(t, err)
	assert.LessOrEqual(t, len(ps), maxWindows)
	assert.Equal(t, int64(5300*10e6), totals(t, ps)["process_cpu:cpu:nanoseconds:cpu:nanoseconds"])
	assert.Equal(t, "corrected time of samples, to windows of 80 s (1)", report.String())
}
