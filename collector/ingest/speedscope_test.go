package ingest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// speedscopeText is a file of profiles over the frames main, work and wait.
func speedscopeText(profiles ...string) []byte {
	return fmt.Appendf(nil, `{"$schema":%q,"version":"0","shared":{"frames":[{"name":"main"},{"name":"work","file":"work.js","line":7,"col":2},{"name":"wait"}]},"profiles":[%s]}`,
		speedscopeSchema, strings.Join(profiles, ","))
}

const (
	sampledProfile = `{"type":"sampled","name":%q,"unit":%q,"startValue":0,"endValue":6,"samples":[[0,1],[0],[0,1]],"weights":[2.5,3,1]}`
	eventedProfile = `{"type":"evented","name":%q,"unit":%q,"startValue":10,"endValue":20,"events":[
		{"type":"O","at":10,"frame":0},{"type":"O","at":11,"frame":1},{"type":"C","at":14,"frame":1},
		{"type":"O","at":14,"frame":2},{"type":"C","at":15,"frame":2},{"type":"C","at":15,"frame":0},{"type":"O","at":18,"frame":2}]}`
)

// together are the samples of profiles that a file was cut into, as folded stacks.
func together(t testing.TB, ps []profile.Profile) []string {
	t.Helper()
	sums := map[string]int64{}
	for i := range ps {
		sole(t, ps[i:i+1], Limits{})
		for stack, v := range folded(ps[i].Pprof) {
			sums[stack] += v
		}
	}
	var out []string
	for stack, v := range sums {
		out = append(out, fmt.Sprintf("%s %d", stack, v))
	}
	slices.Sort(out)
	return out
}

func TestSpeedscope(t *testing.T) {
	m := pushOf(t, "shop")
	m.SampleRate = DefaultSampleRate
	for unit, tc := range map[string]struct {
		scale float64
		typ   string
	}{
		"nanoseconds":  {1, "process_cpu cpu nanoseconds"},
		"microseconds": {1e3, "process_cpu cpu nanoseconds"},
		"milliseconds": {1e6, "process_cpu cpu nanoseconds"},
		"seconds":      {1e9, "process_cpu cpu nanoseconds"},
		"none":         {1e7, "process_cpu cpu nanoseconds"},
		"bytes":        {1, "memory samples bytes"},
	} {
		ps, _, err := Speedscope(speedscopeText(fmt.Sprintf(sampledProfile, "", unit)), m, Limits{})
		require.NoError(t, err, unit)
		p := ps[0].Pprof
		work := 3.5 * tc.scale
		if tc.scale == 1 {
			work = 4 // 2.5 is rounded to 3
		}
		require.Equal(t, []string{fmt.Sprintf("main %.0f", 3*tc.scale), fmt.Sprintf("main;work %.0f", work)}, together(t, ps), unit)
		require.Equal(t, tc.typ, fmt.Sprintf("%s %s %s", ps[0].Labels.Get("__name__"), p.StringTable[p.SampleType[0].Type], p.StringTable[p.SampleType[0].Unit]))
		require.Equal(t, "work.js", p.StringTable[p.Function[1].Filename])
		require.Equal(t, int64(7), p.Location[1].Line[0].Line)

		ps, _, err = Speedscope(gzipped(t, speedscopeText(fmt.Sprintf(eventedProfile, "", unit))), m, Limits{})
		require.NoError(t, err, unit)
		require.Equal(t, []string{
			fmt.Sprintf("main %.0f", tc.scale), fmt.Sprintf("main;wait %.0f", tc.scale), fmt.Sprintf("main;work %.0f", 3*tc.scale),
			fmt.Sprintf("wait %.0f", 2*tc.scale), // is open at the end
		}, together(t, ps), unit)
	}
}

