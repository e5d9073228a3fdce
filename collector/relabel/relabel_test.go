package relabel

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"
)

func parse(text string) (Rules, error) {
	var rules Rules
	dec := yaml.NewDecoder(strings.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&rules); err != nil {
		return nil, err
	}
	return rules, rules.Validate()
}

// The actions do what Prometheus' documentation of relabel_config says.
func TestApply(t *testing.T) {
	for name, c := range map[string]struct {
		rule string
		want string // empty if dropped
	}{
		"replace":         {`{source_labels: [a, b], separator: /, target_label: c}`, `{a="x1", b="y", c="x1/y"}`},
		"replace a group": {`{source_labels: [a], regex: "x(.)", target_label: b, replacement: "n$1"}`, `{a="x1", b="n1"}`},
		"no match":        {`{source_labels: [a], regex: "1", target_label: b}`, `{a="x1", b="y"}`},
		"remove":          {`{target_label: b, replacement: ""}`, `{a="x1"}`},
		"keep":            {`{source_labels: [a], regex: "x.", action: keep}`, `{a="x1", b="y"}`},
		"not kept":        {`{source_labels: [a], regex: "x", action: keep}`, ``},
		"drop":            {`{source_labels: [missing], regex: "", action: drop}`, ``},
		"keepequal":       {`{source_labels: [a], target_label: b, action: keepequal}`, ``},
		"dropequal":       {`{source_labels: [a], target_label: b, action: dropequal}`, `{a="x1", b="y"}`},
		"labelmap":        {`{regex: "(a)", replacement: "z_$1", action: labelmap}`, `{a="x1", b="y", z_a="x1"}`},
		"labeldrop":       {`{regex: a, action: labeldrop}`, `{b="y"}`},
		"labelkeep":       {`{regex: a, action: labelkeep}`, `{a="x1"}`},
		"uppercase":       {`{source_labels: [a], target_label: a, action: uppercase}`, `{a="X1", b="y"}`},
		"lowercase":       {`{source_labels: [a], target_label: a, action: lowercase}`, `{a="x1", b="y"}`},
	} {
		t.Run(name, func(t *testing.T) {
			rules, err := parse("- " + c.rule)
			require.NoError(t, err)
			b := labels.NewBuilder(labels.FromStrings("a", "x1", "b", "y"))
			require.Equal(t, c.want != "", rules.Apply(b))
			if c.want != "" {
				require.Equal(t, c.want, b.Labels().String())
			}
		})
	}
}

func TestValidate(t *testing.T) {
	_, err := parse("- {action: labeldrop, regex: a}\n-\n")
	var of *Error
	require.True(t, errors.As(err, &of))
	require.Equal(t, 1, of.Index)
	_, err = parse("- {action: replace}")
	require.ErrorContains(t, err, "[0]: ")
	_, err = parse("- {source_label: [a]}")
	require.ErrorContains(t, err, "source_label")
	_, err = parse(`- {regex: "("}`)
	require.ErrorContains(t, err, "missing closing )")
}

// Any labels go through rules that copy, map and hash them without a panic, and stay a
// sorted set.
func FuzzApply(f *testing.F) {
	f.Add("__address__", "a:1", "__meta_x", "y")
	f.Add("", "\xff", "a", "$1")
	rules, err := parse(`
- {source_labels: [__address__], regex: "(.*):.*", target_label: host}
- {regex: "__meta_(.+)", action: labelmap}
- {source_labels: [host], modulus: 7, target_label: shard, action: hashmod}
- {source_labels: [host, x], target_label: "${1}", regex: "(.*);.*"}
- {source_labels: [shard], regex: "6", action: drop}
`)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2 string) {
		b := labels.NewBuilder(labels.EmptyLabels())
		b.Set(n1, v1)
		b.Set(n2, v2)
		if !rules.Apply(b) {
			return
		}
		last := ""
		b.Labels().Range(func(l labels.Label) {
			if l.Name < last {
				t.Fatalf("%q comes after %q", l.Name, last)
			}
			last = l.Name
		})
	})
}
