package profile_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/pkg/profile"
)

func TestParseQuery(t *testing.T) {
	const cpu = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
	for in, want := range map[string][3]string{ // type, name, selector
		cpu:                                  {cpu, "", "{}"},
		cpu + "{}":                           {cpu, "", "{}"},
		cpu + `{service_name="a", b!~"c.*"}`: {cpu, "", `{service_name="a",b!~"c.*"}`},
		cpu + ":delta{}":                     {cpu, "", "{}"},
		`{__profile_type__="` + cpu + `", a="b"}`:                  {cpu, "", `{a="b"}`},
		`{a="b", __name__="` + cpu + `"}`:                          {cpu, "", `{a="b"}`},
		`{__name__="process_cpu", __profile_type__="` + cpu + `"}`: {cpu, "", `{__name__="process_cpu"}`},
		"memory:inuse_space:bytes::{}":                             {"memory:inuse_space:bytes::", "", "{}"},
		"my-go-service.cpu":                                        {"::::", "my-go-service.cpu", "{}"},
		" simple.golang.app.alloc_objects {} ":                     {"::::", "simple.golang.app.alloc_objects", "{}"},
		`my-go-service.cpu{env="prod"}`:                            {"::::", "my-go-service.cpu", `{env="prod"}`},
		"app.cpu{env=staging,region=us-west-1}":                    {"::::", "app.cpu", `{env="staging",region="us-west-1"}`},
		"app.cpu{env=staging, path=~/a/.*, x!=, y!~z,}":            {"::::", "app.cpu", `{env="staging",path=~"/a/.*",x!="",y!~"z"}`},
		"app.cpu{a='b c', d=e, f=`g,h`}":                           {"::::", "app.cpu", `{a="b c",d="e",f="g,h"}`},
		`app.cpu{k8s.pod.name='a-0'}`:                              {"::::", "app.cpu", `{"k8s.pod.name"="a-0"}`},
		`app.cpu{"k8s.pod.name"=a-0}`:                              {"::::", "app.cpu", `{"k8s.pod.name"="a-0"}`},
		`app.cpu{a=it's, b=c}`:                                     {"::::", "app.cpu", `{a="it's",b="c"}`},
		`app.cpu{a=b, c="d, e", f.g=h}`:                            {"::::", "app.cpu", `{a="b",c="d, e","f.g"="h"}`},
	} {
		q, err := profile.ParseQuery(in)
		require.NoError(t, err, in)
		require.Equal(t, want, [3]string{q.Type.String(), q.Name, profile.FormatSelector(q.Matchers)}, in)
	}
}

func TestParseQueryMistakes(t *testing.T) {
	for in, want := range map[string]string{
		"":                    "no profile type: want ",
		"{}":                  "no profile type: want ",
		`{a="b"}`:             "no profile type: want ",
		"a:b{}":               `profile type "a:b": want `,
		"a:b:c:d:e:f:g{}":     `profile type "a:b:c:d:e:f:g": want `,
		`app.cpu{a="b"`:       "the labels are not closed by }",
		`app.cpu{a="b"}x`:     "the labels are not closed by }",
		`app.cpu{a}`:          `selector "{a}": 1:3: `,
		`app.cpu{a=~"("}`:     "selector ",
		`app.cpu{a=~(}`:       "selector ",
		`app.cpu{a="b"c="d"}`: `selector "{a=\"b\"c=\"d\"}": 1:7: `,
		`app.cpua=b`:          "--globoff (-g)",
	} {
		_, err := profile.ParseQuery(in)
		require.ErrorContains(t, err, want, in)
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add(`process_cpu:cpu:nanoseconds:cpu:nanoseconds{service_name="a"}`)
	f.Add(`my-go-service.cpu{env=prod, a!~"b"}`)
	f.Add("a.cpu{b.c='d', e=`f,`, g=it's}")
	f.Add(`{__profile_type__="a:b:c:d:e"}`)
	f.Fuzz(func(t *testing.T, s string) {
		q, err := profile.ParseQuery(s)
		if err != nil {
			return
		}
		if (q.Name == "") == (q.Type == profile.Type{}) {
			t.Fatalf("%q: name %q and type %v", s, q.Name, q.Type)
		}
		text := q.Name
		if text == "" {
			text = q.Type.String()
		}
		again, err := profile.ParseQuery(text + profile.FormatSelector(q.Matchers))
		if err != nil || again.Name != q.Name || again.Type != q.Type ||
			profile.FormatSelector(again.Matchers) != profile.FormatSelector(q.Matchers) {
			t.Fatalf("%q: %v, then %v, %v", s, q, again, err)
		}
	})
}
