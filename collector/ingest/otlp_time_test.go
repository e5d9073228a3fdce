package ingest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"

	"github.com/flameline/flameline/pkg/profile"
)

// An otlpTimed is a profile of CPU samples of 10 ms each, of two functions.
type otlpTimed struct {
	begin, duration uint64
	id              byte
	samples         []otlpTimedSample
}

type otlpTimedSample struct {
	stack  int32 // 1 or 2
	stamps []uint64
	values []int64
}

func (o otlpTimed) read(t testing.TB, l Limits) ([]profile.Profile, error) {
	t.Helper()
	ps := pprofile.NewProfiles()
	d := ps.Dictionary()
	d.StringTable().FromRaw([]string{"", "samples", "count", "cpu", "nanoseconds", "a", "b"})
	d.MappingTable().AppendEmpty()
	d.AttributeTable().AppendEmpty()
	d.LinkTable().AppendEmpty()
	d.FunctionTable().AppendEmpty()
	d.LocationTable().AppendEmpty()
	d.StackTable().AppendEmpty()
	for i := range int32(2) {
		d.FunctionTable().AppendEmpty().SetNameStrindex(5 + i)
		d.LocationTable().AppendEmpty().Lines().AppendEmpty().SetFunctionIndex(1 + i)
		d.StackTable().AppendEmpty().LocationIndices().Append(1 + i)
	}
	r := ps.ResourceProfiles().AppendEmpty()
	r.Resource().Attributes().PutStr("service.name", "shop")
	p := r.ScopeProfiles().AppendEmpty().Profiles().AppendEmpty()
	p.SampleType().SetTypeStrindex(1)
	p.SampleType().SetUnitStrindex(2)
	p.PeriodType().SetTypeStrindex(3)
	p.PeriodType().SetUnitStrindex(4)
	p.SetPeriod(10e6)
	p.SetDurationNano(o.duration)
	p.SetProfileID([16]byte{o.id})
	for _, from := range o.samples {
		s := p.Samples().AppendEmpty()
		s.SetStackIndex(from.stack)
		s.TimestampsUnixNano().Append(from.stamps...)
		s.Values().Append(from.values...)
	}
	req := pprofileotlp.NewExportRequestFromProfiles(ps)
	p.SetTime(0)
	if o.begin > 0 {
		p.SetTime(pcommon.Timestamp(o.begin))
	}
	b, err := req.MarshalProto()
	require.NoError(t, err)
	return OTLP(b, false, exportedAt.Add(time.Minute), l)
}

// at is a time in ns since 1970, some seconds after 1_700_000_000.
func at(seconds float64) uint64 { return 1_700_000_000e9 + uint64(seconds*1e9) }

// Samples are at their timestamps, by all shapes that the protocol has, and those
// without are at the profile's time.
func TestOTLPTimes(t *testing.T) {
	const second, day = uint64(1e9), uint64(86_400e9)
	boot := func(seconds float64) uint64 { return 5_000e9 + uint64(seconds*1e9) }
	minute := otlpTimed{begin: at(1), duration: 50 * second}
	for name, c := range map[string]struct {
		profile otlpTimed
		samples []otlpTimedSample
		want    []string
		report  string
	}{
		"a value each": {minute, []otlpTimedSample{{1, []uint64{at(2), at(5), at(5.5), at(49)}, []int64{1, 2, 3, 4}}},
			[]string{"1700000000.000+5: a[30000000]", "1700000005.000+5: a[30000000]", "1700000045.000+5: a[40000000]"}, ""},
		"timestamps alone": {minute, []otlpTimedSample{{1, []uint64{at(2), at(7), at(8)}, nil}},
			[]string{"1700000000.000+5: a[10000000]", "1700000005.000+5: a[20000000]"}, ""},
		"one value for all": {minute, []otlpTimedSample{{1, []uint64{at(2), at(7), at(8)}, []int64{10}}},
			[]string{"1700000000.000+5: a[33333333]", "1700000005.000+5: a[66666667]"}, ""},
		"one value, one timestamp": {minute, []otlpTimedSample{{1, []uint64{at(7)}, []int64{10}}}, []string{"1700000005.000+5: a[100000000]"}, ""},
		"no timestamps":            {minute, []otlpTimedSample{{1, nil, []int64{10, 1}}}, []string{"1700000001.000+50: a[110000000]"}, ""},
		"some": {minute, []otlpTimedSample{{1, nil, []int64{10}}, {1, []uint64{at(7)}, nil}, {2, []uint64{at(7)}, nil}},
			[]string{"1700000001.000+50: a[100000000]", "1700000005.000+5: a[10000000], b[10000000]"}, ""},
		"short": {otlpTimed{begin: at(3), duration: 5 * second}, []otlpTimedSample{{1, []uint64{at(3), at(7), at(8)}, nil}},
			[]string{"1700000003.000+5: a[30000000]"}, ""},
		"without a duration": {otlpTimed{begin: at(3)}, []otlpTimedSample{{1, []uint64{at(3), at(8)}, nil}},
			[]string{"1700000000.000+5: a[10000000]", "1700000005.000+5: a[10000000]"}, ""},
		"without a time": {otlpTimed{}, []otlpTimedSample{{1, []uint64{at(3), at(8)}, nil}},
			[]string{"1700000000.000+5: a[10000000]", "1700000005.000+5: a[10000000]"}, ""},
		"zero": {minute, []otlpTimedSample{{1, []uint64{0, at(8)}, nil}},
			[]string{"1700000001.000+50: a[10000000]", "1700000005.000+5: a[10000000]"}, "corrected time of samples, whose timestamps are impossible (1)"},
		"of another clock": {minute, []otlpTimedSample{{1, []uint64{boot(1), boot(40)}, []int64{3, 4}}},
			[]string{"1700000001.000+50: a[70000000]"}, "corrected time of samples, whose timestamps are impossible (2)"},
		"a day off": {minute, []otlpTimedSample{{1, []uint64{at(1) + day, at(1) - day, math.MaxUint64}, nil}},
			[]string{"1700000001.000+50: a[30000000]"}, "corrected time of samples, whose timestamps are impossible (3)"},
		// It was received at 66.
		"all of another clock": {otlpTimed{begin: boot(0), duration: 50 * second}, []otlpTimedSample{{1, []uint64{boot(1), boot(40)}, []int64{3, 4}}},
			[]string{"1700000015.000+5: a[30000000]", "1700000055.000+5: a[40000000]"}, "corrected time of the profile, which is before 1990 (1)"},
		"all in microseconds": {otlpTimed{begin: at(1) / 1000, duration: 50 * second}, []otlpTimedSample{{1, []uint64{at(2) / 1000, at(7) / 1000}, []int64{3, 4}}},
			[]string{"1700000000.000+5: a[30000000]", "1700000005.000+5: a[40000000]"}, "corrected time of the profile, which is not in nanoseconds (1)"},
		"no times at all": {otlpTimed{}, []otlpTimedSample{{1, nil, []int64{1}}}, []string{"1700000066.000+0: a[10000000]"}, ""},
	} {
		report := &Report{}
		c.profile.samples = c.samples
		ps, err := c.profile.read(t, Limits{Report: report})
		require.NoError(t, err, name)
		assert.Equal(t, c.want, placed(t, ps, "process_cpu"), name)
		assert.Equal(t, c.report, report.String(), name)
	}
}

