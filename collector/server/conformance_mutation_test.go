package server_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/flameline/flameline/collector/server/conformance"
)

// free are the fields of responses that may have any value, and why.
var free = map[protoreflect.FullName]string{
	"querier.v1.AnalyzeQueryResponse.query_scopes":         "what holds the series is each server's own affair",
	"google.v1.Profile.default_sample_type":                "there is one sample type",
	"google.v1.Profile.duration_nanos":                     "Pyroscope's is 0; TestExportsSayTheirDuration",
	"google.v1.Function.id":                                "numbers name things, and may be others",
	"google.v1.Function.system_name":                       "the corpus has none that differ from the names",
	"google.v1.Location.id":                                "as Function.id",
	"google.v1.Location.is_folded":                         "nobody sets it",
	"google.v1.Mapping.id":                                 "as Function.id",
	"google.v1.Mapping.memory_start":                       "the corpus has none",
	"google.v1.Mapping.has_functions":                      "whether to symbolize again, which these tests do not",
	"google.v1.Mapping.has_filenames":                      "the same",
	"google.v1.Mapping.has_line_numbers":                   "the same",
	"types.v1.GetProfileStatsResponse.oldest_profile_time": "Pyroscope's v2 has none; TestProfileStatsSayFromWhenToWhen",
	"types.v1.GetProfileStatsResponse.newest_profile_time": "the same",
}

// TestConformanceSeesEveryWrongAnswer changes our answer to every call in every
// place, one at a time, and demands that the comparison reports each.
func TestConformanceSeesEveryWrongAnswer(t *testing.T) {
	ctx := t.Context()
	base := corpusBase()
	p := loadPeer(t)
	url, _ := start(t, defaults)
	require.NoError(t, conformance.Push(ctx, url, base))
	for _, c := range conformance.Calls(base) {
		t.Run(c.Name, func(t *testing.T) {
			sound, err := conformance.Fetch(ctx, url, c)
			require.NoError(t, err)
			n := 0
			for how, wrong := range mutations(c, sound) {
				n++
				if testing.Short() && n%8 != 1 {
					continue
				}
				a, err := conformance.Reduce(c, wrong, base)
				if err != nil {
					continue // seen
				}
				if p.fault(c, a, false) == "" {
					t.Errorf("nobody saw that %s", how)
				}
			}
			require.NotZero(t, n, "there is no wrong answer")
		})
	}
}

// mutations yields wrong answers, and what is wrong with them.
func mutations(c conformance.Call, r conformance.Response) func(yield func(string, conformance.Response) bool) {
	return func(yield func(string, conformance.Response) bool) {
		if r.Code != "" {
			for _, w := range []conformance.Response{
				{Code: "internal", Message: r.Message},
				{Code: r.Code, Message: "something is wrong"},
			} {
				if !yield("the error is another", w) {
					return
				}
			}
			return
		}
		if !yield("the answer is an error", conformance.Response{Code: "internal", Message: "broken"}) {
			return
		}
		if r.JSON != nil {
			mutateJSON(c, r.JSON, func(how string) bool { return yield(how, r) })
			return
		}
		mutate(r.Msg, func(how string) bool {
			return yield(how, conformance.Response{Msg: r.Msg})
		})
	}
}

// mutate changes one place of a message after the other, calls seen, and
// restores the place.
func mutate(m proto.Message, seen func(how string) bool) {
	var walk func(m protoreflect.Message, at string) bool
	walk = func(m protoreflect.Message, at string) bool {
		ok := true
		m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			here := at + "." + string(fd.Name())
			if free[fd.FullName()] != "" {
				return true
			}
			if !fd.IsList() {
				if fd.Message() != nil {
					ok = walk(v.Message(), here)
					return ok
				}
				for how, w := range others(fd, v) {
					m.Set(fd, w)
					if ok = seen(fmt.Sprintf("%s is %v for %v%s", here, w, v, how)); !ok {
						break
					}
				}
				m.Set(fd, v)
				return ok
			}
			l := v.List()
			for i := range l.Len() {
				place := fmt.Sprintf("%s[%d]", here, i)
				if fd.Message() != nil {
					if ok = walk(l.Get(i).Message(), place); !ok {
						return false
					}
					continue
				}
				was := l.Get(i)
				if used(m, fd, i) {
					for how, w := range others(fd, was) {
						l.Set(i, w)
						if ok = seen(fmt.Sprintf("%s is %v for %v%s", place, w, was, how)); !ok {
							return false
						}
					}
				}
				l.Set(i, was)
			}
			if needed(m, fd, l) { // the last one missing
				last := l.Get(l.Len() - 1)
				l.Truncate(l.Len() - 1)
				ok = seen(here + " lacks its last")
				l.Append(last)
				if ok && fd.Message() != nil { // or twice
					l.Append(protoreflect.ValueOfMessage(proto.Clone(last.Message().Interface()).ProtoReflect()))
					ok = seen(here + " has its last twice")
					l.Truncate(l.Len() - 1)
				}
			}
			return ok
		})
		return ok
	}
	walk(m.ProtoReflect(), "")
}