// Windows' shells write UTF-16, and some converters no schema.
// The unit of the file is that of the type in the name, or it is refused.
func TestSpeedscopeUnitOfName(t *testing.T) {
	for app, want := range map[string]string{
		"shop.cpu": "process_cpu cpu nanoseconds", "shop.wall": "wall wall nanoseconds", "shop.mutex_duration": "mutex delay nanoseconds",
	} {
		ps, _, err := Speedscope(speedscopeText(fmt.Sprintf(sampledProfile, "", "milliseconds")), pushOf(t, app), Limits{})
		require.NoError(t, err, app)
		require.Equal(t, []string{"main 3000000", "main;work 3500000"}, together(t, ps), app)
		p := ps[0].Pprof
		require.Equal(t, want, fmt.Sprintf("%s %s %s", ps[0].Labels.Get("__name__"), p.StringTable[p.SampleType[0].Type], p.StringTable[p.SampleType[0].Unit]))
	}
	for _, tc := range []struct{ app, unit, err string }{
		{"shop.inuse_space", "milliseconds", `speedscope: profiles[0].unit: milliseconds does not fit the type that the name "shop.inuse_space" gives, inuse_space of memory`},
		{"shop.goroutines", "seconds", "goroutines of goroutine"},
		{"shop.cpu", "bytes", "unit: bytes does not fit"},
		{"shop.alloc_objects", "bytes", "alloc_objects of memory"},
	} {
		_, _, err := Speedscope(speedscopeText(fmt.Sprintf(sampledProfile, "", tc.unit)), pushOf(t, tc.app), Limits{})
		require.ErrorContains(t, err, tc.err)
	}
	ps, _, err := Speedscope(speedscopeText(fmt.Sprintf(sampledProfile, "", "bytes")), pushOf(t, "shop.alloc_space"), Limits{})
	require.NoError(t, err)
	require.Equal(t, []string{"main 3", "main;work 4"}, together(t, ps))
}

func TestSpeedscopeOfOtherText(t *testing.T) {
	m := pushOf(t, "shop")
	m.SampleRate = DefaultSampleRate
	file := speedscopeText(`{"type":"sampled","unit":"seconds","samples":[[0],[0,1]],"weights":[1,2]}`)
	var utf16 []byte
	for _, c := range "\uFEFF" + string(file) {
		utf16 = append(utf16, byte(c), byte(c>>8))
	}
	for name, body := range map[string][]byte{
		"UTF-16":    utf16,
		"no mark":   utf16[2:],
		"no schema": bytes.Replace(file, []byte(`"$schema"`), []byte(`"of"`), 1),
	} {
		ps, _, err := Speedscope(body, m, Limits{})
		require.NoError(t, err, name)
		require.Equal(t, []string{"main 1000000000", "main;work 2000000000"}, together(t, ps), name)
	}
	_, _, err := Speedscope(utf16[:len(utf16)-1], m, Limits{})
	require.ErrorContains(t, err, "speedscope: UTF-16 with an odd number of bytes")
	_, _, err = Speedscope(bytes.Replace(file, []byte("speedscope.app"), []byte("example.org"), 1), m, Limits{})
	require.ErrorContains(t, err, "speedscope: $schema: ")
}

func TestSpeedscopeOfSeveralProfiles(t *testing.T) {
	m := pushOf(t, "shop")
	m.SampleRate = DefaultSampleRate
	ps, _, err := Speedscope(speedscopeText(
		fmt.Sprintf(sampledProfile, "thread 1", "milliseconds"),
		fmt.Sprintf(eventedProfile, "thread 2", "milliseconds"),
		fmt.Sprintf(eventedProfile, "thread 1", "milliseconds"),
		fmt.Sprintf(sampledProfile, "heap", "bytes"),
		fmt.Sprintf(sampledProfile, "ticks", "none"),
		`{"type":"sampled","name":"idle","unit":"seconds","samples":[],"weights":[]}`,
	), m, Limits{})
	require.NoError(t, err)
	var got []string
	for _, p := range ps {
		got = append(got, p.Labels.String()+" "+strings.Join(foldedText(p.Pprof), ", "))
	}
	require.Equal(t, []string{
		`{__name__="wall", profile_name="thread 1", pyroscope_spy="test", service_name="shop"} main 4000000, main;wait 1000000, main;work 6500000, wait 2000000`,
		`{__name__="wall", profile_name="thread 2", pyroscope_spy="test", service_name="shop"} main 1000000, main;wait 1000000, main;work 3000000, wait 2000000`,
		`{__name__="memory", profile_name="heap", pyroscope_spy="test", service_name="shop"} main 3, main;work 4`,
		`{__name__="process_cpu", profile_name="ticks", pyroscope_spy="test", service_name="shop"} main 30000000, main;work 35000000`,
	}, got)
}