// Samples keep their times, also those of short profiles.
func TestOTLPKeepsTimes(t *testing.T) {
	for _, duration := range []uint64{5e9, 50e9} {
		p := otlpTimed{begin: at(1), duration: duration, samples: []otlpTimedSample{
			{1, []uint64{at(2), at(2.001), at(2.021)}, []int64{1, 2, 3}}, {2, []uint64{at(2.021)}, nil}, {2, nil, []int64{5}},
		}}
		ps, err := p.read(t, Limits{SampleTimes: true})
		require.NoError(t, err)
		assert.Equal(t, map[string]int64{"1000": 10e6, "1020": 20e6, "1040": 40e6, "-": 50e6}, stamped(t, ps, "process_cpu"))
	}
}

func TestOTLPTimesMistakes(t *testing.T) {
	_, err := otlpTimed{begin: at(1), duration: 50e9, samples: []otlpTimedSample{
		{1, nil, []int64{1}}, {1, []uint64{at(2), at(3)}, []int64{1, 2, 3}},
	}}.read(t, Limits{})
	require.ErrorContains(t, err, "resource_profiles[0].scope_profiles[0].profiles[0].samples[1].timestamps_unix_nano: there are 2 for 3 values")
	var stamps []uint64
	for i := range 2000 {
		stamps = append(stamps, at(float64(i)*2*float64(longestWindow)/1e9))
	}
	_, err = otlpTimed{begin: at(1), duration: math.MaxInt64 / 2, samples: []otlpTimedSample{{1, stamps, nil}}}.read(t, Limits{})
	require.ErrorContains(t, err, "samples[0].samples: their times are too far apart")
}

// Windows of a profile with an ID have IDs of their own, the same when it is sent
// again, lest the store takes them for one.
func TestOTLPTimesIDs(t *testing.T) {
	o := otlpTimed{begin: at(1), duration: 50e9, id: 7, samples: []otlpTimedSample{{1, nil, []int64{1}}, {1, []uint64{at(2), at(30)}, nil}}}
	var ids [2][]string
	for i := range ids {
		ps, err := o.read(t, Limits{})
		require.NoError(t, err)
		for _, p := range ps {
			ids[i] = append(ids[i], p.ID)
		}
	}
	const id = "07000000000000000000000000000000"
	assert.Equal(t, []string{id, id + "-1700000000001000000", id + "-1700000025001000000"}, ids[0])
	assert.Equal(t, ids[0], ids[1])
}

// A payload in another format is not read; alone it is a mistake.
func TestOTLPPayload(t *testing.T) {
	ps := exported()
	p := ps.ResourceProfiles().At(0).ScopeProfiles().At(0).Profiles().AppendEmpty()
	ps.ResourceProfiles().At(0).ScopeProfiles().At(0).Profiles().At(0).CopyTo(p)
	p.Samples().RemoveIf(func(pprofile.Sample) bool { return true })
	p.SetOriginalPayloadFormat("jfr")
	p.OriginalPayload().FromRaw([]byte("FLR"))
	read := func() (string, error) {
		report := &Report{}
		b, err := pprofileotlp.NewExportRequestFromProfiles(ps).MarshalProto()
		require.NoError(t, err)
		_, err = OTLP(b, false, exportedAt, Limits{Report: report})
		return report.String(), err
	}
	report, err := read()
	require.NoError(t, err)
	assert.Contains(t, report, "skipped payload jfr (1)")
	for _, r := range ps.ResourceProfiles().All() {
		for _, p := range r.ScopeProfiles().At(0).Profiles().All() {
			p.Samples().RemoveIf(func(pprofile.Sample) bool { return true })
		}
	}
	_, err = read()
	require.ErrorContains(t, err, fmt.Sprintf("original_payload: %d profiles have no samples, only a payload in the format %q, which is not supported", 1, "jfr"))
}
