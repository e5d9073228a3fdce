package ingest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An evented profile of 3 s in work and 9 s in wait, and one of samples that is the
// same.
const (
	eventedTimes = `{"type":"evented","unit":%q,"startValue":%v,"endValue":%v,"events":[{"type":"O","at":%[2]v,"frame":0},
		{"type":"O","at":%[2]v,"frame":1},{"type":"C","at":%[4]v,"frame":1},{"type":"O","at":%[4]v,"frame":2}]}`
	sampledTimes = `{"type":"sampled","unit":%q,"startValue":%v,"endValue":%v,"samples":[[0,1],[0,1],[0,2]],"weights":[%v,%[4]v,%v]}`
)

// Files begin when the push says, or end when it arrived, whatever their zero is;
// the time since 1970 is kept.
func TestSpeedscopeTimes(t *testing.T) {
	at := func(second int64) time.Time { return time.Unix(1_700_000_000+second, 0) }
	for name, c := range map[string]struct {
		zero, unit  float64 // unit in seconds
		name        string
		from, until time.Time
		begin       int64
		report      string
	}{
		"from and until":         {0, 1, "seconds", at(4), at(16), 4, ""},
		"of a monotonic clock":   {5000, 1e-3, "milliseconds", at(4), at(16), 4, ""},
		"from alone":             {7, 1, "seconds", at(4), at(4000), 4, ""},
		"until alone":            {0, 1e-6, "microseconds", at(4000), at(16), 4, ""},
		"neither":                {100, 1e-9, "nanoseconds", at(16), at(16), 4, ""},
		"since 1970":             {1_700_000_004, 1, "seconds", at(4000), at(4000), 4, ""},
		"since 1970, in ms":      {1_700_000_004_000, 1e-3, "milliseconds", at(0), at(30), 4, ""},
		"since 1970, until":      {1_700_000_004_000, 1e-3, "milliseconds", at(4000), at(20), 4, ""},
		"since 1970, wrong":      {1_700_009_004, 1, "seconds", at(4), at(16), 4, "corrected time of the file, which is not between from and until (1)"},
		"since 1970, wrong, one": {1_700_009_004, 1, "seconds", at(400), at(16), 4, "corrected time of the file, which is not between from and until (1)"},
	} {
		for _, body := range []string{
			fmt.Sprintf(eventedTimes, c.name, c.zero, c.zero+12/c.unit, c.zero+3/c.unit),
			fmt.Sprintf(sampledTimes, c.name, c.zero, c.zero+12/c.unit, 1.5/c.unit, 9/c.unit),
		} {
			m := pushOf(t, "shop")
			m.From, m.Until = c.from, c.until
			if c.from.After(c.until) {
				m.From, m.UntilGiven = c.until, true // as the server says it
			}
			report := &Report{}
			ps, _, err := Speedscope(speedscopeText(body), m, Limits{Report: report})
			require.NoError(t, err, name)
			var got []string
			for _, p := range ps {
				left := max(m.Until.UnixNano(), at(16).UnixNano()) - p.Pprof.TimeNanos
				want := int64(5e9)
				if left < want-1e6 {
					want = left
				}
				assert.Equal(t, want, p.Pprof.DurationNanos, "not in the future")
				got = append(got, fmt.Sprint((p.Pprof.TimeNanos-1e6)/1e9-1_700_000_000, foldedText(p.Pprof)))
			}
			assert.Equal(t, []string{
				fmt.Sprint(0, []string{"main;work 1000000000"}),
				fmt.Sprint(5, []string{"main;wait 3000000000", "main;work 2000000000"}),
				fmt.Sprint(10, []string{"main;wait 5000000000"}),
				fmt.Sprint(15, []string{"main;wait 1000000000"}),
			}, got, name)
			assert.Equal(t, c.report, report.String(), name)
		}
	}
}

