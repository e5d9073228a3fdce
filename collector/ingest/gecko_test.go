package ingest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

// stacksOf returns the stacktraces of profiles as sorted folded lines.
func stacksOf(ps []profile.Profile) (out []string) {
	for _, p := range ps {
		names := map[uint64]string{}
		for _, f := range p.Pprof.Function {
			names[f.Id] = p.Pprof.StringTable[f.Name]
		}
		for _, s := range p.Pprof.Sample {
			var stack []string
			for _, id := range slices.Backward(s.LocationId) {
				stack = append(stack, names[id])
			}
			out = append(out, fmt.Sprint(strings.Join(stack, ";"), " ", s.Value[0]))
		}
	}
	slices.Sort(out)
	return out
}

var filePush = Push{App: "x", Labels: labels.FromStrings("service_name", "x")}

// geckoRows is in Gecko's own format, as `perf script report gecko` writes it.
const geckoRows = `{"meta":{"interval":1,"processType":0,"version":24},"libs":[],"threads":[{"tid":1,"pid":1,"name":"a",
"samples":{"schema":{"stack":0,"time":1,"responsiveness":2},"data":[[1,0.5,0],[2,1.5,0],[2,2.5,0],[null,3,0],[0]]},
"frameTable":{"schema":{"location":0,"relevantForJS":1,"innerWindowID":2,"implementation":3},"data":[[1,false,0,null],[0,true,0,"baseline"],[2,false,0,null]]},
"stackTable":{"schema":{"prefix":0,"frame":1},"data":[[null,0],[0,1],[0,2]]},
"stringTable":["f (in a.out)","main","g"]}],
"processes":[{"threads":[{"samples":{"schema":{"stack":0},"data":[[0]]},"frameTable":{"schema":{"location":0},"data":[[0]]},
"stackTable":{"schema":{"prefix":0,"frame":1},"data":[[null,0]]},"stringTable":["child"]}]}],"pausedRanges":[]}`

// geckoColumns is in the processed format, with the tables that all threads share.
const geckoColumns = `{"meta":{"preprocessedProfileVersion":58},"shared":{"stringArray":["main","f"],
"stackTable":{"length":2,"prefix":[null,0],"frame":[0,1]},"frameTable":{"length":2,"func":[1,0]},"funcTable":{"length":2,"name":[1,0]}},
"threads":[{"samples":{"length":2,"stack":[1,0],"weight":[1.5,-0],"weightType":"tracing-ms"}},{"samples":{"length":1,"stack":[0],"weight":null,"weightType":"samples"}}]}`

func TestGecko(t *testing.T) {
	ps, _, err := Gecko([]byte(geckoRows), filePush, Limits{})
	require.NoError(t, err)
	require.Equal(t, []string{"child 1", "main 1", "main;f (in a.out) 1", "main;g 2"}, stacksOf(ps))

	ps, _, err = Gecko([]byte(geckoColumns), filePush, Limits{})
	require.NoError(t, err)
	require.Equal(t, []string{"main 1", "main;f 1500000"}, stacksOf(ps))
	require.Equal(t, "nanoseconds", ps[0].Pprof.StringTable[ps[0].Pprof.SampleType[0].Unit])
}

func TestGeckoMistakes(t *testing.T) {
	const thread = `{"threads":[{"samples":{"stack":[%s],"weight":[%s]},"stackTable":{"prefix":[%s],"frame":[0]},"frameTable":{"func":[%s]},"funcTable":{"name":[0]},"stringArray":["f"]}]}`
	for name, tc := range map[string]struct{ in, want string }{
		"no JSON":     {"{", "gecko: unexpected end of JSON input, at byte 1"},
		"no threads":  {"{}", "gecko: threads: there are none"},
		"a list":      {`{"threads":{}}`, "gecko: threads: a JSON object, want []"},
		"stack":       {fmt.Sprintf(thread, "1", "1", "null", "0"), "gecko: threads[0].samples.stack[0]: 1 is not an index into 1 elements"},
		"fraction":    {fmt.Sprintf(thread, "0.5", "1", "null", "0"), "0.5 is not an index"},
		"weight":      {fmt.Sprintf(thread, "0", "1e30", "null", "0"), "gecko: threads[0].samples.weight[0]: 1e+30 is too large"},
		"negative":    {fmt.Sprintf(thread, "0", "-3", "null", "0"), "gecko: threads[0].samples.weight[0]: the value -3 is negative"},
		"own prefix":  {fmt.Sprintf(thread, "0", "1", "0", "0"), "gecko: threads[0].stackTable.prefix[0]: 0 is not an index into 0 elements before it"},
		"no function": {fmt.Sprintf(thread, "0", "1", "null", "7"), "gecko: threads[0].stackTable.frame[0]: 7 is not an index into 1 elements"},
		"no prefixes": {fmt.Sprintf(thread, "0", "1", "", "0"), "gecko: threads[0].stackTable: 0 prefixes for 1 frames"},
		"nested":      {strings.Repeat(`{"processes":[`, 20) + strings.Repeat("]}", 20), "processes: more than 8 in each other"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Gecko([]byte(tc.in), filePush, Limits{})
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func FuzzGecko(f *testing.F) {
	f.Add([]byte(geckoRows))
	f.Add([]byte(geckoColumns))
	f.Fuzz(func(t *testing.T, b []byte) {
		ps, _, err := Gecko(b, filePush, Limits{MaxProfileBytes: 1 << 20, MaxSymbols: 10_000, MaxSamples: 10_000, MaxStackDepth: 1000})
		if err != nil {
			require.True(t, strings.HasPrefix(err.Error(), "gecko: ") || strings.HasPrefix(err.Error(), "name: "), err)
			return
		}
		for _, p := range ps {
			require.NoError(t, (&checker{profile: p.Pprof}).check())
		}
	})
}