func TestSpeedscopeNamesTheField(t *testing.T) {
	sampled := func(samples, weights string) []byte {
		return speedscopeText(`{"type":"sampled","unit":"none","samples":` + samples + `,"weights":` + weights + `}`)
	}
	events := func(e string) []byte {
		return speedscopeText(`{"type":"evented","unit":"none","startValue":5,"events":[` + e + `]}`)
	}
	for name, tc := range map[string]struct {
		in   []byte
		l    Limits
		want string
	}{
		"no JSON":          {[]byte(`{"$schema":`), Limits{}, "unexpected end of JSON input, at byte 11"},
		"broken JSON":      {[]byte(`{"$schema":x}`), Limits{}, "invalid character 'x' looking for beginning of value, at byte 12"},
		"a list":           {[]byte(`[]`), Limits{}, "a JSON array, want "},
		"no schema":        {[]byte(`{"profiles":[]}`), Limits{}, `$schema: "" is not https://`},
		"wrong field":      {[]byte(`{"shared":{"frames":[{"name":7}]}}`), Limits{}, "shared.frames"},
		"unit":             {speedscopeText(`{"type":"sampled","unit":"miles"}`), Limits{}, `profiles[0].unit: "miles" is not one of none, bytes`},
		"type":             {speedscopeText(`{"type":"odd","unit":"none"}`), Limits{}, `profiles[0].type: "odd" is neither sampled nor evented`},
		"weights":          {sampled("[[0],[1]]", "[1]"), Limits{}, "profiles[0].weights: there are 1 for 2 samples"},
		"negative weight":  {sampled("[[0],[1]]", "[1,-2]"), Limits{}, "profiles[0].weights[1]: the value -2 is negative"},
		"endless weight":   {sampled("[[0]]", "[1e300]"), Limits{}, "profiles[0].weights[0]: 1e+300 is too large"},
		"least weight":     {sampled("[[0]]", "[-1e300]"), Limits{}, "profiles[0].weights[0]: the value "},
		"frame":            {sampled("[[0],[0,3]]", "[1,1]"), Limits{}, "profiles[0].samples[1][1]: frame 3 does not exist, there are 3"},
		"half a frame":     {sampled("[[0.5]]", "[1]"), Limits{}, "profiles[0].samples[0][0]: 0.5 is not the number of a frame"},
		"negative frame":   {sampled("[[-1]]", "[1]"), Limits{}, "profiles[0].samples[0][0]: frame -1 does not exist, there are 3"},
		"event before":     {events(`{"type":"O","at":4,"frame":0}`), Limits{}, "profiles[0].events[0].at: 4 is before 5"},
		"event's frame":    {events(`{"type":"O","at":5,"frame":9}`), Limits{}, "profiles[0].events[0].frame: frame 9 does not exist, there are 3"},
		"event's type":     {events(`{"type":"X","at":5,"frame":0}`), Limits{}, `profiles[0].events[0].type: "X" is neither O nor C`},
		"closed too often": {events(`{"type":"C","at":5,"frame":0}`), Limits{}, "profiles[0].events[0].frame: 0 is closed, but is not"},
		"closed askew":     {events(`{"type":"O","at":5,"frame":0},{"type":"O","at":5,"frame":1},{"type":"C","at":5,"frame":0}`), Limits{}, "profiles[0].events[2].frame: 0 is closed, but is not"},
		"no weights":       {speedscopeText(`{"type":"sampled","unit":"none","samples":[[0]]}`), Limits{}, "profiles[0].weights: there are 0 for 1 samples"},
		"null weight":      {sampled("[[0],[1]]", "[1,null]"), Limits{}, "profiles[0].weights[1]: is null"},
		"no time":          {events(`{"type":"O","frame":0}`), Limits{}, "profiles[0].events[0].at: is missing"},
		"no frame":         {events(`{"type":"O","at":5}`), Limits{}, "profiles[0].events[0].frame: is missing"},
		"depth":            {sampled("[[0,1,2]]", "[1]"), Limits{MaxStackDepth: 2}, "profiles[0].samples[0][2]: a stacktrace of more than 2 frames (limits.max_stack_depth)"},
		"samples":          {sampled("[[0],[1]]", "[1,1]"), Limits{MaxSamples: 1}, "profiles[0].weights[1]: more than 1 stacktraces (limits.max_samples)"},
		"symbol":           {sampled("[[1]]", "[1]"), Limits{MaxSymbolBytes: 5}, "profiles[0].samples[0][0]: a name of 7 bytes is longer than 5 (limits.max_symbol_bytes)"},
		"label":            {speedscopeText(fmt.Sprintf(sampledProfile, "long", "none")), Limits{MaxLabelValueBytes: 3}, "profiles[0].name: 4 bytes are more than 3 (limits.max_label_value_bytes)"},
		"labels":           {speedscopeText(fmt.Sprintf(sampledProfile, "long", "none")), Limits{MaxLabels: 3}, "(limits.max_labels)"},
		"bytes":            {sampled("[]", "[]"), Limits{MaxProfileBytes: 10}, "(limits.max_profile_bytes)"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Speedscope(tc.in, pushOf(t, "shop"), tc.l)
			require.ErrorContains(t, err, "speedscope: ")
			require.ErrorContains(t, err, tc.want)
		})
	}
	_, _, err := Speedscope(sampled("[]", "[]"), pushOf(t, "shop.what"), Limits{})
	require.ErrorContains(t, err, `name: "shop.what" ends in "what"`)
}