// Profiles of one file have one clock; values of other units have no times.
func TestSpeedscopeTimesOfSeveral(t *testing.T) {
	ps, _, err := Speedscope(speedscopeText(
		`{"type":"sampled","name":"a","unit":"seconds","startValue":100,"samples":[[0]],"weights":[2]}`,
		`{"type":"sampled","name":"b","unit":"milliseconds","startValue":108000,"samples":[[0]],"weights":[1000]}`,
		`{"type":"sampled","name":"c","unit":"bytes","samples":[[0]],"weights":[7]}`,
	), pushOf(t, "shop"), Limits{})
	require.NoError(t, err)
	got := map[string]string{}
	for _, p := range ps {
		got[p.Labels.Get("profile_name")] += fmt.Sprint(p.Pprof.TimeNanos, p.Pprof.DurationNanos, foldedText(p.Pprof))
	}
	assert.Equal(t, map[string]string{
		"a": "1700000000001000000 5000000000 [main 2000000000]",
		"b": "1700000005001000000 5000000000 [main 1000000000]",
		"c": "1700000000000000000 10000000000 [main 7]",
	}, got)
}

// Sums over threads take longer than the push, and short files stay one profile.
func TestSpeedscopeStaysWhole(t *testing.T) {
	for name, c := range map[string]struct {
		weights  string
		from     int64
		duration int64
	}{
		"sums": {"[400,80]", 0, 10e9}, "sums of two threads": {"[10,10]", 0, 10e9}, "a little more": {"[6,5.5]", 0, 10e9}, "short": {"[1,2]", 0, 3e9}, "empty": {"[0,0]", 0, 0},
	} {
		ps, _, err := Speedscope(speedscopeText(`{"type":"sampled","unit":"seconds","samples":[[0],[1]],"weights":`+c.weights+`}`), pushOf(t, "shop"), Limits{})
		require.NoError(t, err, name)
		if c.duration == 0 {
			assert.Empty(t, ps)
			continue
		}
		require.Len(t, ps, 1, name)
		assert.Equal(t, int64(1_700_000_000e9)+c.from, ps[0].Pprof.TimeNanos, name)
		assert.Equal(t, c.duration, ps[0].Pprof.DurationNanos, name)
	}
}

// What other converters leave out or write otherwise is taken.
func TestSpeedscopeOfOtherConverters(t *testing.T) {
	for name, c := range map[string]struct {
		profile string
		want    []string
	}{
		"nulls":             {`{"type":"sampled","name":null,"unit":"none","startValue":null,"endValue":null,"samples":[[0]],"weights":[3]}`, []string{"main 3"}},
		"without a unit":    {`{"type":"sampled","samples":[[0]],"weights":[3]}`, []string{"main 3"}},
		"no stacktrace":     {`{"type":"sampled","unit":"none","samples":[[],[0]],"weights":[2,3]}`, []string{" 2", "main 3"}},
		"numbers as floats": {`{"type":"sampled","unit":"none","samples":[[0.0,1.0]],"weights":[3]}`, []string{"main;work 3"}},
		"unknown fields":    {`{"type":"sampled","unit":"none","samples":[[0]],"weights":[3.0],"threadId":7}`, []string{"main 3"}},
		"without a name":    {`{"type":"sampled","unit":"none","samples":[[0,3]],"weights":[3]}`, []string{"main;[unknown] 3"}},
		"no beginning":      {`{"type":"evented","unit":"none","events":[{"type":"O","at":1e9,"frame":0},{"type":"C","at":1000000002.0,"frame":0}]}`, []string{"main 2"}},
		"ends later":        {`{"type":"evented","unit":"none","startValue":0.5,"endValue":3.5,"events":[{"type":"O","at":0.5,"frame":0}]}`, []string{"main 3"}},
		"ends too early":    {`{"type":"evented","unit":"none","startValue":0,"endValue":1,"events":[{"type":"O","at":0,"frame":0},{"type":"C","at":4,"frame":0}]}`, []string{"main 4"}},
	} {
		body := []byte("\uFEFF" + fmt.Sprintf(`{"exporter":null,"activeProfileIndex":null,"name":null,"$schema":%q,"shared":{"frames":[{"name":"main","file":null,"line":null},{"name":"work","line":7.0},{"name":"wait"},{}]},"profiles":[%s]}`, speedscopeSchema, c.profile))
		ps, _, err := Speedscope(body, pushOf(t, "shop"), Limits{})
		require.NoError(t, err, name)
		assert.Equal(t, c.want, together(t, ps), name)
	}
}
