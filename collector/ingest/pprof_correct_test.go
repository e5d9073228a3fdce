package ingest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"
)

// shownStacks are a profile's samples as they are shown: functions or addresses,
// outermost first, values and labels.
func shownStacks(p *googlev1.Profile) []string {
	var out []string
	for _, s := range p.Sample {
		var names []string
		for _, id := range slices.Backward(s.LocationId) {
			for _, l := range p.Location {
				if l.Id != id {
					continue
				}
				if len(l.Line) == 0 {
					names = append(names, fmt.Sprintf("%#x", l.Address))
				}
				for _, line := range slices.Backward(l.Line) {
					for _, f := range p.Function {
						if f.Id == line.FunctionId {
							names = append(names, p.StringTable[f.Name])
						}
					}
				}
			}
		}
		text := fmt.Sprint(strings.Join(names, ";"), " ", s.Value)
		for _, l := range s.Label {
			if l.Str != 0 {
				text += fmt.Sprintf(" %s=%s", p.StringTable[l.Key], p.StringTable[l.Str])
			}
		}
		out = append(out, text)
	}
	return out
}

// The samples of sound, as they are shown.
const soundFirst, soundSecond = "main;0xfe [40]", "main [2] span_id=9a517183f26a089d"

// flaws are what may be wrong with one element of sound, what is shown of it then,
// nil if that is what it always is, and what the report says.
var flaws = map[string]struct {
	breakIt func(*googlev1.Profile)
	want    []string
	note    string
}{
	"sample type's unit": {func(p *googlev1.Profile) { p.SampleType[0].Unit = 8 }, nil, "corrected reference to a missing string, by sample_type (1)"},
	"period type":        {func(p *googlev1.Profile) { p.PeriodType.Type = -1 }, nil, "corrected reference to a missing string, by period_type (1)"},
	"type twice": {func(p *googlev1.Profile) {
		p.SampleType = append(p.SampleType, p.SampleType[0].CloneVT())
		p.Sample[0].Value, p.Sample[1].Value = []int64{40, 7}, []int64{2, 7}
	}, nil, "skipped type cpu in nanoseconds, which occurs twice (1)"},
	"type without a name": {func(p *googlev1.Profile) {
		p.SampleType = append([]*googlev1.ValueType{{}}, p.SampleType...)
		p.Sample[0].Value, p.Sample[1].Value = []int64{7, 40}, []int64{7, 2}
	}, nil, "skipped type without a name (1)"},
	"first string": {func(p *googlev1.Profile) {
		p.StringTable = p.StringTable[1:]
		for _, n := range []*int64{
			&p.SampleType[0].Type, &p.SampleType[0].Unit, &p.PeriodType.Type, &p.PeriodType.Unit, &p.Mapping[0].Filename,
			&p.Function[0].Name, &p.Function[0].Filename, &p.Sample[1].Label[0].Key, &p.Sample[1].Label[0].Str,
		} {
			*n--
		}
	}, nil, "corrected string 0, which was not empty (1)"},
	"not UTF-8":        {func(p *googlev1.Profile) { p.StringTable[3] = "a\xffb" }, []string{"a\ufffdb;0xfe [40]", "a\ufffdb [2] span_id=9a517183f26a089d"}, "corrected string that was not UTF-8 (1)"},
	"duration":         {func(p *googlev1.Profile) { p.DurationNanos = -5 }, nil, "corrected time that the profile took, which was negative or more than a day (1)"},
	"long duration":    {func(p *googlev1.Profile) { p.DurationNanos = maxDuration + 1 }, nil, "corrected time that the profile took, which was negative or more than a day (1)"},
	"period":           {func(p *googlev1.Profile) { p.Period = -5 }, nil, "corrected period which was negative (1)"},
	"dropped frames":   {func(p *googlev1.Profile) { p.DropFrames = 99 }, nil, "corrected reference to a missing string, by drop_frames (1)"},
	"default type":     {func(p *googlev1.Profile) { p.DefaultSampleType = -1 }, nil, "corrected reference to a missing string, by default_sample_type (1)"},
	"mapping ID":       {func(p *googlev1.Profile) { p.Mapping[0].Id = 0 }, nil, "skipped mapping whose ID is 0 or occurs twice (1); corrected location whose mapping is missing (1)"},
	"mapping hash":     {func(p *googlev1.Profile) { p.Mapping[0].Id = 0x9e3779b97f4a7c15 }, nil, "corrected location whose mapping is missing (1)"},
	"mapping file":     {func(p *googlev1.Profile) { p.Mapping[0].Filename = 99 }, nil, "corrected reference to a missing string, by a mapping (1)"},
	"build ID":         {func(p *googlev1.Profile) { p.Mapping[0].BuildId = 99 }, nil, "corrected reference to a missing string, by a mapping (1)"},
	"location mapping": {func(p *googlev1.Profile) { p.Location[0].MappingId = 4 }, nil, "corrected location whose mapping is missing (1)"},
	"function twice": {func(p *googlev1.Profile) {
		f := p.Function[0].CloneVT()
		f.Name = 5
		p.Function = append(p.Function, f)
	}, nil, "skipped function whose ID is 0 or occurs twice (1)"},
	"location twice": {func(p *googlev1.Profile) {
		p.Location = append(p.Location, &googlev1.Location{Id: 2, Address: 0xaa})
	}, nil, "skipped location whose ID is 0 or occurs twice (1)"},
	"system name only":       {func(p *googlev1.Profile) { p.Function[0].Name, p.Function[0].SystemName = 0, 3 }, nil, ""},
	"no name":                {func(p *googlev1.Profile) { p.Function[0].Name = 0 }, []string{"main.go;0xfe [40]", "main.go [2] span_id=9a517183f26a089d"}, "corrected function without a name (1)"},
	"no name and no file":    {func(p *googlev1.Profile) { p.Function[0].Name, p.Function[0].Filename = 0, 0 }, []string{"[unknown];0xfe [40]", "[unknown] [2] span_id=9a517183f26a089d"}, "corrected function without a name (1)"},
	"function name":          {func(p *googlev1.Profile) { p.Function[0].Name, p.Function[0].SystemName = 99, 3 }, nil, "corrected reference to a missing string, by a function (1)"},
	"function system name":   {func(p *googlev1.Profile) { p.Function[0].SystemName = 99 }, nil, "corrected reference to a missing string, by a function (1)"},
	"function file":          {func(p *googlev1.Profile) { p.Function[0].Filename = 99 }, nil, "corrected reference to a missing string, by a function (1)"},
	"line's function":        {func(p *googlev1.Profile) { p.Location[0].Line[0].FunctionId = 1 }, []string{"[unknown];0xfe [40]", "[unknown] [2] span_id=9a517183f26a089d"}, "corrected location whose function is missing (1)"},
	"line's function 0":      {func(p *googlev1.Profile) { p.Location[0].Line[0].FunctionId = 0 }, []string{"[unknown];0xfe [40]", "[unknown] [2] span_id=9a517183f26a089d"}, "corrected location whose function is missing (1)"},
	"function at an address": {func(p *googlev1.Profile) { p.Location[0].Address, p.Location[0].Line[0].FunctionId = 0xab, 1 }, []string{"0xab;0xfe [40]", "0xab [2] span_id=9a517183f26a089d"}, "corrected location whose function is missing (1)"},
	"inlined function": {func(p *googlev1.Profile) {
		p.Location[0].Address = 0xab
		p.Location[0].Line = append([]*googlev1.Line{{FunctionId: 1}}, p.Location[0].Line...)
	}, []string{"main;[unknown];0xfe [40]", "main;[unknown] [2] span_id=9a517183f26a089d"}, "corrected location whose function is missing (1)"},
	"too few values":    {func(p *googlev1.Profile) { p.Sample[1].Value = nil }, []string{soundFirst}, "skipped sample with more or fewer values than there are sample types (1)"},
	"too many values":   {func(p *googlev1.Profile) { p.Sample[1].Value = []int64{1, 2} }, []string{soundFirst}, "skipped sample with more or fewer values than there are sample types (1)"},
	"negative value":    {func(p *googlev1.Profile) { p.Sample[1].Value[0] = -2 }, []string{soundFirst}, "skipped sample with a negative value (1)"},
	"sample location":   {func(p *googlev1.Profile) { p.Sample[0].LocationId[1] = 9 }, []string{"[unknown];0xfe [40]", soundSecond}, "corrected location that is missing (1)"},
	"sample location 0": {func(p *googlev1.Profile) { p.Sample[0].LocationId[0] = 0 }, []string{"main;[unknown] [40]", soundSecond}, "corrected location that is missing (1)"},
	"label":             {func(p *googlev1.Profile) { p.Sample[1].Label[0].Str = 8 }, []string{soundFirst, "main [2]"}, "skipped label without a name, or whose value is missing (1)"},
	"label key":         {func(p *googlev1.Profile) { p.Sample[1].Label[0].Key = -8 }, []string{soundFirst, "main [2]"}, "skipped label without a name, or whose value is missing (1)"},
	"label without key": {func(p *googlev1.Profile) { p.Sample[1].Label[0].Key = 0 }, []string{soundFirst, "main [2]"}, "skipped label without a name, or whose value is missing (1)"},
	"label's own unit":  {func(p *googlev1.Profile) { p.Sample[1].Label[0].NumUnit = 8 }, nil, "corrected reference to a missing string, by a label (1)"},
	"label key twice": {func(p *googlev1.Profile) {
		p.StringTable = append(p.StringTable, "tenant", "a", "b", "endpoint", "/pay")
		p.Sample[0].Value[0] = 41
		p.Sample[0].Label = []*googlev1.Label{{Key: 8, Str: 9}, {Key: 11, Str: 12}, {Key: 8, Str: 10}, {Key: 8, Str: 9}}
	}, []string{"main;0xfe [21] tenant=a endpoint=/pay", "main;0xfe [20] endpoint=/pay tenant=b", soundSecond},
		"corrected label tenant, of which a sample had several values: the sample was divided among them (1)"},
	"two label keys twice": {func(p *googlev1.Profile) {
		p.StringTable = append(p.StringTable, "tenant", "a", "b", "c", "zone", "x", "y")
		p.Sample[0].Label = []*googlev1.Label{{Key: 8, Str: 9}, {Key: 8, Str: 10}, {Key: 8, Str: 11}, {Key: 12, Str: 13}, {Key: 12, Str: 14}}
	}, []string{"main;0xfe [14] tenant=a zone=x", "main;0xfe [13] tenant=b zone=y", "main;0xfe [13] tenant=c zone=x", soundSecond},
		"corrected label tenant, of which a sample had several values: the sample was divided among them (1); " +
			"corrected label zone, of which a sample had several values: the sample was divided among them (1)"},
}

