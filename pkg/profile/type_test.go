package profile_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

func TestParseType(t *testing.T) {
	cpu := profile.Type{Name: "process_cpu", SampleType: "cpu", SampleUnit: "nanoseconds", PeriodType: "cpu", PeriodUnit: "nanoseconds"}
	got, err := profile.ParseType("process_cpu:cpu:nanoseconds:cpu:nanoseconds")
	require.NoError(t, err)
	require.Equal(t, cpu, got)
	got, err = profile.ParseType("process_cpu:cpu:nanoseconds:cpu:nanoseconds:delta")
	require.NoError(t, err)
	require.Equal(t, cpu, got)
	got, err = profile.ParseType("block:delay:nanoseconds::")
	require.NoError(t, err)
	require.Equal(t, "block:delay:nanoseconds::", got.String())

	for in, want := range map[string]string{
		"":                         "want name:",
		"process_cpu":              "want name:",
		"a:b:c:d:e:f":              "want name:",
		":cpu:nanoseconds:cpu:ns":  "name is empty",
		"cpu::nanoseconds:cpu:ns":  "sample type is empty",
		"a:b:c:d:e:delta:and more": "want name:",
	} {
		_, err := profile.ParseType(in)
		require.ErrorContains(t, err, want, in)
	}
}

// Whatever a sender calls things, the type has an ID of its own that means it.
func TestTypeIDs(t *testing.T) {
	for want, typ := range map[string]profile.Type{
		"a%3Ab:c:count::":                  {Name: "a:b", SampleType: "c", SampleUnit: "count"},
		"a:b%3Ac:count::":                  {Name: "a", SampleType: "b:c", SampleUnit: "count"},
		"native:Total malloc size:bytes::": {Name: "native", SampleType: "Total malloc size", SampleUnit: "bytes"},
		"net/http.open:é:%::":              {Name: "net/http.open", SampleType: "é", SampleUnit: "%"},
		"a:100%2525%3A:%2525%3A::":         {Name: "a", SampleType: "100%25:", SampleUnit: "%25:"},
		"a:b::%20c%0A:":                    {Name: "a", SampleType: "b", PeriodType: " c\n"},
		"a:%7Bb%3D%22c%22%7D:'':delta:":    {Name: "a", SampleType: `{b="c"}`, SampleUnit: "''", PeriodType: "delta"},
		"a:b:c:d:%FF%5C":                   {Name: "a", SampleType: "b", SampleUnit: "c", PeriodType: "d", PeriodUnit: "\xff\\"},
		"A:B:::":                           {Name: "A", SampleType: "B"},
	} {
		require.Equal(t, want, typ.String())
		got, err := profile.ParseType(want)
		require.NoError(t, err)
		require.Equal(t, typ, got)
		got, err = profile.ParseType(want + ":delta")
		require.NoError(t, err)
		require.Equal(t, typ, got)
	}
	// IDs of other servers are left as they are.
	for _, id := range []string{"a:50%:x::", "a:%41:x::", "a:%zz:x::", "a:b c:x::"} {
		typ, err := profile.ParseType(id)
		require.NoError(t, err)
		require.Equal(t, id, typ.String())
	}
}

// FuzzTypeID checks that a type's ID means the type, alone and in a query.
func FuzzTypeID(f *testing.F) {
	f.Add("process_cpu", "cpu", "nanoseconds", "cpu", "nanoseconds")
	f.Add("a:b", "%3A", " c ", "{}", "\"=\\\xff")
	f.Fuzz(func(t *testing.T, name, sampleType, sampleUnit, periodType, periodUnit string) {
		if name == "" || sampleType == "" {
			return
		}
		want := profile.Type{Name: name, SampleType: sampleType, SampleUnit: sampleUnit, PeriodType: periodType, PeriodUnit: periodUnit}
		got, err := profile.ParseType(want.String())
		require.NoError(t, err)
		require.Equal(t, want, got)
		want.Cumulative()
		q, err := profile.ParseQuery(want.String())
		require.NoError(t, err)
		require.Equal(t, want, q.Type)
		q, err = profile.ParseQuery(want.String() + `{a="b"}`)
		require.NoError(t, err)
		require.Equal(t, want, q.Type)
	})
}

func TestParseSelector(t *testing.T) {
	for _, in := range []string{"", "{}", " { } "} {
		ms, err := profile.ParseSelector(in)
		require.NoError(t, err)
		require.Empty(t, ms, in)
	}
	for in, want := range map[string]string{
		`{a="b"}`:                         `{a="b"}`,
		`{a="b", c!~"d.*", e!="", f=~""}`: `{a="b",c!~"d.*",e!="",f=~""}`,
		`{pod=""}`:                        `{pod=""}`,
		`{"with.dot"="x"}`:                `{"with.dot"="x"}`,
		`{'with.dot'='x'}`:                `{"with.dot"="x"}`,
		"{`with.dot`=`x`}":                `{"with.dot"="x"}`,
		`{with.dot="x"}`:                  `{"with.dot"="x"}`,
		`{app.kubernetes.io/name = 'x',}`: `{"app.kubernetes.io/name"="x"}`,
		`{a='b', c-d=~"e", "f g"!='h'}`:   `{a="b","c-d"=~"e","f g"!="h"}`,
		`{a.b="}",c="\"{,"}`:              `{"a.b"="}",c="\"{,"}`,
		"{a=`\\d+`,b='\\u00e9\\x41\\''}":  `{a="\\d+",b="éA'"}`,
		"\t{\n a = \"b\" ,\n} ":           `{a="b"}`,
		`process_cpu{a="\"\n"}`:           `{a="\"\n",__name__="process_cpu"}`,
	} {
		ms, err := profile.ParseSelector(in)
		require.NoError(t, err, in)
		require.Equal(t, want, profile.FormatSelector(ms))
	}
	for in, want := range map[string]string{
		`{a="b"`:      "1:7",
		`{a=b}`:       "1:4",
		`{a=~"("}`:    "1:",
		`{a="b"}[5m]`: "1:8",
		`{a.b=c}`:     "1:6",
		`{a.b="c}`:    "1:6",
		`{a.b='\q'}`:  "1:6",
		`{1.b="c"}`:   "1:2",
		`{a.b="c"d}`:  "1:9",
		`{größe="L"}`: "1:4",
		`{a.b=~"("}`:  `1:2: parse error: error parsing regexp`,
		`{a="\xff"}`:  `matcher a="\xff" is not UTF-8`,
	} {
		_, err := profile.ParseSelector(in)
		require.ErrorContains(t, err, want, in)
	}
}

// The editor's tests read the same cases (src/selector.test.ts).
func TestSelectorsMeanTheSameInTheEditor(t *testing.T) {
	b, err := os.ReadFile("testdata/selectors.json")
	require.NoError(t, err)
	var cases []struct {
		Selector string
		Matchers [][3]string // nil: it is refused
	}
	require.NoError(t, json.Unmarshal(b, &cases))
	for _, c := range cases {
		ms, err := profile.ParseSelector(c.Selector)
		if c.Matchers == nil {
			require.Error(t, err, "%q", c.Selector)
			continue
		}
		require.NoError(t, err, "%q", c.Selector)
		got := [][3]string{}
		for _, m := range ms {
			got = append(got, [3]string{m.Name, m.Type.String(), m.Value})
		}
		require.Equal(t, c.Matchers, got, "%q", c.Selector)
		again, err := profile.ParseSelector(profile.FormatSelector(ms))
		require.NoError(t, err, "%q", c.Selector)
		require.Equal(t, profile.FormatSelector(ms), profile.FormatSelector(again))
	}
}
