package sample

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

const second = int64(time.Second)

func TestWindowStart(t *testing.T) {
	// Half open: the end belongs to the window, the start to the one before.
	for _, c := range []struct{ time, start int64 }{
		{100*second + 1, 100 * second},
		{102 * second, 100 * second},
		{105 * second, 100 * second},
		{105*second + 1, 105 * second},
	} {
		require.Equal(t, c.start, windowStart(c.time, 5*time.Second), "time %d", c.time)
	}
}

func testStack(names ...string) []*location {
	var locs []*location
	for _, n := range names { // leaf first
		locs = append(locs, &location{
			module: module{name: "app", buildID: "abcd"},
			lines:  []line{{function: n, file: n + ".c", number: int64(len(n))}},
		})
	}
	return locs
}

func TestWindowProfiles(t *testing.T) {
	stack := testStack("leaf", "caller", "root")
	inlined := &location{module: module{name: "app"}, lines: []line{{function: "inner"}, {function: "outer"}}}
	unknown := &location{module: module{name: "libx.so"}, address: 0x1234, lines: []line{{function: "libx.so+0x1234"}}, unknown: true}
	a, b := labels.FromStrings("service_name", "a"), labels.FromStrings("service_name", "b")

	w := newWindow(100 * second)
	w.add(stacktrace{labels: a, locations: stack}, 2)
	w.add(stacktrace{labels: a, locations: stack[1:]}, 1)
	w.add(stacktrace{labels: a, locations: stack}, 1)
	w.add(stacktrace{labels: b, locations: []*location{unknown, inlined, stack[2]}}, 1)
	require.EqualValues(t, 5, w.samples)

	const period = 50_000_000
	ps := w.profiles(5*time.Second, period)
	require.Len(t, ps, 2)
	require.Equal(t, labels.FromStrings("__name__", "process_cpu", "service_name", "a"), ps[0].Labels)
	require.Equal(t, labels.FromStrings("__name__", "process_cpu", "service_name", "b"), ps[1].Labels)
	require.Equal(t, ps[0].ID, w.profiles(5*time.Second, period)[0].ID, "an attempt again has the same IDs")
	require.NotEqual(t, ps[0].ID, ps[1].ID)
	require.Equal(t, 100*second+int64(time.Millisecond), ps[0].Pprof.TimeNanos)
	require.Equal(t, 5*second, ps[0].Pprof.DurationNanos)

	// What pprof's own reader makes of it.
	read := func(i int) *profile.Profile {
		data, err := ps[i].Pprof.MarshalVT()
		require.NoError(t, err)
		p, err := profile.Parse(bytes.NewReader(data))
		require.NoError(t, err)
		require.NoError(t, p.CheckValid())
		return p
	}
	p := read(0)
	require.Equal(t, int64(period), p.Period)
	require.Equal(t, &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}, p.PeriodType)
	require.Equal(t, []*profile.ValueType{{Type: "cpu", Unit: "nanoseconds"}}, p.SampleType)
	require.Len(t, p.Sample, 2)
	require.Equal(t, []int64{3 * period}, p.Sample[0].Value)
	require.Equal(t, []int64{period}, p.Sample[1].Value)
	require.Len(t, p.Location, 3, "locations are shared between samples")
	leaf := p.Sample[0].Location[0]
	require.Equal(t, "leaf", leaf.Line[0].Function.Name)
	require.Equal(t, "leaf.c", leaf.Line[0].Function.Filename)
	require.EqualValues(t, 4, leaf.Line[0].Line)
	require.Equal(t, "app", leaf.Mapping.File)
	require.Equal(t, "abcd", leaf.Mapping.BuildID)

	p = read(1)
	require.Len(t, p.Sample, 1)
	locs := p.Sample[0].Location
	require.Equal(t, "libx.so+0x1234", locs[0].Line[0].Function.Name)
	require.EqualValues(t, 0x1234, locs[0].Address)
	require.Equal(t, "inner", locs[1].Line[0].Function.Name)
	require.Equal(t, "outer", locs[1].Line[1].Function.Name)
}

func TestLocationKey(t *testing.T) {
	base := location{module: module{name: "m"}, lines: []line{{function: "f", file: "x", number: 300}}}
	same := location{module: module{name: "m"}, lines: []line{{function: "f", file: "x", number: 300}}}
	require.Equal(t, base.key(), same.key())
	for _, other := range []location{
		{module: module{name: "n"}, lines: base.lines},
		{module: base.module, lines: []line{{function: "g", file: "x", number: 300}}},
		{module: base.module, lines: []line{{function: "f", file: "y", number: 300}}},
		{module: base.module, lines: []line{{function: "f", file: "x", number: 301}}},
		{module: base.module, lines: append([]line{{function: "i"}}, base.lines...)},
	} {
		require.NotEqual(t, base.key(), other.key())
	}
}

// Samples of a stacktrace at different times are apart, those of the same 20 ms together.
func TestWindowTimes(t *testing.T) {
	a := labels.FromStrings("service_name", "a")
	st := stacktrace{labels: a, locations: testStack("leaf", "root")}
	w := newWindow(100 * second)
	at := func(d time.Duration) int64 { return tickOf(100*second + int64(d)) }
	w.addValues(st, values{3}, 3, []int64{at(time.Second), at(1), at(20 * time.Millisecond)})
	w.addValues(st, values{2}, 2, []int64{at(20*time.Millisecond + 1), at(5 * time.Second)})
	w.addValues(stacktrace{labels: a, locations: testStack("other")}, values{4}, 4, nil)
	const period = 50_000_000
	p := w.profiles(5*time.Second, period)[0].Pprof
	type timed struct {
		end   time.Duration // of the tick
		value int64
	}
	var got []timed
	for _, s := range p.Sample {
		one := timed{value: s.Value[0]}
		for _, l := range s.Label {
			require.Equal(t, "end_timestamp_ns", p.StringTable[l.Key])
			require.Equal(t, "nanoseconds", p.StringTable[l.NumUnit])
			one.end = time.Duration(l.Num - 100*second)
		}
		got = append(got, one)
	}
	require.Equal(t, []timed{
		{20 * time.Millisecond, 2 * period}, {40 * time.Millisecond, period}, {time.Second, period}, {5 * time.Second, period}, {0, 4 * period},
	}, got)
}