// One wrong element is corrected or left out; the rest of the profile stays, and the
// report names it.
func TestPprofCorrectsOneElement(t *testing.T) {
	for name, tc := range flaws {
		t.Run(name, func(t *testing.T) {
			p := sound()
			tc.breakIt(p)
			r := &Report{}
			got, _, err := Pprof(encode(t, p), Limits{Report: r})
			require.NoError(t, err)
			if tc.want == nil {
				tc.want = []string{soundFirst, soundSecond}
			}
			require.Equal(t, tc.want, shownStacks(got))
			require.Equal(t, tc.note, r.String())
			require.NoError(t, check(got, Limits{}))
			_, _, err = Pprof(encode(t, p), Limits{}) // without a report
			require.NoError(t, err)
		})
	}
}

// The same label with the same value twice says nothing more than once.
func TestPprofTakesALabelTwice(t *testing.T) {
	p := sound()
	p.StringTable = append(p.StringTable, "tenant", "a", "tenant")
	p.Sample[0].Label = []*googlev1.Label{{Key: 8, Str: 9}, {Key: 10, Str: 9}}
	r := &Report{}
	got, _, err := Pprof(encode(t, p), Limits{Report: r})
	require.NoError(t, err)
	require.Equal(t, "main;0xfe [40] tenant=a tenant=a", shownStacks(got)[0])
	require.Empty(t, r.String())
}

