package ingest

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"strings"
	"testing"
	"time"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"
)

// formOf makes a form of parts, given as names and contents.
func formOf(t testing.TB, parts ...string) (contentType string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(parts); i += 2 {
		part, err := w.CreateFormFile(parts[i], "file")
		require.NoError(t, err)
		_, err = io.WriteString(part, parts[i+1])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return w.FormDataContentType(), b.Bytes()
}

func TestForm(t *testing.T) {
	contentType, body := formOf(t, "profile", "abc", "sample_type_config", "{}")
	parts, err := ReadForm(contentType, body)
	require.NoError(t, err)
	require.Equal(t, map[string][]byte{"profile": []byte("abc"), "sample_type_config": []byte("{}")}, parts)

	for name, tc := range map[string]struct {
		contentType string
		body        []byte
		want        string
	}{
		"no boundary": {"multipart/form-data", body, `Content-Type: "multipart/form-data" gives no boundary`},
		"broken type": {"multipart/form-data; boundary=\"", body, "Content-Type: "},
		"no form":     {contentType, []byte("main;work 3"), "form: is truncated"},
		"cut":         {contentType, body[:len(body)/2], "form: "},
		"cut at last": {contentType, body[:len(body)-6], "form: "},
		"no body":     {contentType, nil, "form: is truncated"},
	} {
		_, err := ReadForm(tc.contentType, tc.body)
		require.ErrorContains(t, err, tc.want, name)
	}
	_, twice := formOf(t, "profile", "abc", "profile", "later")
	_, err = ReadForm("multipart/form-data; boundary="+string(twice[2:bytes.IndexByte(twice, '\r')]), twice)
	require.ErrorContains(t, err, `form: part 1, "profile": occurs twice`)
	var many []string
	for i := range maxParts + 1 {
		many = append(many, fmt.Sprint(i), "")
	}
	contentType, body = formOf(t, many...)
	_, err = ReadForm(contentType, body)
	require.ErrorContains(t, err, "form: more than 16 parts")
}

func TestPprofForm(t *testing.T) {
	m := pushOf(t, "shop")
	_, _, err := PprofForm(map[string][]byte{"jfr": nil}, m, Limits{})
	require.ErrorContains(t, err, `profile: the form has no part of this name, only ["jfr"]`)
	_, _, err = PprofForm(map[string][]byte{"profile": encode(t, sound()), "prev_profile": {1}}, m, Limits{})
	require.ErrorContains(t, err, "prev_profile: ")
	for in, want := range map[string]string{
		`{`:                            "sample_type_config: unexpected end of JSON input, at byte 1",
		`{"cpu":{"cumulative":"yes"}}`: "sample_type_config: cumulative: a JSON string, want bool, at byte ",
		`[]`:                           "sample_type_config: the document: a JSON array, want ",
	} {
		_, _, err = PprofForm(map[string][]byte{"profile": encode(t, sound()), "sample_type_config": []byte(in)}, m, Limits{})
		require.ErrorContains(t, err, want, in)
	}
	ps, _, err := PprofForm(map[string][]byte{"profile": gzipped(t, encode(t, sound())), "sample_type_config": []byte(
		`{"cpu":{"units":"samples","display-name":"mutex_count","aggregation":"sum","cumulative":false,"sampled":true}}`)}, m, Limits{})
	require.NoError(t, err)
	require.Equal(t, `{__name__="mutex", pyroscope_spy="test", service_name="shop"}`, ps[0].Labels.String())
	ps, _, err = PprofForm(map[string][]byte{"profile": {}}, m, Limits{})
	require.NoError(t, err, "a program that had nothing to say")
	require.Empty(t, ps)
}

func TestPushedPprofTakesTimesOfThePush(t *testing.T) {
	m := pushOf(t, "shop")
	p := sound()
	p.TimeNanos, p.DurationNanos = 0, 0
	ps, _, err := PushedPprof(encode(t, p), nil, m, Limits{})
	require.NoError(t, err)
	require.Equal(t, m.From.UnixNano(), ps[0].Pprof.TimeNanos)
	require.Equal(t, int64(10*time.Second), ps[0].Pprof.DurationNanos)
	p.TimeNanos, p.DurationNanos = 1_600_000_000e9, 3
	ps, _, err = PushedPprof(encode(t, p), nil, m, Limits{})
	require.NoError(t, err)
	require.Equal(t, int64(1_600_000_000e9), ps[0].Pprof.TimeNanos)
	require.Equal(t, int64(3), ps[0].Pprof.DurationNanos)
}

func TestScriptsAreNamedByTheirFile(t *testing.T) {
	for spy, want := range map[string][2]string{
		"pyspy": {"lib/a.py main", "work"}, "rbspy": {"lib/a.py main", "/abs/b.py work"}, "gospy": {"main", "work"},
	} {
		p := sound()
		p.StringTable = append(p.StringTable, "lib/a.py", "/abs/b.py", "work")
		n := int64(len(p.StringTable))
		p.Function[0].Filename = n - 3
		second := p.Function[0].CloneVT()
		second.Id, second.Name, second.Filename = 8, n-1, n-2
		p.Function = append(p.Function, second)
		m := pushOf(t, "shop")
		m.SpyName = spy
		ps, _, err := PushedPprof(encode(t, p), nil, m, Limits{})
		require.NoError(t, err)
		got := ps[0].Pprof
		require.Equal(t, want, [2]string{got.StringTable[got.Function[0].Name], got.StringTable[got.Function[1].Name]}, spy)
		_, _, err = Pprof(encode(t, got), Limits{})
		require.NoError(t, err)
	}
}

func TestDotnetIsRepaired(t *testing.T) {
	p := sound()
	p.StringTable[1] = "inuse-space"
	p.Function = append(p.Function, p.Function[0].CloneVT())
	p.Location[1].Line = p.Location[0].CloneVT().Line
	for i, l := range p.Location {
		p.Function[i].Id, l.Line[0].FunctionId = 0, l.Id
	}
	m := pushOf(t, "shop")
	r := &Report{}
	_, _, err := PushedPprof(encode(t, p), nil, m, Limits{Report: r})
	require.NoError(t, err)
	require.Equal(t, "skipped function whose ID is 0 or occurs twice (2); corrected location whose function is missing (2); corrected time of the profile, which is before 1990 (1)", r.String())
	m.SpyName = "dotnetspy"
	ps, _, err := PushedPprof(encode(t, p), nil, m, Limits{})
	require.NoError(t, err)
	require.Equal(t, "memory", ps[0].Labels.Get("__name__"))
	require.Equal(t, "inuse_space", ps[0].Pprof.StringTable[ps[0].Pprof.SampleType[0].Type])
	sole(t, ps, Limits{})
}

// Names that are long because their file's is are held to the limits.
func TestScriptsNamesAreBounded(t *testing.T) {
	p := sound()
	p.StringTable = append(p.StringTable, strings.Repeat("f", 3000))
	file := int64(len(p.StringTable)) - 1
	for i := range 1000 {
		f := p.Function[0].CloneVT()
		p.StringTable = append(p.StringTable, fmt.Sprint(i))
		f.Id, f.Filename, f.Name = uint64(100+i), file, int64(len(p.StringTable))-1
		p.Function = append(p.Function, f)
	}
	m := pushOf(t, "shop")
	m.SpyName = "rbspy"
	_, _, err := PushedPprof(encode(t, p), nil, m, Limits{MaxProfileBytes: 1 << 20})
	require.ErrorContains(t, err, "pprof: too large: more than 1048576 bytes")
	_, _, err = PushedPprof(encode(t, p), nil, m, Limits{MaxSymbolBytes: 3000})
	require.ErrorContains(t, err, `pprof: function "0": the name with the file has 3002 bytes, more than 3000 (limits.max_symbol_bytes)`)
}

// FuzzForm reads any form, with any words about the types of its profile.
func FuzzForm(f *testing.F) {
	_, body := formOf(f, "profile", string(encode(f, sound())))
	boundary := string(body[2:bytes.IndexByte(body, '\r')])
	f.Add(boundary, body, []byte(`{"cpu":{"units":"samples","display-name":"mutex_count"}}`), "pyspy")
	f.Add("x", []byte("--x\r\n\r\n\r\n--x--"), []byte(`{"cpu":null}`), "dotnetspy")
	f.Fuzz(func(t *testing.T, boundary string, body, config []byte, spy string) {
		parts, err := ReadForm("multipart/form-data; boundary="+boundary, body)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "form: ") && !strings.HasPrefix(err.Error(), "Content-Type: ") {
				t.Fatalf("error without context: %v", err)
			}
			parts = map[string][]byte{"profile": encode(t, sound())}
		}
		if _, ok := parts["sample_type_config"]; !ok {
			parts["sample_type_config"] = config
		}
		m := pushOf(t, "shop")
		m.SpyName = spy
		ps, _, err := PprofForm(parts, m, fuzzLimits)
		if err != nil {
			return
		}
		for _, p := range ps {
			require.NotEmpty(t, p.Labels.Get("__name__"))
			_, _, err := Pprof(encode(t, p.Pprof), Limits{})
			require.NoError(t, err)
		}
	})
}

func TestPprofFormNamesOtherParts(t *testing.T) {
	report := &Report{}
	_, _, err := PprofForm(map[string][]byte{"profile": encode(t, sound()), "other": nil}, pushOf(t, "shop"), Limits{Report: report})
	require.NoError(t, err)
	require.Contains(t, report.String(), "skipped part other of the form (1)")
}

// A recording of flameline record that is pushed has the types of the sampler.
func TestMetricOfRecordings(t *testing.T) {
	for want, types := range map[string][]string{
		"off_cpu":     {"off_cpu", "blocks"},
		"page_faults": {"page_faults"},
		"wall":        {"samples", "wall"},
		"process_cpu": {"samples", "cpu"},
	} {
		p := &googlev1.Profile{StringTable: append([]string{""}, types...)}
		for i := range types {
			p.SampleType = append(p.SampleType, &googlev1.ValueType{Type: int64(i + 1)})
		}
		require.Equal(t, want, metricOf(p, nil))
	}
}