// freeJSON are the fields of answers by URL that may have any value: no server sets
// them.
var freeJSON = []string{".timeline.watermarks", ".heatmap", ".groups.*.watermarks"}

// mutateJSON is mutate for an answer by URL.
func mutateJSON(c conformance.Call, answer map[string]any, seen func(how string) bool) {
	var walk func(at string, v any, set func(any)) bool
	walk = func(at string, v any, set func(any)) bool {
		if !c.Timeline && (strings.HasPrefix(at, ".timeline") || strings.HasPrefix(at, ".groups")) || slices.Contains(freeJSON, at) {
			return true
		}
		var wrong any
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				below := at + "." + k
				if at == ".groups" {
					below = at + ".*"
				}
				if !walk(below, e, func(w any) { v[k] = w }) {
					return false
				}
			}
			return true
		case []any:
			for i, e := range v {
				if !walk(at+"[]", e, func(w any) { v[i] = w }) {
					return false
				}
			}
			if len(v) == 0 || at == ".flamebearer.names" {
				return true
			}
			wrong = v[:len(v)-1]
		case json.Number:
			n, err := v.Int64()
			if err != nil {
				panic(err)
			}
			wrong = n + 1
		case string:
			wrong = v + "x"
		default:
			return true // null
		}
		set(wrong)
		defer set(v)
		return seen(fmt.Sprintf("%s is %v for %v", at, wrong, v))
	}
	walk("", answer, nil)
}

// others returns values of a field's kind that differ from v, and how, where
// the value does not say it.
func others(fd protoreflect.FieldDescriptor, v protoreflect.Value) map[string]protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return map[string]protoreflect.Value{"": protoreflect.ValueOfBool(!v.Bool())}
	case protoreflect.Int32Kind:
		return map[string]protoreflect.Value{"": protoreflect.ValueOfInt32(int32(v.Int()) + 1)}
	case protoreflect.Int64Kind:
		by := int64(1)
		if fd.FullName() == "google.v1.Profile.time_nanos" {
			by = 1_000_000 // ms are what ranges count in
		}
		return map[string]protoreflect.Value{"": protoreflect.ValueOfInt64(v.Int() + by)}
	case protoreflect.Uint64Kind:
		return map[string]protoreflect.Value{"": protoreflect.ValueOfUint64(v.Uint() + 1)}
	case protoreflect.DoubleKind:
		return map[string]protoreflect.Value{"": protoreflect.ValueOfFloat64(v.Float()*1.001 + 1)}
	case protoreflect.BytesKind:
		out := map[string]protoreflect.Value{}
		for i := range v.Bytes() {
			b := slices.Clone(v.Bytes())
			b[i] ^= 1
			out[fmt.Sprintf(", byte %d", i)] = protoreflect.ValueOfBytes(b)
		}
		return out
	case protoreflect.StringKind:
		if lines := strings.Split(v.String(), "\n"); strings.HasPrefix(v.String(), "digraph") {
			out := map[string]protoreflect.Value{}
			for i, l := range lines {
				if strings.HasPrefix(l, "N") { // a box or an arrow
					out[fmt.Sprintf(", line %d", i)] = protoreflect.ValueOfString(strings.Join(slices.Delete(slices.Clone(lines), i, i+1), "\n"))
				}
			}
			return out
		}
		return map[string]protoreflect.Value{"": protoreflect.ValueOfString(v.String() + "x")}
	}
	panic("no other value of " + fd.Kind().String())
}

// used reports whether an element of a list is referred to: tables of strings
// may have unused entries.
func used(m protoreflect.Message, fd protoreflect.FieldDescriptor, i int) bool {
	p, ok := m.Interface().(*googlev1.Profile)
	if !ok || fd.Name() != "string_table" {
		return true
	}
	at := int64(i)
	for _, t := range append(slices.Clone(p.SampleType), p.PeriodType) {
		if t.GetType() == at || t.GetUnit() == at {
			return true
		}
	}
	for _, f := range p.Function {
		if f.Name == at || f.Filename == at {
			return true
		}
	}
	return slices.ContainsFunc(p.Mapping, func(m *googlev1.Mapping) bool { return m.Filename == at || m.BuildId == at })
}

// needed reports whether the last of a list may not be missing.
func needed(m protoreflect.Message, fd protoreflect.FieldDescriptor, l protoreflect.List) bool {
	return l.Len() > 0 && (fd.Message() != nil || used(m, fd, l.Len()-1))
}
