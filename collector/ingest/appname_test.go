package ingest

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

func TestParseName(t *testing.T) {
	for in, want := range map[string]struct {
		app string
		set map[string]string
	}{
		"shop":                                  {"shop", map[string]string{}},
		" shop-1/a.cpu {}":                      {"shop-1/a.cpu", map[string]string{}},
		"shop{region=eu}":                       {"shop", map[string]string{"region": "eu"}},
		"shop{ region = eu west , os.name=a=b}": {"shop", map[string]string{"region": "eu west", "os.name": "a=b"}},
		"shop{a=1,a=2,}":                        {"shop", map[string]string{"a": "2"}},
		"shop{a={x}}":                           {"shop", map[string]string{"a": "{x"}},
		"shop{a=}":                              {"shop", map[string]string{"a": ""}},
		"shop{path=/ü}":                         {"shop", map[string]string{"path": "/ü"}},
		`shop{a="b",c='d',e=` + "`f`}":          {"shop", map[string]string{"a": "b", "c": "d", "e": "f"}},
		`shop{ a = "b c" , }`:                   {"shop", map[string]string{"a": "b c"}},
		`shop{a="x,y}z",b="\"\\\u00fc\n"}`:      {"shop", map[string]string{"a": "x,y}z", "b": "\"\\ü\n"}},
		`shop{a='it\'s "x"'}`:                   {"shop", map[string]string{"a": `it's "x"`}},
		"shop{a=`\\d+`}":                        {"shop", map[string]string{"a": `\d+`}},
		`shop{a="",b=it's,c=say "x"}`:           {"shop", map[string]string{"a": "", "b": "it's", "c": `say "x"`}},
		`shop{"pod.name"="a-1",'x y'=z}`:        {"shop", map[string]string{"pod.name": "a-1", "x y": "z"}},
	} {
		app, set, err := ParseName(in)
		require.NoError(t, err, in)
		require.Equal(t, want.app, app, in)
		require.Equal(t, want.set, set, in)
	}
}

func TestParseNameNamesThePlace(t *testing.T) {
	for in, want := range map[string]string{
		"":                   "name: the application has no name",
		" {a=b}":             "name: the application has no name",
		"my shop":            `name: "my shop": " " may not be in an application's name`,
		"shöp":               `"ö" may not be`,
		"shop{a=b":           `name: the value of the label "a" is not closed by , or }, at byte 7`,
		"shop{":              "name: the labels are not closed by } after byte 5",
		"shop{a=b,c":         "name: the labels are not closed by } after byte 9",
		"shop{a}":            `name: the label "a" has no value, at byte 5`,
		"shop{=b}":           "name: a label has no name, at byte 5",
		"shop{a=1,b-c=2}":    `name: the label "b-c": "-" may not be in a label's name, at byte 9`,
		"shop{a=b}x":         `name: "x" follows the labels, at byte 9`,
		`shop{a="b}`:         `name: the value of the label "a": the quotes are not closed, at byte 7`,
		`shop{a="b"c}`:       `name: the value of the label "a" is in quotes, but "c" follows them, at byte 10`,
		`shop{a="\q"}`:       `name: the value of the label "a": "\q" is not quoted as in a selector, at byte 7`,
		`shop{"a"}`:          `name: the label "a" has no value, at byte 5`,
		`shop{""=b}`:         `name: a label has no name, at byte 5`,
		`shop{"a=b}`:         `name: a label's name: the quotes are not closed, at byte 5`,
		"shop{__name__=cpu}": "name: the label __name__ is the application's name",
	} {
		_, _, err := ParseName(in)
		require.ErrorContains(t, err, want, in)
	}
}

func TestPushLabels(t *testing.T) {
	for in, want := range map[string]string{
		"shop.cpu":                          `{pyroscope_spy="gospy", service_name="shop.cpu"}`,
		"shop{service_name=a,__x__=1,y=2}":  `{pyroscope_spy="gospy", service_name="a", y="2"}`,
		"shop{pyroscope_spy=mine,empty= }":  `{pyroscope_spy="mine", service_name="shop"}`,
		"shop{otel.scope.name=com.example}": `{"otel.scope.name"="com.example", pyroscope_spy="gospy", service_name="shop"}`,
	} {
		var m Push
		require.NoError(t, m.SetLabels(in, "gospy", Limits{}), in)
		require.Equal(t, want, m.Labels.String(), in)
		require.Equal(t, strings.Contains(in, "service_name"), m.ServiceNamed)
	}
	var m Push
	require.ErrorContains(t, m.SetLabels("shop{a=0123456789}", "", Limits{MaxLabelValueBytes: 9}), "name: labels[")
	require.ErrorContains(t, m.SetLabels("0123456789{service_name=a}", "", Limits{MaxLabelValueBytes: 9}), "name: the application's name of 10 bytes is longer than 9")
	r := &Report{}
	require.NoError(t, m.SetLabels("shop{a=\xff}", "", Limits{Report: r}))
	require.Equal(t, "\ufffd", m.Labels.Get("a"))
	require.Equal(t, "corrected string that was not UTF-8 (1)", r.String())
	require.ErrorContains(t, m.SetLabels("shop{a=1,b=2}", "", Limits{MaxLabels: 3}), "limits.max_labels")
}

// A value in quotes is the one that a selector with the same text finds.
func TestParseNameQuotesAsSelectors(t *testing.T) {
	for _, quoted := range []string{`"a"`, `'a'`, "`a`", `"a\tb\x41\u00fc"`, `'a"b'`, "`a\\tb`", `"}"`, `"a,b"`, `""`} {
		_, set, err := ParseName("shop{x=" + quoted + "}")
		require.NoError(t, err, quoted)
		ms, err := profile.ParseSelector("{x=" + quoted + "}")
		require.NoError(t, err, quoted)
		require.Equal(t, ms[0].Value, set["x"], quoted)
	}
}

// FuzzParseName checks that what is accepted is accepted again in the form that
// SDKs write, and means the same.
func FuzzParseName(f *testing.F) {
	for _, s := range []string{"shop", "shop.cpu{region=eu,a=b}", "{", "a{b=c}}", "a{=}", "a{ b = c , d=}", "a{b={}", `a{b="c,d",'e f'=` + "`g`}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		app, set, err := ParseName(s)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "name: ") {
				t.Fatalf("error without context: %v", err)
			}
			return
		}
		var pairs []string
		for name, value := range set {
			pairs = append(pairs, strconv.Quote(name)+"="+strconv.Quote(value))
		}
		again := app + "{" + strings.Join(pairs, ",") + "}"
		app2, set2, err := ParseName(again)
		require.NoError(t, err, again)
		require.Equal(t, app, app2)
		require.Equal(t, set, set2)
	})
}

// Of labels that are there twice the last one counts, as in Pyroscope, which is noted.
func TestNameWithALabelTwice(t *testing.T) {
	for name, want := range map[string]string{
		"shop{a=1,b=2,a=1}": "",
		"shop{a=1,b=2,a=3}": "skipped label a, which the name has twice (1)",
	} {
		var m Push
		report := &Report{}
		require.NoError(t, m.SetLabels(name, "test", Limits{Report: report}))
		require.Equal(t, want, report.String(), name)
	}
}