// Many samples with two tenants share evenly, also where each has a value of 1.
func TestPprofSharesValuesOfOne(t *testing.T) {
	p := sound()
	p.StringTable = append(p.StringTable, "tenant", "a", "b")
	p.Sample = nil
	for range 100 {
		p.Sample = append(p.Sample, &googlev1.Sample{LocationId: []uint64{1}, Value: []int64{1}, Label: []*googlev1.Label{{Key: 8, Str: 9}, {Key: 8, Str: 10}}})
	}
	got, _, err := Pprof(encode(t, p), Limits{})
	require.NoError(t, err)
	sums := map[string]int64{}
	for _, s := range got.Sample {
		sums[got.StringTable[s.Label[0].Str]] += s.Value[0]
	}
	require.Equal(t, map[string]int64{"a": 50, "b": 50}, sums)
	_, _, err = Pprof(encode(t, p), Limits{MaxSamples: 150})
	require.ErrorContains(t, err, "limits.max_samples")
}

func TestPprofNamesFunctions(t *testing.T) {
	p := sound()
	p.StringTable[3] = "_ZN5tokio7runtime4task7harness20Harness$LT$T$C$S$GT$4poll17h0123456789abcdefE"
	got, _, err := Pprof(encode(t, p), Limits{})
	require.NoError(t, err)
	f := got.Function[0]
	require.Equal(t, "tokio::runtime::task::harness::Harness<T,S>::poll", got.StringTable[f.Name])
	require.Equal(t, p.StringTable[3], got.StringTable[f.SystemName])
	p.Function[0].Name, p.Function[0].SystemName = 0, 3
	got, _, err = Pprof(encode(t, p), Limits{})
	require.NoError(t, err)
	require.Equal(t, "tokio::runtime::task::harness::Harness<T,S>::poll", got.StringTable[got.Function[0].Name])
}