// The limit on a profile's size holds for all profiles of a file together.
func TestSpeedscopeRefusesBombs(t *testing.T) {
	var events strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&events, `{"type":"O","at":%d,"frame":0},`, i)
	}
	one := func(name string) string {
		return fmt.Sprintf(`{"type":"evented","name":%q,"unit":"none","endValue":2000,"events":[%s]}`, name, strings.TrimSuffix(events.String(), ","))
	}
	l := Limits{MaxProfileBytes: 3 << 20}
	_, _, err := Speedscope(speedscopeText(one("a")), pushOf(t, "shop"), l)
	require.NoError(t, err)
	_, _, err = Speedscope(speedscopeText(one("a"), one("b")), pushOf(t, "shop"), l)
	require.ErrorContains(t, err, "speedscope: profiles[1].")
	require.ErrorContains(t, err, "(limits.max_profile_bytes)")
}

// FuzzSpeedscope checks that files of any bytes are refused with a reason or sound.
func FuzzSpeedscope(f *testing.F) {
	f.Add(speedscopeText(fmt.Sprintf(sampledProfile, "a", "seconds"), fmt.Sprintf(eventedProfile, "b", "none")))
	f.Add(speedscopeText(fmt.Sprintf(eventedProfile, "a", "bytes"), fmt.Sprintf(eventedProfile, "a", "bytes")))
	f.Add(gzipped(f, speedscopeText()))
	f.Add(speedscopeText(fmt.Sprintf(sampledProfile, "a", "seconds"), `{"type":"evented","unit":"milliseconds","startValue":1.7e12,"endValue":1.70000003e12,"events":[
		{"type":"O","at":1.7e12,"frame":0},{"type":"C","at":1.70000002e12,"frame":0}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ps, _, err := Speedscope(b, pushOf(t, "shop"), fuzzLimits)
		if err != nil {
			checkRead(t, nil, err, "speedscope: ")
			return
		}
		later := pushOf(t, "shop")
		later.From = later.Until // not said
		moved, _, err := Speedscope(b, later, fuzzLimits)
		if err != nil || len(ps) > 0 && !slices.Equal(together(t, ps), together(t, moved)) {
			t.Errorf("by another time: %v, %v", err, moved)
		}
		for i := range ps {
			sole(t, ps[i:i+1], fuzzLimits)
		}
	})
}
