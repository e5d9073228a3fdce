package profile_test

import (
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

func TestCumulative(t *testing.T) {
	for id, want := range map[string]bool{
		"process_cpu:cpu:nanoseconds:cpu:nanoseconds": true,
		"memory:alloc_space:bytes:space:bytes":        true,
		"memory:inuse_space:bytes:space:bytes":        false,
		"goroutines:goroutine:count:goroutine:count":  false,
		"mutex:delay:nanoseconds:mutex:count":         true,
	} {
		typ, err := profile.ParseType(id)
		require.NoError(t, err)
		require.Equal(t, want, typ.Cumulative(), id)
	}
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
	} {
		_, err := profile.ParseSelector(in)
		require.ErrorContains(t, err, want, in)
	}
}