// Names that are small mangled and large demangled are held to the limits.
func TestPprofBoundsDemangledNames(t *testing.T) {
	r := &Report{}
	n := newNames(Limits{MaxProfileBytes: 40, MaxSymbolBytes: 20, Report: r})
	require.Equal(t, "shop::checkout", n.shown("_ZN4shop8checkoutEi"))
	require.Equal(t, "shop::checkout", n.shown("_ZN4shop8checkoutEv"))
	require.Equal(t, "_ZN4shop8checkoutEl", n.shown("_ZN4shop8checkoutEl"), "40 bytes")
	require.Equal(t, "_ZN4shop10withcouponEv", n.shown("_ZN4shop10withcouponEv"))
	require.Equal(t, "skipped name too long when demangled, kept as it is (2)", r.String())
	n = newNames(Limits{Report: r})
	n.mangled = maxMangledBytes
	require.Equal(t, "_ZN4shop8checkoutEi", n.shown("_ZN4shop8checkoutEi"))
	require.Equal(t, "main", n.shown("main"))
}

// One stacktrace that is too deep, or one name that is too long, costs no profile.
func TestPprofIsHeldToLimitsByElement(t *testing.T) {
	deep := sound()
	deep.Sample[0].LocationId = []uint64{2, 1, 1, 1, 1, 1, 1}
	report := &Report{}
	p, _, err := Pprof(encode(t, deep), Limits{MaxStackDepth: 4, Report: report})
	require.NoError(t, err)
	require.Equal(t, []string{"main;[truncated];main;0xfe [40]", soundSecond}, shownStacks(p))
	require.Equal(t, "corrected stacktrace deeper than limits.max_stack_depth, which was cut in the middle (1)", report.String())
	p, _, err = Pprof(encode(t, deep), Limits{MaxStackDepth: 1})
	require.NoError(t, err)
	require.Equal(t, []string{"[truncated] [40]", soundSecond}, shownStacks(p))

	long := sound()
	long.StringTable[3] = strings.Repeat("é", 10)
	report = &Report{}
	p, _, err = Pprof(encode(t, long), Limits{MaxSymbolBytes: 17, Report: report})
	require.NoError(t, err)
	require.Equal(t, []string{strings.Repeat("é", 8) + ";0xfe [40]", strings.Repeat("é", 8) + " [2] span_id=9a517183f26a089d"}, shownStacks(p))
	require.Equal(t, "corrected string longer than limits.max_symbol_bytes, which was cut (1)", report.String())
}
